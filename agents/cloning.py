"""A warm start: fit a score policy to what a rule-based router does, before reinforcement learning improves on it.

Behaviour cloning on states that the teacher itself visits on training markets: cross-entropy between the teacher's
weights and the softmax of the scores, and between the fraction of its band that is worked and the sigmoid of the pace
score, each slot counting as the shares that it works. It only sets where PPO starts.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch as th
from numpy.typing import NDArray

from ..envs.compiled import compiled
from ..envs.controls import pace_band
from ..envs.market import Market, step_proposals, stream_key
from ..envs.privileged import Level, PrivilegedColumns
from ..envs.state import Batch
from ..envs.venues import Rules
from .additive import ScorePolicy
from .router import Router

_SMOOTHING = 0.02  # of the teacher's weights towards uniform: a route whose weight is nil gets no gradient later
_PACE_LIMITS = 0.02, 0.98  # worked fractions of the band are clipped to this, so that the pace keeps a gradient


@compiled
def _worked(
    rules: Rules, b: Batch, work: NDArray[np.float64], frac: NDArray[np.float64], weight: NDArray[np.float64]
) -> None:
    """Fraction of its band that a router works (NaN where that is empty), and its work in slices (at most 4)."""
    settings = rules.settings[0]
    for e in range(b.order.shape[0]):
        frac[e] = np.nan
        if b.order[e].active == 1:
            lo, hi = pace_band(rules, b, e)
            if hi - lo > 0.5 * settings.lot_shares:
                frac[e] = min(max((work[e] - lo) / (hi - lo), _PACE_LIMITS[0]), _PACE_LIMITS[1])
            weight[e] = min(4.0, work[e] * b.episode[e].n_slots / b.episode[e].shares)


def demonstrations(
    market: Market, teacher: Router, seed: int, n_orders: int, every: int, stream: str = "train",
    level: Level = "none",
) -> tuple[NDArray[Any], ...]:  # fmt: skip
    """(observations, weights, worked fractions, work in slices, masked) of every `every`-th slot of the teacher's own
    orders."""
    b, obs = market.batch(n_orders)
    columns = PrivilegedColumns(market.rules, n_orders, market.n_obs, level)
    # numbers far beyond those training deals out, so that cloning does not use up its markets
    market.reset(stream_key(seed, stream), np.arange(n_orders), 10**9 + np.arange(n_orders), b, obs, stream)
    work, weights = np.zeros(n_orders), np.zeros((n_orders, len(market.routes)))
    frac, slices = np.zeros(n_orders), np.zeros(n_orders)
    seen, slot = [], 0
    while b.order["active"].any():
        teacher.propose(market, b, obs, work, weights)
        shown = columns.widen(b, obs)
        _worked(market.rules, b, work, frac, slices)
        keep = np.flatnonzero(
            (b.order["active"] == 1) & (weights.sum(axis=1) > 0.999) & (b.order["slot"] % every == slot % every)
        )
        parts = (x[keep].astype(np.float32) for x in (shown, weights, frac, slices))
        seen.append((*parts, b.masked[keep].copy()))
        step_proposals(market.rules, b, work, weights, obs)
        slot += 3
    return tuple(np.concatenate([s[i] for s in seen]) for i in range(5))


def clone(
    policy: ScorePolicy, market: Market, teacher: Router, seed: int, *,
    n_orders: int = 512, every: int = 4, passes: int = 8,
) -> float:  # fmt: skip
    """Fit the policy's mean scores to the teacher; returns the last mean loss."""
    obs, weights, frac, slices, masked = demonstrations(market, teacher, seed, n_orders, every, level=policy.privileged)
    rng = np.random.default_rng(seed)
    optimizer = th.optim.Adam(policy.mlp_extractor.parameters(), lr=0.02)
    losses: list[float] = []
    for _ in range(passes):
        for rows in np.array_split(rng.permutation(len(obs)), max(1, len(obs) // 4096)):
            scores = policy.mlp_extractor.forward_actor(th.from_numpy(obs[rows]))
            allowed = scores[:, 1:].masked_fill(th.from_numpy(masked[rows]), -1e9)
            target, wanted = th.from_numpy(weights[rows]), th.from_numpy(frac[rows])
            worked = th.from_numpy(slices[rows])
            open_routes = (~th.from_numpy(masked[rows])).float()
            n_open = open_routes.sum(dim=1, keepdim=True).clamp(min=1)
            target = (1 - _SMOOTHING) * target + _SMOOTHING * open_routes / n_open
            known = ~wanted.isnan()
            loss = -(worked * (target * allowed.log_softmax(dim=1)).sum(dim=1)).mean()
            loss = loss + th.nn.functional.binary_cross_entropy_with_logits(scores[:, 0][known], wanted[known])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses.append(float(loss.detach()))
    return float(np.mean(losses[-10:]))
