"""The two latent alphas of a class, from how well touch imbalance predicts returns at 1, 10 and 60 s.

    sqrt(R2(h) h) sigma = sqrt(3/pi) sum_j c_j sigma_j (1 - e^(-h/tau_j))                  (market model, section 1)

One imbalance shows both alphas, so their covariances with the return add before they are squared. 3/pi is the squared
correlation of a uniform imbalance with the normal signal under it. R2 knows only the products c_j sigma_j. They are
split so that the alphas fill the martingale bound at the volatility floor to 90 %, as the reference classes do: a given
signal then needs the least clear imbalance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

UNIFORM_NORMAL_R2 = 3 / math.pi
# The first whose error is hardly above the least is taken: without evidence to the contrary a class keeps the time
# constants of the reference classes.
TAU_FAST_S = (1.0, 2.0, 0.5)  # spent inside a slot of 10 s, which needs 5 tau
TAU_SLOW_S = (120.0, 60.0, 30.0, 300.0)
VOL_FLOORS = (0.4, 0.5, 0.6)
_BOUND_USED = 0.9  # of the martingale bound
_SIGNAL_R2_MAX = 0.8  # of the imbalance that the alphas explain
_LEAST_PART = (
    0.15  # of the alphas' variance rate, for either: one alpha alone would leave pools or posts without theirs
)
_CHI2_MARGIN = 0.25  # half a standard deviation
_DEFAULT_TAU_S = (1.0, 120.0)  # where no signal tells (market model, section 4)


@dataclass(frozen=True)
class Alphas:
    """Alphas in units of the class's volatility (bps per sqrt(s)), and the loadings of imbalance on them."""

    sigma_fast: float
    tau_fast_s: float
    sigma_slow: float
    tau_slow_s: float
    signal_fast: float
    signal_slow: float
    vol_floor_frac: float
    scaled: float  # the fitted signal was multiplied by this to respect the martingale bound; 1: as fitted
    identified: bool  # False: imbalance tells nothing, time constants are those of the reference classes


def r2_standard_error(r2: float, horizon_s: float, n_seconds: int) -> float:
    """Of an R2 measured every second on overlapping returns: n/h independent ones."""
    n = max(n_seconds / horizon_s, 1.0)
    return 2 * math.sqrt(max(r2, 0.0) / n) + 1 / n


def signal_r2(products: tuple[float, float], taus_s: tuple[float, float], horizon_s: float) -> float:
    """R2 at a horizon from c_j sigma_j in units of volatility."""
    moved = sum(p * -math.expm1(-horizon_s / tau) for p, tau in zip(products, taus_s, strict=True))
    return UNIFORM_NORMAL_R2 * moved**2 / horizon_s


def fit_alphas(r2: Mapping[int, float], n_seconds: int, n_days: int) -> Alphas:
    """Fit to the mean over days of R2, by horizon in seconds; time constants are chosen on a grid by weighted squares.

    A day's R2 of a signal without content is h/n_day in the mean, which is taken off first.
    """
    known = {h: max(0.0, value - n_days * h / n_seconds) for h, value in r2.items() if np.isfinite(value)}
    if not any(value > 0 for value in known.values()):
        return _split((0.0, 0.0), _DEFAULT_TAU_S, identified=False)
    fits = [(*_products(known, n_seconds, (fast, slow)), (fast, slow)) for slow in TAU_SLOW_S for fast in TAU_FAST_S]
    least = min(error for error, _, _ in fits)
    _, products, taus_s = next(fit for fit in fits if fit[0] <= least + _CHI2_MARGIN)
    return _split(products, taus_s, identified=True)


def _products(
    r2: Mapping[int, float], n_seconds: int, taus_s: tuple[float, float]
) -> tuple[float, tuple[float, float]]:
    """Weighted sum of squared errors of R2, and c_j sigma_j >= 0 of the best fit at these time constants."""
    horizons = np.array(sorted(r2), float)
    measured = np.array([r2[int(h)] for h in horizons])
    se = np.array([r2_standard_error(r2[int(h)], h, n_seconds) for h in horizons])
    slope = 0.5 * np.sqrt(horizons / np.maximum(measured, se))  # of sqrt(R2 h) in R2
    parts = np.column_stack([-np.expm1(-horizons / tau) for tau in taus_s]) * math.sqrt(UNIFORM_NORMAL_R2)
    weight = 1 / (se * slope)
    solved, _ = nnls(parts * weight[:, None], np.sqrt(measured * horizons) * weight)
    # What the alphas cannot carry counts as error: time constants that need less variance are preferred then.
    scale = _feasible_scale((solved[0], solved[1]), taus_s, VOL_FLOORS[-1])
    products = float(solved[0] * scale), float(solved[1] * scale)
    residual = [(signal_r2(products, taus_s, h) - y) / e for h, y, e in zip(horizons, measured, se, strict=True)]
    return float(np.sum(np.square(residual))), products


def _needs(products: tuple[float, float], taus_s: tuple[float, float]) -> tuple[float, float]:
    return products[0] / math.sqrt(2 * taus_s[0]), products[1] / math.sqrt(2 * taus_s[1])


def _feasible_scale(products: tuple[float, float], taus_s: tuple[float, float], floor: float) -> float:
    """Factor that brings the products under the bound: the least variance rate is (sum of needs)^2 / R2 of signal."""
    least = sum(_needs(products, taus_s)) ** 2 / _SIGNAL_R2_MAX
    bound = _BOUND_USED * floor**2
    return min(1.0, math.sqrt(bound / least)) if least > 0 else 1.0


def _split(products: tuple[float, float], taus_s: tuple[float, float], *, identified: bool) -> Alphas:
    floor = next((f for f in VOL_FLOORS if _feasible_scale(products, taus_s, f) >= 1 - 1e-9), VOL_FLOORS[-1])
    scaled = _feasible_scale(products, taus_s, floor)
    needs = _needs((products[0] * scaled, products[1] * scaled), taus_s)
    total = sum(needs)
    fast_part = needs[0] / total if total > 0 else 1 - _LEAST_PART
    inner = min(max(fast_part, _LEAST_PART), 1 - _LEAST_PART)
    rate = _BOUND_USED * floor**2
    signals = tuple(need / math.sqrt(rate * part) for need, part in zip(needs, (inner, 1 - inner), strict=True))
    over = max(1.0, math.sqrt(sum(c * c for c in signals) / _SIGNAL_R2_MAX))  # where the least part binds
    return Alphas(
        sigma_fast=math.sqrt(rate * inner * 2 * taus_s[0]), tau_fast_s=taus_s[0],
        sigma_slow=math.sqrt(rate * (1 - inner) * 2 * taus_s[1]), tau_slow_s=taus_s[1],
        signal_fast=signals[0] / over, signal_slow=signals[1] / over,
        vol_floor_frac=floor, scaled=scaled / over, identified=identified,
    )  # fmt: skip
