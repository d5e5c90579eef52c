"""One line of a certificate, and the play that most lines need."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...configs.market import MarketConfig
from ...envs.market import Market, step_proposals, stream_key
from ...envs.state import Batch
from ..router import Router

Floats = NDArray[np.float64]
MIN_EPISODES = 50.0  # a clustered error from fewer is no error to be held against
STANDARD_ERRORS = 4.0  # a limit for statistics: false alarm 6 in 100,000 a comparison
FALSE_ALARM = math.erfc(STANDARD_ERRORS / math.sqrt(2.0))
MIN_SLOTS = 8  # of a laboratory order: returns have five lags, fills six horizons


@dataclass(frozen=True, slots=True)
class Check:
    """A claim about a market, what was measured, and whether it held. `passed` None: does not apply, `measured` says
    why.

    `false_alarm`: how often the line fails on a correct market; 0 where nothing is left to chance.
    `unjudged`: does not apply because too few of the orders fill; more orders may be enough.
    """

    name: str
    claim: str
    measured: str
    passed: bool | None
    false_alarm: float = 0.0
    unjudged: bool = False

    def __post_init__(self) -> None:
        if self.passed is not None:  # a truth value of numpy's is not `False`, and would slip past `is False`
            object.__setattr__(self, "passed", bool(self.passed))


class FixedWeights:
    """Always the same weights by route name; works what the schedule says, or `work_shares` in every slot."""

    name = "fixed"

    def __init__(self, weights: Mapping[str, float], work_shares: float | None = None) -> None:
        self._weights, self._work = dict(weights), work_shares

    def propose(self, market: Market, b: Batch, obs: Floats, work: Floats, weights: Floats) -> None:
        rows = np.arange(len(work))
        target = b.tape[rows, np.minimum(b.order["slot"], b.tape.shape[1] - 1)]["schedule_next"]
        due = b.order["remaining_shares"] - b.episode["shares"] * target
        work[:] = np.maximum(due, 0.0) if self._work is None else self._work
        weights[:] = [self._weights.get(r.name, 0.0) for r in market.routes]


def play(
    market: Market, router: Router, n: int, seed: int, each_slot: Callable[[Batch], None] | None = None, *,
    shares: int | None = None,
) -> Batch:  # fmt: skip
    """Work episodes 0..n-1 of the test stream to their ends; `each_slot` sees the batch after every slot.

    `shares`: another size for every order, however absurd.
    """
    b, obs = market.batch(n)
    market.reset(stream_key(seed, "test"), np.arange(n), np.arange(n), b, obs)
    if shares is not None:
        b.episode["shares"] = shares
        b.order["remaining_shares"] = shares
    work, weights = np.zeros(n), np.zeros((n, len(market.routes)))
    while b.order["active"].any():
        router.propose(market, b, obs, work, weights)
        step_proposals(market.rules, b, work, weights, obs)
        if each_slot is not None:
            each_slot(b)
    return b


def laboratory(
    config: MarketConfig, stock: int = 0, *, minutes: float = 15.0, endless: bool = True, as_drawn: bool = False
) -> Market:
    """The market with one class, its archetypes as they are under their own names, and nothing in the way of fills.

    `minutes`: of an order, more where they hold fewer than MIN_SLOTS slots. `endless`: no control in the way of orders
    so large that no arrival completes a child, so that fills follow the laws exactly; `play` sets their size.
    `as_drawn`: all classes, and all that the market's own episodes draw: venues (dealt over its dark slots, jittered),
    regimes, events, toxicity that follows volatility.
    """
    minutes = max(minutes, MIN_SLOTS * config.interval_s / 60.0)
    orders = {"side": "both", "horizon_minutes": {minutes: 1.0}, "start_s": None}
    controls: dict[str, Any] = {"route_caps_shares": {}}
    if endless:
        controls |= {"max_routes": 64, "weight_cut": 0.0, "max_child_shares": 10**8, "max_dark_frac": 1.0,
                     "toxicity_limit_hs": -1e9}  # fmt: skip
    data = config.model_dump()
    data["replay"] = None
    data["orders"] = {**data["orders"], **orders}
    data["controls"] = {**data["controls"], **controls}
    if not as_drawn:
        class_ = config.stocks[stock].model_copy(update={"probability": 1.0})
        data |= {"stocks": [class_.model_dump()], "randomisation": None, "dark_slots": [], "events": {}}
        data["noise"] = {**data["noise"], "toxicity_vol_exponent": 0.0}
    return Market(MarketConfig.model_validate(data))


def z_of(mean: float, target: float, error: float) -> float:
    """Distance in standard errors; 0 where both are exact and equal."""
    if error == 0.0:
        return 0.0 if abs(mean - target) < 1e-12 else math.inf
    return (mean - target) / error


def ratio_and_error(weights: Floats, values: Floats) -> tuple[float, float, float]:
    """Weighted mean of (n, slots) values, its standard error clustered by episode, and how many episodes it stands on.

    The last is (sum w)^2 / sum w^2 over the weights of episodes: with few, the error is itself an accident.
    """
    by_episode = weights.sum(1)
    total = by_episode.sum()
    if total == 0.0:
        return 0.0, math.inf, 0.0
    mean = float((weights * values).sum() / total)
    error = float(np.sqrt(((weights * (values - mean)).sum(1) ** 2).sum()) / total)
    return mean, error, float(total**2 / (by_episode**2).sum())
