"""O6: splitting lots over pools with hidden liquidity, and the Kaplan-Meier tails that learn it from censored fills.

E sum b_i min(S_i, v_i) = sum_i b_i sum_{s <= v_i} T_i(s), T_i(s) = Pr[S_i >= s] falling: a separable concave sum, so
the next lot to the largest b_i T_i(v_i + 1) is exactly optimal. Source: Ganchev, Kearns, Nevmyvaka, Vaughan (2010),
CACM 53(5), for b = 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from .parameters import Finite, FloatArray, IntArray, Params, Probability


class HiddenPool(Params):
    """Pr[S = 0] = p0, Pr[S = s] ~ s^-beta for s = 1..m lots."""

    p0: Probability
    beta: Annotated[float, Field(ge=-100, le=100)]
    m: Annotated[int, Field(ge=1, le=1_000_000)]


class PoolSplitParams(Params):
    """Problem file of kind `pool_split`: `weights` are net values b_i of a filled lot, 1 where left out."""

    kind: Literal["pool_split"] = "pool_split"
    pools: Annotated[tuple[HiddenPool, ...], Field(min_length=1)]
    volume: Annotated[int, Field(ge=0, le=1_000_000)]
    weights: tuple[Finite, ...] | None = None

    @model_validator(mode="after")
    def _one_weight_a_pool(self) -> PoolSplitParams:
        if self.weights is not None and len(self.weights) != len(self.pools):
            raise ValueError(f"{len(self.weights)} weights for {len(self.pools)} pools; give one a pool")
        return self


def contra_prob(pool: HiddenPool) -> FloatArray:
    """Pr[S = s] for s = 0..m."""
    log_weight = -pool.beta * np.log(np.arange(1, pool.m + 1))
    weight = np.exp(log_weight - log_weight.max())
    return np.concatenate(([pool.p0], (1 - pool.p0) * weight / weight.sum()))


def tails(pools: Sequence[HiddenPool], volume: int) -> FloatArray:
    """(n_pools, volume) T_i(s) = Pr[S_i >= s], s = 1..volume."""
    out = np.zeros((len(pools), volume))
    for i, pool in enumerate(pools):
        tail = np.cumsum(contra_prob(pool)[::-1])[::-1][1:]
        n = min(volume, len(tail))
        out[i, :n] = tail[:n]
    return out


def greedy_split(tail: FloatArray, volume: int, weights: FloatArray | None = None) -> IntArray:
    """(n_pools,) lots: the next one to the largest weights_i tail[i, v_i], stopping at <= 0; ties: lowest index."""
    n_pools, longest = tail.shape
    split = np.zeros(n_pools, np.int64)
    value = np.ones(n_pools) if weights is None else weights
    for _ in range(volume):
        gain = np.array([value[i] * tail[i, split[i]] if split[i] < longest else 0.0 for i in range(n_pools)])
        best = int(gain.argmax())
        if gain[best] <= 0:
            break
        split[best] += 1
    return split


def weighted_fill(
    tail: FloatArray, split: Sequence[float] | FloatArray | IntArray, weights: FloatArray | None = None
) -> float:
    """Exact expected (weighted) fill; parts of a lot by linear interpolation, the mean of unbiased rounding."""
    total = 0.0
    for i, lots in enumerate(np.asarray(split, float)):
        whole = int(lots)
        fill = float(tail[i, :whole].sum())
        if lots > whole:
            fill += (lots - whole) * float(tail[i, whole])
        total += fill * (1.0 if weights is None else float(weights[i]))
    return total


def solve_pool_split(params: PoolSplitParams) -> float:
    """The largest (weighted) expected fill."""
    tail = tails(params.pools, params.volume)
    weights = None if params.weights is None else np.array(params.weights)
    return weighted_fill(tail, greedy_split(tail, params.volume, weights), weights)


class KaplanMeierParams(Params):
    """Problem file of kind `kaplan_meier`: pairs (sent v, filled r) in lots."""

    kind: Literal["kaplan_meier"] = "kaplan_meier"
    pairs: Annotated[
        tuple[tuple[Annotated[int, Field(ge=1, le=1_000_000)], Annotated[int, Field(ge=0)]], ...], Field(min_length=1)
    ]

    @model_validator(mode="after")
    def _no_fill_above_the_order(self) -> KaplanMeierParams:
        for i, (sent, filled) in enumerate(self.pairs):
            if filled > sent:
                raise ValueError(f"pairs[{i}] fills {filled} of {sent}; a fill cannot pass what was sent")
        return self


def censored_counts(pairs: Sequence[tuple[int, int]]) -> tuple[IntArray, IntArray]:
    """D(s) = #{r = s, v > s} and N(s) = #{r >= s, v > s} for s = 0..max v - 1."""
    sent, filled = np.array(pairs).T
    levels = np.arange(sent.max())[:, None]
    alive = (filled >= levels) & (sent > levels)
    return (alive & (filled == levels)).sum(1), alive.sum(1)


def kaplan_meier(died: FloatArray | IntArray, at_risk: FloatArray | IntArray) -> FloatArray:
    """T(s + 1) = prod_{s' <= s} (1 - D(s')/N(s')); a level without data has hazard 0."""
    hazard = np.divide(died, at_risk, out=np.zeros(len(died)), where=np.asarray(at_risk) > 0)
    return np.asarray(np.cumprod(1 - hazard))


def solve_kaplan_meier(params: KaplanMeierParams) -> float:
    """The last tail estimate."""
    return float(kaplan_meier(*censored_counts(params.pairs))[-1])
