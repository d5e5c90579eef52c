"""Pools described by a fill rate: what orders of a round lot, sent afresh, then meet."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ...configs.market import MarketConfig
from ...configs.pool_knowledge import FILL_RESIDUAL_MAX
from ...envs.market import Market
from ...envs.state import Batch
from .check import FALSE_ALARM, MIN_EPISODES, STANDARD_ERRORS, Check, Floats, laboratory, play

DAY_MINUTES = 390.0
_LIVES = 10  # of a contra order: so long is a pool left alone that nothing stands there that was met before
_SHORT_OF_LAW = 0.15  # share of a rate: the law leaves out what docs/market_model.md tells, 11 % at worst


class Pausing:
    """Rests at one pool for `rest` slots what nothing completes, then leaves it alone for `pause` slots."""

    name = "pausing"

    def __init__(self, pool: str, rest: int, pause: int) -> None:
        self.route, self.rest, self.period = f"{pool}:rest", rest, rest + pause

    def propose(self, market: Market, b: Batch, obs: Floats, work: Floats, weights: Floats) -> None:
        weights[:] = [float(r.name == self.route) for r in market.routes]
        work[:] = np.where(b.order["slot"] % self.period < self.rest, 10**8, 0)


def filled_rests(market: Market, pool: str, life_s: float, seconds: float, n: int, seed: int) -> Floats:
    """(n,) share of a day's rests of so many seconds that fill at all; the day's last, cut short, left out.

    The market's orders must last the day, with no control in the way of a huge order (`laboratory`).
    """
    slot_s = market.config.interval_s
    router = Pausing(pool, round(seconds / slot_s), math.ceil(_LIVES * life_s / slot_s))
    at = [r.name for r in market.routes].index(router.route)
    met: list[NDArray[np.bool_]] = []
    play(market, router, n, seed, lambda b: met.append(b.fill_shares[:, at].sum(1) > 0), shares=10**9)
    days = np.stack(met, 1)
    days = days[:, : (days.shape[1] - 1) // router.period * router.period].reshape(n, -1, router.period)
    return np.asarray(days[:, :, : router.rest].any(2).mean(1), float)


def fill_rates(config: MarketConfig, n: int, seed: int) -> list[Check]:
    """A line for every class, over all pools with a fill rate."""
    pools = [pool for pool in config.dark_pools if pool.fill_rate is not None]
    claim = "orders of a round lot, sent afresh and resting so long, fill as often as stated"
    found = []
    for s, stock in enumerate(config.stocks) if pools else ():
        lab = laboratory(config, s, minutes=DAY_MINUTES).config.model_copy(update={"noise": config.noise})
        market, said, unplayed, held = Market(lab), [], [], True
        for pool in pools:
            rates = pool.fill_rate or {}
            for seconds, stated in sorted(rates.items()):
                if seconds % market.config.interval_s:
                    unplayed.append(f"{pool.name} at {seconds:g} s")
                    continue
                filled = filled_rests(market, pool.name, pool.life_s, seconds, n, seed)
                error = float(filled.std() / math.sqrt(n))
                # of several durations one supply meets each to FILL_RESIDUAL_MAX (configs/pool_knowledge.py)
                allowed = FILL_RESIDUAL_MAX if len(rates) > 1 else min(FILL_RESIDUAL_MAX, _SHORT_OF_LAW * stated)
                held &= abs(filled.mean() - stated) <= allowed + STANDARD_ERRORS * error
                said.append(f"{pool.name} at {seconds:g} s {filled.mean():.3f} for {stated:g}")
        judged = n >= MIN_EPISODES and bool(said)
        if unplayed:
            said.append(f"no whole slots, so not played: {', '.join(unplayed)}")
        found.append(
            Check(
                f"fill rates, {stock.name}", claim, "; ".join(said), held if judged else None,
                len(said) * FALSE_ALARM, unjudged=n < MIN_EPISODES,
            )
        )  # fmt: skip
    return found
