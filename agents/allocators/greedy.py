"""The next lot to the pool where it is worth most: exactly optimal where tails fall (O6)."""

from __future__ import annotations

import numpy as np

from ...envs.compiled import compiled
from ...envs.counter_rng import uniform


@compiled
def greedy(tail: np.ndarray, value: np.ndarray, volume: int, key: np.uint64, turn: int, lots: np.ndarray) -> None:
    """Write `lots` (P,): each of `volume` lots goes to the largest value[i] tail[i, lots[i]]; ties at random.

    Ties are drawn by (key, turn), so a split is a function of its arguments. Closed pools get nothing; a pool that is
    open but believed empty may, since sending there costs nothing and is the only way to learn otherwise.

    Args:
        tail: (P, L) Pr[S_i >= s], s = 1..L, or an estimate.
        value: (P,) net value of a filled lot.

    Source: Ganchev, Kearns, Nevmyvaka, Vaughan (2010), CACM 53(5), for equal values.
    """
    n_pools, longest = tail.shape
    for i in range(n_pools):
        lots[i] = 0.0
    for j in range(volume):
        best, best_gain, ties = -1, 0.0, 0
        for i in range(n_pools):
            at = int(lots[i])
            if value[i] <= 0.0 or at >= longest:
                continue
            gain = value[i] * tail[i, at]
            if best < 0 or gain > best_gain:
                best, best_gain, ties = i, gain, 1
            elif gain == best_gain:
                ties += 1
                if uniform(key, turn, j * n_pools + i) * ties < 1.0:
                    best = i
        if best < 0:
            break
        lots[best] += 1.0
