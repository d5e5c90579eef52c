"""Pre-trade controls: how weights become whole lots, and which routes are forbidden."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from glasspool.envs.controls import (
    MASK_CAP,
    MASK_CROSSED,
    MASK_LOCKED,
    MASK_NO_QUOTE,
    MASK_NONE,
    MASK_TOXICITY,
    NOT_LAST,
    child_orders,
    mask_code,
    weights_from_scores,
)
from glasspool.envs.market import Market, restart_row, step_proposals, stream_key
from glasspool.envs.state import COMPONENTS, POST, QUOTE_CROSSED, QUOTE_LOCKED, QUOTE_NONE, QUOTE_NORMAL, TAKE

MarketWith = Callable[..., Market]
Floats = NDArray[np.float64]
NO_CAP = 1_000_000


def cut(
    lots: int, weights: list[float], caps: list[int] | None = None, max_routes: int = 3, weight_cut: float = 0.05,
    kinds: tuple[int, ...] = (),
) -> tuple[list[float], list[int]]:  # fmt: skip
    """(weights used, whole lots by route) of a proposal, over posts unless `kinds` tells, with no other control."""
    n = len(weights)
    route_type = np.array(kinds or (POST,) * n, np.int64)
    used, child = np.array([weights], float), np.zeros((1, n), np.int64)
    route_cap = np.array(caps or [NO_CAP] * n, np.int64) * 100
    child_orders(
        np.array([100 * (lots + 1)]), np.array([100.0 * lots]), used, np.zeros((1, n), np.bool_), route_type, route_cap,
        100, max_routes, weight_cut, np.array([NOT_LAST]), np.array([0]), child,
    )  # fmt: skip
    assert (child % 100 == 0).all()
    return [float(x) for x in used[0]], [int(x) for x in child[0] // 100]


def kept(weights: list[float], max_routes: int = 3, cut_at: float = 0.05) -> list[float]:
    return cut(0, weights, None, max_routes, cut_at)[0]


def lots(n: int, weights: list[float], caps: list[int] | None = None) -> list[int]:
    """Lots of weights that all stay."""
    return cut(n, weights, caps, len(weights), 0.0)[1]


# --- weights


def test_weights_under_the_cut_become_exact_zeros() -> None:
    assert kept([0.51, 0.05, 0.44]) == pytest.approx([0.51, 0.05, 0.44])
    assert kept([0.51, 0.0499999, 0.4400001]) == pytest.approx([0.51 / 0.9500001, 0.0, 0.4400001 / 0.9500001])


def test_the_best_three_stay_and_ties_go_by_route_order() -> None:
    assert kept([0.1, 0.4, 0.2, 0.3]) == pytest.approx([0.0, 4 / 9, 2 / 9, 3 / 9])
    assert kept([0.25, 0.25, 0.25, 0.25]) == pytest.approx([1 / 3, 1 / 3, 1 / 3, 0.0])
    assert kept([0.2, 0.3, 0.2, 0.3], max_routes=1) == [0.0, 1.0, 0.0, 0.0]


def test_the_best_route_stays_even_under_the_cut() -> None:
    assert kept([0.04, 0.03, 0.0]) == [1.0, 0.0, 0.0]


def test_no_weight_stays_no_weight() -> None:
    assert kept([0.0, 0.0]) == [0.0, 0.0]


def test_a_take_of_half_a_lot_passes_the_cut_and_one_of_less_does_not() -> None:
    small = [0.04, 0.96]
    assert cut(20, small, kinds=(TAKE, POST)) == (pytest.approx(small), [1, 19])
    assert cut(20, small, kinds=(POST, POST))[0] == [0.0, 1.0]
    assert cut(12, small, kinds=(TAKE, POST))[0] == [0.0, 1.0]  # 0.48 lots


def test_takes_come_first_among_the_routes_that_stay() -> None:
    weights = [0.30, 0.28, 0.20, 0.22 - 0.06, 0.06]
    used, sent = cut(100, weights, kinds=(POST, POST, POST, POST, TAKE))
    assert used == pytest.approx([0.30 / 0.64, 0.28 / 0.64, 0.0, 0.0, 0.06 / 0.64])
    assert sent == [47, 44, 0, 0, 9]
    assert cut(100, weights, kinds=(TAKE, TAKE, TAKE, TAKE, POST))[0] == pytest.approx(
        [0.30 / 0.78, 0.28 / 0.78, 0.20 / 0.78, 0.0, 0.0]
    )


def softmax(scores: list[float], masked: list[bool], kinds: tuple[int, ...]) -> list[float]:
    weights = np.full((1, len(scores)), np.nan)
    weights_from_scores(np.array([scores]), np.array([masked]), np.array(kinds), weights)
    return [float(w) for w in weights[0]]


def test_scores_become_a_softmax_over_open_routes() -> None:
    posts = (POST,) * 3
    assert softmax([np.log(3.0), 0.0, 20.0], [False, False, True], posts) == pytest.approx([0.75, 0.25, 0.0], abs=1e-15)
    assert softmax([-20.0, 20.0, 20.0], [False, True, True], posts) == [1.0, 0.0, 0.0]
    assert softmax([0.0] * 3, [True] * 3, posts) == [0.0] * 3


def test_one_take_enters_the_softmax_the_best_open_one() -> None:
    kinds = (TAKE, TAKE, TAKE, POST)
    assert softmax([0.0, 1.0, 9.0, 1.0], [False, False, True, False], kinds) == [0.0, 0.5, 0.0, 0.5]
    assert softmax([2.0, 2.0, 2.0, 2.0], [False] * 4, kinds) == [0.5, 0.0, 0.0, 0.5]  # ties: route order


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=14), st.integers(1, 5))
def test_kept_weights_sum_to_one_over_few_routes(weights: list[float], max_routes: int) -> None:
    out = np.array(kept(weights, max_routes))
    assert (out > 0).sum() <= max_routes
    assert out.sum() == pytest.approx(1.0) if max(weights) > 0 else not out.any()
    assert all(o == 0.0 for o, w in zip(out, weights, strict=True) if w == 0.0)


# --- lots


def test_lots_go_by_largest_remainder() -> None:
    assert lots(10, [0.27, 0.54, 0.19]) == [3, 5, 2]  # 2.7, 5.4, 1.9: the two left over go to .9 and .7
    assert lots(1, [0.3, 0.4, 0.3]) == [0, 1, 0]


def test_ties_of_remainders_go_by_route_order() -> None:
    assert lots(3, [0.5, 0.5]) == [2, 1]
    assert lots(2, [1 / 3, 1 / 3, 1 / 3]) == [1, 1, 0]
    assert lots(17, [435.9 / 1717.95, 641.025 / 1717.95, 641.025 / 1717.95]) == [4, 7, 6]


def test_overflow_of_a_cap_goes_to_the_next_remainder() -> None:
    assert lots(10, [0.8, 0.15, 0.05], [4, NO_CAP, NO_CAP]) == [4, 4, 2]
    assert lots(10, [0.8, 0.2], [4, 3]) == [4, 3]  # what no route may take is not sent
    assert lots(10, [0.8, 0.2], [0, NO_CAP]) == [0, 10]


def test_a_route_without_weight_gets_no_lot() -> None:
    assert lots(10, [0.5, 0.0, 0.5], [1, NO_CAP, 1]) == [1, 0, 1]


@given(
    st.integers(0, 60),
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 30)), min_size=1, max_size=8),
)
def test_lots_are_conserved_and_close_to_their_share(n: int, routes: list[tuple[int, int]]) -> None:
    total = sum(w for w, _ in routes)
    if total == 0:
        return
    weights, caps = [w / total for w, _ in routes], [c for _, c in routes]
    out = lots(n, weights, caps)
    assert sum(out) == min(n, sum(c for w, c in routes if w > 0))
    assert all(0 <= x <= c for x, c in zip(out, caps, strict=True))
    free = lots(n, weights)
    assert all(abs(x - n * w) < 1 + 1e-9 for x, w in zip(free, weights, strict=True))


# --- release: one row of the base market, edited by hand


class Row:
    """One order of the base market at its first slot, with fields set by hand."""

    def __init__(self, market: Market, shares: int = 100_000) -> None:
        self.market = market
        self.b, self.obs = market.batch(1)
        market.reset(stream_key(3, "test"), [0], [0], self.b, self.obs)
        self.b.episode[0]["shares"] = shares
        self.refresh()

    def refresh(self) -> Row:
        restart_row(self.market.rules, self.b, 0, self.obs)
        return self

    def quote(self, state: int, slots: slice = slice(None)) -> Row:
        self.b.tape["quote_state"][0, slots] = state
        return self.refresh()

    def card(self, venue: str, row: int, attempts: int, markouts: int, markout_hs: float) -> Row:
        c = self.b.card[0, self.market.venues.index(venue), row]
        c["attempts"], c["filled"], c["markouts"] = attempts, markouts, markouts
        c["markout_hs_sum"] = markout_hs * markouts
        return self.refresh()

    def code(self, route: str) -> int:
        return int(mask_code(self.market.rules, self.b, 0, [r.name for r in self.market.routes].index(route)))

    def send(self, work: float, **weights: float) -> dict[str, int]:
        """Propose, step, and return the released children by route (names with `_` for `:`)."""
        row = np.array([[weights.get(r.name.replace(":", "_"), 0.0) for r in self.market.routes]])
        step_proposals(self.market.rules, self.b, np.array([work]), row, self.obs)
        children = self.b.child_shares[0]
        return {r.name: int(x) for r, x in zip(self.market.routes, children, strict=True) if x}


def test_work_is_rounded_to_the_nearest_whole_lot(base_market: Market) -> None:
    for work, sent in ((149.9, 100), (150.0, 200), (249.0, 200), (49.9, 0), (0.0, 0), (-500.0, 0)):
        assert sum(Row(base_market).send(work, XQLA_take=1.0).values()) == sent


def test_work_is_at_most_what_is_left_and_odd_shares_wait(base_market: Market) -> None:
    row = Row(base_market, shares=1_050)
    assert row.send(99_999.0, XQLA_take=1.0) == {"XQLA:take": 1_000}
    assert row.send(99_999.0, XQLA_take=1.0) == {"XQLA:take": 50}
    assert row.b.order[0]["active"] == 0


def test_an_odd_lot_goes_whole_to_the_best_route(base_market: Market) -> None:
    assert Row(base_market, shares=77).send(1.0, XQLA_post=0.4, XQLB_take=0.6) == {"XQLB:take": 77}
    assert Row(base_market, shares=77).send(0.0, XQLA_post=0.4, XQLB_take=0.6) == {}


def test_a_child_is_at_most_its_cap(market_with: MarketWith) -> None:
    market = market_with({"controls": {"max_child_shares": 3_000, "route_caps_shares": {"XQLA:take": 1_200}}})
    assert Row(market).send(10_000.0, XQLA_take=0.9, XQLB_take=0.1) == {"XQLA:take": 1_200, "XQLB:take": 3_000}


def test_the_last_slot_takes_all_that_is_left_at_the_cheapest_venue(base_market: Market) -> None:
    row = Row(base_market, shares=123_456)
    for _ in range(int(row.b.episode[0]["n_slots"]) - 1):
        assert row.send(0.0) == {}
    fees = row.b.venue[0, : base_market.rules.n_lit]["take_fee_bps"]
    cheapest = base_market.venues[int(np.argmin(fees))]
    assert row.send(0.0) == {f"{cheapest}:take": 123_456}
    assert row.b.order[0]["active"] == 0 and row.b.order[0]["remaining_shares"] == 0


# --- masks


@pytest.mark.parametrize(
    ("attempts", "fills", "markout_hs", "masked"),
    [
        (200, 50, -1.01, True),
        (200, 50, -1.0, False),  # the limit itself is allowed
        (200, 50, -0.99, False),
        (199, 50, -1.01, False),  # too small a sample
        (200, 49, -1.01, False),
        (10**6, 10**5, -1.000001, True),
    ],
)
def test_toxicity_mask_at_its_boundaries(
    base_market: Market, attempts: int, fills: int, markout_hs: float, masked: bool
) -> None:
    row = Row(base_market).card("XQDB", 0, attempts, fills, markout_hs).card("XQDB", 1, 0, 0, 0.0)
    assert row.code("XQDB:ping") == (MASK_TOXICITY if masked else MASK_NONE)
    assert row.code("XQDB:rest") == MASK_NONE  # each order type has its own row
    assert bool(row.b.masked[0, [r.name for r in base_market.routes].index("XQDB:ping")]) is masked
    sent = row.send(1_000.0, XQDB_ping=1.0)
    assert sent == ({} if masked else {"XQDB:ping": 1_000})


def test_a_masked_route_gets_nothing_and_the_others_all(base_market: Market) -> None:
    row = Row(base_market).card("XQDB", 0, 1_000, 100, -2.0)
    assert row.send(1_000.0, XQDB_ping=0.5, XQLA_post=0.5) == {"XQLA:post": 1_000}


def test_locked_quote_forbids_dark_only(base_market: Market) -> None:
    row = Row(base_market).quote(QUOTE_LOCKED)
    codes = {r.order_type: row.code(r.name) for r in base_market.routes}
    assert codes == {"take": MASK_NONE, "post": MASK_NONE, "ping": MASK_LOCKED, "rest": MASK_LOCKED}
    assert row.send(1_000.0, XQDA_rest=0.9, XQLA_post=0.1) == {"XQLA:post": 1_000}


@pytest.mark.parametrize(("state", "code"), [(QUOTE_CROSSED, MASK_CROSSED), (QUOTE_NONE, MASK_NO_QUOTE)])
def test_no_valid_quote_forbids_every_route_and_leaves_are_costed(base_market: Market, state: int, code: int) -> None:
    row = Row(base_market, shares=20_000).quote(state)
    assert {row.code(r.name) for r in base_market.routes} == {code}
    while row.b.order[0]["active"]:
        assert row.send(1_000.0, XQLA_take=0.5, XQDA_rest=0.5) == {}
    assert row.b.order[0]["remaining_shares"] == 20_000
    cost = dict(zip(COMPONENTS, row.b.cost_bps[0], strict=True))
    last = row.b.tape[0, int(row.b.episode[0]["n_slots"]) - 1]
    assert cost["leftover"] > last["half_spread_bps"]  # half spread and instantaneous impact of one large take
    assert cost["spread"] == cost["fee"] == cost["adverse"] == cost["instantaneous"] == 0.0
    move = row.b.episode[0]["side"] * (
        row.b.tape[0, int(row.b.episode[0]["n_slots"])]["mid_bps"] - row.b.episode[0]["market_vwap_bps"]
    )
    assert cost["timing"] == pytest.approx(move, abs=1e-9)  # priced at the end mid
    assert sum(cost.values()) == pytest.approx(row.b.order[0]["cost_bps"], abs=1e-9)


def test_a_halt_over_the_end_leaves_only_what_was_not_done_before(base_market: Market) -> None:
    row = Row(base_market, shares=20_000)
    n = int(row.b.episode[0]["n_slots"])
    row.quote(QUOTE_NORMAL).quote(QUOTE_NONE, slice(n - 3, None))
    assert row.send(15_000.0, XQLA_take=0.34, XQLB_take=0.33, XQLC_take=0.33) != {}
    while row.b.order[0]["active"]:
        row.send(0.0)
    assert row.b.order[0]["remaining_shares"] == 20_000 - row.b.order[0]["take_shares"] > 0
    assert row.b.cost_bps[0, COMPONENTS.index("leftover")] > 0.0


# --- the dark cap


def test_dark_is_masked_once_its_share_is_used_up(base_market: Market) -> None:
    row = Row(base_market, shares=10_000)
    for dark, code in ((5_999, MASK_NONE), (6_000, MASK_CAP), (6_001, MASK_CAP)):
        row.b.order[0]["dark_shares"] = dark
        assert row.code("XQDA:ping") == row.code("XQDA:rest") == code
        assert row.code("XQLA:post") == MASK_NONE


def test_dark_children_fit_under_the_cap_even_if_all_fill(base_market: Market) -> None:
    row = Row(base_market, shares=10_000)
    row.b.order[0]["dark_shares"] = 5_250
    sent = row.send(9_000.0, XQDA_ping=0.4, XQDB_rest=0.4, XQLA_post=0.2)
    assert sent["XQLA:post"] == 1_800
    assert sum(x for name, x in sent.items() if name != "XQLA:post") == 700  # 750 shares of room, in whole lots


def test_an_odd_lot_respects_the_dark_cap_too(base_market: Market) -> None:
    """1,050 shares, 60 % dark at most = 630; 600 are dark already, so the last 50 may not all go dark."""
    row = Row(base_market, shares=1_050)
    row.b.order[0]["dark_shares"] = 600
    row.b.order[0]["remaining_shares"] = 50
    sent = row.send(50.0, XQDA_rest=1.0)
    assert 600 + sum(sent.values()) <= 630


def test_an_odd_lot_respects_the_cap_of_its_route(market_with: MarketWith) -> None:
    market = market_with({"controls": {"route_caps_shares": {"XQDA:rest": 0}}})
    assert Row(market, shares=50).send(50.0, XQDA_rest=1.0) == {}


def test_an_unknown_route_in_the_caps_is_refused(market_with: MarketWith) -> None:
    with pytest.raises(ValueError, match=r"route_caps_shares.*XQLA:tak"):
        market_with({"controls": {"route_caps_shares": {"XQLA:tak": 100}}})


def test_order_types_are_what_the_market_offers(base_market: Market) -> None:
    """House order: take, post, ping, rest, then MIC."""
    names: list[Any] = [r.name for r in base_market.routes]
    assert names[:4] == ["XQLA:take", "XQLB:take", "XQLC:take", "XQLA:post"]
    assert names[5:8] == ["XQLC:post", "XQDA:ping", "XQDB:ping"]
    assert names[-1] == "XQDD:rest" and len(names) == 14
