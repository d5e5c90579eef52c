"""Agarwal, Bartlett, Dama (2010), AISTATS: exponentiated gradient per unit of volume; regret O(V sqrt(T ln K)).

state[0, i, u] = x, the weight of pool i for the u-th lot; over pools they sum to 1. Pool i is sent sum_u x, rounded.
"""

from __future__ import annotations

import math

import numpy as np

from ...envs.compiled import compiled


@compiled
def start(state: np.ndarray, share: np.ndarray) -> None:
    """Every lot split in proportion to `share` (P,) > 0."""
    total = 0.0
    for i in range(share.shape[0]):
        total += share[i]
    for i in range(share.shape[0]):
        for u in range(state.shape[2]):
            state[0, i, u] = share[i] / total


@compiled
def _open_weight(state: np.ndarray, value: np.ndarray, u: int) -> float:
    total = 0.0
    for i in range(value.shape[0]):
        total += state[0, i, u] if value[i] > 0.0 else 0.0
    return total


@compiled
def split(state: np.ndarray, value: np.ndarray, volume: int, lots: np.ndarray) -> None:
    """Write `lots` (P,), parts of lots, summing to `volume` over the open pools."""
    for i in range(value.shape[0]):
        lots[i] = 0.0
    for u in range(min(volume, state.shape[2])):
        total = _open_weight(state, value, u)
        for i in range(value.shape[0]):
            if value[i] > 0.0:
                lots[i] += state[0, i, u] / total


@compiled
def learn(state: np.ndarray, value: np.ndarray, volume: int, filled: np.ndarray, rate: float) -> None:
    """x *= e^(rate g), g = value (largest 1) where the u-th lot's share of the pool filled: sum_{u' <= u} x <= filled.

    `rate`: sqrt(ln K / T) for K pools and T rounds to come.
    """
    best = 0.0
    for i in range(value.shape[0]):
        best = max(best, value[i])
    if best <= 0.0:
        return
    sums = np.zeros(value.shape[0])
    for u in range(min(volume, state.shape[2])):
        open_total = _open_weight(state, value, u)
        total = 0.0
        for i in range(value.shape[0]):
            if value[i] > 0.0:
                sums[i] += state[0, i, u] / open_total
                if sums[i] <= filled[i]:
                    state[0, i, u] *= math.exp(rate * value[i] / best)
            total += state[0, i, u]
        for i in range(value.shape[0]):
            state[0, i, u] /= total
