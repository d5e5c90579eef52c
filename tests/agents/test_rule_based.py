"""The rule-based SOR: every boundary at, just under and just over; golden decisions; how often each rule fires."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from glasspool.agents.rule_based import (
    RULE_CODES,
    VENUE_MASKED,
    RuleSor,
    liquidity_vote,
    size_vote,
    sor_rules,
    venue_vote,
    volatility_vote,
)
from glasspool.configs.rule_sor import RuleSorConfig
from glasspool.envs.controls import MASK_TOXICITY, mask_code
from glasspool.envs.market import Market, restart_row, step_proposals, stream_key
from glasspool.envs.quotes import quote_e6
from glasspool.envs.state import CARD, QUOTE_CROSSED, QUOTE_LOCKED, QUOTE_NONE, Batch

MarketWith = Callable[..., Market]
SOR = sor_rules(RuleSorConfig())
SLICE_FRAC = 1 / 2_340  # of a day's order in one slot of 10 s


# --- votes


@pytest.mark.parametrize(
    ("shares", "adv", "vote"),
    [
        (1_000_001, 10_000_000, 1),
        (1_000_000, 10_000_000, 0),  # exactly 10 %
        (100_000, 10_000_000, 0),  # exactly 1 %
        (99_999, 10_000_000, -1),
        (3_333_334, 33_333_333, 1),  # 10.000001 %: no float decides
        (3_333_333, 33_333_333, 0),
    ],
)
def test_size_vote(shares: int, adv: int, vote: int) -> None:
    assert size_vote(SOR, shares, adv) == vote


@pytest.mark.parametrize(
    ("bid", "ask", "tick", "adv", "vote"),
    [
        # 1 tick is tight at any price, if the ADV is there
        (100_010_000, 100_020_000, 10_000, 1_000_000, 1),
        (100_010_000, 100_020_000, 10_000, 999_999, 0),
        (1_000_000, 1_010_000, 10_000, 1_000_000, 1),  # 100 bps, yet one tick
        # 5 bps: mid 100, spread 0.05
        (99_975_000, 100_025_000, 5_000, 1_000_000, 1),
        (99_970_000, 100_030_000, 5_000, 1_000_000, 0),
        (99_974_999, 100_025_000, 1, 1_000_000, 0),  # a millionth of a dollar over 5 bps
        # 20 bps: mid 100, spread 0.20
        (99_900_000, 100_100_000, 5_000, 1_000_000, 0),
        (99_899_999, 100_100_000, 1, 1_000_000, -1),
        # ADV under 100,000 is illiquid however tight
        (100_010_000, 100_020_000, 10_000, 99_999, -1),
        (100_010_000, 100_020_000, 10_000, 100_000, 0),
    ],
)
def test_liquidity_vote(bid: int, ask: int, tick: int, adv: int, vote: int) -> None:
    assert liquidity_vote(SOR, bid, ask, tick, adv) == vote


@pytest.mark.parametrize(
    ("ratio", "moves", "vote"),
    [
        (0.92, 5, 1),
        (1.25, 29, 1),
        (1.2500001, 5, 0),
        (2.0, 29, 0),
        (2.0000001, 5, -1),
        (2.01, 5, -1),
        (0.92, 30, -1),  # fast, whatever the ratio
        (float("nan"), 5, 0),  # no reference
    ],
)
def test_volatility_vote(ratio: float, moves: int, vote: int) -> None:
    assert volatility_vote(SOR, ratio, moves) == vote


def card(attempts: int, filled: int, markout_hs: float, markouts: int | None = None) -> Any:
    row = np.zeros(1, CARD)[0:1]
    n = filled if markouts is None else markouts
    row["attempts"], row["filled"], row["markouts"], row["markout_hs_sum"] = attempts, filled, n, markout_hs * n
    return row[0]


@pytest.mark.parametrize(
    ("attempts", "filled", "markout", "ping", "rest"),
    [
        (10_000, 3_100, -0.15, 1, 1),
        (10_000, 300, -0.15, 1, 0),  # 0.03 is good for a ping, 0.06 for a rest
        (10_000, 299, -0.15, 0, 0),
        (10_000, 600, -0.15, 1, 1),
        (10_000, 599, -0.15, 1, 0),
        (10_000, 50, -0.15, 0, -1),  # 0.005 is not poor for a ping, under 0.01 is poor for a rest
        (20_000, 99, -0.15, -1, -1),
        (10_000, 100, -0.15, 0, 0),
        (10_000, 99, -0.15, 0, -1),
        (10_000, 3_100, -0.5, 1, 1),
        (10_000, 3_100, -0.50001, 0, 0),
        (10_000, 3_200, -0.75, 0, 0),
        (10_000, 3_200, -0.75001, -1, -1),
        (10_000, 3_200, -0.76, -1, -1),
        (199, 150, -2.0, 0, 0),  # too small a sample, checked first
        (200, 150, -2.0, -1, -1),
        (10_000, 49, -2.0, 0, 0),
        (10_000, 51, -2.0, -1, -1),
    ],
)
def test_venue_vote(attempts: int, filled: int, markout: float, ping: int, rest: int) -> None:
    row = card(attempts, filled, markout)
    assert (venue_vote(SOR, row, 0), venue_vote(SOR, row, 1)) == (ping, rest)


# --- decisions: one row, fields set by hand


class Desk:
    """One day-long order of the large class at its first slot. Pools are empty-handed until `pool` fills a card."""

    def __init__(self, market: Market, config: RuleSorConfig | None = None) -> None:
        self.market, self.router = market, RuleSor(config)
        self.b, self.obs = market.batch(1)
        market.reset(stream_key(1, "test"), [0], [0], self.b, self.obs)
        for v in range(market.rules.n_lit, len(market.venues)):
            for field in ("attempts", "filled", "markouts", "markout_hs_sum"):
                self.b.card[0, v][field] = 0
        self.parent(1_000_000).quote(1.0).volatility(0.92)
        self.pool("XQDA", 3_100, -0.15)

    def parent(self, shares: int, adv: int = 10_000_000) -> Desk:
        self.b.episode[0]["shares"], self.b.episode[0]["adv_shares"] = shares, adv
        self.b.order[0]["remaining_shares"] = shares
        return self.refresh()

    def refresh(self) -> Desk:
        """Masks and features anew; the order's progress is kept."""
        kept = self.b.order[0].copy()
        restart_row(self.market.rules, self.b, 0, self.obs)
        for field in ("slot", "remaining_shares", "dark_shares"):
            self.b.order[0][field] = kept[field]
        for r in range(len(self.market.routes)):
            self.b.masked[0, r] = mask_code(self.market.rules, self.b, 0, r) != 0
        return self

    def quote(self, half_spread_bps: float, state: int = 0) -> Desk:
        self.b.tape["mid_bps"][0], self.b.tape["half_spread_bps"][0] = 2.0, half_spread_bps
        self.b.tape["quote_state"][0] = state
        return self.refresh()

    def volatility(self, ratio: float, moves: float = 5.0) -> Desk:
        self.b.tape["vol_ratio"][0], self.b.tape["nbbo_moves"][0] = ratio, moves
        return self

    def pool(self, venue: str, filled: int, markout_hs: float, attempts: int = 10_000) -> Desk:
        """The same history for pings and rests."""
        for row in (0, 1):
            c = self.b.card[0, self.market.venues.index(venue), row]
            c["attempts"], c["filled"], c["markouts"] = attempts, filled, filled
            c["markout_hs_sum"] = markout_hs * filled
        return self.refresh()

    def due(self, shares: float, slot: int = 0) -> Desk:
        """`shares` due by the end of the slot, with the day's average slice scheduled in it."""
        row, order, ep = self.b.tape[0], self.b.order[0], self.b.episode[0]
        order["slot"] = slot
        target = (order["remaining_shares"] - shares) / ep["shares"]
        row["schedule_next"][slot], row["schedule_now"][slot] = target, target + SLICE_FRAC
        return self.refresh()

    def decide(self) -> Any:
        """Votes and rule of the decision; `work` and `weights` by route beside them."""
        n = len(self.market.routes)
        work, weights = np.zeros(1), np.zeros((1, n))
        self.router.propose(self.market, self.b, self.obs, work, weights)
        self.work = float(work[0])
        self.weights = {r.name: float(w) for r, w in zip(self.market.routes, weights[0], strict=True) if w}
        self.rule = RULE_CODES[self.router.why[0]["rule"]]
        return self.router.why[0]

    def children(self) -> dict[str, int]:
        """Decide and step; released shares by route."""
        self.decide()
        weights = np.array([[self.weights.get(r.name, 0.0) for r in self.market.routes]])
        step_proposals(self.market.rules, self.b, np.array([self.work]), weights, self.obs)
        return {r.name: int(x) for r, x in zip(self.market.routes, self.b.child_shares[0], strict=True) if x}


@pytest.fixture(scope="module")
def day(market_with: MarketWith, base_data: dict[str, Any]) -> Market:
    """Day-long orders in the large class, with its usual fees: cheapest take XQLB, cheapest post XQLA."""
    stock = {**base_data["stocks"][0], "probability": 1.0}
    orders = {"horizon_minutes": {390.0: 1.0}, "side": "buy"}
    return market_with({"stocks": [stock], "orders": orders, "randomisation": {"fee_jitter_mils": 0.0}})


def test_golden_votes_of_the_parent(day: Market) -> None:
    """X 1,000,000 of 10,000,000; 100.01/100.03; ratio 0.92; ping fill rate 0.31, markout -0.15: votes 3, dark ping."""
    desk = Desk(day).due(400)
    assert quote_e6(day.rules, desk.b, 0) == (100_010_000, 100_030_000)
    why = desk.decide()
    votes = [int(why[f]) for f in ("size", "liquidity", "volatility", "venue", "votes")]
    assert votes == [0, 1, 1, 1, 3]
    assert desk.rule == "BEST_VENUE"
    assert set(desk.weights) == {"XQDA:ping", "XQLA:post"}


def test_golden_split_when_on_schedule(day: Market) -> None:
    """Due 400: nothing to take (allowance 2,564), four lots, two pinged, two posted."""
    desk = Desk(day).due(400)
    assert desk.children() == {"XQDA:ping": 200, "XQLA:post": 200}
    assert desk.router.why[0]["take_shares"] == 0.0 and desk.router.why[0]["behind"] == 0


def test_golden_split_when_behind(day: Market) -> None:
    """Due 3,000: 435.9 over the allowance and three slices, 1,282.05: 17 lots, take 4, post 7, ping 6."""
    desk = Desk(day).due(3_000)
    assert desk.children() == {"XQLB:take": 400, "XQLA:post": 700, "XQDA:ping": 600}
    why = desk.router.why[0]
    assert why["take_shares"] == pytest.approx(3_000 - 6 * 1_000_000 / 2_340)
    assert why["rest_shares"] == pytest.approx(3 * 1_000_000 / 2_340)
    assert why["behind"] == 1


def test_golden_large_parent_rests(day: Market) -> None:
    desk = Desk(day).parent(1_000_001).due(400)
    why = desk.decide()
    assert (why["size"], why["votes"]) == (1, 4)
    assert set(desk.weights) == {"XQDA:rest", "XQLA:post"}


def test_golden_volatility_veto(day: Market) -> None:
    desk = Desk(day).volatility(2.01).due(400)
    desk.decide()
    assert desk.rule == "VETO_VOLATILITY" and set(desk.weights) == {"XQLA:post"}
    assert Desk(day).volatility(2.0).due(400).decide()["volatility"] == 0


def test_golden_venue_veto_and_toxicity_mask(day: Market) -> None:
    mixed = Desk(day).pool("XQDA", 3_200, -0.75).due(400)
    why = mixed.decide()
    assert (why["venue"], why["votes"], mixed.rule) == (0, 2, "BEST_VENUE")
    assert mixed.router.votes[0, day.venues.index("XQDA")] == 0

    out = Desk(day).pool("XQDA", 3_100, -0.76).due(400)
    out.decide()
    assert out.router.votes[0, day.venues.index("XQDA")] == -1
    assert "XQDA:ping" not in out.weights  # another pool, unknown, has two votes

    masked = Desk(day).pool("XQDA", 3_100, -1.01).due(400)
    masked.decide()
    assert masked.router.votes[0, day.venues.index("XQDA")] == VENUE_MASKED
    ping = [r.name for r in day.routes].index("XQDA:ping")
    assert mask_code(day.rules, masked.b, 0, ping) == MASK_TOXICITY


def test_golden_fill_rate_just_under_good(day: Market) -> None:
    """0.0299 at markout -0.15: venue 0, votes 2."""
    desk = Desk(day).pool("XQDA", 299, -0.15).due(400)
    why = desk.decide()
    assert (why["venue"], why["votes"]) == (0, 2)


def test_golden_illiquid_tie_is_lit(day: Market) -> None:
    """ADV 90,000, X 9,000 (size 0, liquidity -1), ratio 1.5 (0), venue +1: votes 0, lit."""
    desk = Desk(day).parent(9_000, 90_000).volatility(1.5).due(50)
    why = desk.decide()
    assert [int(why[f]) for f in ("size", "liquidity", "volatility")] == [0, -1, 0]
    assert desk.router.votes[0, day.venues.index("XQDA")] == 1
    assert desk.rule == "NET_VOTES_LIT" and set(desk.weights) == {"XQLA:post"}


def test_one_net_vote_is_enough(day: Market) -> None:
    desk = Desk(day).parent(9_000, 90_000).volatility(1.25).due(50)
    assert desk.decide()["votes"] == 1 and desk.rule == "BEST_VENUE"
    strict = Desk(day, RuleSorConfig(min_net_votes=2)).parent(9_000, 90_000).volatility(1.25).due(50)
    strict.decide()
    assert strict.rule == "NET_VOTES_LIT"


def test_all_pools_vetoed_is_lit(day: Market) -> None:
    desk = Desk(day).due(400)
    for venue in ("XQDA", "XQDB", "XQDC", "XQDD"):
        desk.pool(venue, 3_100, -0.8)
    desk.decide()
    assert desk.rule == "VETO_VENUE" and set(desk.weights) == {"XQLA:post"}


def test_all_pools_masked_is_lit(day: Market) -> None:
    desk = Desk(day).due(400)
    for venue in ("XQDA", "XQDB", "XQDC", "XQDD"):
        desk.pool(venue, 3_100, -1.5)
    desk.decide()
    assert desk.rule == "MASKED" and set(desk.weights) == {"XQLA:post"}


def test_masks_come_before_the_volatility_veto(day: Market) -> None:
    """The first rule that applies wins, and masks are rule 1."""
    desk = Desk(day).volatility(3.0).due(400)
    for venue in ("XQDA", "XQDB", "XQDC", "XQDD"):
        desk.pool(venue, 3_100, -1.5)
    desk.decide()
    assert desk.rule == "MASKED"


def test_locked_quote_is_lit(day: Market) -> None:
    desk = Desk(day).quote(1.0, QUOTE_LOCKED).due(400)
    desk.decide()
    assert desk.rule == "MASKED" and set(desk.weights) == {"XQLA:post"}


@pytest.mark.parametrize("state", [QUOTE_CROSSED, QUOTE_NONE])
def test_no_valid_quote_sends_nothing(day: Market, state: int) -> None:
    desk = Desk(day).quote(1.0, state).due(3_000)
    desk.decide()
    assert (desk.rule, desk.work, desk.weights) == ("MASKED", 0.0, {})


# --- pace


@pytest.mark.parametrize(("slot", "rule"), [(2_292, "BEST_VENUE"), (2_293, "BEST_VENUE"), (2_294, "TIME_RUNNING_OUT")])
def test_the_last_two_percent_are_taken(day: Market, slot: int, rule: str) -> None:
    """2 % of 2,340 slots are 46.8: with 47 slots left (slot 2,293) work goes on, with 46 it is taken."""
    desk = Desk(day)
    desk.b.order[0]["remaining_shares"] = 20_000
    desk.due(400, slot).decide()
    assert desk.rule == rule
    assert set(desk.weights) == ({"XQLB:take"} if rule == "TIME_RUNNING_OUT" else {"XQDA:ping", "XQLA:post"})
    assert desk.work == pytest.approx(400)


@pytest.mark.parametrize("shares", [400.0, 1_200.0, 2_000.0, 5_000.0])
def test_in_the_last_two_percent_all_that_is_due_is_taken(day: Market, shares: float) -> None:
    desk = Desk(day)
    desk.b.order[0]["remaining_shares"] = 20_000
    desk.due(shares, 2_300).decide()
    assert desk.rule == "TIME_RUNNING_OUT"
    assert desk.work == pytest.approx(shares)


def test_in_the_last_slot_all_that_is_left_is_taken(day: Market) -> None:
    desk = Desk(day)
    desk.b.order[0]["remaining_shares"] = 7_777
    desk.due(100, 2_339)
    assert desk.children() == {"XQLB:take": 7_777}
    assert desk.rule == "TIME_RUNNING_OUT"


def test_nothing_due_sends_nothing(day: Market) -> None:
    desk = Desk(day).due(-1_000)
    desk.b.order[0]["remaining_shares"] = 900_000
    desk.due(-1_000).decide()
    assert (desk.rule, desk.work) == ("NOTHING_DUE", 0.0)


@pytest.mark.parametrize(("over", "behind"), [(-1.0, 0), (0.0, 0), (1.0, 1)])
def test_behind_starts_just_over_the_allowance(day: Market, over: float, behind: int) -> None:
    """The allowance is the shares scheduled in 60 s: six slices."""
    desk = Desk(day).due(6 * 1_000_000 / 2_340 + over - 1e-6)
    assert desk.decide()["behind"] == behind


def test_the_allowance_shrinks_with_the_time_left(day: Market) -> None:
    """A quarter of the time left once that is under 60 s, and never under one lot."""
    config = RuleSorConfig(final_take_frac=0.0)
    for slot, slices in ((2_316, 6.0), (2_328, 3.0), (2_336, 1.0)):
        desk = Desk(day, config)
        desk.b.order[0]["remaining_shares"] = 50_000
        why = desk.due(10_000, slot).decide()
        assert why["take_shares"] == pytest.approx(10_000 - slices * 1_000_000 / 2_340)
    small = Desk(day, config).parent(100_000)  # slices of 42.7 shares: at least one lot may wait, and one lot is worked
    small.b.order[0]["remaining_shares"] = 5_000
    why = small.due(250, 2_338).decide()
    assert (why["take_shares"], why["rest_shares"]) == (pytest.approx(150), pytest.approx(100))


# --- choice of venue


def test_more_votes_then_fill_rate_then_markout_then_fee_then_name(day: Market) -> None:
    def best(*pools: tuple[str, int, float], fees: dict[str, float] | None = None) -> str:
        desk = Desk(day).pool("XQDA", 0, 0.0, attempts=0)
        for v in range(day.rules.n_lit, len(day.venues)):
            desk.b.venue[0, v]["take_fee_bps"] = (fees or {}).get(day.venues[v], 0.1)
        for name, filled, markout in pools:
            desk.pool(name, filled, markout)
        desk.due(400).decide()
        return next(r for r in desk.weights if r.endswith("ping"))

    assert best(("XQDB", 300, -0.5), ("XQDC", 5_000, -0.6)) == "XQDB:ping"  # +1 beats 0, whatever the fill rate
    assert best(("XQDB", 300, -0.1), ("XQDC", 400, -0.4)) == "XQDC:ping"  # fill rate
    assert best(("XQDB", 400, -0.4), ("XQDC", 400, -0.1)) == "XQDC:ping"  # markout
    assert best(("XQDB", 400, -0.25), ("XQDC", 400, -0.25), fees={"XQDB": 0.2}) == "XQDC:ping"  # fee
    assert best(("XQDC", 400, -0.25), ("XQDB", 400, -0.25)) == "XQDB:ping"  # name
    assert best() == "XQDA:ping"  # nothing known: votes 2, the first name


def test_rank_by_net_value_weighs_markout_and_fee(day: Market) -> None:
    """0.04 x (1 - 0.4 - 0.1) = 0.020 against 0.03 x (1 - 0.0 - 0.1) = 0.027."""
    for rank_by, best in (("fill_rate", "XQDB:ping"), ("net_value", "XQDC:ping")):
        desk = Desk(day, RuleSorConfig.model_validate({"rank_by": rank_by})).pool("XQDA", 0, 0.0, attempts=0)
        for v in range(day.rules.n_lit, len(day.venues)):
            desk.b.venue[0, v]["take_fee_bps"] = 0.1
        desk.pool("XQDB", 400, -0.4).pool("XQDC", 300, 0.0).due(400).decide()
        assert best in desk.weights


def test_post_by_fee_or_by_net_value(day: Market) -> None:
    """Net value = rate x (1 + markout - fee + saving): 0.3 x (3 - 0.9 - 0.05) of XQLC beats 0.2 x (3 - 1.25 + 0.2)."""
    for post_by, best in (("fee", "XQLA:post"), ("net_value", "XQLC:post")):
        desk = Desk(day, RuleSorConfig.model_validate({"post_by": post_by}))
        for venue, filled, markout in (("XQLA", 2_000, -1.25), ("XQLB", 100, -0.7), ("XQLC", 3_000, -0.9)):
            c = desk.b.card[0, day.venues.index(venue), 2]
            c["attempts"], c["filled"], c["markouts"], c["markout_hs_sum"] = 10_000, filled, filled, markout * filled
        desk.due(400).decide()
        assert best in desk.weights


def test_dark_fraction_sets_the_dark_share(day: Market) -> None:
    desk = Desk(day, RuleSorConfig(dark_fraction=0.25)).due(400)
    desk.decide()
    assert desk.weights == pytest.approx({"XQDA:ping": 0.25, "XQLA:post": 0.75})


# --- census


def test_every_rule_fires_on_the_default_market(base_market: Market, run_router: Any) -> None:
    """Each vote, veto and mask in at least 1 % of decisions (venue: of looks) over 300 orders of the base market."""
    seen: Counter[tuple[str, int]] = Counter()
    pings = [i for i, r in enumerate(base_market.routes) if r.order_type == "ping"]
    rests = [i for i, r in enumerate(base_market.routes) if r.order_type == "rest"]
    toxic = 0

    class Census(RuleSor):
        def propose(self, market: Market, b: Batch, obs: Any, work: Any, weights: Any) -> None:
            nonlocal toxic
            super().propose(market, b, obs, work, weights)
            on = b.order["active"] == 1
            seen[("decisions", 0)] += int(on.sum())
            for factor in ("size", "liquidity", "volatility", "rule"):
                for value, count in zip(*np.unique(self.why[factor][on], return_counts=True), strict=True):
                    seen[(factor, int(value))] += int(count)
            looks = self.votes[on][:, market.rules.n_lit :]
            for value, count in zip(*np.unique(looks, return_counts=True), strict=True):
                seen[("venue", int(value))] += int(count)
            seen[("looks", 0)] += looks.size
            kinds = np.where((self.why["size"] == 1)[:, None], b.masked[:, rests], b.masked[:, pings])[on]
            cap = b.order["dark_shares"] >= market.rules.max_dark_frac * b.episode["shares"]
            toxic += int(kinds[~cap[on]].sum())

    run_router(base_market, Census(), 300)
    decisions, looks = seen[("decisions", 0)], seen[("looks", 0)]
    for factor in ("size", "liquidity", "volatility"):
        for vote in (1, 0, -1):
            assert seen[(factor, vote)] >= 0.01 * decisions, (factor, vote, seen)
    for vote in (1, 0, -1):
        assert seen[("venue", vote)] >= 0.01 * looks, (vote, seen)
    assert toxic >= 0.01 * looks
    for code in ("VETO_VOLATILITY", "TIME_RUNNING_OUT", "NET_VOTES_LIT", "BEST_VENUE"):
        assert seen[("rule", RULE_CODES.index(code))] >= 0.01 * decisions, (code, seen)
