"""Agarwal, Bartlett, Dama (2010), AISTATS: exponentiated gradient per unit of volume; regret O(V sqrt(T ln K)).

state[0, i, u] = x, the weight of pool i for the u-th lot; over pools they sum to 1. Pool i is sent sum_u x, rounded.
"""

from __future__ import annotations

import math

import numpy as np

from ...envs.compiled import compiled, leaf
from .rounding import LEAST_CHANCE


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


@leaf
def _chance(upto: float, part: float) -> float:
    """That `part` lots, rounded up or down with that mean, are at least `upto` <= part."""
    whole = math.floor(part + 1e-9)
    return 1.0 if upto <= whole + 1e-9 else part - whole


@compiled
def learn(
    state: np.ndarray, value: np.ndarray, volume: int, filled: np.ndarray, rate: float, whole_lots: bool
) -> None:  # fmt: skip
    """x *= e^(rate g), g = value (largest 1) where the u-th lot's share of the pool filled: sum_{u' <= u} x <= filled.

    Where only `whole_lots` can be sent, that many were with some chance; g is divided by it (see `LEAST_CHANCE`), or a
    pool of small weight would be held to have failed whenever it was not asked. `rate`: sqrt(ln K / T) for K pools and
    T rounds to come.
    """
    best = 0.0
    for i in range(value.shape[0]):
        best = max(best, value[i])
    if best <= 0.0:
        return
    parts, sums = np.zeros(value.shape[0]), np.zeros(value.shape[0])
    split(state, value, volume, parts)
    for u in range(min(volume, state.shape[2])):
        open_total = _open_weight(state, value, u)
        total = 0.0
        for i in range(value.shape[0]):
            if value[i] > 0.0:
                sums[i] += state[0, i, u] / open_total
                if sums[i] <= filled[i]:
                    chance = _chance(sums[i], parts[i]) if whole_lots else 1.0
                    state[0, i, u] *= math.exp(rate * value[i] / best / max(chance, LEAST_CHANCE))
            total += state[0, i, u]
        for i in range(value.shape[0]):
            state[0, i, u] /= total
