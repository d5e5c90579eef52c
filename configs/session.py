"""The continuous session's clock, and a class's curves over it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from .stock import StockConfig

N_CURVE_BINS = 78  # five-minute bins of the 09:30-16:00 session
SESSION_S = 23_400
VOLUME_BIN_S = 300

Curve = NDArray[np.float64]


def curves(stock: StockConfig) -> tuple[Curve, Curve, Curve]:
    """Volume (sum 1), spread (mean 1) and volatility (root mean square 1), (78,) each, as the generator has them."""
    volume, spread, vol = (
        np.repeat(np.asarray(curve, float), N_CURVE_BINS // len(curve))
        for curve in (stock.volume_curve, stock.spread_curve, stock.vol_curve)
    )
    return volume / volume.sum(), spread / spread.mean(), vol / np.sqrt((vol**2).mean())
