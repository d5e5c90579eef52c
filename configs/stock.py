"""A class of stock: the statistics that drive the synthetic tape (market model, section 4)."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field, model_validator

from .model import Frac, Model, NonNegative, Positive
from .session import N_CURVE_BINS, SESSION_S

# Thirteen half-hours of the continuous session; relative curves are normalised where they are used.
VOLUME_CURVE = (0.135, 0.090, 0.075, 0.067, 0.062, 0.058, 0.055, 0.055, 0.057, 0.062, 0.070, 0.085, 0.129)
SPREAD_CURVE = (2.0, 1.35, 1.15, 1.05, 1.0, 0.98, 0.96, 0.95, 0.94, 0.93, 0.92, 0.90, 0.85)
VOLATILITY_CURVE = (2.0, 1.4, 1.15, 1.0, 0.90, 0.85, 0.82, 0.80, 0.82, 0.85, 0.90, 1.0, 1.15)


class StockConfig(Model):
    """One class of stock: the statistics that drive the synthetic tape (market model, section 4)."""

    name: str
    symbol: str | None = None  # of the days that replay it; null: the name up to its first underscore, in capitals
    probability: Frac = 1.0
    price_usd: Positive
    adv_shares: Annotated[int, Field(gt=0)]
    spread_bps: NonNegative  # mean quoted spread, both sides
    tick_usd: Positive | None = None  # null: of the rule table at the market's trade date
    daily_vol_bps: NonNegative
    depth_shares: Positive  # mean size at the touch
    outstanding_over_adv: Positive = 200.0
    sigma_fast_bps: NonNegative = 0.0
    tau_fast_s: Positive = 1.0
    sigma_slow_bps: NonNegative = 0.0
    tau_slow_s: Positive = 120.0
    vol_floor_frac: Frac = 0.4
    signal_fast: Frac = 0.0  # loading of the visible imbalance on the fast alpha
    signal_slow: Frac = 0.0
    size_scale: Positive = 1.0  # multiplies the largest contra order of every venue
    nbbo_moves_per_10s: NonNegative = 5.0
    volume_curve: tuple[NonNegative, ...] = VOLUME_CURVE
    spread_curve: tuple[Positive, ...] = SPREAD_CURVE
    vol_curve: tuple[Positive, ...] = VOLATILITY_CURVE
    post_pnl_hs: dict[str, float] = Field(default_factory=dict)  # by lit venue: P&L of a post at 10 s

    @model_validator(mode="after")
    def _curves_fit_the_session(self) -> StockConfig:
        for name in ("volume_curve", "spread_curve", "vol_curve"):
            if (n := len(getattr(self, name))) not in (13, N_CURVE_BINS):
                raise ValueError(f"{name} has {n} values; give 13 (half-hours) or {N_CURVE_BINS} (five minutes)")
        if not sum(self.volume_curve) > 0:
            raise ValueError("volume_curve sums to 0; at least one bin needs volume")
        return self

    @model_validator(mode="after")
    def _alphas_leave_the_mid_a_martingale(self) -> StockConfig:
        sigma = self.daily_vol_bps / np.sqrt(SESSION_S) * self.vol_floor_frac
        variance_rate = self.sigma_fast_bps**2 / (2 * self.tau_fast_s) + self.sigma_slow_bps**2 / (2 * self.tau_slow_s)
        if variance_rate > sigma**2 * (1 + 1e-9):
            raise ValueError(
                f"stock {self.name!r}: the alphas move the mid more than its volatility at the quietest moment allows "
                f"(rho_f^2 + rho_s^2 = {variance_rate / max(sigma**2, 1e-300):.2f} > 1). "
                "Lower sigma_fast_bps or sigma_slow_bps, or raise vol_floor_frac."
            )
        return self

    @property
    def replayed_symbol(self) -> str:
        """Symbol of the recorded days that this class stands for."""
        return self.symbol if self.symbol is not None else self.name.split("_")[0].upper()
