"""From a split to what may be sent: whole lots, and no more pools than a decision has routes."""

from __future__ import annotations

import math

import numpy as np

from ...envs.compiled import compiled

# In whole lots a pool whose part is below one is asked now and then only. Rules that learn from what was asked divide
# by the chance, which keeps the mean right; by no less than this, so that one fill does not decide all.
LEAST_CHANCE = 0.25


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
    """Set all but the `n` largest of values >= 0 to 0, in place; ties: lowest index."""
    kept = np.zeros(values.shape[0])
    for _ in range(min(n, values.shape[0])):
        best = 0
        for i in range(1, values.shape[0]):
            if values[i] > values[best]:
                best = i
        kept[best] = values[best]
        values[best] = -1.0
    values[:] = kept
