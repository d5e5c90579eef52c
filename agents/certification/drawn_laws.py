"""What endless children met, and the law of markouts given what an episode drew, by venue and slot.

An endless child is one that no arrival completes, so that every contra order fills whole and the laws hold exactly.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...envs.market import Market
from ...envs.scorecard import KAPPA_CAP
from ...envs.state import IN_SLOT, NODE, Batch
from .check import (
    FixedWeights,
    Floats,
    play,
)  # fmt: skip

KINDS = ("ping", "rest", "post")
_ENDLESS = 10**9  # shares


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


def tilt_of_venue(p: Played, k: int, kappa: Floats) -> Floats:
    """(E, S) tilt of a venue in each slot: kappa x the slot's factor x the regime's, capped (`toxicity` of fills)."""
    calm, toxic = p.market.rules.calm_factor, p.market.rules.toxic_factor
    regime = p.regime[:, :, k]
    factor = np.where(regime > 0, toxic, np.where(regime < 0, calm, 1.0))
    return np.minimum(kappa * p.tape("toxicity_factor") * factor, KAPPA_CAP)


def size_moments(p: Played, k: int, power: int) -> tuple[Floats, Floats]:
    """(E, 1) means of lots^power of informed contra orders and of the rest; refused ones (minimum quantity) are 0."""
    rules = p.market.rules
    least = np.ceil(p.venue(k, "min_quantity_shares") / rules.lot_shares).astype(np.int64)
    cdf = rules.size_law["cdf"]
    lots = np.arange(1.0, cdf.shape[1] + 1.0)
    tails = np.cumsum((lots**power * np.diff(cdf, axis=1, prepend=0.0))[:, ::-1], axis=1)[:, ::-1]
    tails = np.concatenate([tails, np.zeros((len(tails), 1))], 1)  # none is as large as that
    place = np.clip(least - 1, 0, tails.shape[1] - 1)
    return tails[p.venue(k, "informed_law").astype(int), place], tails[p.venue(k, "size_law").astype(int), place]


def sub_step(p: Played, i: int) -> tuple[Floats, Floats]:
    """(E, 1) weight of a slot's i-th sub-step in its fills, and its age in s; pings meet the node at 0 s."""
    if p.kind == "ping":
        return np.full((len(p.shares), 1), 1.0 if i == 0 else 0.0), np.zeros((len(p.shares), 1))
    n_sub = p.episode("n_sub")
    return (i < n_sub) / n_sub, i * p.market.rules.interval_s / n_sub


def spent(time_s: Floats, tau_s: Floats) -> Floats:
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
        large, rest = size_moments(p, k, 1)
        known = informed * large
        thinned = np.where(informed > 0, known / np.maximum(known + (1 - informed) * rest, 1e-300), 1.0)
    fast = thinned * tilt_of_venue(p, k, p.venue(k, "kappa_fast") / share) * p.episode("sigma_fast_bps")
    slow = thinned * tilt_of_venue(p, k, p.venue(k, "kappa_slow") / share) * p.episode("sigma_slow_bps")
    at_once = (p.episode("fast_in_slot") == 1) & (p.kind == "rest")
    run = p.venue(k, "gamma_run_bps") * p.tape("toxicity_factor")
    if given_run:
        run = -0.5 * p.episode("side") * p.tape("eps_bps")
    if p.kind == "post":
        told -= run + p.venue(k, "gamma_fast_bps") * p.tape("toxicity_factor")
        fast = np.zeros_like(fast)
    for i in range(int(p.episode("n_sub").max())):
        weight, age_s = sub_step(p, i)
        fast_part = np.where(at_once, 1.0, spent(horizon_s - age_s, p.episode("tau_fast_s")))
        told -= weight * (fast * fast_part + slow * spent(horizon_s - age_s, p.episode("tau_slow_s")))
        if p.kind == "post":
            told += weight * _recovery_bps(p, run, i, horizon_s - age_s)
    return told


def _recovery_bps(p: Played, run: Floats, i: int, left_s: Floats) -> Floats:
    """(E, S) what a post of sub-step i gets back later: the noise that ran through it is negatively correlated with the
    alphas' innovations (equation 1), so a price that fell to a buyer carries alphas a little above zero."""
    variance = own_noise(p, i, "eps_var")
    length_s, total = p.market.rules.interval_s / p.episode("n_sub"), np.zeros(variance.shape)
    for sigma, tau in (("sigma_fast_bps", "tau_fast_s"), ("sigma_slow_bps", "tau_slow_s")):
        kept = np.exp(-length_s / p.episode(tau))
        later = spent(left_s - length_s, p.episode(tau))
        total += 2.0 * run * p.episode(sigma) ** 2 * kept * (1 - kept) * later / variance
    return total


def own_noise(p: Played, i: int, field: str) -> Floats:
    """(E, S) the mid's own noise in the i-th sub-step of each slot, or its variance."""
    n_sub = p.episode("n_sub").astype(np.int64)
    if (n_sub == 1).all():
        return p.tape(field)
    place = np.arange(p.shares.shape[1]) * n_sub + np.minimum(i, n_sub - 1)
    return np.where(n_sub > 1, np.take_along_axis(p.b.nodes[field], place, 1), p.tape(field))
