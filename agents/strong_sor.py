"""The strong rule-based router: the rule SOR's four factors, and what any desk's router has beside them.

Fee- and markout-adjusted choice of pools and posts, several at once; pings and rests by value; a pace that looks at the
time left, volatility and spread; and touch imbalance (take now when the price is about to run, wait when it is about to
come). It reads the observation and the scorecards that every router reads. Votes, vetoes and their order are the rule
SOR's, so with all extras off (`EXTRAS_OFF`) it decides as the rule SOR does, share for share.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..configs.strong_sor import StrongSorConfig
from ..envs.compiled import compiled, leaf
from ..envs.features import GLOBAL_FEATURES
from ..envs.market import Market
from ..envs.quotes import quote_e6
from ..envs.scorecard import CARD_OF, shrunk_fill_rate, shrunk_markout_hs
from ..envs.state import PING, POST, REST, Batch, Row
from ..envs.venues import Rules
from .rule_based import (
    RULE_DARK,
    RULE_MASKED,
    RULE_NOTHING_DUE,
    RULE_TIME,
    RULE_VETO_VOL,
    VENUE_MASKED,
    WHY,
    RuleSor,
    SorRules,
    best_take,
    liquidity_vote,
    size_vote,
    sor_rules,
    venue_vote,
    volatility_vote,
    why_no_pool,
)

_COLUMN = {f.name: i for i, f in enumerate(GLOBAL_FEATURES)}
_IMBALANCE, _VOL, _SPREAD = (_COLUMN[n] for n in ("imbalance_signed", "log_vol_ratio", "log_spread_ratio"))
STRONG_WHY = np.dtype([*WHY.descr, ("imbalance", "i8")])  # +1 against us, -1 with us


class StrongRules(NamedTuple):
    """StrongSorConfig for compiled code."""

    sor: SorRules
    shrunk: bool
    type_by_value: bool
    rest_bonus_ratio: float
    max_pools: int
    dark_saving_hs: float
    dark_by_value: bool
    max_posts: int
    ahead_frac: float
    behind_left_frac: float
    behind_vol_power: float
    catch_up_frac: float
    take_spread_power: float
    imbalance_against: float
    against_take_ratio: float
    against_take_slices: float
    imbalance_with: float
    with_take_ratio: float


def strong_rules(config: StrongSorConfig) -> StrongRules:
    c = config
    return StrongRules(
        sor_rules(c), c.scorecard == "shrunk", c.order_type_by == "net_value", float(c.rest_bonus_ratio), c.max_pools,
        float(c.dark_saving_hs), c.dark_share_by == "net_value", c.max_posts, float(c.ahead_frac),
        float(c.behind_left_frac), float(c.behind_vol_power), float(c.catch_up_frac), float(c.take_spread_power),
        float(c.imbalance_against), float(c.against_take_ratio), float(c.against_take_slices), float(c.imbalance_with),
        float(c.with_take_ratio),
    )  # fmt: skip


@leaf
def fill_rate(shrunk: bool, card: Row, which: int) -> float:
    if shrunk:
        return shrunk_fill_rate(card, which)
    return card.filled / card.attempts if card.attempts > 0 else 0.0


@leaf
def markout_hs(shrunk: bool, card: Row) -> float:
    if shrunk:
        return shrunk_markout_hs(card)
    return card.markout_hs_sum / card.markouts if card.markouts > 0 else 0.0


@leaf
def net_value(shrunk: bool, card: Row, which: int, saving_hs: float, fee_hs: float) -> float:
    """Fill rate x (saving + markout - fee), half spreads; 0 where nothing was measured."""
    if not shrunk and (card.attempts == 0 or card.markouts == 0):
        return 0.0
    return fill_rate(shrunk, card, which) * (saving_hs + markout_hs(shrunk, card) - fee_hs)


@compiled
def pick_pools(
    rules: Rules, s: StrongRules, b: Batch, e: int, three: int, n: int, why: Row, votes: np.ndarray, value: np.ndarray
) -> int:
    """Mark up to `n` dark routes of different pools, best first; how many.

    `value` (R,) gets a pick's net value, half spreads, at least 1e-9, and 0 elsewhere; `votes` (V,) each pool's vote
    (the better of its routes) or VENUE_MASKED; `why.venue` the first pick's. Order: votes, rank, markout, lower fee,
    MIC.
    """
    half = max(b.tape[e, b.order[e].slot].half_spread_bps, 1e-9)
    kind = REST if why.size == 1 else PING
    for r in range(rules.route_type.shape[0]):
        if rules.route_type[r] == kind or (s.type_by_value and rules.route_type[r] >= PING):
            votes[rules.route_venue[r]] = VENUE_MASKED
    picks = 0
    while picks < n:
        best, best_vote, best_rank, best_markout, best_fee = -1, 0, 0.0, 0.0, 0.0
        for r in range(rules.route_type.shape[0]):
            type_ = rules.route_type[r]
            if type_ < PING or not (s.type_by_value or type_ == kind):
                continue
            v = rules.route_venue[r]
            if b.masked[e, r]:
                continue
            which = CARD_OF[type_]
            card = b.card[e, v, which]
            vote = venue_vote(s.sor, card, which)
            votes[v] = max(votes[v], vote)
            if vote < 0 or three + vote < s.sor.min_votes or _used(rules, value, v):
                continue
            fee = b.venue[e, v].take_fee_bps / half
            rank = fill_rate(s.shrunk, card, which)
            if s.sor.rank_by_value:
                rank = net_value(s.shrunk, card, which, s.dark_saving_hs, fee)
            if type_ == REST:
                rank *= s.rest_bonus_ratio
            markout = markout_hs(s.shrunk, card)
            better = best < 0 or vote > best_vote
            if best >= 0 and vote == best_vote:
                better = rank > best_rank or (
                    rank == best_rank and (markout > best_markout or (markout == best_markout and fee < best_fee))
                )
            if better:
                best, best_vote, best_rank, best_markout, best_fee = r, vote, rank, markout, fee
        if best < 0:
            break
        if picks == 0:
            why.venue = best_vote
        v, which = rules.route_venue[best], CARD_OF[rules.route_type[best]]
        value[best] = max(net_value(s.shrunk, b.card[e, v, which], which, s.dark_saving_hs, best_fee), 1e-9)
        picks += 1
    return picks


@compiled
def _used(rules: Rules, value: np.ndarray, v: int) -> bool:
    """Whether a route of venue `v` is picked."""
    for r in range(value.shape[0]):
        if rules.route_venue[r] == v and value[r] > 0.0:
            return True
    return False


@compiled
def _total(rules: Rules, value: np.ndarray, posts: bool) -> float:
    """Net value of the posts picked, or of the dark routes."""
    total = 0.0
    for r in range(value.shape[0]):
        if (rules.route_type[r] == POST) == posts:
            total += value[r]
    return total


@compiled
def pick_posts(rules: Rules, s: StrongRules, b: Batch, e: int, n: int, value: np.ndarray) -> int:
    """Mark up to `n` lit posts, by lowest maker fee or highest net value; how many. `value` as in `pick_pools`."""
    half = max(b.tape[e, b.order[e].slot].half_spread_bps, 1e-9)
    picks = 0
    while picks < n:
        best, best_rank, best_value = -1, 0.0, 0.0
        for r in range(rules.route_type.shape[0]):
            if rules.route_type[r] == POST and not b.masked[e, r] and value[r] == 0.0:
                v = rules.route_venue[r]
                fee = b.venue[e, v].post_fee_bps
                worth = net_value(s.shrunk, b.card[e, v, 2], 2, 1.0 + s.sor.post_saving_hs, fee / half)
                rank = worth if s.sor.post_by_value else -fee
                if best < 0 or rank > best_rank:
                    best, best_rank, best_value = r, rank, worth
        if best < 0:
            break
        value[best] = max(best_value, 1e-9)
        picks += 1
    return picks


@compiled
def split_due(rules: Rules, s: StrongRules, b: Batch, e: int, obs: np.ndarray, why: Row) -> tuple[float, float]:
    """(shares to take now, shares to work passively): what is due by the slot's end, and `ahead_frac` of the order."""
    settings = rules.settings[0]
    ep, order = b.episode[e], b.order[e]
    row = b.tape[e, order.slot]
    slice_shares = ep.shares * (row.schedule_now - row.schedule_next)
    due = order.remaining_shares - ep.shares * row.schedule_next
    left_s = (ep.n_slots - order.slot) * settings.interval_s
    allowed_s = min(s.sor.behind_s, s.behind_left_frac * left_s)
    if s.behind_vol_power != 0.0 and obs[_VOL] == obs[_VOL]:
        allowed_s *= 2.0 ** (-s.behind_vol_power * obs[_VOL])
    rate, now = s.catch_up_frac, 0.0
    if s.take_spread_power != 0.0 and obs[_SPREAD] == obs[_SPREAD]:
        rate *= 2.0 ** (-s.take_spread_power * obs[_SPREAD])
    if obs[_IMBALANCE] > s.imbalance_against:
        why.imbalance = 1
        rate *= s.against_take_ratio
        now = min(s.against_take_slices * slice_shares, max(0.0, due))
    elif obs[_IMBALANCE] < -s.imbalance_with:
        why.imbalance = -1
        rate *= s.with_take_ratio
    lot = float(settings.lot_shares)
    behind = max(0.0, due - max(lot, slice_shares * allowed_s / settings.interval_s))
    take = max(min(1.0, rate) * behind, now)
    reach = min(due + s.ahead_frac * ep.shares, float(order.remaining_shares))
    passive = min(max(0.0, reach) - take, max(s.sor.max_slices * slice_shares, lot))
    return take, max(0.0, passive)


@compiled
def decide(
    rules: Rules, s: StrongRules, b: Batch, e: int, obs: np.ndarray, weights: np.ndarray, why: Row, votes: np.ndarray,
    value: np.ndarray,
) -> float:  # fmt: skip
    """Write weights over routes, why and votes; return the shares to work. `value` (R,) is scratch."""
    settings = rules.settings[0]
    ep, order = b.episode[e], b.order[e]
    row = b.tape[e, order.slot]
    weights[:] = 0.0
    votes[:] = 0
    value[:] = 0.0
    bid, ask = quote_e6(rules, b, e)
    why.size = size_vote(s.sor, ep.shares, ep.adv_shares)
    why.liquidity = liquidity_vote(s.sor, bid, ask, int(round(ep.tick_usd * 1e6)), ep.adv_shares)
    why.volatility = volatility_vote(s.sor, row.vol_ratio, row.nbbo_moves)
    why.vol_known = 1 if row.vol_ratio == row.vol_ratio else 0
    why.venue, why.behind, why.route, why.imbalance = 0, 0, -1, 0
    three = why.size + why.liquidity + why.volatility
    take, passive = split_due(rules, s, b, e, obs, why)
    why.behind = 1 if take > 0.0 else 0
    room = settings.max_routes - why.behind  # what the controls would cut is not proposed
    pools = pick_pools(rules, s, b, e, three, max(1, min(s.max_pools, room - 1)), why, votes, value)
    why.votes = three + why.venue
    take_route = best_take(rules, b, e)
    why.take_shares, why.rest_shares = take, passive
    left_s, horizon_s = (ep.n_slots - order.slot) * settings.interval_s, ep.n_slots * settings.interval_s
    if take_route < 0:  # no quote: nothing may be routed
        why.rule, why.behind = RULE_MASKED, 0
        return 0.0
    if left_s <= s.sor.final_take_frac * horizon_s or order.slot == ep.n_slots - 1:
        why.rule, why.route, why.behind, why.imbalance = RULE_TIME, take_route, 0, 0
        weights[take_route] = 1.0
        if order.slot == ep.n_slots - 1:
            return float(order.remaining_shares)
        return max(0.0, order.remaining_shares - ep.shares * row.schedule_next)
    work = take + passive
    if work <= 0.0:
        why.rule = RULE_NOTHING_DUE
        return 0.0
    weights[take_route] += take / work
    dark_share = 0.0
    no_pool = why_no_pool(rules, REST if why.size == 1 and not s.type_by_value else PING, votes)
    if pools == 0 and no_pool == RULE_MASKED:
        why.rule = RULE_MASKED
    elif why.volatility < 0:
        why.rule = RULE_VETO_VOL
    elif pools > 0:
        why.rule, dark_share = RULE_DARK, s.sor.dark_fraction
    else:
        why.rule = no_pool
    sent = pools if dark_share > 0.0 else 0
    posts = pick_posts(rules, s, b, e, max(1, min(s.max_posts, room - sent)), value)
    dark_value, post_value = _total(rules, value, False), _total(rules, value, True)
    if s.dark_by_value and posts > 0 and dark_share > 0.0:
        dark_share = min(dark_share, dark_value / (dark_value + post_value))
    for r in range(value.shape[0]):
        if value[r] > 0.0 and rules.route_type[r] == POST:
            weights[r] += value[r] / post_value * ((1.0 - dark_share) * passive / work)
        elif value[r] > 0.0 and dark_share > 0.0:
            weights[r] += value[r] / dark_value * (dark_share * passive / work)
    if posts == 0:
        weights[take_route] += (1.0 - dark_share) * passive / work
    why.route = 0
    for r in range(weights.shape[0]):
        if weights[r] > weights[why.route]:
            why.route = r
    return work


@compiled
def propose_all(
    rules: Rules, s: StrongRules, b: Batch, obs: np.ndarray, work: np.ndarray, weights: np.ndarray, why: np.ndarray,
    votes: np.ndarray,
) -> None:  # fmt: skip
    value = np.zeros(weights.shape[1])
    for e in range(b.order.shape[0]):
        if b.order[e].active == 1:
            work[e] = decide(rules, s, b, e, obs[e], weights[e], why[e], votes[e], value)


class StrongSor(RuleSor):
    """The strong router; `why` (E,) STRONG_WHY and `votes` (E, V) tell what it did, in the rule SOR's codes."""

    def __init__(self, config: StrongSorConfig | None = None, name: str = "sor_strong") -> None:
        super().__init__(config or StrongSorConfig(), name)
        self._strong = strong_rules(config or StrongSorConfig())

    def propose(
        self, market: Market, b: Batch, obs: NDArray[np.float64], work: NDArray[np.float64],
        weights: NDArray[np.float64],
    ) -> None:  # fmt: skip
        if self.votes.shape != (b.order.shape[0], market.rules.n_venues):
            self.why = np.zeros(b.order.shape[0], STRONG_WHY)
            self.votes = np.zeros((b.order.shape[0], market.rules.n_venues), np.int64)
        propose_all(market.rules, self._strong, b, obs, work, weights, self.why, self.votes)

    def more_codes(self, e: int) -> list[str]:
        """Reason codes beside the rule SOR's."""
        return {1: ["IMBALANCE_AGAINST"], -1: ["IMBALANCE_WITH"]}.get(int(self.why[e]["imbalance"]), [])


__all__ = ["STRONG_WHY", "StrongRules", "StrongSor", "strong_rules"]
