"""Sizes of marketable flow, and the power law in round lots that stands for them in a market."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from .market_data import IntArray, MarketDay

PERCENTILES = (50, 75, 90, 95, 99)
_LOT_SHARES = 100
_BETA_RANGE = (0.2, 6.0)
_LOTS_RANGE = (10, 200)  # of the largest contra order: a longer table costs memory in every batch
_LARGEST_PERCENTILE = 99.9


@dataclass(frozen=True)
class TradeSizes:
    """Sizes of trades (a tape's prints) or marketable orders (LOBSTER executions of one time and side), shares."""

    kind: str  # "trades" or "marketable orders"
    n: int
    mean_shares: float
    percentiles_shares: tuple[float, ...]  # at PERCENTILES
    beta: float  # Pr[k lots] ~ k^-beta, k = 1..max_lots, with the mean of these sizes
    max_lots: int


def trade_sizes(days: Sequence[MarketDay], *, on_exchange: bool = False) -> TradeSizes | None:
    """Sizes over all days, all prints or those of exchanges only; None without a print.

    The law has the largest size of the 99.9th percentile, within 10 to 200 lots, and the measured mean, which sets how
    many contra orders a volume makes. Odd lots count as they are in the mean; the law itself has none.
    """
    parts = [_sizes_shares(day, on_exchange) for day in days]
    sizes = np.concatenate(parts)
    if sizes.size == 0:
        return None
    largest = round(float(np.percentile(sizes, _LARGEST_PERCENTILE)) / _LOT_SHARES)
    max_lots = min(max(largest, _LOTS_RANGE[0]), _LOTS_RANGE[1])
    mean = float(np.mean([part.mean() for part in parts if part.size]))
    return TradeSizes(
        kind="marketable orders" if days[0].source == "lobster" else "trades",
        n=sizes.size,
        mean_shares=mean,
        percentiles_shares=tuple(
            float(x) for x in np.mean([np.percentile(p, PERCENTILES) for p in parts if p.size], axis=0)
        ),
        beta=fit_beta(mean, max_lots),
        max_lots=max_lots,
    )  # fmt: skip


def fit_beta(mean_shares: float, max_lots: int) -> float:
    """beta of Pr[k] ~ k^-beta, k = 1..max_lots, with this mean; the nearest end of 0.2 to 6 where none has it."""
    low, high = _BETA_RANGE
    if mean_shares <= law_mean_shares(high, max_lots):
        return high
    if mean_shares >= law_mean_shares(low, max_lots):
        return low
    return float(brentq(lambda beta: law_mean_shares(beta, max_lots) - mean_shares, low, high))


def law_mean_shares(beta: float, max_lots: int) -> float:
    """Mean of the law in shares."""
    lots, weights = _law(beta, max_lots)
    return _LOT_SHARES * float((lots * weights).sum())


def _law(beta: float, max_lots: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    lots = np.arange(1, max_lots + 1, dtype=float)
    weights = lots**-beta
    return lots, weights / weights.sum()


def _sizes_shares(day: MarketDay, on_exchange: bool) -> IntArray:
    if day.source == "taq":
        return day.trade_shares[~day.trade_hidden] if on_exchange else day.trade_shares
    changed = (np.diff(day.trade_time_ns) != 0) | (np.diff(day.trade_side) != 0)
    order = np.cumsum(np.append(0, changed)) if day.trade_shares.size else np.empty(0, int)
    return np.bincount(order, day.trade_shares).astype(np.int64) if order.size else day.trade_shares
