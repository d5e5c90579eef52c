"""Exchanges of a tape in three groups by what posting there earns: they stand for a market's three lit venues.

A group pools what single exchanges say with few prints, and together the groups hold the whole displayed volume.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np

GROUPS = ("lowest", "middle", "highest")
LIT_VENUE = {"lowest": "XQLA", "highest": "XQLB", "middle": "XQLC"}  # the base market's lit archetypes


def venue_groups(pnl: Mapping[str, float], volume_frac: Mapping[str, float]) -> dict[str, tuple[str, ...]]:
    """Exchanges by group, from their P&L of resting orders and their shares of volume; empty with fewer than three.

    The three runs of the sorted P&L with the least volume-weighted variance inside (Fisher's exact grouping).
    """
    codes = sorted(
        (code for code in pnl if np.isfinite(pnl[code]) and volume_frac.get(code, 0) > 0), key=pnl.__getitem__
    )
    if len(codes) < len(GROUPS):
        return {}
    value = np.array([pnl[code] for code in codes])
    weight = np.array([volume_frac[code] for code in codes])

    def scatter(first: int, last: int) -> float:
        v, w = value[first:last], weight[first:last]
        return float((w * (v - np.average(v, weights=w)) ** 2).sum())

    n = len(codes)
    cuts = min(
        combinations(range(1, n), 2), key=lambda cut: scatter(0, cut[0]) + scatter(cut[0], cut[1]) + scatter(cut[1], n)
    )
    bounds = (0, *cuts, n)
    return {group: tuple(codes[bounds[i] : bounds[i + 1]]) for i, group in enumerate(GROUPS)}
