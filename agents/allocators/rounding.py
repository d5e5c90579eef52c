"""Parts of lots to whole lots that keep their sum, unbiased."""

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
