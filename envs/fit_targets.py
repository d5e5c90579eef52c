"""The targets of a calibration, each with its tolerance, and how far a market's generated days are from them.

Tolerances are rules, fixed before any market was generated: a share of the target, or two standard errors of it where
the recorded days know it less well than that. What the model does not claim is in the table too, with the reason.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..configs.session import N_CURVE_BINS
from .alpha_fit import r2_standard_error
from .bar_fit import BarStatistics
from .calibration import MARKOUT_HORIZONS_S, CalibratedClass
from .day_slots import FloatArray
from .trade_sizes import PERCENTILES
from .venue_groups import LIT_VENUE
from .volume_noise import VolumeNoise

MODELLED = "modelled"
_LEVEL, _NOISE, _SIZE = 0.05, 0.10, 0.15  # relative tolerances
_SHARE_OF_DAY = 0.005
_CURVE = 0.10
_ACF = 0.10
_PNL_BPS, _PNL_HS = 0.10, 0.03


@dataclass(frozen=True)
class TargetRow:
    """One target. `achieved`, `error` (achieved less target) and `holds` are None where nothing is claimed."""

    statistic: str
    target: float
    tolerance: float | None
    achieved: float | None
    standing: str

    @property
    def error(self) -> float | None:
        return None if self.achieved is None else self.achieved - self.target

    @property
    def holds(self) -> bool | None:
        return None if self.error is None or self.tolerance is None else bool(abs(self.error) <= self.tolerance)

    def as_row(self) -> dict[str, str | float | None]:
        holds = {True: "yes", False: "NO", None: "-"}[self.holds]
        return {"statistic": self.statistic, "target": self.target, "tolerance": self.tolerance,
                "achieved": self.achieved, "error": self.error, "holds": holds, "standing": self.standing}  # fmt: skip


def target_rows(c: CalibratedClass, achieved: Mapping[str, float]) -> list[TargetRow]:
    """Every target of the measured class against a market's generated statistics (`generated_statistics`)."""
    rows = [
        _relative("half_spread_bps", c.half_spread_bps, _LEVEL, achieved),
        _curve("spread_curve", c.spread_curve, _CURVE, achieved, relative=True),
        _relative("daily_vol_bps", c.daily_vol_bps, _LEVEL, achieved),
        _relative("late_vol_bps", c.late_vol_bps, _LEVEL, achieved),
        _curve("vol_curve", c.vol_curve, _CURVE, achieved, relative=True),
        _curve("volume_curve", c.volume_curve, _SHARE_OF_DAY, achieved, relative=False),
        *_volume_noise(c.volume_noise, len(c.volume_curve), achieved),
    ]
    law_sizes = c.exchange_sizes or c.sizes
    rows.append(_relative("flow_mean_shares", law_sizes.mean_shares, _SIZE, achieved))
    for p, shares in zip(PERCENTILES, law_sizes.percentiles_shares, strict=True):
        rows.append(_absolute(f"flow_shares_p{p}", shares, max(100.0, 0.25 * shares), achieved))
    for fit in c.imbalance:
        allowed = max(0.25 * fit.r2, 2 * r2_standard_error(fit.r2, fit.horizon_s, fit.n))
        rows.append(_absolute(f"imbalance_r2@{fit.horizon_s}s", fit.r2, allowed, achieved))
    rows.append(_impact(c, achieved))
    rows.append(_midpoint(c, achieved))
    rows += _markouts(c, achieved)
    return [row for row in rows if row is not None] + _not_claimed(c)


def bar_target_rows(s: BarStatistics, achieved: Mapping[str, float]) -> list[TargetRow]:
    """The targets that bars hold."""
    rows = [
        _relative("adv_shares", s.adv_shares, _LEVEL, achieved),
        _relative("daily_vol_bps", s.daily_vol_bps, _LEVEL, achieved),
        _curve("vol_curve", s.vol_curve, _CURVE, achieved, relative=True),
        _curve("volume_curve", s.volume_curve, _SHARE_OF_DAY, achieved, relative=False),
        *_volume_noise(s.noise, len(s.volume_curve), achieved),
    ]
    if s.half_spread_bps is not None and s.spread_curve is not None:
        rows.append(_relative("half_spread_bps", s.half_spread_bps, _LEVEL, achieved))
        rows.append(_curve("spread_curve", s.spread_curve, _CURVE, achieved, relative=True))
    return [row for row in rows if row is not None]


def _volume_noise(noise: VolumeNoise, steps: int, achieved: Mapping[str, float]) -> list[TargetRow | None]:
    around = "volume_concentration" if steps == N_CURVE_BINS else "step_concentration"
    target = noise.concentration if steps == N_CURVE_BINS else noise.step_concentration
    return [
        _relative(around, target, _SIZE, achieved),
        _relative("minute_volume_log_sd", noise.minute_log_sd, _NOISE, achieved),
        _absolute("minute_volume_log_acf1", noise.minute_log_acf1, _ACF, achieved),
    ]


def unmet(rows: Sequence[TargetRow]) -> list[TargetRow]:
    """Targets that are claimed and missed."""
    return [row for row in rows if row.holds is False]


def _absolute(name: str, target: float | None, allowed: float, achieved: Mapping[str, float]) -> TargetRow | None:
    if target is None or not math.isfinite(target):
        return None
    return TargetRow(name, target, allowed, achieved[name], MODELLED)


def _relative(name: str, target: float | None, frac: float, achieved: Mapping[str, float]) -> TargetRow | None:
    return None if target is None else _absolute(name, target, frac * abs(target), achieved)


def _curve(
    name: str, target: Sequence[float] | FloatArray, allowed: float, achieved: Mapping[str, float], *, relative: bool
) -> TargetRow:
    """The half hour that is farthest off; the target is that half hour's."""
    if len(target) == N_CURVE_BINS:  # shares of five minutes
        target = [sum(target[k : k + 6]) for k in range(0, N_CURVE_BINS, 6)]
    gaps = [achieved[f"{name}[{k}]"] - x for k, x in enumerate(target)]
    scaled = [abs(gap) / x if relative else abs(gap) for gap, x in zip(gaps, target, strict=True)]
    k = max(range(len(scaled)), key=scaled.__getitem__)
    tolerance = allowed * float(target[k]) if relative else allowed
    return TargetRow(f"{name}, worst half hour", float(target[k]), tolerance, achieved[f"{name}[{k}]"], MODELLED)


def _impact(c: CalibratedClass, achieved: Mapping[str, float]) -> TargetRow | None:
    if c.net_flow is None:
        return None
    return _relative("net_flow_slope_bps", c.net_flow.slope_bps, _NOISE, achieved)


def _midpoint(c: CalibratedClass, achieved: Mapping[str, float]) -> TargetRow | None:
    if not c.midpoint.identified:
        return None
    target = c.midpoint.even_spread_frac
    return TargetRow("midpoint_share", target, _NOISE * target, achieved["midpoint_share"], MODELLED)


def _markouts(c: CalibratedClass, achieved: Mapping[str, float]) -> list[TargetRow]:
    """P&L of resting orders by venue group; the venue that stands for it is in the name."""
    venue = LIT_VENUE if c.venue_groups else {"visible": LIT_VENUE["lowest"]}
    rows = []
    for m in c.markouts:
        if m.group not in venue or m.horizon_s not in MARKOUT_HORIZONS_S:
            continue
        allowed = max(_PNL_BPS, _PNL_HS * c.half_spread_bps, 2 * m.passive_pnl_se_bps)
        value = achieved[f"passive_pnl_bps:{venue[m.group]}@{m.horizon_s}s"]
        standing = MODELLED if m.horizon_s >= 10 else "by the market's law: its slots of 10 s do not show it"
        rows.append(TargetRow(f"passive_pnl_bps:{m.group}@{m.horizon_s}s", m.passive_pnl_bps, allowed, value, standing))
    return rows


def _not_claimed(c: CalibratedClass) -> list[TargetRow]:
    tape = c.source == "taq"
    visible = next((m for m in c.markouts if (m.group, m.horizon_s) == ("visible", 10)), None)
    hidden = next((m for m in c.markouts if (m.group, m.horizon_s) == ("hidden", 10)), None)
    rows = [("off_exchange_share" if tape else "hidden_share", c.off_exchange_share,
             "not modelled: pools hold the midpoint part; other off-exchange prints are no venue")]  # fmt: skip
    if not c.midpoint.identified:
        rows.append(("midpoint_share", c.midpoint.even_spread_frac,
                     "not identified: a tape in cents shows midpoints at even spreads only, "
                     f"{c.midpoint.even_volume_frac:.1%} of volume here"))  # fmt: skip
    if visible is not None:
        rows.append(("effective_half_spread_bps:visible", visible.effective_half_spread_bps,
                     "not modelled: real takers wait for tight spreads; flow here does not"))  # fmt: skip
        rows.append(("impact_bps:visible@10s", visible.impact_bps,
                     "not modelled beside the P&L: it differs from it by the effective half spread above"))  # fmt: skip
    if hidden is not None:
        what = "off-exchange prints are signed by price, and midpoint prints not at all" if tape else "too few"
        rows.append(
            ("passive_pnl_bps:hidden@10s", hidden.passive_pnl_bps, f"not modelled: {what}; pools keep their archetypes")
        )
    if c.spread_noise is None and c.vol_noise is None:
        rows.append(
            ("days", float(len(c.dates)), "one day does not tell noise of spread and volatility from their shape")
        )
    return [TargetRow(name, value, None, None, standing) for name, value, standing in rows]
