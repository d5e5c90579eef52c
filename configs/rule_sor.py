"""Settings of the rule-based routers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from .model import Frac, Model, NonNegative


class RuleSorConfig(Model):
    """The seed's decision table made exact (docs/rule_sor.md); a tuned SOR is other values of the same keys."""

    size_large_pct_adv: NonNegative = 10.0
    size_small_pct_adv: NonNegative = 1.0
    liquid_adv_shares: Annotated[int, Field(ge=0)] = 1_000_000
    illiquid_adv_shares: Annotated[int, Field(ge=0)] = 100_000
    tight_spread_bps: NonNegative = 5.0
    wide_spread_bps: NonNegative = 20.0
    vol_calm_ratio: NonNegative = 1.25
    vol_high_ratio: NonNegative = 2.0
    fast_nbbo_moves_10s: Annotated[int, Field(ge=0)] = 30
    ping_fill_good: Frac = 0.03
    rest_fill_good: Frac = 0.06
    ping_fill_poor: Frac = 0.005
    rest_fill_poor: Frac = 0.01
    venue_markout_good_hs: float = -0.5
    venue_markout_poor_hs: float = -0.75
    min_attempts: Annotated[int, Field(ge=0)] = 200
    min_fills: Annotated[int, Field(ge=0)] = 50
    min_net_votes: int = 1
    rank_by: Literal["fill_rate", "net_value"] = "fill_rate"
    dark_fraction: Frac = 0.5
    post_by: Literal["fee", "net_value"] = "fee"
    post_saving_hs: float = 2.0
    final_take_frac: Frac = 0.02
    behind_s: NonNegative = 60.0
    max_slices: NonNegative = 3.0

    @model_validator(mode="after")
    def _bands_are_ordered(self) -> RuleSorConfig:
        for low, high in (
            ("size_small_pct_adv", "size_large_pct_adv"), ("illiquid_adv_shares", "liquid_adv_shares"),
            ("tight_spread_bps", "wide_spread_bps"), ("vol_calm_ratio", "vol_high_ratio"),
            ("ping_fill_poor", "ping_fill_good"), ("rest_fill_poor", "rest_fill_good"),
            ("venue_markout_poor_hs", "venue_markout_good_hs"),
        ):  # fmt: skip
            if getattr(self, low) > getattr(self, high):
                raise ValueError(
                    f"{low} ({getattr(self, low)}) is above {high} ({getattr(self, high)}); swap or mend them"
                )
        return self
