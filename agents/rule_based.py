"""The rule-based smart order router: the seed's table made exact, compiled, and able to say which rule fired.

Each factor votes +1 (favourable to dark), 0 or -1. Boundaries are decided on integers: shares, ADV, quotes in
$0.000001, order counts. Rules, in order: controls and masks; time running out and behind schedule (take); volatility
veto and venue veto; net votes; best venue and its order type; what is not sent dark is a lit post.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..configs.rule_sor import RuleSorConfig
from ..envs.compiled import compiled
from ..envs.market import Market
from ..envs.quotes import quote_e6
from ..envs.state import CARDS, PING, POST, REST, TAKE, Batch, Row
from ..envs.venues import Rules

RULE_MASKED, RULE_TIME, RULE_NOTHING_DUE, RULE_VETO_VOL, RULE_VETO_VENUE, RULE_NET_VOTES, RULE_DARK = range(7)
RULE_CODES = (
    "MASKED", "TIME_RUNNING_OUT", "NOTHING_DUE", "VETO_VOLATILITY", "VETO_VENUE", "NET_VOTES_LIT", "BEST_VENUE",
)  # fmt: skip
VENUE_MASKED = -9  # in place of a vote
_CARD_PING, _CARD_REST, _CARD_POST = (CARDS.index(c) for c in ("ping", "rest", "post"))

WHY = np.dtype([
    ("rule", "i8"), ("behind", "i8"), ("size", "i8"), ("liquidity", "i8"), ("volatility", "i8"), ("vol_known", "i8"),
    ("venue", "i8"), ("votes", "i8"), ("route", "i8"), ("take_shares", "f8"), ("rest_shares", "f8"),
])  # fmt: skip


class SorRules(NamedTuple):
    """RuleSorConfig with its decimal thresholds as integers (x 1e6) where integers decide."""

    size_large_e6: int
    size_small_e6: int
    liquid_adv: int
    illiquid_adv: int
    tight_e6: int
    wide_e6: int
    calm: float
    high: float
    fast_moves: int
    fill_good_e6: NDArray[np.int64]  # (2,) ping, rest
    fill_poor_e6: NDArray[np.int64]
    markout_good: float
    markout_poor: float
    min_attempts: int
    min_fills: int
    min_votes: int
    rank_by_value: bool
    dark_fraction: float
    post_by_value: bool
    post_saving_hs: float
    final_take_frac: float
    behind_s: float
    max_slices: float


def sor_rules(config: RuleSorConfig) -> SorRules:
    def e6(x: float) -> int:
        return round(x * 1e6)

    return SorRules(
        e6(config.size_large_pct_adv), e6(config.size_small_pct_adv), config.liquid_adv_shares,
        config.illiquid_adv_shares, e6(config.tight_spread_bps), e6(config.wide_spread_bps), config.vol_calm_ratio,
        config.vol_high_ratio, config.fast_nbbo_moves_10s,
        np.array([e6(config.ping_fill_good), e6(config.rest_fill_good)]),
        np.array([e6(config.ping_fill_poor), e6(config.rest_fill_poor)]),
        config.venue_markout_good_hs, config.venue_markout_poor_hs, config.min_attempts, config.min_fills,
        config.min_net_votes, config.rank_by == "net_value", config.dark_fraction, config.post_by == "net_value",
        config.post_saving_hs, config.final_take_frac, config.behind_s, config.max_slices,
    )  # fmt: skip


@compiled
def size_vote(sor: SorRules, shares: int, adv_shares: int) -> int:
    scaled = 100_000_000 * shares  # 100 X x 1e6
    if scaled > sor.size_large_e6 * adv_shares:
        return 1
    return -1 if scaled < sor.size_small_e6 * adv_shares else 0


@compiled
def liquidity_vote(sor: SorRules, bid_e6: int, ask_e6: int, tick_e6: int, adv_shares: int) -> int:
    spread = ask_e6 - bid_e6
    bps = 20_000 * 1_000_000 * spread  # 1e4 x spread / mid x 1e6, over bid + ask
    tight = spread <= tick_e6 or bps <= sor.tight_e6 * (bid_e6 + ask_e6)
    wide = spread > tick_e6 and bps > sor.wide_e6 * (bid_e6 + ask_e6)
    if wide or adv_shares < sor.illiquid_adv:
        return -1
    return 1 if tight and adv_shares >= sor.liquid_adv else 0


@compiled
def volatility_vote(sor: SorRules, vol_ratio: float, nbbo_moves: float) -> int:
    """Vote; a ratio that is not a number means no reference, hence 0."""
    fast = nbbo_moves >= sor.fast_moves
    if fast or vol_ratio > sor.high:
        return -1
    return 1 if vol_ratio <= sor.calm else 0


@compiled
def venue_vote(sor: SorRules, card: Row, which: int) -> int:
    """Vote on a venue from its scorecard row (`which`: 0 ping, 1 rest). Too small a sample is 0, checked first."""
    if card.attempts < sor.min_attempts or card.markouts < sor.min_fills:
        return 0
    filled = 1_000_000 * card.filled
    markout, n = card.markout_hs_sum, card.markouts
    if filled < sor.fill_poor_e6[which] * card.attempts or markout < sor.markout_poor * n:
        return -1
    good = filled >= sor.fill_good_e6[which] * card.attempts and markout >= sor.markout_good * n
    return 1 if good else 0


@compiled
def _value(card: Row, fee_hs: float, saving_hs: float) -> float:
    """Fill rate x (saving + markout - fee), half spreads."""
    if card.attempts == 0 or card.markouts == 0:
        return 0.0
    return card.filled / card.attempts * (saving_hs + card.markout_hs_sum / card.markouts - fee_hs)


@compiled
def _best_dark(
    rules: Rules, sor: SorRules, b: Batch, e: int, kind: int, three: int, why: Row, votes: np.ndarray
) -> int:
    """Route of the best eligible pool, or -1; `why.venue` gets its vote, `votes` (V,) each pool's own."""
    which = 0 if kind == PING else 1
    half = b.tape[e, b.order[e].slot].half_spread_bps
    best, best_votes, best_rank, best_markout, best_fee = -1, 0, 0.0, 0.0, 0.0
    for r in range(rules.route_type.shape[0]):
        if rules.route_type[r] != kind:
            continue
        v = rules.route_venue[r]
        if b.masked[e, r]:
            votes[v] = VENUE_MASKED
            continue
        card = b.card[e, v, which]
        vote = venue_vote(sor, card, which)
        votes[v] = vote
        if vote < 0 or three + vote < sor.min_votes:
            continue
        fee = b.venue[e, v].take_fee_bps / max(half, 1e-9)
        rate = card.filled / card.attempts if card.attempts > 0 else 0.0
        rank = _value(card, fee, 1.0) if sor.rank_by_value else rate
        markout = card.markout_hs_sum / card.markouts if card.markouts > 0 else 0.0
        better = best < 0 or vote > best_votes
        if best >= 0 and vote == best_votes:
            better = rank > best_rank or (
                rank == best_rank and (markout > best_markout or (markout == best_markout and fee < best_fee))
            )
        if better:
            best, best_votes, best_rank, best_markout, best_fee = r, vote, rank, markout, fee
    if best >= 0:
        why.venue = best_votes
    return best


@compiled
def best_post(rules: Rules, sor: SorRules, b: Batch, e: int) -> int:
    """Lit post: lowest maker fee, or highest expected value; -1 when no venue takes posts."""
    half = max(b.tape[e, b.order[e].slot].half_spread_bps, 1e-9)
    best, best_rank = -1, 0.0
    for r in range(rules.route_type.shape[0]):
        if rules.route_type[r] == POST and not b.masked[e, r]:
            v = rules.route_venue[r]
            fee = b.venue[e, v].post_fee_bps
            rank = _value(b.card[e, v, 2], fee / half, 1.0 + sor.post_saving_hs) if sor.post_by_value else -fee
            if best < 0 or rank > best_rank:
                best, best_rank = r, rank
    return best


@compiled
def best_take(rules: Rules, b: Batch, e: int) -> int:
    """Lit take: every venue shows the same size in this market, so the lower taker fee; ties in MIC order."""
    best, best_fee = -1, 0.0
    for r in range(rules.route_type.shape[0]):
        if rules.route_type[r] == TAKE and not b.masked[e, r]:
            fee = b.venue[e, rules.route_venue[r]].take_fee_bps
            if best < 0 or fee < best_fee:
                best, best_fee = r, fee
    return best


@compiled
def split_due(rules: Rules, b: Batch, e: int, behind_s: float, max_slices: float) -> tuple[float, float]:
    """(shares to take now because behind, shares to work passively) of what is due by the slot's end."""
    settings = rules.settings[0]
    ep, order = b.episode[e], b.order[e]
    row = b.tape[e, order.slot]
    slice_shares = ep.shares * (row.schedule_now - row.schedule_next)
    due = order.remaining_shares - ep.shares * row.schedule_next
    left_s = (ep.n_slots - order.slot) * settings.interval_s
    allowance = max(float(settings.lot_shares), slice_shares * min(behind_s, 0.25 * left_s) / settings.interval_s)
    take = max(0.0, due - allowance)
    passive = min(max(0.0, due) - take, max(max_slices * slice_shares, float(settings.lot_shares)))
    return take, passive


@compiled
def decide(rules: Rules, sor: SorRules, b: Batch, e: int, weights: np.ndarray, why: Row, votes: np.ndarray) -> float:
    """Write weights over routes and why; return the shares to work. `votes` (V,): each pool's vote or VENUE_MASKED."""
    settings = rules.settings[0]
    ep, order = b.episode[e], b.order[e]
    row = b.tape[e, order.slot]
    weights[:] = 0.0
    votes[:] = 0
    bid, ask = quote_e6(rules, b, e)
    why.size = size_vote(sor, ep.shares, ep.adv_shares)
    why.liquidity = liquidity_vote(sor, bid, ask, int(round(ep.tick_usd * 1e6)), ep.adv_shares)
    why.volatility = volatility_vote(sor, row.vol_ratio, row.nbbo_moves)
    why.vol_known = 1 if row.vol_ratio == row.vol_ratio else 0
    why.venue, why.behind, why.route = 0, 0, -1
    kind = REST if why.size == 1 else PING
    three = why.size + why.liquidity + why.volatility
    dark = _best_dark(rules, sor, b, e, kind, three, why, votes)
    why.votes = three + why.venue
    take_route, post_route = best_take(rules, b, e), best_post(rules, sor, b, e)
    if post_route < 0:
        post_route = take_route
    take, passive = split_due(rules, b, e, sor.behind_s, sor.max_slices)
    why.take_shares, why.rest_shares = take, passive
    left_s, horizon_s = (ep.n_slots - order.slot) * settings.interval_s, ep.n_slots * settings.interval_s
    if take_route < 0:  # no quote: nothing may be routed
        why.rule = RULE_MASKED
        return 0.0
    if left_s <= sor.final_take_frac * horizon_s or order.slot == ep.n_slots - 1:
        why.rule, why.route = RULE_TIME, take_route
        weights[take_route] = 1.0
        if order.slot == ep.n_slots - 1:
            return float(order.remaining_shares)
        return max(0.0, order.remaining_shares - ep.shares * row.schedule_next)
    why.behind = 1 if take > 0.0 else 0
    work = take + passive
    if work <= 0.0:
        why.rule = RULE_NOTHING_DUE
        return 0.0
    weights[take_route] += take / work
    dark_share = 0.0
    no_pool = why_no_pool(rules, kind, votes)
    if dark < 0 and no_pool == RULE_MASKED:
        why.rule = RULE_MASKED
    elif why.volatility < 0:
        why.rule = RULE_VETO_VOL
    elif dark >= 0:
        why.rule, dark_share = RULE_DARK, sor.dark_fraction
        weights[dark] += dark_share * passive / work
    else:
        why.rule = no_pool
    weights[post_route] += (1.0 - dark_share) * passive / work
    why.route = 0
    for r in range(weights.shape[0]):
        if weights[r] > weights[why.route]:
            why.route = r
    return work


@compiled
def why_no_pool(rules: Rules, kind: int, votes: np.ndarray) -> int:
    """All pools masked, else all that are not masked vetoed, else too few votes."""
    open_pools, vetoed = 0, 0
    for r in range(rules.route_type.shape[0]):
        if rules.route_type[r] == kind:
            vote = votes[rules.route_venue[r]]
            open_pools += 1 if vote != VENUE_MASKED else 0
            vetoed += 1 if vote == -1 else 0
    if open_pools == 0:
        return RULE_MASKED
    return RULE_VETO_VENUE if vetoed == open_pools else RULE_NET_VOTES


@compiled
def propose_all(
    rules: Rules, sor: SorRules, b: Batch, work: np.ndarray, weights: np.ndarray, why: np.ndarray, votes: np.ndarray
) -> None:
    for e in range(b.order.shape[0]):
        if b.order[e].active == 1:
            work[e] = decide(rules, sor, b, e, weights[e], why[e], votes[e])


class RuleSor:
    """The rule-based SOR as a router; after `propose`, `why` (E,) WHY and `votes` (E, V) tell what it did."""

    def __init__(self, config: RuleSorConfig | None = None, name: str = "rule_sor") -> None:
        self.name = name
        self.config = config or RuleSorConfig()
        self._sor = sor_rules(self.config)
        self.why = np.zeros(0, WHY)
        self.votes = np.zeros((0, 0), np.int64)

    def propose(
        self, market: Market, b: Batch, obs: NDArray[np.float64], work: NDArray[np.float64],
        weights: NDArray[np.float64],
    ) -> None:  # fmt: skip
        if self.votes.shape != (b.order.shape[0], market.rules.n_venues):
            self.why = np.zeros(b.order.shape[0], WHY)
            self.votes = np.zeros((b.order.shape[0], market.rules.n_venues), np.int64)
        propose_all(market.rules, self._sor, b, work, weights, self.why, self.votes)

    def more_codes(self, e: int) -> list[str]:
        """Reason codes of row `e` beside votes and rule: none here."""
        return []
