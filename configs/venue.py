"""Venues: displayed ones and midpoint pools (market model, sections 2 and 3)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from .model import Exponent, Frac, Model, NonNegative, Positive
from .session import VOLUME_BIN_S

RestSeconds = Annotated[float, Field(gt=0.0, le=VOLUME_BIN_S)]


class LitVenueConfig(Model):
    """A displayed venue (market model, section 3)."""

    name: str
    order_types: tuple[Literal["take", "post"], ...] = ("take", "post")
    flow_frac: NonNegative = 0.0  # share of volume that hits our side here
    queue_place: Frac = 0.25  # share of that flow that gets past the orders ahead
    post_pnl_hs: float = 0.0  # P&L of a post at 10 s, in half spreads
    run_share: Frac = 0.2  # part of the adverse selection that is the price running away
    kappa_slow: NonNegative = 0.1
    size_beta: Exponent = 2.2
    size_max_lots: Annotated[int, Field(gt=0)] = 50
    take_fee_mils: float = 0.0
    post_fee_mils: float = 0.0


class DarkPoolConfig(Model):
    """A midpoint pool (market model, section 2)."""

    name: str
    order_types: tuple[Literal["ping", "rest"], ...] = ("ping", "rest")
    supply_frac: NonNegative = 0.0  # contra supply as a share of volume
    life_s: Positive = 30.0
    kappa_fast: Annotated[float, Field(ge=0, le=2.5)] = 0.0
    kappa_slow: Annotated[float, Field(ge=0, le=2.5)] = 0.0
    size_beta: Exponent = 1.0
    size_max_lots: Annotated[int, Field(gt=0)] | None = 50  # null: unlimited (one-shot arrivals only)
    # min_quantity_lots and leak_weight (below) hold where the market's randomisation is null; with it every order draws
    # both anew from randomisation.min_quantity_lots, .leak_zero_prob and .leak_weight, and the pool's own are not read
    min_quantity_lots: Annotated[int, Field(ge=0)] = 0
    fee_mils: float = 0.0
    leak_weight: NonNegative = 0.0
    # what a desk knows instead of the kappas: markouts in bps at horizons in seconds, e.g. {10: -0.35, 300: -0.80}
    reversion_bps: dict[Positive, Annotated[float, Field(le=0.0)]] | None = None
    # ... instead of supply_frac: share of orders, sent there and resting so many seconds, that fill, such as {60: 0.2}
    fill_rate: dict[RestSeconds, Annotated[float, Field(ge=1e-6, lt=1)]] | None = None
    # two contra types (market model, 2.2): this share of orders is informed, with the pool's toxicity over this share
    # and sizes k^-informed_size_beta; the rest has none, and sizes k^-size_beta. null: one type
    informed_frac: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    informed_size_beta: Exponent = 3.0
    # problems with a known optimum:
    zero_prob: Frac = 0.0  # no contra order in a slot; oracle.one_shot_arrivals only, Poisson has zeros of its own
    adverse_charge_bps: float = 0.0  # a dark share; oracle.expected_accounting only

    @model_validator(mode="after")
    def _one_description_of_supply(self) -> DarkPoolConfig:
        if self.fill_rate is not None:
            if self.supply_frac:
                raise ValueError(
                    f"pool {self.name!r} states both fill_rate and supply_frac; give one of them "
                    "(a supply_frac of 0 is none)"
                )
            if not self.fill_rate:
                raise ValueError(f"pool {self.name!r}: fill_rate is empty; give a rest in seconds, such as {{60: 0.2}}")
            if "rest" not in self.order_types:
                raise ValueError(f"pool {self.name!r}: fill_rate is of resting orders, but order_types has no rest")
        return self

    @model_validator(mode="after")
    def _one_description_of_toxicity(self) -> DarkPoolConfig:
        if self.reversion_bps is not None:
            if self.kappa_fast or self.kappa_slow:
                raise ValueError(f"pool {self.name!r} states both reversion_bps and kappas; give one of them")
            if not self.reversion_bps:
                raise ValueError(f"pool {self.name!r}: reversion_bps is empty; give a horizon, such as {{10: -0.35}}")
        if self.informed_frac is not None and max(self.kappa_fast, self.kappa_slow) > 2.5 * self.informed_frac:
            raise ValueError(
                f"pool {self.name!r}: its informed type would have a toxicity of "
                f"{max(self.kappa_fast, self.kappa_slow) / self.informed_frac:.2f} (kappa / informed_frac), above 2.5. "
                "Raise informed_frac or lower the kappas."
            )
        return self
