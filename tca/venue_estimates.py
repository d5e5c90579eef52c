"""What own fills say of each venue and order type: fill rates and markouts, each with its count and 95 % interval.

The unit of chance is the parent: children of one parent share its liquidity and its moves, so every interval is
clustered by parent. Order types are read off the file: dark IOC = ping, other dark = rest, lit with liquidity `added` =
post, other lit = take.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .fills import UNKNOWN, Fills

ORDER_TYPES = ("take", "post", "ping", "rest")
LEAST_CLUSTERS, LEAST_FILLS = 10, 50  # with fewer: the value, no interval
_Z95 = 1.959964

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A value, its 95 % interval (None: too few parents or fills), and the count behind it."""

    value: float | None
    lo: float | None
    hi: float | None
    n: int
    n_parents: int


@dataclass(frozen=True)
class VenueEstimates:
    """One venue and order type."""

    venue: str
    order_type: str
    n_orders: int
    n_orders_filled: int
    routed_shares: int | None  # None unless every child states its size
    executed_shares: int
    fill_rate_orders: Estimate  # child orders with a fill / child orders
    fill_rate_shares: Estimate  # executed / routed shares
    markout_bps: dict[float, Estimate]  # by horizon in seconds; + = benefit, 1e4 sum(q K) / sum(q P)


def venue_estimates(fills: Fills) -> list[VenueEstimates]:
    """Rows by venue name, then order type."""
    child, first, n_children = _children(fills)
    kind = order_types(fills)[first]
    shares = np.bincount(child, fills.shares, n_children)
    routed, venue, parent = fills.routed_shares[first], fills.venue[first], fills.parent[first]
    found = []
    for code in np.argsort(fills.names["venue"], kind="stable"):
        for k, name in enumerate(ORDER_TYPES):
            own = (venue == code) & (kind == k)
            if not own.any():
                continue
            sized = bool((routed[own] > 0).all())
            rows = (own[child]) & (fills.shares > 0)
            ones = np.ones(int(own.sum()))
            unknown = Estimate(None, None, None, int(own.sum()), int(np.unique(parent[own]).size))
            found.append(
                VenueEstimates(
                    venue=str(fills.names["venue"][code]), order_type=name, n_orders=int(own.sum()),
                    n_orders_filled=int((shares[own] > 0).sum()),
                    routed_shares=int(routed[own].sum()) if sized else None, executed_shares=int(shares[own].sum()),
                    fill_rate_orders=rate_interval((shares[own] > 0).astype(float), ones, parent[own]),
                    fill_rate_shares=rate_interval(shares[own], routed[own].astype(float), parent[own])
                    if sized else unknown,
                    markout_bps={h: _markout(fills, rows, mid) for h, mid in fills.mid_after_e6.items()},
                )
            )  # fmt: skip
    return found


def order_types(fills: Fills) -> IntArray:
    """(n,) place in ORDER_TYPES of each row's child; a child with any row `added` is a post."""
    child, _, n_children = _children(fills)
    added = fills.names["liquidity"][fills.liquidity] == "added"
    post = np.bincount(child, added, n_children)[child] > 0
    ioc = fills.names["tif"][fills.tif] == "IOC"
    return np.where(fills.dark, np.where(ioc, 2, 3), np.where(post, 1, 0)).astype(np.int64)


def _children(fills: Fills) -> tuple[IntArray, IntArray, int]:
    """Child of each row, first row of each child, number of children."""
    _, first, child = np.unique(fills.child, return_index=True, return_inverse=True)
    return child.astype(np.int64), first.astype(np.int64), len(first)


def rate_interval(got: FloatArray, of: FloatArray, parent: IntArray) -> Estimate:
    """sum(got) / sum(of), with a Wilson interval at the effective count that the scatter between parents leaves.

    The effective count is rate (1 - rate) over the ratio's variance clustered by parent, at most the number of children
    (Wilson 1927; Kish 1965, design effect). A rate of 0 or 1 keeps a one-sided width.
    """
    n, n_parents = len(got), int(np.unique(parent).size)
    rate = float(got.sum() / of.sum())
    if n < LEAST_FILLS or n_parents < LEAST_CLUSTERS:
        return Estimate(rate, None, None, n, n_parents)
    spread = rate * (1 - rate)
    variance = clustered_se(got - rate * of, float(of.sum()), parent) ** 2
    effective = min(float(n), spread / variance) if variance > 0 else float(n)
    z2 = _Z95**2 / effective
    centre = (rate + z2 / 2) / (1 + z2)
    half = _Z95 * math.sqrt(spread / effective + z2 / (4 * effective)) / (1 + z2)
    return Estimate(rate, max(0.0, centre - half), min(1.0, centre + half), n, n_parents)


def _markout(fills: Fills, rows: NDArray[np.bool_], mid_after: IntArray) -> Estimate:
    """Share-weighted markout from the price of the fill, with a normal interval clustered by parent."""
    used = rows & (mid_after > 0) & (mid_after != UNKNOWN)
    n = int(used.sum())
    if n == 0:
        return Estimate(None, None, None, 0, 0)
    q = fills.shares[used].astype(float)
    price = fills.price_e6[used].astype(float)
    gain = fills.side[used] * (mid_after[used] - fills.price_e6[used]).astype(float)
    total = float((q * price).sum())
    value = float((q * gain).sum()) / total
    parent = fills.parent[used]
    n_parents = int(np.unique(parent).size)
    if n < LEAST_FILLS or n_parents < LEAST_CLUSTERS:
        return Estimate(1e4 * value, None, None, n, n_parents)
    half = _Z95 * clustered_se(q * (gain - value * price), total, parent)
    return Estimate(1e4 * value, 1e4 * (value - half), 1e4 * (value + half), n, n_parents)


def clustered_se(residual: FloatArray, total: float, cluster: IntArray) -> float:
    """Standard error of a ratio sum(y) / total from its residuals, clusters being the independent units."""
    _, code = np.unique(cluster, return_inverse=True)
    sums = np.bincount(code, residual)
    n = len(sums)
    return math.sqrt(float((sums**2).sum()) * n / max(1, n - 1)) / total


__all__ = ["LEAST_CLUSTERS", "LEAST_FILLS", "Estimate", "VenueEstimates", "clustered_se", "order_types",
           "rate_interval", "venue_estimates"]  # fmt: skip
