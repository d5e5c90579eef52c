"""Switches that turn the simulator into a problem with a known optimum (docs/oracles.md)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from .model import Frac, Model, NonNegative, Positive


class OracleConfig(Model):
    """Switches that turn the simulator into a problem with a known optimum (docs/oracles.md)."""

    one_shot_arrivals: bool = False  # at most one contra order a pool and slot, with a zero bin
    expected_accounting: bool = False  # arrival benchmark, a fixed charge per dark share instead of the mid path
    leftover_linear_bps: float | None = None  # charge for what is left instead of a completing take
    leftover_quadratic_bps: float = 0.0
    tracking_bps: NonNegative = 0.0  # weight of the schedule-tracking penalty
    track_to_zero: bool = False  # the penalty's target is 0 at every slot, not the schedule
    slot_volumes: tuple[Positive, ...] = ()  # deterministic volumes; also the schedule
    # one-shot variants: corr(Z, alpha) of the probit fill for a buy, the pools' common part of Z, and the queue of a
    # post
    probit_correlation: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    fill_copula: Frac = 0.0
    queue_shares: NonNegative = 0.0  # ahead of a post
    outflow_mean_shares: NonNegative = 0.0  # of the contra flow that a post meets in a slot, exponential
    full_band: bool = False  # the pace may be anything in [0, remaining]

    @model_validator(mode="after")
    def _variants_are_one_shot(self) -> OracleConfig:
        names = ("probit_correlation", "fill_copula", "queue_shares", "outflow_mean_shares")
        used = [n for n in names if getattr(self, n) > 0]
        if used and not self.one_shot_arrivals:
            raise ValueError(
                f"{used[0]} is a variant of one-shot arrivals; set one_shot_arrivals: true, or leave it out"
            )
        return self

    @model_validator(mode="after")
    def _parts_need_their_whole(self) -> OracleConfig:
        if self.leftover_quadratic_bps and self.leftover_linear_bps is None:
            raise ValueError(
                f"leftover_quadratic_bps {self.leftover_quadratic_bps:g} would do nothing, since what is left is taken "
                "while leftover_linear_bps is not set; set it (0 will do), or leave leftover_quadratic_bps out"
            )
        if self.track_to_zero and not self.tracking_bps:
            raise ValueError(
                "track_to_zero would do nothing, since tracking_bps is 0; set tracking_bps, or leave track_to_zero out"
            )
        return self
