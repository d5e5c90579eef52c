"""Averages over volume that a class produces with its curves and its noise, by quadrature.

A market's parameters hold at average spread and volatility; what a day shows is weighted by where the volume is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..configs.chance import NoiseConfig
from ..configs.session import SESSION_S, curves
from ..configs.stock import StockConfig
from .day_slots import FloatArray
from .markout_law import LawShape

_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(31)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()


@dataclass(frozen=True)
class FlowWeights:
    """Volume-weighted means."""

    half_spread: float  # of h_n over its mean
    vol_ratio: float  # of sigma_n over its mean: scales every toxicity
    supply: float  # of a pool's supply over its value at average conditions


def flow_weights(stock: StockConfig, noise: NoiseConfig) -> FlowWeights:
    """By quadrature over the log-normal noise of the generator, its volatility floor included."""
    volume, spread, _ = curves(stock)
    ratio = _vol_ratio(stock, noise)
    exponent_h, exponent_v = noise.supply_spread_exponent, noise.supply_vol_exponent
    by_spread = spread**exponent_h * math.exp(0.5 * noise.spread_log_sd**2 * exponent_h * (exponent_h - 1))
    by_vol = ratio**exponent_v @ _WEIGHTS
    surprise = math.exp(noise.supply_volume_load * noise.supply_log_sd * noise.slot_volume_log_sd)
    return FlowWeights(
        half_spread=float(volume @ spread),
        vol_ratio=float(volume @ (ratio @ _WEIGHTS)),
        supply=float(volume @ (by_spread * by_vol)) * surprise,
    )


def law_shape(stock: StockConfig, noise: NoiseConfig, slot_s: float = 10.0) -> LawShape:
    """Shape of the loss of a resting order; what comes back of a run is weighted by volume and by the run itself."""
    volume, _, _ = curves(stock)
    ratio = _vol_ratio(stock, noise)
    e_fast, e_slow = math.exp(-slot_s / stock.tau_fast_s), math.exp(-slot_s / stock.tau_slow_s)
    fast, slow = stock.sigma_fast_bps**2, stock.sigma_slow_bps**2
    predicted = fast * (1 - e_fast) ** 2 + slow * (1 - e_slow) ** 2
    variance = np.maximum(ratio**2 * stock.daily_vol_bps**2 / SESSION_S * slot_s - predicted, 1e-12)
    inverse = float(volume @ ((ratio / variance) @ _WEIGHTS)) / float(volume @ (ratio @ _WEIGHTS))
    at_mean = max(stock.daily_vol_bps**2 / SESSION_S * slot_s - predicted, 1e-12)
    return LawShape(
        stock.tau_fast_s, stock.tau_slow_s, fast * e_fast * (1 - e_fast) * inverse,
        slow * e_slow * (1 - e_slow) * inverse, math.sqrt(at_mean), slot_s,
    )  # fmt: skip


def _vol_ratio(stock: StockConfig, noise: NoiseConfig) -> FloatArray:
    """sigma_n over its class mean, (78, nodes)."""
    _, _, vol = curves(stock)
    draws = vol[:, None] * np.exp(noise.vol_log_sd * _NODES - noise.vol_log_sd**2)
    ratio: FloatArray = np.maximum(stock.vol_floor_frac, draws)
    return ratio
