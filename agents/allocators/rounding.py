"""From a split to what may be sent: whole lots, and no more pools than a decision has routes."""

from __future__ import annotations

import math

import numpy as np

from ...envs.compiled import compiled


@compiled
def systematic_round(lots: np.ndarray, u: float) -> None:
    """Whole lots in place, from one uniform `u`: pool i gets the whole numbers among (sum before + u, sum + u].

    The mean over u is `lots`, and a whole sum is kept (systematic sampling: Madow, Ann. Math. Stat. 20, 1949).
    """
    total, placed = 0.0, 0.0
    for i in range(lots.shape[0]):
        total += lots[i]
        upto = math.floor(total + u + 1e-9)
        lots[i] = upto - placed
        placed = upto


@compiled
def keep_largest(values: np.ndarray, n: int) -> None:
    """Set all but the `n` largest to 0, in place; ties: lowest index."""
    limit = np.sort(values)[::-1][min(n, values.shape[0]) - 1] if values.shape[0] > 0 and n > 0 else math.inf
    kept = 0
    for i in range(values.shape[0]):
        kept += 1 if values[i] >= limit else 0
        if values[i] < limit or kept > n:
            values[i] = 0.0
