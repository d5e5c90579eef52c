"""Thompson sampling per hazard: the Bayesian repair of plain Kaplan-Meier.

Counts as in `kaplan_meier.py`. Each level's hazard is drawn from Beta(1 + D, 1 + N - D), the tails are the products of
1 - hazard, and greedy takes them for true. Pools that might be good are tried, as often as they might be.
"""

from __future__ import annotations

import numpy as np

from ...envs.compiled import compiled
from ...envs.counter_rng import derive, gamma
from .greedy import greedy


@compiled
def draw_tails(state: np.ndarray, levels: int, key: np.uint64, turn: int, tail: np.ndarray) -> None:
    """Write `tail` (P, L) for s = 1..levels; a draw is a function of (key, turn, pool, level) and the counts."""
    n_levels = state.shape[2]
    for i in range(state.shape[1]):
        product = 1.0
        for s in range(min(levels, tail.shape[1])):
            own = derive(key, i * n_levels + s)
            died = gamma(derive(own, 0), turn, 1.0 + state[0, i, s])
            lived = gamma(derive(own, 1), turn, 1.0 + state[1, i, s] - state[0, i, s])
            product *= lived / (died + lived)
            tail[i, s] = product


@compiled
def split(
    state: np.ndarray, value: np.ndarray, volume: int, key: np.uint64, turn: int, tail: np.ndarray, lots: np.ndarray
) -> None:
    """Write `lots` (P,) of `volume`; `tail` (P, L) is scratch and holds the draw afterwards."""
    draw_tails(state, volume, key, turn, tail)
    greedy(tail, value, volume, key, turn, lots)
