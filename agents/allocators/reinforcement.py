"""Reinforcement of Laruelle, Lehalle, Pages (2011): send in proportion to what was filled so far.

It rests where the *average* fill of a lot is equal over pools, not the marginal one, so it stays short of the optimum.
state[0, i, 0] = I_i in units of the volume.
"""

from __future__ import annotations

import numpy as np

from ...envs.compiled import compiled
from .lagrangian import split


@compiled
def start(state: np.ndarray) -> None:
    """I_0 = 1 each."""
    for i in range(state.shape[1]):
        state[0, i, 0] = 1.0


@compiled
def learn(state: np.ndarray, value: np.ndarray, volume: float, filled: np.ndarray) -> None:
    """I_i += value_i x filled_i / volume."""
    for i in range(value.shape[0]):
        if value[i] > 0.0:
            state[0, i, 0] += value[i] * filled[i] / volume


__all__ = ["learn", "split", "start"]
