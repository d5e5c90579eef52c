"""Laruelle, Lehalle, Pages, SIAM J. Financial Mathematics 2 (2011): stochastic approximation of the Lagrangian.

state[0, i, 0] = r_i, the share of the volume sent to pool i, on the simplex; state[1, 0, 0] = t, rounds so far.
"""

from __future__ import annotations

import numpy as np

from ...envs.compiled import compiled, leaf
from .rounding import LEAST_CHANCE


@compiled
def start(state: np.ndarray, share: np.ndarray) -> None:
    """r in proportion to `share` (P,) > 0."""
    total = 0.0
    for i in range(share.shape[0]):
        total += share[i]
    for i in range(share.shape[0]):
        state[0, i, 0] = share[i] / total
    state[1, 0, 0] = 0.0


@compiled
def split(state: np.ndarray, value: np.ndarray, volume: float, explore: float, lots: np.ndarray) -> None:
    """Write `lots` (P,) = volume x r over the open pools, of which a part `explore` is evenly spread.

    Without exploring a pool whose r has reached 0 is never asked again; the paper's setting has no need of it, since it
    asks every pool for a part of a lot, however small. All is spread evenly where every open r is 0.
    """
    total, n_open = 0.0, 0
    for i in range(value.shape[0]):
        if value[i] > 0.0:
            total += state[0, i, 0]
            n_open += 1
    for i in range(value.shape[0]):
        lots[i] = 0.0
        if value[i] > 0.0:
            r = state[0, i, 0] / total if total > 0.0 else 1.0 / n_open
            lots[i] = volume * ((1.0 - explore) * r + explore / n_open)


@leaf
def _full(rho: float, sent: float, filled: float, chance: float) -> float:
    return rho / max(chance, LEAST_CHANCE) if sent > 0.0 and filled >= sent else 0.0


@compiled
def learn(
    state: np.ndarray, value: np.ndarray, sent: np.ndarray, filled: np.ndarray, chance: np.ndarray
) -> None:  # fmt: skip
    """r_i += gamma_t (rho_i 1{all of sent filled} / chance_i - mean over pools), projected; gamma_t = (20 + t)^-0.7.

    rho = value, the largest 1. `chance` (P,): that the pool was sent anything, 1 where parts of lots can be sent
    (see `LEAST_CHANCE`). Pools without a chance do not enter the mean.
    """
    best, mean, n = 0.0, 0.0, 0
    for i in range(value.shape[0]):
        best = max(best, value[i])
    if best <= 0.0:
        return
    for i in range(value.shape[0]):
        if value[i] > 0.0 and chance[i] > 0.0:
            mean += _full(value[i] / best, sent[i], filled[i], chance[i])
            n += 1
    if n == 0:
        return
    step = (20.0 + state[1, 0, 0]) ** -0.7
    state[1, 0, 0] += 1.0
    for i in range(value.shape[0]):
        if value[i] > 0.0 and chance[i] > 0.0:
            state[0, i, 0] += step * (_full(value[i] / best, sent[i], filled[i], chance[i]) - mean / n)
    project(state[0, :, 0])


@compiled
def project(r: np.ndarray) -> None:
    """The nearest point of the simplex, in place (Held, Wolfe, Crowder, Mathematical Programming 6, 1974)."""
    ranked = np.sort(r)[::-1]
    total, shift = 0.0, 0.0
    for k in range(ranked.shape[0]):
        total += ranked[k]
        if ranked[k] - (total - 1.0) / (k + 1) > 0.0:
            shift = (total - 1.0) / (k + 1)
    for i in range(r.shape[0]):
        r[i] = max(0.0, r[i] - shift)
