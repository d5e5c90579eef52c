"""A warm start: fit a score policy to what a rule-based router does, before reinforcement learning improves on it.

First on states that the teacher itself visits on training markets, then, round by round, on those that the policy
visits, labelled by the teacher: DAgger (Ross, Gordon, Bagnell, "A reduction of imitation learning and structured
prediction to no-regret online learning", AISTATS 2011). Without it a policy that falls a little behind meets states that
no teacher was ever in, and leaves several per cent of an order to its last slot.

Loss: cross-entropy between the teacher's weights and the softmax of the scores, and squared error of the pace score. It
only sets where PPO starts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch as th
from numpy.typing import NDArray

from ..envs.compiled import compiled
from ..envs.controls import pace_band
from ..envs.market import Market, step_proposals, stream_key
from ..envs.state import Batch
from ..envs.venues import Rules
from .additive import ScorePolicy
from .router import Router

Show = Callable[[Batch, NDArray[np.float64]], NDArray[np.float64]]  # the observation as the policy is shown it
_SMOOTHING = 0.02  # of the teacher's weights towards uniform: a route whose weight is nil gets no gradient later
_PACE_LIMIT = 5.0  # pace scores of the teacher are clipped to this; sigmoid(-5) = 0.7 % of the band
_FIRST_EPISODE = 10**9  # far beyond those that training deals out, so that cloning does not use up its markets
_EVERY = 4  # slots between the decisions of an order that are kept
_ROUNDS = 3  # of states that the policy visits, after those of the teacher
_PASSES = 4  # over all decisions so far, in every round


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
    market: Market, teacher: Router, seed: int, n_orders: int, *, show: Show | None = None,
    driver: Router | None = None, first: int = 0, stream: str = "train",
) -> tuple[NDArray[Any], ...]:  # fmt: skip
    """(observations, weights, pace scores, masked) of every fourth slot of `n_orders` orders.

    Args:
        show: makes the observation that is kept; None: as the market gives it.
        driver: works the orders, while the teacher says what it would do; None: the teacher.
        first: of the episodes, counted from where no training goes.

    Weights are all 0 where the teacher sends nothing, pace scores NaN where the band is empty.
    """
    b, obs = market.batch(n_orders)
    numbers = _FIRST_EPISODE + first + np.arange(n_orders)
    market.reset(stream_key(seed, stream), np.arange(n_orders), numbers, b, obs, stream)
    shape = (n_orders, len(market.routes))
    work, weights, pace = np.zeros(n_orders), np.zeros(shape), np.zeros(n_orders)
    own_work, own_weights = np.zeros(n_orders), np.zeros(shape)
    seen, slot = [], 0
    while b.order["active"].any():
        teacher.propose(market, b, obs, work, weights)
        _pace_scores(market.rules, b, work, pace)
        shown = obs if show is None else show(b, obs)
        keep = np.flatnonzero((b.order["active"] == 1) & (b.order["slot"] % _EVERY == slot % _EVERY))
        sends = (weights[keep].sum(axis=1) > 0.999) & (work[keep] > 0)
        parts = (shown[keep].astype(np.float32), (weights[keep] * sends[:, None]).astype(np.float32))
        seen.append((*parts, pace[keep].astype(np.float32), b.masked[keep].copy()))
        if driver is None:
            step_proposals(market.rules, b, work, weights, obs)
        else:
            driver.propose(market, b, obs, own_work, own_weights)
            step_proposals(market.rules, b, own_work, own_weights, obs)
        slot += 3
    return tuple(np.concatenate([s[i] for s in seen]) for i in range(4))


def clone(
    policy: ScorePolicy, market: Market, teacher: Router, seed: int, *, n_orders: int = 512,
    show: Show | None = None, driver: Callable[[], Router],
) -> float:  # fmt: skip
    """Fit the policy's mean scores to the teacher; returns the last mean loss.

    `driver` makes a router of the policy as it is when called; `show` as for `demonstrations`.
    """
    rng = np.random.default_rng(seed)
    optimizer = th.optim.Adam(policy.mlp_extractor.parameters(), lr=0.02)
    data = demonstrations(market, teacher, seed, n_orders, show=show)
    loss = _fit(policy, data, optimizer, rng)
    for k in range(_ROUNDS):
        own = demonstrations(
            market, teacher, seed, n_orders, show=show, driver=driver(), first=(k + 1) * n_orders
        )
        data = tuple(np.concatenate(pair) for pair in zip(data, own, strict=True))
        loss = _fit(policy, data, optimizer, rng)
    return loss


def _fit(
    policy: ScorePolicy, data: tuple[NDArray[Any], ...], optimizer: th.optim.Optimizer, rng: np.random.Generator
) -> float:
    """Some passes over the data; the mean loss of the last steps."""
    obs, weights, pace, masked = data
    losses: list[float] = []
    for _ in range(_PASSES):
        for rows in np.array_split(rng.permutation(len(obs)), max(1, len(obs) // 4096)):
            scores = policy.mlp_extractor.forward_actor(th.from_numpy(obs[rows]))
            allowed = scores[:, 1:].masked_fill(th.from_numpy(masked[rows]), -1e9)
            target, wanted = th.from_numpy(weights[rows]), th.from_numpy(pace[rows])
            sends = (target.sum(dim=1) > 0).float()
            open_routes = (~th.from_numpy(masked[rows])).float()
            n_open = open_routes.sum(dim=1, keepdim=True).clamp(min=1)
            target = (1 - _SMOOTHING) * target + _SMOOTHING * open_routes / n_open
            known = ~wanted.isnan()
            loss = -(sends * (target * allowed.log_softmax(dim=1)).sum(dim=1)).mean()
            loss = loss + 0.1 * ((scores[:, 0] - wanted.nan_to_num())[known] ** 2).mean()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses.append(float(loss.detach()))
    return float(np.mean(losses[-10:]))
