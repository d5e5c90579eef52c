"""A warm start: fit a score policy to what a rule-based router does, before reinforcement learning improves on it.

Behaviour cloning on states that the teacher itself visits on training markets: cross-entropy between the teacher's
weights and the softmax of the scores, and squared error of the pace score. It only sets where PPO starts.
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
_PACE_LIMIT = 3.0  # pace scores of the teacher are clipped to this; sigmoid(3) = 0.95


@compiled
def _pace_scores(rules: Rules, b: Batch, work: NDArray[np.float64], out: NDArray[np.float64]) -> None:
    """Inverse of the pace map: the score that makes a router work `work` shares; NaN where the band is empty."""
    settings = rules.settings[0]
    for e in range(b.order.shape[0]):
        out[e] = np.nan
        if b.order[e].active == 1:
            lo, hi = pace_band(rules, b, e)
            if hi - lo > 0.5 * settings.lot_shares:
                frac = min(max((work[e] - lo) / (hi - lo), 1e-3), 1.0 - 1e-3)
                out[e] = min(max(np.log(frac / (1.0 - frac)), -_PACE_LIMIT), _PACE_LIMIT)


def demonstrations(
    market: Market, teacher: Router, seed: int, n_orders: int, every: int, stream: str = "train",
    level: Level = "none",
) -> tuple[NDArray[Any], ...]:  # fmt: skip
    """(observations, weights, pace scores, masked) of every `every`-th slot of the teacher's own orders."""
    b, obs = market.batch(n_orders)
    columns = PrivilegedColumns(market.rules, n_orders, market.n_obs, level)
    # numbers far beyond those training deals out, so that cloning does not use up its markets
    market.reset(stream_key(seed, stream), np.arange(n_orders), 10**9 + np.arange(n_orders), b, obs, stream)
    work, weights, pace = np.zeros(n_orders), np.zeros((n_orders, len(market.routes))), np.zeros(n_orders)
    seen, slot = [], 0
    while b.order["active"].any():
        teacher.propose(market, b, obs, work, weights)
        shown = columns.widen(b, obs)
        _pace_scores(market.rules, b, work, pace)
        keep = np.flatnonzero(
            (b.order["active"] == 1) & (weights.sum(axis=1) > 0.999) & (b.order["slot"] % every == slot % every)
        )
        parts = (shown[keep].astype(np.float32), weights[keep].astype(np.float32), pace[keep].astype(np.float32))
        seen.append((*parts, b.masked[keep].copy()))
        step_proposals(market.rules, b, work, weights, obs)
        slot += 3
    return tuple(np.concatenate([s[i] for s in seen]) for i in range(4))


def clone(
    policy: ScorePolicy, market: Market, teacher: Router, seed: int, *,
    n_orders: int = 512, every: int = 4, passes: int = 8,
) -> float:  # fmt: skip
    """Fit the policy's mean scores to the teacher; returns the last mean loss."""
    obs, weights, pace, masked = demonstrations(market, teacher, seed, n_orders, every, level=policy.privileged)
    rng = np.random.default_rng(seed)
    optimizer = th.optim.Adam(policy.mlp_extractor.parameters(), lr=0.02)
    losses: list[float] = []
    for _ in range(passes):
        for rows in np.array_split(rng.permutation(len(obs)), max(1, len(obs) // 4096)):
            scores = policy.mlp_extractor.forward_actor(th.from_numpy(obs[rows]))
            allowed = scores[:, 1:].masked_fill(th.from_numpy(masked[rows]), -1e9)
            target, wanted = th.from_numpy(weights[rows]), th.from_numpy(pace[rows])
            open_routes = (~th.from_numpy(masked[rows])).float()
            n_open = open_routes.sum(dim=1, keepdim=True).clamp(min=1)
            target = (1 - _SMOOTHING) * target + _SMOOTHING * open_routes / n_open
            known = ~wanted.isnan()
            loss = -(target * allowed.log_softmax(dim=1)).sum(dim=1).mean()
            loss = loss + 0.1 * ((scores[:, 0] - wanted.nan_to_num())[known] ** 2).mean()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses.append(float(loss.detach()))
    return float(np.mean(losses[-10:]))
