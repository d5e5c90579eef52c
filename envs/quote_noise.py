"""How spread and volatility move around their daily curves: size and persistence of their log-normal noise.

Both are measured against the mean over days of the same five minutes, so at least two days are needed: one day cannot
tell its noise from the shape of the day. The level of a whole day is taken out too; what that takes from an AR(1) is
put back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq

from .day_slots import FloatArray

SLOT_S = 10.0
_BINS, _SLOTS_PER_BIN = 78, 30  # five minutes
_LEAST_PERSISTENCE, _MAX_PERSISTENCE = 1e-3, 0.98
_MAX_STANDING_FRAC = 0.05  # of half bins without a move of the mid, above which log volatility is not known


@dataclass(frozen=True)
class LogNoise:
    """AR(1) of a logarithm: standard deviation of a slot, and coefficient over 300 s."""

    log_sd: float
    persistence_300s: float


def spread_noise(half_spread_bps: FloatArray) -> LogNoise | None:
    """From mean half spreads of five-minute bins, (n_days, 78); None with one day or a bin without a quote."""
    if half_spread_bps.shape[0] < 2 or not (np.isfinite(half_spread_bps).all() and (half_spread_bps > 0).all()):
        return None
    residuals = _two_way_residuals(np.log(half_spread_bps))
    variance, lagged = _moments(residuals, residuals)
    return _of_slots(_ar1(variance, lagged))


def vol_noise(slot_return_bps: FloatArray) -> LogNoise | None:
    """From mid returns of 10 s slots, (n_days, 2340); None with one day or a mid that stands still too often.

    Each five minutes are cut into odd and even slots; what their two volatilities have in common is volatility, and
    what they do not is the error of measuring it with fifteen returns.
    """
    n_days = slot_return_bps.shape[0]
    squares = slot_return_bps.reshape(n_days, _BINS, _SLOTS_PER_BIN) ** 2
    halves = np.nansum(squares[:, :, 0::2], axis=2), np.nansum(squares[:, :, 1::2], axis=2)
    standing = float(np.mean([half == 0 for half in halves]))
    if n_days < 2 or standing > _MAX_STANDING_FRAC:
        return None
    residuals = []
    for half in halves:
        least = half[half > 0].min()
        residuals.append(_two_way_residuals(0.5 * np.log(np.maximum(half, least))))
    variance, lagged = _moments(*residuals)
    return _of_slots(_ar1(variance, lagged))


def _of_slots(means: LogNoise) -> LogNoise:
    """Noise of slots from that of their five-minute means, which are calmer and follow each other more closely."""
    if means.log_sd == 0 or means.persistence_300s <= 0:
        return means

    def variance(decay: float) -> float:  # of a mean over that of a slot, whose correlation falls by e^-decay a bin
        return 2 * (decay - 1 + math.exp(-decay)) / decay**2

    def gap(decay: float) -> float:
        return (math.expm1(-decay) / decay) ** 2 / variance(decay) - means.persistence_300s

    fastest, slowest = -math.log(_LEAST_PERSISTENCE), -math.log(_MAX_PERSISTENCE)
    if gap(fastest) >= 0:
        decay = fastest
    elif gap(slowest) <= 0:
        decay = slowest
    else:
        decay = float(brentq(gap, slowest, fastest))
    return LogNoise(means.log_sd / math.sqrt(variance(decay)), math.exp(-decay))


def _two_way_residuals(values: FloatArray) -> FloatArray:
    """(n_days, n_bins) less the mean of the bin over days and the mean of the day, scaled to keep the variance."""
    n_days = values.shape[0]
    residual = values - values.mean(axis=0) - values.mean(axis=1, keepdims=True) + values.mean()
    scaled: FloatArray = residual * math.sqrt(n_days / (n_days - 1))
    return scaled


def _moments(first: FloatArray, second: FloatArray) -> tuple[float, float]:
    """Covariance of two residuals in the same bin, and in neighbouring bins."""
    lagged = (first[:, 1:] * second[:, :-1]).mean() + (second[:, 1:] * first[:, :-1]).mean()
    return float((first * second).mean()), float(lagged) / 2


def _mean_variance(persistence: float) -> float:
    """Variance of the mean of a day's bins over that of a bin."""
    lags = np.arange(1, _BINS)
    return float((1 + 2 * np.sum((1 - lags / _BINS) * persistence**lags)) / _BINS)


def _ar1(variance: float, lagged: float) -> LogNoise:
    """The AR(1) whose residuals about the day's mean have these moments."""
    if variance <= 1e-12:
        return LogNoise(0.0, 0.0)

    def gap(persistence: float) -> float:
        taken = _mean_variance(persistence)
        return (persistence - taken) / (1 - taken) - lagged / variance

    if gap(0.0) >= 0:
        persistence = 0.0
    elif gap(_MAX_PERSISTENCE) <= 0:
        persistence = _MAX_PERSISTENCE
    else:
        persistence = float(brentq(gap, 0.0, _MAX_PERSISTENCE))
    return LogNoise(math.sqrt(variance / (1 - _mean_variance(persistence))), persistence)
