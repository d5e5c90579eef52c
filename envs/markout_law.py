"""The law of what a resting order loses after its fill, fitted to what one lost on recorded days.

    loss(h) = run (1 - 2 sum_j b_j (1 - e^(-h'/tau_j))) + fast (1 - e^(-h/tau_f)) + slow (1 - e^(-h/tau_s))
    P&L(h) = half spread - loss(h)

`run` is the price running through the order, `fast` the pick-off, `slow` the lean of a contra parent (market model,
equations 3 and 6). All three are at least 0. Of the run a part comes back: noise of the mid and innovations of the
alphas are correlated in (1), so flow that is drawn by eps_n = x meets alphas b_j (-x) at the slot's end, with
b_j = sigma_j^2 E_j (1 - E_j)/Var eps, and h' is the time after that, h less half a slot on average. Derived.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.optimize import lsq_linear

_LEAST_SE_BPS = 0.03  # a horizon measured more finely than this gets no more weight
_STATED_WEIGHT = 10.0  # the market states its P&L at 10 s, so the fit goes through it
_STATED_HORIZON_S = 10
_INSIDE_SLOT_WEIGHT = 0.3  # a horizon inside the slot is on no tape of the market


@dataclass(frozen=True)
class LawShape:
    """What the law needs of a class: time constants of the alphas, and what they give back of a run."""

    tau_fast_s: float
    tau_slow_s: float
    back_fast: float
    back_slow: float
    eps_sd_bps: float  # of the mid's noise in a slot
    slot_s: float

    def parts(self, horizon_s: float) -> tuple[float, float, float]:
        """Share of run, fast and slow part that is lost by the horizon."""
        after = max(0.0, horizon_s - self.slot_s / 2)
        back = self.back_fast * -math.expm1(-after / self.tau_fast_s)
        back += self.back_slow * -math.expm1(-after / self.tau_slow_s)
        leaning = horizon_s + self.slot_s / 2  # the flow's slow lean is that of the slot's start
        return 1 - 2 * back, -math.expm1(-horizon_s / self.tau_fast_s), -math.expm1(-leaning / self.tau_slow_s)


@dataclass(frozen=True)
class MarkoutLaw:
    """Parts of the loss of a resting order, bps."""

    run_bps: float
    fast_bps: float
    slow_bps: float

    def loss_bps(self, horizon_s: float, shape: LawShape) -> float:
        run, fast, slow = shape.parts(horizon_s)
        return self.run_bps * run + self.fast_bps * fast + self.slow_bps * slow


def fit_markout_law(
    loss_bps: Mapping[int, float], se_bps: Mapping[int, float], shape: LawShape, *, max_run_bps: float,
    max_slow_bps: float,
) -> MarkoutLaw:  # fmt: skip
    """Bounded least squares on losses by horizon in seconds, each weighted by its standard error.

    `max_run_bps`: a stronger run would need a tilt of the contra flow by more than a factor of e in standard
    deviation, which saturates. `max_slow_bps`: the largest tilt of the slow alpha.
    """
    horizons = sorted(loss_bps)
    y = np.array([loss_bps[h] for h in horizons])
    weight = 1 / np.array([max(se_bps[h], _LEAST_SE_BPS) for h in horizons])
    weight[np.array(horizons) == _STATED_HORIZON_S] *= _STATED_WEIGHT
    weight[np.array(horizons) < shape.slot_s] *= _INSIDE_SLOT_WEIGHT
    parts = np.array([shape.parts(h) for h in horizons])
    upper = [max(max_run_bps, 1e-9), np.inf, max(max_slow_bps, 1e-9)]
    solved = lsq_linear(parts * weight[:, None], y * weight, bounds=([0.0, 0.0, 0.0], upper))
    return MarkoutLaw(*(float(x) if x > 1e-6 else 0.0 for x in solved.x))
