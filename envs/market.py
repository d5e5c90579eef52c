"""A market ready to run: config, compiled parameters, and batches of orders on it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..configs.errors import UserError
from ..configs.market import MarketConfig
from ..configs.session import SESSION_S
from .compiled import compiled
from .controls import pace_band, release_rows, weights_from_scores
from .counter_rng import derive, key_of
from .episode_draw import draw_episode, draw_order, draw_stock
from .features import N_GLOBAL, N_ROUTE, observe, observe_rows
from .market_step import start_order, work_rows
from .state import Batch, allocate
from .synthetic import generate_tape
from .venues import Rules, build_rules, max_slots, routes_of, venue_names

STREAMS = ("train", "validation", "test")


def stream_key(seed: int, stream: str) -> np.uint64:
    """Key of a seed's stream; training, validation and test episodes come from disjoint streams."""
    return np.uint64(derive(key_of(f"glasspool/{stream}"), int(seed)))


@compiled
def reset_rows(
    rules: Rules, key: np.uint64, rows: NDArray[np.int64], numbers: NDArray[np.int64], b: Batch,
    obs: NDArray[np.float64],
) -> None:  # fmt: skip
    """Draw episodes `numbers` into `rows`, generate their tapes, start the orders, write the observations."""
    for i in range(rows.shape[0]):
        e = rows[i]
        draw_episode(rules, key, numbers[i], b, e)
        generate_tape(rules, b, e)
        start_order(rules, b, e)
        observe(rules, b, e, obs[e])


@compiled
def draw_horizons(rules: Rules, key: np.uint64, numbers: NDArray[np.int64], b: Batch, slots: NDArray[np.int64]) -> None:
    """Slots of the parents `numbers`, whose stock and order alone are drawn, into row 0 of `b`."""
    ep = b.episode[0]
    for i in range(numbers.shape[0]):
        ep.key = derive(key, numbers[i])
        draw_stock(rules, ep, -1)
        draw_order(rules, ep)
        slots[i] = ep.n_slots


@compiled
def restart_row(rules: Rules, b: Batch, e: int, obs: NDArray[np.float64]) -> None:
    """Start the order of a row whose episode and tape are already filled (replay)."""
    start_order(rules, b, e)
    observe(rules, b, e, obs[e])


@compiled
def step_proposals(
    rules: Rules, b: Batch, work: NDArray[np.float64], weights: NDArray[np.float64], obs: NDArray[np.float64]
) -> None:
    """One slot for every active row, from proposals: shares to work (E,) and weights over routes (E, R).

    Release, work, then, where the order goes on, observe.
    """
    n = b.order.shape[0]
    release_rows(rules, b, work, weights)
    work_rows(rules, b, 0, n)
    observe_rows(rules, b, 0, n, obs, 0)


@compiled
def proposals_from_scores(
    rules: Rules, b: Batch, actions: NDArray[np.float64], work: NDArray[np.float64], weights: NDArray[np.float64]
) -> None:
    """Actions (E, 1 + R), pace score then route scores -> shares to work (E,) and weights (E, R)."""
    weights_from_scores(actions[:, 1:], b.masked, rules.route_type, weights)
    for e in range(b.order.shape[0]):
        if b.order[e].active == 1:
            lo, hi = pace_band(rules, b, e)
            work[e] = lo + (hi - lo) / (1.0 + math.exp(-actions[e, 0]))


@compiled
def step_scores(
    rules: Rules, b: Batch, actions: NDArray[np.float64], work: NDArray[np.float64], weights: NDArray[np.float64],
    obs: NDArray[np.float64],
) -> None:  # fmt: skip
    """`proposals_from_scores`, then `step_proposals`, in one call."""
    proposals_from_scores(rules, b, actions, work, weights)
    step_proposals(rules, b, work, weights, obs)


def _refuse_oversized(config: MarketConfig, rules: Rules) -> None:
    """A fixed order must stay within the participation cap of the quietest window it may meet."""
    orders = config.orders
    if orders.shares is None or config.oracle.slot_volumes:
        return
    for stock, row in zip(config.stocks, rules.stock, strict=True):
        per_second = np.repeat(row["volume_curve"] / 300.0, 300)
        so_far = np.concatenate([[0.0], np.cumsum(per_second)])
        for minutes in orders.horizon_minutes:
            length = round(minutes * 60)
            starts = [round(orders.start_s)] if orders.start_s is not None else range(0, SESSION_S - length + 1, 300)
            volume = min(so_far[min(SESSION_S, s + length)] - so_far[s] for s in starts) * stock.adv_shares
            if orders.shares > orders.max_participation_frac * volume:
                raise UserError(
                    f"orders.shares = {orders.shares:,} is {orders.shares / max(volume, 1.0):.0%} of the "
                    f"{volume:,.0f} shares that {stock.name!r} is expected to trade in {minutes:g} minutes, more than "
                    f"the market can bear (orders.max_participation_frac {orders.max_participation_frac:.0%}). Lower "
                    "shares, lengthen horizon_minutes, or raise the cap if you mean it."
                )


class Market:
    """Episodes of one MarketConfig. Replayed markets fill their tapes from recorded days instead of the generator."""

    def __init__(self, config: MarketConfig) -> None:
        self.config = config
        self.rules: Rules = build_rules(config)
        self.routes = routes_of(config)
        self.venues = venue_names(config)
        self.n_slots = max_slots(config)
        self.n_obs = N_GLOBAL + len(self.routes) * N_ROUTE
        _refuse_oversized(config, self.rules)
        self.replay = None
        if config.replay is not None:
            from .replay import ReplayDays  # reads files, so only when asked for

            self.replay = ReplayDays.load([Path(p) for p in config.replay.paths], config, self.rules)

    def batch(self, n_episodes: int) -> tuple[Batch, NDArray[np.float64]]:
        """Empty arrays for `n_episodes` orders and their observations (E, n_obs) float64."""
        rules = self.rules
        batch = allocate(
            n_episodes, self.n_slots, rules.n_after, rules.n_venues, len(self.routes),
            rules.markout_lag + 3, rules.n_sub,
        )  # fmt: skip
        return batch, np.zeros((n_episodes, self.n_obs))

    def horizon_slots(self, key: np.uint64, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Slots of the parents `numbers`, without their tapes; all alike in a replay, where the day has a say."""
        slots = np.zeros(len(numbers), np.int64)
        if self.replay is None:
            draw_horizons(self.rules, key, numbers, self.batch(1)[0], slots)
        return slots

    def reset(
        self, key: np.uint64, rows: Sequence[int] | NDArray[np.int64], numbers: Sequence[int] | NDArray[np.int64],
        b: Batch, obs: NDArray[np.float64], stream: str = "test",
    ) -> None:  # fmt: skip
        """Put episodes `numbers` of the stream `key` into `rows` of the batch; `stream`: whose days a replay meets."""
        rows, numbers = np.asarray(rows, np.int64), np.asarray(numbers, np.int64)
        if self.replay is None:
            reset_rows(self.rules, key, rows, numbers, b, obs)
            return
        for row, number in zip(rows, numbers, strict=True):
            self.replay.fill(self.rules, key, int(number), b, int(row), stream)
            restart_row(self.rules, b, int(row), obs)
