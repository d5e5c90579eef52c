"""What a minute's net aggressive volume goes with in the mid, and the impact kernel that does the same."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..configs.market import ImpactConfig
from .day_slots import FloatArray

_MINUTES = 390
_MINUTE_S = 60.0
_MIN_R2 = 0.01  # below this a minute's flow says nothing of its return


@dataclass(frozen=True)
class NetFlowImpact:
    """Least squares, with intercept, of one-minute mid returns on net aggressor volume over mean minute volume."""

    slope_bps: float  # mean over days: bps for net buying of one average minute's volume
    slope_se_bps: float  # of that mean, heteroskedasticity-robust
    r2: float


def net_flow_impact(returns_bps: Sequence[FloatArray], net_shares: Sequence[FloatArray],
                    mean_minute_shares: Sequence[float]) -> NetFlowImpact | None:  # fmt: skip
    """From each day's one-minute mid returns (390,) and net aggressor volume (390,); None where it says nothing."""
    slopes, variances, r2s = [], [], []
    for returns, net, mean in zip(returns_bps, net_shares, mean_minute_shares, strict=True):
        known = np.isfinite(returns)
        x, y = net[known] / mean, returns[known]
        if x.size < 10 or np.ptp(x) == 0 or np.ptp(y) == 0:
            return None
        x = x - x.mean()
        slope = float(x @ y / (x @ x))
        residual = y - y.mean() - slope * x
        slopes.append(slope)
        variances.append(float(((x * residual) ** 2).sum() / (x @ x) ** 2))
        r2s.append(float(np.corrcoef(x, y)[0, 1] ** 2))
    fit = NetFlowImpact(float(np.mean(slopes)), math.sqrt(sum(variances)) / len(slopes), float(np.mean(r2s)))
    return fit if fit.slope_bps > 0 and fit.r2 >= _MIN_R2 else None


def kernel_slope_bps(impact: ImpactConfig, daily_vol_bps: float, outstanding_over_adv: float) -> float:
    """The same slope in a market: displacement at the end of a minute by flow spread evenly over it (equation 4)."""
    transient = sum(
        weight * _mean_left(half_life_s)
        for weight, half_life_s in zip(impact.transient_weights, impact.transient_half_lives_s, strict=True)
    )
    return float((transient + impact.gamma * outstanding_over_adv**0.25) * daily_vol_bps / _MINUTES)


def transient_weights(
    slope_bps: float, impact: ImpactConfig, daily_vol_bps: float, outstanding_over_adv: float
) -> tuple[float, float]:
    """Equal weights of the two kernels that give this slope; the permanent part and the half-lives stay."""
    permanent = impact.gamma * outstanding_over_adv**0.25
    left = sum(_mean_left(half_life_s) for half_life_s in impact.transient_half_lives_s)
    weight = max(0.0, slope_bps * _MINUTES / daily_vol_bps - permanent) / left
    return weight, weight


def _mean_left(half_life_s: float) -> float:
    """Share still there at the end of a minute of flow that came evenly over it."""
    decay = math.log(2) / half_life_s * _MINUTE_S
    return -math.expm1(-decay) / decay
