"""How volume moves around its daily curve: between bins of a day, inside a five-minute bin, and from day to day.

The same functions measure recorded days, bars and generated days, so that the three can be compared.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .day_slots import FloatArray

BIN_S = 300.0
MINUTE_S = 60.0
SLOT_S = 10.0  # the slot that `noise.slot_volume_log_sd` is stated for
MIN_DAYS_CONCENTRATION = 2
MIN_DAYS_DAY_SD = 5


@dataclass(frozen=True)
class VolumeNoise:
    """Noise of volume around its curve; None where the days or the bin width do not tell."""

    n_days: int
    concentration: float | None  # Dirichlet concentration of the shares of a day's bins, from day to day
    step_concentration: float | None  # the same from five-minute bins inside half hours: around a curve of 13 steps
    slot_log_sd: float | None  # of log volume of 10 s slots inside a five-minute bin
    day_log_sd: float | None  # of the day's total
    minute_log_sd: float | None  # of log one-minute volume inside a day, curve included; mean over days
    minute_log_acf1: float | None  # its lag-1 autocorrelation


def volume_noise(volume_shares: FloatArray, bin_s: float) -> VolumeNoise:
    """Measure the noise of volumes (n_days, n_bins) in bins of `bin_s` seconds over whole sessions."""
    n_days = volume_shares.shape[0]
    wide = volume_shares
    if bin_s < BIN_S:
        wide = volume_shares.reshape(n_days, -1, round(BIN_S / bin_s)).sum(axis=2)
    minutes = volume_shares if bin_s == MINUTE_S else None
    within = None if minutes is None else _within_bin_variance(minutes)
    log_minutes = None if minutes is None else [_log_minute_statistics(row) for row in minutes]
    totals = volume_shares.sum(axis=1)
    return VolumeNoise(
        n_days=n_days,
        concentration=dirichlet_concentration(wide),
        step_concentration=step_concentration(wide),
        slot_log_sd=None if within is None else slot_log_sd(within),
        day_log_sd=float(np.std(np.log(totals), ddof=1)) if n_days >= MIN_DAYS_DAY_SD else None,
        minute_log_sd=None if log_minutes is None else float(np.mean([sd for sd, _ in log_minutes])),
        minute_log_acf1=None if log_minutes is None else float(np.mean([acf for _, acf in log_minutes])),
    )


def dirichlet_concentration(volume_shares: FloatArray) -> float | None:
    """c of shares-of-day ~ Dirichlet(c u), from volumes (n_days, n_bins); None for one day or days all alike.

    Var x_k = u_k (1 - u_k)/(c + 1), the same c at any bin width; every bin counts once: 1/(c + 1) is the mean over bins
    of the sample variance over u_k (1 - u_k).
    """
    n_days = volume_shares.shape[0]
    if n_days < MIN_DAYS_CONCENTRATION:
        return None
    shares = volume_shares / volume_shares.sum(axis=1, keepdims=True)
    mean = shares.mean(axis=0)
    used = mean > 0
    ratio = float(np.mean(shares.var(axis=0, ddof=1)[used] / (mean * (1 - mean))[used]))
    return 1 / ratio - 1 if 0 < ratio < 1 else None


def step_concentration(volume_shares: FloatArray) -> float | None:
    """c around a curve that is flat inside half hours, from volumes (n_days, 78); one day is enough.

    Six Dirichlet bins of one mean u vary inside their half hour by u/(c + 1). What the real curve bends inside half
    hours counts as noise here, as it is for a market with such a curve.
    """
    if volume_shares.shape[1] != 78:
        return None
    shares = volume_shares / volume_shares.sum(axis=1, keepdims=True)
    steps = shares.reshape(shares.shape[0], 13, 6)
    used = steps.mean(axis=2) > 0
    ratio = float(np.mean((steps.var(axis=2, ddof=1)[used]) / steps.mean(axis=2)[used]))
    return 1 / ratio - 1 if 0 < ratio < 1 else None


def slot_log_sd(minute_log_variance: float) -> float:
    """Log sd of 10 s slots whose sums have this log variance at one minute (market model, section 4)."""
    return math.sqrt(math.log1p(math.expm1(minute_log_variance) * MINUTE_S / SLOT_S))


def _within_bin_variance(minute_shares: FloatArray) -> float | None:
    """Mean variance of log one-minute volume inside five-minute bins; minutes without a trade are left out."""
    bins = minute_shares.reshape(-1, round(BIN_S / MINUTE_S))
    traded = bins > 0
    logs = np.log(np.where(traded, bins, 1.0))
    n = traded.sum(axis=1)
    used = n >= 2
    if not used.any():
        return None
    mean = logs.sum(axis=1)[used] / n[used]  # an untraded minute has log 1 = 0
    squares = (np.where(traded, logs, 0.0)[used] ** 2).sum(axis=1) - n[used] * mean**2
    return float(squares.sum() / (n[used] - 1).sum())


def _log_minute_statistics(minute_shares: FloatArray) -> tuple[float, float]:
    """Standard deviation and lag-1 autocorrelation of log one-minute volume, minutes without a trade left out."""
    logs = np.log(minute_shares[minute_shares > 0])
    if logs.size < 3 or np.ptp(logs) == 0:
        return float("nan"), float("nan")
    return float(logs.std()), float(np.corrcoef(logs[1:], logs[:-1])[0, 1])
