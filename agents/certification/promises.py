"""The shares that a market's config promises a child that nothing completes, and what comes of the promise.

Where spreads are wide against the volatility, the flow of posts hangs on runs of noise so rare that no sample holds
their share of it. There posts are held to the laws given the noise that did run through them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from .check import MIN_EPISODES, Floats
from .drawn_laws import Played, own_noise, size_moments, spent, sub_step, tilt_of_venue

GIVEN_RUN = " given the noise that ran through the posts"


def _run_tilt(p: Played, k: int, *, given: bool) -> Floats:
    """(E, S) what the noise that runs through posts does to their flow (6), mean 1; not `given`: its variance."""
    run, total = p.venue(k, "gamma_run_bps") * p.tape("toxicity_factor"), np.zeros(p.shares.shape[:2])
    for i in range(int(p.episode("n_sub").max())):
        weight, variance = sub_step(p, i)[0], own_noise(p, i, "eps_var")
        if given:
            total += weight * np.exp(-2 * run * (p.episode("side") * own_noise(p, i, "eps_bps") + run) / variance)
        else:
            total += weight**2 * np.expm1(np.minimum(4 * run**2 / variance, 300.0))  # beyond, nothing is judged anyway
    return total


def _expected_shares(p: Played, k: int, given_run: bool) -> Floats:
    """(E, S) shares that arrive on route k: supply x flow where it is open, less what the minimum quantity refuses.

    Pings meet what stands at the node: M/M/infinity, refilled since the visit a slot ago; the first finds all of it.
    `given_run`: for the noise that did run through posts, instead of on average.
    """
    rules = p.market.rules
    informed, (large, rest) = p.venue(k, "informed_frac"), size_moments(p, k, 1)
    matching = rules.lot_shares * (informed * large + (1 - informed) * rest) / p.venue(k, "mean_size_shares")
    flow = p.tape("volume_shares" if p.kind == "post" else "dark_flow_shares") * p.open[:, :, k]
    arriving = p.venue(k, "supply_frac") * matching * flow
    if given_run:
        arriving *= _run_tilt(p, k, given=True)
    if p.kind != "ping":
        return np.asarray(arriving)
    since_s = np.full(p.shares.shape[1], rules.interval_s)
    since_s[0] = np.inf
    life_s = p.venue(k, "life_s")
    return np.asarray(arriving * life_s / rules.interval_s * spent(since_s, life_s))


def _stands_on(p: Played, expected: dict[int, Floats], weights: dict[int, Floats] | None = None) -> float:
    """How many orders the promised shares stand on: (sum x)^2 / sum x^2 over episodes, in expectation.

    `expected`: by route. x is a compound Poisson sum whose rate moves from slot to slot with a ping's fast alpha and
    with the noise that runs through a post, the same for all venues; the slow alpha moves it by little. `weights`: of
    the slots, by route, where the promise is given the noise.
    """
    mean, variance, swing = np.zeros(len(p.shares)), np.zeros(len(p.shares)), _none(p)
    for k, shares in expected.items():
        informed, one, two = p.venue(k, "informed_frac"), size_moments(p, k, 1), size_moments(p, k, 2)
        lots, squares = (informed * large + (1 - informed) * rest for large, rest in (one, two))
        weight = np.ones_like(shares) if weights is None else weights[k]
        mean += (weight * shares).sum(1)
        variance += p.market.rules.lot_shares * (weight**2 * shares * squares / np.maximum(lots, 1e-300)).sum(1)
        if p.kind == "ping":
            swing += shares * np.sqrt(np.expm1(tilt_of_venue(p, k, p.venue(k, "kappa_fast")) ** 2))
        elif p.kind == "post" and weights is None:
            swing += shares * np.sqrt(_run_tilt(p, k, given=False))
    total = float((mean**2 + variance + (swing**2).sum(1)).sum())
    return float(mean.sum()) ** 2 / total if total > 0.0 else 0.0


def noise_too_rare(p: Played, routes: Iterable[int]) -> bool:
    """Whether the fills of these posts hang on runs of noise too rare for the sample, so that they are held to the law
    given the noise that did run. Sub-steps have no such law here: a fill's own is not on record."""
    if p.kind != "post" or int(p.episode("n_sub").max()) > 1:
        return False
    return _stands_on(p, {k: _expected_shares(p, k, False) for k in routes}) < MIN_EPISODES


class Promise(NamedTuple):
    """Shares by order and slot, (E, S), summed over routes, each slot weighted: what the config promises, and what
    came."""

    expected: Floats
    came: Floats
    given: str  # what the promise is given; "" where it holds on average


def promises(p: Played, routes: Iterable[int]) -> list[Promise]:
    """What these routes should get and got; none where the promise stands on too few orders, whatever came.

    Where spreads are wide against the volatility, the flow of posts hangs on a run of noise so rare that no sample
    holds its share of it: there posts are held to the flow of the noise that did run, twice. Once all in all; and once
    the slots that the run favours against those that it starves, which tells the run apart from the supply.
    """
    routes = list(routes)
    expected = {k: _expected_shares(p, k, False) for k in routes}
    if _stands_on(p, expected) >= MIN_EPISODES:
        return [Promise(sum(expected.values(), _none(p)), sum((p.shares[:, :, k] for k in routes), _none(p)), "")]
    if p.kind != "post":
        return []
    expected = {k: _expected_shares(p, k, True) for k in routes}
    weights = {k: slot_weights(p, k, True) for k in routes}
    if _stands_on(p, expected, weights) < MIN_EPISODES:
        return []
    # 1 / (1 + T) and (T - 1) / (1 + T)^2 of the stated tilt T
    return [_weighted(p, expected, weights), _weighted(p, expected, {k: w * (1 - 2 * w) for k, w in weights.items()})]


def _weighted(p: Played, expected: dict[int, Floats], weights: dict[int, Floats]) -> Promise:
    promised = sum((weights[k] * shares for k, shares in expected.items()), _none(p))
    return Promise(promised, sum((weights[k] * p.shares[:, :, k] for k in expected), _none(p)), "," + GIVEN_RUN)


def slot_weights(p: Played, k: int, given_run: bool) -> Floats:
    """(E, S) weights of slots. Given the noise they may be anything that it says: 1/(1 + tilt) keeps the few slots that
    carry most of a post's flow from drowning the rest."""
    return 1.0 / (1.0 + _run_tilt(p, k, given=True)) if given_run else np.ones(p.shares.shape[:2])


def _none(p: Played) -> Floats:
    return np.zeros(p.shares.shape[:2])
