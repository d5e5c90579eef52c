"""O5 (`almgren_2005`): the measured cost of an order."""

from __future__ import annotations

from typing import Literal

from .parameters import NonNegative, Params, Positive


class Almgren2005Params(Params):
    """O5: Almgren, Thum, Hauptmann, Li (2005), Risk, July."""

    kind: Literal["almgren_2005"] = "almgren_2005"
    adv_shares: Positive
    shares_outstanding: Positive
    sigma_daily_pct: NonNegative
    size_frac_adv: NonNegative
    horizon_days: Positive


def solve_almgren_2005(params: Almgren2005Params) -> float:
    """J = I/2 + 0.142 sigma (f/T)^0.6 in bps, I = 0.314 sigma f (Theta/V)^(1/4)."""
    sigma_bps, f = 100 * params.sigma_daily_pct, params.size_frac_adv
    permanent = 0.314 * sigma_bps * f * (params.shares_outstanding / params.adv_shares) ** 0.25
    return float(permanent / 2 + 0.142 * sigma_bps * (f / params.horizon_days) ** 0.6)
