"""The laws of fills given what an episode drew: markouts by venue and slot, arrivals; and the lines of a market "as
drawn", with its own randomisation, dark slots, events and volatility-dependent toxicity.

An endless child is one that no arrival completes, so that every contra order fills whole and the laws hold exactly.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...configs.market import MarketConfig
from ...envs.market import Market
from ...envs.scorecard import KAPPA_CAP
from ...envs.state import IN_SLOT, NODE, Batch
from .check import (
    FALSE_ALARM,
    MIN_EPISODES,
    STANDARD_ERRORS,
    Check,
    FixedWeights,
    Floats,
    laboratory,
    play,
    ratio_and_error,
    z_of,
)  # fmt: skip

KINDS = ("ping", "rest", "post")
DRAWN_HORIZON_SLOTS = (1, 6, 30)
_ENDLESS = 10**9  # shares
GIVEN_RUN = " given the noise that ran through the posts"
_REGIMES = {0: "", -1: "calm ", 1: "toxic "}


class Played(NamedTuple):
    """What endless children of one kind met in every slot but the last, and what the laws need to know of each slot.

    E episodes, S slots, R routes of the kind.
    """

    market: Market
    b: Batch
    kind: str
    at: list[int]  # (R,) the routes
    shares: Floats  # (E, S, R) filled
    mids: Floats  # (E, S, R) unaffected mid of their prints, bps
    open: NDArray[np.bool_]  # (E, S, R) not masked
    regime: NDArray[np.int64]  # (E, S, R) of the venue while the slot was worked

    def tape(self, field: str) -> Floats:
        """(E, S) a column of the tape."""
        return np.asarray(self.b.tape[:, : self.shares.shape[1]][field])

    def venue(self, k: int, field: str) -> Floats:
        """(E, 1) what each episode drew for the venue of the kind's k-th route."""
        return np.asarray(self.b.venue[:, self.market.rules.route_venue[self.at[k]]][field])[:, None]

    def episode(self, field: str) -> Floats:
        """(E, 1) what each episode drew for its stock."""
        return np.asarray(self.b.episode[field])[:, None]


class _Endless(FixedWeights):
    """Equal endless children to the given routes; keeps the masks that each decision met."""

    def __init__(self, market: Market, at: list[int]) -> None:
        super().__init__({market.routes[i].name: 1 / len(at) for i in at}, work_shares=_ENDLESS)
        self._at = at
        self.open: list[NDArray[np.bool_]] = []

    def propose(self, market: Market, b: Batch, obs: Floats, work: Floats, weights: Floats) -> None:
        super().propose(market, b, obs, work, weights)
        self.open.append(~b.masked[:, self._at])


def endless(market: Market, kind: str, n: int, seed: int) -> Played:
    """Endless children of one kind to every venue in every slot of `n` orders."""
    at = [i for i, r in enumerate(market.routes) if r.order_type == kind]
    venues, when = market.rules.route_venue[at], NODE if kind == "ping" else IN_SLOT
    shares: list[Floats] = []
    mids: list[Floats] = []
    regime: list[NDArray[np.int64]] = []

    def record(b: Batch) -> None:  # a regime switches as its slot begins, so after the slot it still is that slot's
        shares.append(b.fill_shares[:, at, when].astype(float))
        mids.append(b.fill_mid_bps[:, at, when].copy())
        regime.append(b.venue_state["regime"][:, venues].copy())

    router = _Endless(market, at)
    b = play(market, router, n, seed, record, shares=_ENDLESS)
    last = len(shares) - 1  # there a take completes the order
    return Played(market, b, kind, at, np.stack(shares[:last], 1), np.stack(mids[:last], 1),
                  np.stack(router.open[:last], 1), np.stack(regime[:last], 1))  # fmt: skip


def horizons(p: Played, wanted: Iterable[int]) -> list[int]:
    """Those of the wanted horizons, in slots, that the tape reaches from every slot."""
    return [h for h in wanted if h + p.shares.shape[1] <= p.b.tape.shape[1]]


def moves_bps(p: Played, k: int, h: int) -> Floats:
    """(E, S) markout of the fills on route k, h slots on, without the mid's own noise.

    That noise after the node is independent of what happened there (posts: half of the slot's own is not), so taking it
    out keeps the mean and shrinks the error three- to fivefold. With sub-steps it stays in.
    """
    slots, first = p.shares.shape[1], 1 if p.kind == "post" else 0
    own = np.where(p.episode("n_sub") == 1, p.b.tape["eps_bps"], 0.0)
    noise = np.concatenate([np.zeros((len(own), 1)), np.cumsum(own, 1)], 1)
    clean = noise[:, h : h + slots] - noise[:, first : first + slots]
    return np.asarray(p.episode("side") * (p.b.tape["mid_bps"][:, h : h + slots] - p.mids[:, :, k] - clean))


def _toxicity(p: Played, k: int, kappa: Floats) -> Floats:
    """(E, S) tilt of a venue in each slot: kappa x the slot's factor x the regime's, capped (`toxicity` of fills)."""
    calm, toxic = p.market.rules.calm_factor, p.market.rules.toxic_factor
    regime = p.regime[:, :, k]
    factor = np.where(regime > 0, toxic, np.where(regime < 0, calm, 1.0))
    return np.minimum(kappa * p.tape("toxicity_factor") * factor, KAPPA_CAP)


def _size_moments(p: Played, k: int, power: int) -> tuple[Floats, Floats]:
    """(E, 1) means of lots^power of informed contra orders and of the rest; refused ones (minimum quantity) are 0."""
    rules = p.market.rules
    least = np.ceil(p.venue(k, "min_quantity_shares") / rules.lot_shares).astype(np.int64)
    cdf = rules.size_law["cdf"]
    lots = np.arange(1.0, cdf.shape[1] + 1.0)
    tails = np.cumsum((lots**power * np.diff(cdf, axis=1, prepend=0.0))[:, ::-1], axis=1)[:, ::-1]
    tails = np.concatenate([tails, np.zeros((len(tails), 1))], 1)  # none is as large as that
    place = np.clip(least - 1, 0, tails.shape[1] - 1)
    return tails[p.venue(k, "informed_law").astype(int), place], tails[p.venue(k, "size_law").astype(int), place]


def _sub_step(p: Played, i: int) -> tuple[Floats, Floats]:
    """(E, 1) weight of a slot's i-th sub-step in its fills, and its age in s; pings meet the node at 0 s."""
    if p.kind == "ping":
        return np.full((len(p.shares), 1), 1.0 if i == 0 else 0.0), np.zeros((len(p.shares), 1))
    n_sub = p.episode("n_sub")
    return (i < n_sub) / n_sub, i * p.market.rules.interval_s / n_sub


def _spent(time_s: Floats, tau_s: Floats) -> Floats:
    """Part of an alpha that has gone into the price after a time."""
    return np.asarray(-np.expm1(-np.maximum(time_s, 0.0) / tau_s))


def law_bps(p: Played, k: int, h: int, *, given_run: bool = False) -> Floats:
    """(E, S) expected markout of a filled share, h slots on: law (3) for the toxicity of that venue and slot.

    Inside a slot the fast part is all in the print (where it is spent there); a post's run is half in. `given_run`
    (whole slots only): for the noise that did run through posts, -s eps/2, instead of Gamma_r, its mean over fills.
    """
    horizon_s, told = h * p.market.rules.interval_s, np.zeros(p.shares.shape[:2])
    informed = p.venue(k, "informed_frac")
    share, thinned = np.where(informed > 0, informed, 1.0), np.ones_like(informed)
    if (informed > 0).any():
        large, rest = _size_moments(p, k, 1)
        known = informed * large
        thinned = np.where(informed > 0, known / np.maximum(known + (1 - informed) * rest, 1e-300), 1.0)
    fast = thinned * _toxicity(p, k, p.venue(k, "kappa_fast") / share) * p.episode("sigma_fast_bps")
    slow = thinned * _toxicity(p, k, p.venue(k, "kappa_slow") / share) * p.episode("sigma_slow_bps")
    at_once = (p.episode("fast_in_slot") == 1) & (p.kind == "rest")
    run = p.venue(k, "gamma_run_bps") * p.tape("toxicity_factor")
    if given_run:
        run = -0.5 * p.episode("side") * p.tape("eps_bps")
    if p.kind == "post":
        told -= run + p.venue(k, "gamma_fast_bps") * p.tape("toxicity_factor")
        fast = np.zeros_like(fast)
    for i in range(int(p.episode("n_sub").max())):
        weight, age_s = _sub_step(p, i)
        fast_part = np.where(at_once, 1.0, _spent(horizon_s - age_s, p.episode("tau_fast_s")))
        told -= weight * (fast * fast_part + slow * _spent(horizon_s - age_s, p.episode("tau_slow_s")))
        if p.kind == "post":
            told += weight * _recovery_bps(p, run, i, horizon_s - age_s)
    return told


def _recovery_bps(p: Played, run: Floats, i: int, left_s: Floats) -> Floats:
    """(E, S) what a post of sub-step i gets back later: the noise that ran through it is negatively correlated with the
    alphas' innovations (equation 1), so a price that fell to a buyer carries alphas a little above zero."""
    variance = _noise(p, i, "eps_var")
    length_s, total = p.market.rules.interval_s / p.episode("n_sub"), np.zeros(variance.shape)
    for sigma, tau in (("sigma_fast_bps", "tau_fast_s"), ("sigma_slow_bps", "tau_slow_s")):
        kept = np.exp(-length_s / p.episode(tau))
        later = _spent(left_s - length_s, p.episode(tau))
        total += 2.0 * run * p.episode(sigma) ** 2 * kept * (1 - kept) * later / variance
    return total


def _noise(p: Played, i: int, field: str) -> Floats:
    """(E, S) the mid's own noise in the i-th sub-step of each slot, or its variance."""
    n_sub = p.episode("n_sub").astype(np.int64)
    if (n_sub == 1).all():
        return p.tape(field)
    place = np.arange(p.shares.shape[1]) * n_sub + np.minimum(i, n_sub - 1)
    return np.where(n_sub > 1, np.take_along_axis(p.b.nodes[field], place, 1), p.tape(field))


def _run_tilt(p: Played, k: int, *, given: bool) -> Floats:
    """(E, S) what the noise that runs through posts does to their flow (6), mean 1; not `given`: its variance."""
    run, total = p.venue(k, "gamma_run_bps") * p.tape("toxicity_factor"), np.zeros(p.shares.shape[:2])
    for i in range(int(p.episode("n_sub").max())):
        weight, variance = _sub_step(p, i)[0], _noise(p, i, "eps_var")
        if given:
            total += weight * np.exp(-2 * run * (p.episode("side") * _noise(p, i, "eps_bps") + run) / variance)
        else:
            total += weight**2 * np.expm1(np.minimum(4 * run**2 / variance, 300.0))  # beyond, nothing is judged anyway
    return total


def _expected_shares(p: Played, k: int, given_run: bool) -> Floats:
    """(E, S) shares that arrive on route k: supply x flow where it is open, less what the minimum quantity refuses.

    Pings meet what stands at the node: M/M/infinity, refilled since the visit a slot ago; the first finds all of it.
    `given_run`: for the noise that did run through posts, instead of on average.
    """
    rules = p.market.rules
    informed, (large, rest) = p.venue(k, "informed_frac"), _size_moments(p, k, 1)
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
    return np.asarray(arriving * life_s / rules.interval_s * _spent(since_s, life_s))


def _stands_on(p: Played, expected: dict[int, Floats], weights: dict[int, Floats] | None = None) -> float:
    """How many orders the promised shares stand on: (sum x)^2 / sum x^2 over episodes, in expectation.

    `expected`: by route. x is a compound Poisson sum whose rate moves from slot to slot with a ping's fast alpha and
    with the noise that runs through a post; the slow alpha moves it by little. `weights`: of the slots, by route, where
    the promise is given the noise.
    """
    mean, variance = np.zeros(len(p.shares)), np.zeros(len(p.shares))
    for k, shares in expected.items():
        informed, one, two = p.venue(k, "informed_frac"), _size_moments(p, k, 1), _size_moments(p, k, 2)
        lots, squares = (informed * large + (1 - informed) * rest for large, rest in (one, two))
        weight = np.ones_like(shares) if weights is None else weights[k]
        mean += (weight * shares).sum(1)
        variance += p.market.rules.lot_shares * (weight**2 * shares * squares / np.maximum(lots, 1e-300)).sum(1)
        if p.kind == "ping":
            variance += (shares**2 * np.expm1(_toxicity(p, k, p.venue(k, "kappa_fast")) ** 2)).sum(1)
        elif p.kind == "post" and weights is None:
            variance += (shares**2 * _run_tilt(p, k, given=False)).sum(1)
    total = float((mean**2 + variance).sum())
    return float(mean.sum()) ** 2 / total if total > 0.0 else 0.0


def noise_too_rare(p: Played, routes: Iterable[int]) -> bool:
    """Whether the fills of these posts hang on runs of noise too rare for the sample, so that they are held to the law
    given the noise that did run. Sub-steps have no such law here: a fill's own is not on record."""
    if p.kind != "post" or int(p.episode("n_sub").max()) > 1:
        return False
    return _stands_on(p, {k: _expected_shares(p, k, False) for k in routes}) < MIN_EPISODES


class Promise(NamedTuple):
    """Shares by order and slot, (E, S), summed over routes: what the config promises, and what came."""

    expected: Floats
    came: Floats
    given: str  # what the promise is given; "" where it holds on average


def promise(p: Played, routes: Iterable[int]) -> Promise | None:
    """What these routes should get and got; None where the promise stands on too few orders, whatever came.

    Where spreads are wide against the volatility, the flow of posts hangs on a run of noise so rare that no sample
    holds its share of it: there posts are held to the flow of the noise that did run.
    """
    routes = list(routes)
    expected = {k: _expected_shares(p, k, False) for k in routes}
    if _stands_on(p, expected) >= MIN_EPISODES:
        return Promise(sum(expected.values(), _none(p)), sum((p.shares[:, :, k] for k in routes), _none(p)), "")
    if p.kind != "post":
        return None
    expected = {k: _expected_shares(p, k, True) for k in routes}
    weights = {k: slot_weights(p, k, True) for k in routes}
    if _stands_on(p, expected, weights) < MIN_EPISODES:
        return None
    promised = sum((weights[k] * expected[k] for k in routes), _none(p))
    return Promise(promised, sum((weights[k] * p.shares[:, :, k] for k in routes), _none(p)), "," + GIVEN_RUN)


def slot_weights(p: Played, k: int, given_run: bool) -> Floats:
    """(E, S) weights of slots. Given the noise they may be anything that it says: 1/(1 + tilt) keeps the few slots that
    carry most of a post's flow from drowning the rest."""
    return 1.0 / (1.0 + _run_tilt(p, k, given=True)) if given_run else np.ones(p.shares.shape[:2])


def _none(p: Played) -> Floats:
    return np.zeros(p.shares.shape[:2])


def as_drawn(config: MarketConfig, n: int, seed: int) -> list[Check]:
    """Markouts and arrivals of the market as it draws its episodes: all classes, venues, regimes, events."""
    market, found = laboratory(config, as_drawn=True), []
    for kind in KINDS:
        if any(r.order_type == kind for r in market.routes):
            p = endless(market, kind, n, seed)
            found.append(_markouts(p))
            if kind != "ping":
                found.append(_arrivals(p))
    return found


def _markouts(p: Played) -> Check:
    """Calm and toxic regimes apart: together, a simulator that ignored them might pass."""
    routes, half = range(len(p.at)), p.episode("half_spread_bps")
    said, worst, judged, tried = [], 0.0, 0, horizons(p, DRAWN_HORIZON_SLOTS)
    given_run = noise_too_rare(p, routes)
    shares = np.concatenate([p.shares[:, :, k] * slot_weights(p, k, given_run) for k in routes], 1)
    regime = np.concatenate([p.regime[:, :, k] for k in routes], 1)
    groups = [g for g in _REGIMES if (regime == g).any()]
    for h in tried:
        told = np.concatenate([law_bps(p, k, h, given_run=given_run) / half for k in routes], 1)
        gaps = np.concatenate([moves_bps(p, k, h) / half for k in routes], 1) - told
        for g in groups:
            weights = shares * (regime == g)
            gap, error, stands_on = ratio_and_error(weights, gaps)
            if stands_on < MIN_EPISODES:
                continue
            law, z = float((weights * told).sum() / weights.sum()), z_of(gap, 0.0, error)
            worst, judged = max(worst, abs(z)), judged + 1
            at_s = h * p.market.rules.interval_s
            said.append(f"{_REGIMES[g]}{law + gap:+.3f} for {law:+.3f} at {at_s:g} s (z {z:+.1f}, error {error:.3f})")
    n_laws = len(tried) * len(groups)
    if judged < n_laws:
        said.append(f"{n_laws - judged} of {n_laws} not judged, fills of under {MIN_EPISODES:g} orders")
    if given_run and judged:
        said.append("law" + GIVEN_RUN)
    return Check(f"markouts as drawn, {p.kind}", "law (3) for what episode, regime and slot drew, in half spreads",
                 "; ".join(said), worst < STANDARD_ERRORS if judged else None, n_laws * FALSE_ALARM,
                 unjudged=not judged)  # fmt: skip


def _arrivals(p: Played) -> Check:
    name, claim = f"arrivals as drawn, {p.kind}", "shares that arrive are supply x flow of the episode, in open slots"
    if (found := promise(p, range(len(p.at)))) is None:
        return Check(name, claim, f"shares of under {MIN_EPISODES:g} orders promised", None, FALSE_ALARM, unjudged=True)
    expected, came, given = found
    gap, error, _ = ratio_and_error(np.ones_like(expected), came - expected)
    z, usual = z_of(gap, 0.0, error), float(expected.mean())
    said = f"{1 + gap / usual:.3f} of what is promised (z {z:+.1f}, error {error / usual:.3f}){given}"
    return Check(name, claim, said, abs(z) < STANDARD_ERRORS, FALSE_ALARM)
