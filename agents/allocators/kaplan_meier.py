"""Ganchev, Kearns, Nevmyvaka, Vaughan (2010), CACM 53(5): tails from censored fills, one level of optimism, greedy.

state[0, i, s] = D, fills of exactly s lots of more than s sent; state[1, i, s] = N, fills of at least s of more than s.
"""

from __future__ import annotations

import numpy as np

from ...envs.compiled import compiled
from .greedy import greedy


@compiled
def learn(state: np.ndarray, sent: np.ndarray, filled: np.ndarray) -> None:
    """Count one round: `sent` and `filled` (P,) lots, filled <= sent; a full fill is censored."""
    for i in range(sent.shape[0]):
        got = int(filled[i])
        for s in range(min(got + 1, int(sent[i]), state.shape[2])):
            state[1, i, s] += 1.0
            if s == got:
                state[0, i, s] += 1.0


@compiled
def optimistic_tails(state: np.ndarray, n_min: float, tail: np.ndarray) -> None:
    """Write `tail` (P, L): T(s) = prod_{s' < s} (1 - D/N), hazard 0 without data, and T(c + 1) = T(c).

    c: the largest s with N(s - 1) >= n_min, 0 if none. n_min = 0: no optimism, the plain estimator (trap T3: it locks
    in; never call it Ganchev's).
    """
    for i in range(state.shape[1]):
        cut = -1
        if n_min > 0.0:
            cut = 0
            for s in range(tail.shape[1]):
                if state[1, i, s] >= n_min:
                    cut = s + 1
        product = 1.0
        for s in range(tail.shape[1]):
            before = product
            if state[1, i, s] > 0.0:
                product *= 1.0 - state[0, i, s] / state[1, i, s]
            tail[i, s] = before if s == cut else product


@compiled
def split(
    state: np.ndarray, value: np.ndarray, volume: int, n_min: float, key: np.uint64, turn: int, tail: np.ndarray,
    lots: np.ndarray,
) -> None:  # fmt: skip
    """Write `lots` (P,) of `volume`; `tail` (P, L) is scratch and holds the estimate afterwards."""
    optimistic_tails(state, n_min, tail)
    greedy(tail, value, volume, key, turn, lots)
