"""One decision and its record, from facts set by hand: prices, child orders, controls, reasons, alternatives."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glasspool.agents.runtime import E9, AdditiveRuntime
from glasspool.configs.errors import UserError
from glasspool.configs.loading import load_market
from glasspool.envs.features import FEATURES, GLOBAL_FEATURES, N_GLOBAL, N_ROUTE, ROUTE_FEATURES, observe
from glasspool.envs.market import Market, stream_key
from glasspool.envs.state import ORDER_TYPES
from glasspool.explain.canonical import canonical_bytes
from glasspool.explain.counterfactual import largest_orders
from glasspool.explain.decision import decide, decision_body
from glasspool.explain.facts import Facts, Limits, Parent
from glasspool.explain.lit_alternative import COST_PARTS, Costs, lit_alternative
from glasspool.explain.records import Fill, control_body, end_body, fill_body, parent_body, route_body, run_body
from glasspool.explain.release import split_shares
from glasspool.explain.what_if import with_left

ROUTES = ("XQLA:take", "XQLA:post", "XQDA:ping", "XQDA:rest", "XQDB:rest")
TAKE, POST, PING, REST, REST_B = range(5)
NAMES = ("pace", *ORDER_TYPES)
LIMITS = Limits(ROUTES, (500,) * 5, 10.0, 100, 3, 0.05, 500, 0.6, 0.05, False, True)
PARENT = Parent("P-7", "large", 1, 100_000, 10_000_000, 90, 10_000, 1_772_461_800_000_000_000)
ROOMY = dataclasses.replace(
    LIMITS, route_caps_shares=(5_000,) * 5, max_child_shares=5_000
)  # 35 lots, no cap in the way
COLUMN = {f.name: i for i, f in enumerate(GLOBAL_FEATURES)}
COLUMN_OF_MARKOUT = [f.name for f in ROUTE_FEATURES].index("markout_hs")


def runtime(
    pace: float = 0.0, take: float = 0.0, post: float = 0.0, ping: float = 0.0, rest: float = 0.0
) -> AdditiveRuntime:
    """Scores that are biases, so that a test sets them."""
    bias = np.rint(np.array([pace, take, post, ping, rest]) * E9).astype(np.int64)
    table = np.zeros((len(NAMES), len(FEATURES), 9), np.int64)
    return AdditiveRuntime(table, bias, np.array([1, 2, 3, 4, 4]), NAMES)


def facts(**changes: Any) -> Facts:
    values: dict[str, Any] = {
        "slot": 10, "remaining_shares": 89_000, "dark_shares": 2_000, "children_before": 12, "schedule_now_frac": 0.88,
        "schedule_next_frac": 0.87, "bid_e6": 100_010_000, "ask_e6": 100_030_000, "nbbo_moves_10s": 5,
        "vol_ratio": 0.92, "observation": (0.5,) * N_GLOBAL + (0.25,) * (5 * N_ROUTE), "masks": ("",) * 5,
        "p_fill_ppm": (1_000_000, 420_000, 180_000, 310_000, 20_000), "fee_e6": (3_000, -2_000, 1_000, 1_000, 800),
        "min_qty_shares": (0, 0, 0, 100, 5_000), "completing_route": TAKE,
    }  # fmt: skip
    return Facts(**({"measured": (values | changes)["observation"]} | values | changes))


def body(
    scorer: AdditiveRuntime, f: Facts, parent: Parent = PARENT, limits: Limits = LIMITS, top: str | None = None
) -> dict[str, Any]:
    decision = decide(scorer, limits, parent, f)
    made = decision_body(
        limits, parent, f, decision, scorer, policy_id="t-1", baseline={"top": top}, lit_alternative=None
    )
    canonical_bytes(made)  # no floats, no numpy scalars
    return made


# --- prices


def test_limits_are_the_touches_and_the_midpoint() -> None:
    f = facts()
    assert [f.limit_e6(r, 1) for r in ROUTES[:4]] == [100_030_000, 100_010_000, 100_020_000, 100_020_000]
    assert [f.limit_e6(r, -1) for r in ROUTES[:4]] == [100_010_000, 100_030_000, 100_020_000, 100_020_000]


def test_the_midpoint_of_one_tick_is_half_a_tick_and_rounds_passively_below_that() -> None:
    assert facts(ask_e6=100_020_000).limit_e6("XQDA:rest", 1) == 100_015_000
    odd = facts(bid_e6=1, ask_e6=2)
    assert (odd.mid_e6(1), odd.mid_e6(-1)) == (1, 2)  # a buy never pays more than the mid, a sell never gets less


# --- child orders


@pytest.mark.parametrize(
    ("total", "sizes"),
    [(0, []), (37, [37]), (500, [500]), (600, [300, 300]), (1_037, [400, 300, 337]), (1_499, [500, 500, 499])],
)
def test_a_route_is_split_evenly_in_lots_with_the_odd_lot_last(total: int, sizes: list[int]) -> None:
    assert split_shares(total, LIMITS) == sizes


@given(total=st.integers(0, 50_000), cap=st.integers(1, 5_000))
def test_a_split_keeps_all_shares_under_the_cap_and_one_odd_lot(total: int, cap: int) -> None:
    sizes = split_shares(total, dataclasses.replace(LIMITS, max_child_shares=cap))
    assert sum(sizes) == total
    assert all(0 < n <= cap for n in sizes)
    if cap >= 100:
        assert all(n % 100 == 0 for n in sizes[:-1])


def test_children_are_numbered_on_within_their_parent() -> None:
    released = body(runtime(pace=-2.2, take=1.0, post=1.0, rest=1.0), facts())["released"]
    assert [c["child_id"] for c in released] == [f"P-7-c{13 + i:05d}" for i in range(len(released))]
    assert len({c["route"] for c in released}) == 3


def test_the_pace_lies_in_its_band() -> None:
    """q = 89,000; target 87,000 after the slot; band 5,000 to each side."""
    pace = body(runtime(pace=0.0), facts())["candidates"][0]
    assert (pace["route"], pace["lo_shares"], pace["hi_shares"]) == ("pace", "0.0", "7000.0")
    assert pace["work_shares"] == "3500.000000"


def test_weights_are_the_softmax_in_ppm() -> None:
    made = body(runtime(take=1.0, post=1.0, ping=1.0, rest=1.0), facts(masks=("", "", "MASKED_TOXICITY", "", "")))
    weights = {c["route"]: c["weight_ppm"] for c in made["candidates"][1:]}
    assert weights == {
        "XQLA:take": 250_000,
        "XQLA:post": 250_000,
        "XQDA:ping": 0,
        "XQDA:rest": 250_000,
        "XQDB:rest": 250_000,
    }


def test_the_last_slot_takes_what_is_left_in_children_under_the_cap() -> None:
    made = body(runtime(rest=5.0), facts(slot=89, remaining_shares=1_037))
    assert [(c["route"], c["shares"], c["tif"]) for c in made["released"]] == [
        ("XQLA:take", 400, "IOC"), ("XQLA:take", 300, "IOC"), ("XQLA:take", 337, "IOC"),
    ]  # fmt: skip
    assert made["last_slot"] is True
    assert [r["code"] for r in made["reasons"]] == ["TIME_RUNNING_OUT"]
    assert made["controls"][0] == {"code": "TIME_RUNNING_OUT", "limit": 1_037, "seen": 0, "outcome": "complete"}


def test_a_child_over_the_cap_is_clipped_and_the_control_logged() -> None:
    made = body(runtime(pace=-2.6, rest=9.0), facts(masks=("", "", "", "", "MASKED_TOXICITY")))
    assert [(p["route"], p["shares"]) for p in made["proposed"]] == [("XQDA:rest", 500)]
    made = body(runtime(pace=0.0, rest=9.0), facts(masks=("", "", "", "", "MASKED_TOXICITY")))
    assert made["proposed"][0]["shares"] == 3_500
    assert {"code": "MAX_CHILD_SHARES", "route": "XQDA:rest", "limit": 500, "seen": 3_500, "outcome": "clip"} in made[
        "controls"
    ]
    assert [(c["route"], c["shares"]) for c in made["released"]] == [("XQDA:rest", 500)]


def test_dark_shares_over_the_parents_cap_are_clipped_and_the_control_logged() -> None:
    made = body(
        runtime(pace=0.0, rest=9.0), facts(dark_shares=59_750, remaining_shares=40_000, schedule_next_frac=0.38)
    )
    sent = sum(c["shares"] for c in made["released"])
    assert sent == 200  # 250 shares of room, in whole lots
    assert {(c["code"], c["limit"]) for c in made["controls"] if c["code"] == "MAX_DARK_FRAC"} == {
        ("MAX_DARK_FRAC", 250)
    }


def test_nothing_is_sent_when_every_route_is_masked() -> None:
    made = body(runtime(rest=1.0), facts(masks=("MASKED_HALT",) * 5))
    assert made["released"] == made["proposed"] == []
    assert made["sentence"] == "Send nothing: every route is masked (MASKED_HALT)."
    assert [(c["code"], c["outcome"]) for c in made["controls"]] == [("MASKED_HALT", "block")]
    assert made["margin_e9"] is None and made["against"] is None


def test_a_masked_route_has_no_score() -> None:
    candidate = body(runtime(ping=1.0), facts(masks=("", "", "MASKED_TOXICITY", "", "")))["candidates"][1 + PING]
    assert candidate["score_e9"] is None and "attr_e9" not in candidate
    assert candidate["masks"] == ["MASKED_TOXICITY"]


# --- why


def test_the_margins_are_over_the_second_route_and_over_the_best_lit_one() -> None:
    made = body(runtime(take=-1.0, post=0.25, ping=0.75, rest=1.0), facts(masks=("", "", "", "", "MASKED_LOCKED")))
    assert made["margin_e9"] == 250_000_000
    assert made["margin_lit_e9"] == 750_000_000
    assert made["against"] == "XQLA:post"


@pytest.mark.parametrize(
    ("top", "agrees"),
    [("XQDA:rest", "route"), ("XQDA:ping", "venue"), ("XQDB:rest", "type"), ("XQLA:take", "no"), (None, "no")],
)
def test_agreement_with_the_baseline_has_four_steps(top: str | None, agrees: str) -> None:
    made = body(runtime(rest=1.0), facts(masks=("", "", "", "", "MASKED_LOCKED")), top=top)
    assert made["agrees"] == agrees


def scorer_on(feature: str, kind: int, low: float, high: float, **biases: float) -> AdditiveRuntime:
    """Biases, and one function that runs linearly from `low` to `high` over its feature's range."""
    made = runtime(**biases)
    made.table_e9[kind, [f.name for f in FEATURES].index(feature)] = np.rint(np.linspace(low, high, 9) * E9)
    return made


def observed(**values: float) -> tuple[float, ...]:
    """Global features by name; `rest_<feature>` for those of XQDA:rest."""
    out = [0.5] * N_GLOBAL + [0.25] * (5 * N_ROUTE)
    route = {f.name: i for i, f in enumerate(ROUTE_FEATURES)}
    for name, value in values.items():
        at = COLUMN[name] if name in COLUMN else N_GLOBAL + REST * N_ROUTE + route[name.removeprefix("rest_")]
        out[at] = value
    return tuple(out)


@pytest.mark.parametrize(
    ("feature", "values", "changes", "code"),
    [
        ("gap_frac", {"gap_frac": 0.05}, {}, "BEHIND_SCHEDULE"),
        ("gap_frac", {"gap_frac": -0.05}, {}, "AHEAD_OF_SCHEDULE"),
        ("gap_frac", {"gap_frac": 0.0}, {}, "ON_SCHEDULE"),
        ("gap_frac", {"gap_frac": 0.05, "time_left_frac": 0.1}, {}, "TIME_RUNNING_OUT"),
        ("log_vol_ratio", {}, {"vol_ratio": 1.25}, "VOL_LOW_STABLE_NBBO"),
        ("log_vol_ratio", {}, {"vol_ratio": 1.26}, "VOL_MID"),
        ("log_vol_ratio", {}, {"vol_ratio": 2.01}, "VOL_HIGH"),
        ("log_vol_ratio", {}, {"nbbo_moves_10s": 30}, "VOL_HIGH"),
        ("log_vol_ratio", {}, {"vol_ratio": math.nan}, "VOL_NO_DATA"),
        ("log_spread_bps", {}, {}, "SPREAD_TIGHT_LIQUID"),
        ("log_spread_bps", {}, {"ask_e6": 100_110_000}, "SPREAD_MID"),
        ("log_spread_bps", {}, {"ask_e6": 100_310_000}, "SPREAD_WIDE_PI_LARGE"),
        ("log_pct_adv", {}, {}, "SIZE_PCT_ADV_MID"),
        ("imbalance_signed", {"imbalance_signed": 0.4}, {}, "SIGNAL_ADVERSE"),
        ("imbalance_signed", {"imbalance_signed": -0.4}, {}, "SIGNAL_FAVOURABLE"),
        ("markout_hs", {"rest_markout_hs": -0.15, "rest_log_evidence": 3.0}, {}, "VENUE_MARKOUT_OK"),
        ("markout_hs", {"rest_markout_hs": -0.6, "rest_log_evidence": 3.0}, {}, "VENUE_MIXED"),
        ("markout_hs", {"rest_markout_hs": -0.8, "rest_log_evidence": 3.0}, {}, "VENUE_QUALITY_POOR"),
        ("markout_hs", {"rest_markout_hs": -0.15, "rest_log_evidence": 1.0}, {}, "VENUE_SAMPLE_SMALL"),
        ("log_fill_rate", {}, {}, "VENUE_FILL_PROB_HIGH"),
        ("fee_hs", {}, {}, "VENUE_MIXED"),  # the post that it is held against earns a rebate
        ("visit_age", {}, {}, "VENUE_LAST_VISIT"),
    ],
)
def test_a_reason_names_the_feature_that_made_the_lead(
    feature: str, values: dict[str, float], changes: dict[str, Any], code: str
) -> None:
    """Only `feature` differs between the chosen rest and the post: it is the only reason, with all of the lead."""
    scorer = scorer_on(feature, 4, 1.0, 3.0, take=-5.0, ping=-5.0)
    made = body(scorer, facts(observation=observed(**values), masks=("", "", "", "", "MASKED_LOCKED"), **changes))
    assert [(r["code"], r["features"], r["attr_e9"]) for r in made["reasons"]] == [
        (code, [feature], made["margin_lit_e9"])
    ]


def test_reasons_and_biases_add_up_to_the_lead() -> None:
    rng = np.random.default_rng(5)
    scorer = runtime(rest=3.0)
    scorer.table_e9[:] = rng.integers(-(10**8), 10**8, scorer.table_e9.shape)
    f = facts(masks=("", "MASKED_CROSSED", "MASKED_LOCKED", "", "MASKED_LOCKED"))
    made = body(scorer, f)
    mine, theirs = made["candidates"][1 + REST], made["candidates"][1 + TAKE]
    gains = {k: v - theirs["feature_attr_e9"][k] for k, v in mine["feature_attr_e9"].items()}
    assert mine["bias_e9"] - theirs["bias_e9"] + sum(gains.values()) == made["margin_lit_e9"]
    for reason in made["reasons"]:
        assert reason["attr_e9"] == sum(gains[k] for k in reason["features"])
    assert [r["attr_e9"] for r in made["reasons"]] == sorted((r["attr_e9"] for r in made["reasons"]), reverse=True)


def test_what_spoke_against_is_told_by_the_same_groups() -> None:
    """Two size features net to one part; the fee and the fill rate stay apart; together with the biases: the lead."""
    scorer = runtime(rest=3.0, take=-9.0, ping=-9.0)
    parts = {"log_pct_adv": 0.5, "log_slice_lots": -0.7, "fee_hs": -0.4, "log_fill_rate": 1.0, "log_spread_bps": -0.1}
    for name, part in parts.items():
        scorer.table_e9[4, [f.name for f in FEATURES].index(name)] = round(part * E9)
    made = body(scorer, facts(masks=("", "", "", "", "MASKED_LOCKED")))
    assert [(r["features"], r["attr_e9"]) for r in made["reasons"]] == [(["log_fill_rate"], E9)]
    assert [(r["features"], r["attr_e9"]) for r in made["objections"]] == [
        (["fee_hs"], round(-0.4 * E9)), (["log_pct_adv", "log_slice_lots"], round(-0.2 * E9)),
    ]  # fmt: skip


def test_the_sentence_holds_the_logged_numbers() -> None:
    scorer = scorer_on("markout_hs", 4, 0.0, 3.5, pace=-2.3, post=1.0, take=-5.0, ping=-5.0)
    made = body(scorer, facts(
        observation=observed(rest_markout_hs=-0.15, rest_log_evidence=3.0), masks=("", "", "", "", "MASKED_LOCKED")
    ))  # fmt: skip
    shares = {c["route"]: c["shares"] for c in made["released"]}
    start = (
        f"Rest {shares['XQDA:rest']} of the {sum(shares.values())} shares sent now in XQDA ({shares['XQLA:post']} to "
        "XQLA:post): score 2.350 against 1.000 for XQLA:post, the best lit route"
    )
    assert (
        made["sentence"]
        == f"{start}; over XQLA:post: XQDA:rest 10 s markout -0.15 against +0.25 half spreads (- = adverse) (+2.350)."
    )


def test_the_lead_is_told_feature_by_feature() -> None:
    """Over the runner-up (a pool), over the best lit route, and over the route that the reasons are about."""
    rng = np.random.default_rng(6)
    scorer = runtime(rest=3.0, ping=2.0)
    scorer.table_e9[:] = rng.integers(-(10**8), 10**8, scorer.table_e9.shape)
    made = body(scorer, facts(observation=observed(rest_markout_hs=0.9)))
    by_name = {c["route"]: c for c in made["candidates"]}
    told = {what: m for m in made["margins"] for what in m["is"]}
    assert set(told) == {"runner_up", "best_lit", "against"} and len(made["margins"]) == 2
    assert told["runner_up"]["margin_e9"] == made["margin_e9"]
    assert told["best_lit"]["margin_e9"] == made["margin_lit_e9"]
    assert told["against"]["over"] == made["against"]
    chosen = max(made["candidates"][1:], key=lambda c: c["score_e9"])
    for m in made["margins"]:
        for parts in ("feature_attr_e9", "attr_e9"):
            assert m["bias_e9"] + sum(m[parts].values()) + m["residual_e9"] == m["margin_e9"]
        theirs = by_name[m["over"]]
        assert m["margin_e9"] == chosen["score_e9"] - theirs["score_e9"]
        for name, value in m["feature_attr_e9"].items():
            assert value == chosen["feature_attr_e9"][name] - theirs["feature_attr_e9"][name]


def test_the_counterfactual_is_where_lit_gets_the_largest_order() -> None:
    """rest scores markout + 2.5 (0 at -2.5, 3.5 at 1), the post 1.4: equal at -1.1, where the odd lot changes sides."""
    scorer = scorer_on("markout_hs", 4, 0.0, 3.5, post=1.4, take=-5.0, ping=-5.0)
    masks = ("", "", "", "", "MASKED_LOCKED")
    made = body(
        scorer, facts(observation=observed(rest_markout_hs=-0.15, rest_log_evidence=2.0), masks=masks), limits=ROOMY
    )
    (flip,) = made["flips"]
    assert made["counterfactual"] == (
        "the largest order would have gone lit, to XQLA:post, if XQDA:rest's measured 10 s markout had been "
        f"{flip['value']} half spreads instead of -0.15 (sent would have been 1,800 to XQLA:post, 1,700 to XQDA:rest)"
    )
    assert float(flip["value"]) == pytest.approx(-1.1, abs=1e-3)
    for value, post in ((flip["value"], 1_800), (flip["before"], 1_700)):
        f = facts(observation=observed(rest_markout_hs=float(value), rest_log_evidence=2.0), masks=masks)
        assert decide(scorer, ROOMY, PARENT, f).released[POST] == post


def test_a_prior_is_not_told_as_measured() -> None:
    scorer = scorer_on("markout_hs", 4, 0.0, 3.5, post=1.4, take=-5.0, ping=-5.0)
    made = body(
        scorer,
        facts(
            observation=observed(rest_markout_hs=-0.15, rest_log_evidence=0.0), masks=("", "", "", "", "MASKED_LOCKED")
        ),
        limits=ROOMY,
    )
    assert "XQDA:rest's assumed (nothing has filled there yet) 10 s markout had been" in made["counterfactual"]


def test_of_a_decision_to_send_nothing_it_is_what_would_have_sent_something() -> None:
    """The pace is so low that no lot is due, until volatility lifts it or the band begins at half a lot: 5,000 over the
    87,000 that the schedule leaves, and 50."""
    scorer = scorer_on("log_vol_ratio", 0, -12.0, 6.0, post=1.0)
    made = body(scorer, facts(observation=observed(log_vol_ratio=-1.5)))
    assert made["released"] == []
    assert [(f["to"], f["lever"]) for f in made["flips"]] == [
        ("sent", "remaining_shares"),
        ("sent", "volatility_ratio"),
    ]
    behind, wild = made["counterfactual"].split("; ")
    assert behind.startswith("something would have been sent if 92050 shares had been left to do instead of 89000 (")
    assert wild.startswith("something would have been sent if volatility had been ")
    assert all(flip["orders"] for flip in made["flips"])


def test_a_lit_decision_says_what_would_have_sent_it_dark() -> None:
    """The ping gains 1 over the spread's range of 2 in log10 from 0 at 1 bp, the post has 0.5: 10 bps turns it."""
    scorer = scorer_on("log_spread_bps", 3, 0.0, 1.0, post=0.5, take=-5.0, rest=-5.0)
    flip = body(scorer, facts(observation=observed(log_spread_bps=0.2)), limits=ROOMY)["flips"][0]
    assert (flip["to"], flip["lever"], flip["leader"]) == ("dark", "spread_bps", "XQDA:ping")
    assert float(flip["value"]) == pytest.approx(10.0, abs=0.02)
    assert flip["distance_ppm"] == pytest.approx(4e5, abs=500)


def test_a_counterfactual_tells_the_orders_that_would_have_been_sent() -> None:
    """The post leads the ping by 8 scores until the spread is wide, where the ping jumps to 8 more than the post."""
    scorer = scorer_on("log_spread_bps", 3, -8.0, 8.0, post=0.0, take=-20.0, rest=-20.0)
    scorer.table_e9[3, COLUMN["log_spread_bps"]] = np.rint(np.where(np.arange(9) < 8, -8.0, 8.0) * E9)
    made = body(scorer, facts(observation=observed(log_spread_bps=0.2)), limits=ROOMY)
    sent = {r["route"]: r["shares"] for r in made["released"]}
    then = made["flips"][0]["orders"]
    assert sent == {"XQLA:post": 3_500}
    assert then == {"XQLA:post": 1_700, "XQDA:ping": 1_800}  # where they cross, half each but for the odd lot
    told = ", ".join(f"{n:,} to {route}" for route, n in then.items())
    assert made["counterfactual"].endswith(f" (sent would have been {told})")


def test_nothing_sends_dark_what_the_dark_cap_has_no_room_for() -> None:
    """60,000 of 100,000 may go dark: with 59,901 filled no lot fits, with 59,900 the one lot that is worked does."""
    scorer = scorer_on("log_spread_bps", 3, 0.0, 1.0, pace=-4.0, post=0.5, take=-5.0, rest=-5.0)
    for filled, told in ((59_901, False), (59_900, True)):
        f = facts(observation=observed(log_spread_bps=0.2), dark_shares=filled, remaining_shares=40_000,
                  schedule_next_frac=0.38)  # fmt: skip
        made = body(scorer, f, limits=ROOMY)
        assert [r["shares"] for r in made["released"]] == [100]
        assert ("dark" in [flip["to"] for flip in made["flips"]]) is told


def test_the_nearest_of_several_turns_is_told() -> None:
    """Volatility turns the rest at a quarter of its range away, its markout at half of its own."""
    scorer = scorer_on("log_vol_ratio", 4, 2.0, -2.0, post=0.0, take=-5.0, ping=-5.0)
    scorer.table_e9[4, N_GLOBAL + COLUMN_OF_MARKOUT] = np.rint(np.linspace(-1.0, 1.0, 9) * E9)
    masks = ("", "", "", "", "MASKED_LOCKED")
    seen = observed(log_vol_ratio=-1.0, rest_markout_hs=-0.75)
    made = body(scorer, facts(observation=seen, masks=masks), limits=ROOMY)
    (flip,) = made["flips"]
    assert flip["lever"] == "volatility_ratio"
    assert float(flip["value"]) == pytest.approx(1.0, abs=2e-3)
    assert f"if volatility had been {flip['value']} x normal instead of 0.5 (" in made["counterfactual"]


def test_a_route_of_the_other_kind_that_leads_first_is_not_stepped_over() -> None:
    """Nothing of the pool itself turns the decision; as the post's fill rate falls the rest leads (2.0) before the take
    does (1.5): at 10^-1."""
    scorer = scorer_on("log_fill_rate", 2, 0.0, 3.0, take=1.5, ping=-9.0, rest=2.0)
    flip = body(scorer, facts(observation=observed()), limits=ROOMY)["flips"][0]
    assert (flip["to"], flip["leader"], flip["lever"], flip["route"]) == (
        "dark", "XQDA:rest", "fill_rate_frac", "XQLA:post",
    )  # fmt: skip
    assert float(flip["value"]) == pytest.approx(0.1, rel=2e-3)


def test_where_nothing_crosses_from_lit_to_dark_the_turn_is_to_the_next_route() -> None:
    """The post scores its fill rate's 0 to 3, the take 1.5: they meet in the middle of the range, at 10^-1.5."""
    scorer = scorer_on("log_fill_rate", 2, 0.0, 3.0, take=1.5, ping=-9.0, rest=-9.0)
    seen = list(observed())
    seen[N_GLOBAL + POST * N_ROUTE + [f.name for f in ROUTE_FEATURES].index("log_fill_rate")] = -0.5
    f = facts(masks=("", "", *("MASKED_LOCKED",) * 3), observation=tuple(seen))
    made = body(scorer, f, limits=ROOMY)
    (flip,) = made["flips"]
    assert (flip["to"], flip["lever"], flip["leader"]) == ("other", "fill_rate_frac", "XQLA:take")
    assert float(flip["value"]) == pytest.approx(10**-1.5, rel=1e-3)
    assert made["counterfactual"].startswith("the largest order would have gone to XQLA:take if XQLA:post's ")


def test_a_turn_between_two_knots_is_not_stepped_over() -> None:
    """The own two pools cross between knots, and only there the post leads both."""
    scorer = scorer_on("markout_hs", 4, 0.0, 0.0, post=0.95, take=-9.0, ping=-9.0)
    narrow = np.array([3.0, 3.0, 3.0, 3.0, 0.9, 3.0, 3.0, 3.0, 3.0])
    scorer.table_e9[4, [f.name for f in FEATURES].index("log_vol_ratio")] = np.rint(narrow * E9)
    masks = ("", "", "", "", "MASKED_LOCKED")
    flip = body(scorer, facts(observation=observed(log_vol_ratio=1.5), masks=masks), limits=ROOMY)["flips"][0]
    # 0.5 from knot to knot, 2.1 down: the post's 0.95 is reached 0.05 / 2.1 x 0.5 before the knot at 0
    assert float(flip["value"]) == pytest.approx(2 ** (0.05 / 2.1 * 0.5), abs=0.001)


def test_a_turn_within_lit_is_told_with_the_nearest_to_dark() -> None:
    """The post scores its fill rate's 0 to 3 and stands at 2.5 (10^-0.5): the take leads below 2 (10^-1); the
    rest has 1 and gains 3 over the spread's range of 2 in log10: 2.5 at 10 bps."""
    scorer = scorer_on("log_fill_rate", 2, 0.0, 3.0, take=2.0, ping=-9.0, rest=1.0)
    scorer.table_e9[4, [f.name for f in FEATURES].index("log_spread_bps")] = np.rint(np.linspace(0.0, 3.0, 9) * E9)
    seen = list(observed(log_spread_bps=0.0))
    seen[N_GLOBAL + POST * N_ROUTE + [f.name for f in ROUTE_FEATURES].index("log_fill_rate")] = -0.5
    made = body(scorer, facts(masks=("", "", "", "", "MASKED_LOCKED"), observation=tuple(seen)), limits=ROOMY)
    near, far = made["flips"]
    assert (near["to"], near["leader"], near["lever"], near["route"]) == (
        "other", "XQLA:take", "fill_rate_frac", "XQLA:post",
    )  # fmt: skip
    assert float(near["value"]) == pytest.approx(0.1, rel=0.1)  # a lot more than the post's, not a score
    assert (far["to"], far["leader"], far["lever"]) == ("dark", "XQDA:rest", "spread_bps")
    assert float(far["value"]) == pytest.approx(10.0, rel=0.1) and far["distance_ppm"] > near["distance_ppm"]
    one, two = made["counterfactual"].split("; ")
    assert one.startswith("the largest order would have gone to XQLA:take if")
    assert two.startswith("the largest order would have gone dark, to XQDA:rest, if the spread")


def test_of_nothing_sent_the_shares_left_that_would_have_sent_a_lot_are_told() -> None:
    """Half of a band from 0 to q - 81,900 shares is asked for: half a lot, 50, from q = 82,000 on."""
    f = facts(remaining_shares=81_930, schedule_next_frac=0.869)
    made = body(runtime(post=1.0), f)
    assert made["released"] == []
    (flip,) = made["flips"]
    assert (flip["to"], flip["lever"], flip["now"], flip["value"], flip["before"]) == (
        "sent", "remaining_shares", "81930", "82000", "81999",
    )  # fmt: skip
    assert made["counterfactual"] == (
        "something would have been sent if 82000 shares had been left to do instead of 81930 "
        "(sent would have been 100 to XQLA:post)"
    )
    for left, sent in ((82_000, 100), (81_999, 0)):
        assert decide(runtime(post=1.0), LIMITS, PARENT, with_left(PARENT, f, left)).released.sum() == sent


def test_another_number_of_shares_left_moves_what_the_environment_would_show() -> None:
    """The three schedule features as `envs.features` computes them, at what the market itself shows."""
    market = Market(load_market("base"))
    b, obs = market.batch(1)
    market.reset(stream_key(3, "test"), [0], [0], b, obs)
    ordered, row = int(b.episode["shares"][0]), b.tape[0, 0]
    here = facts(
        observation=tuple(obs[0].tolist()),
        schedule_now_frac=float(row["schedule_now"]),
        schedule_next_frac=float(row["schedule_next"]),
    )
    parent = dataclasses.replace(PARENT, ordered_shares=ordered)
    for left in (ordered // 2, ordered - 1):
        b.order["remaining_shares"][0] = left
        observe(market.rules, b, 0, obs[0])
        assert with_left(parent, here, left).observation == tuple(obs[0].tolist())


def test_no_turn_is_told_where_the_fallback_would_decide() -> None:
    """At 10 bps the ping leads: told while the policy decides there, and not where training never saw such a spread."""
    scorer, f = scorer_on("log_spread_bps", 3, 0.0, 1.0, post=0.5, take=-5.0, rest=-5.0), observed(log_spread_bps=0.2)
    d = decide(scorer, ROOMY, PARENT, facts(observation=f))
    for most, told in ((1.1, ["dark"]), (0.9, [])):
        made = decision_body(
            ROOMY, PARENT, facts(observation=f), d, scorer, policy_id="t-1", baseline={}, lit_alternative=None,
            admits=lambda measured, most=most: measured[:, COLUMN["log_spread_bps"]] <= most,
        )  # fmt: skip
        assert [flip["to"] for flip in made["flips"]] == told


def test_a_turn_starts_from_what_was_measured() -> None:
    """The feature ends at 2 (100 bps), the spread was 10^2.1 = 125.9: that is what it is told instead of."""
    scorer = scorer_on("log_spread_bps", 3, 0.0, 1.0, post=0.5, take=-5.0, rest=-5.0)
    seen = observed(log_spread_bps=2.0)
    (flip,) = body(scorer, facts(observation=seen, measured=observed(log_spread_bps=2.1)), limits=ROOMY)["flips"]
    assert (flip["to"], flip["now"]) == ("lit", "125.893")
    assert float(flip["value"]) == pytest.approx(10.0, rel=0.01)


def test_a_tie_turns_nothing() -> None:
    """Where two others are equal, none has the largest order; of nothing sent the higher score leads."""
    scores = np.array([[3, 2, 1]])
    for released, chosen, leader in (
        ([1, 1, 0], 0, 0), ([0, 1, 1], 0, 0), ([0, 1, 1], None, 1), ([1, 2, 0], 0, 1), ([0, 0, 0], 0, -1),
    ):  # fmt: skip
        assert largest_orders(np.array([released]), scores, chosen).tolist() == [leader]


def test_there_is_no_counterfactual_where_nothing_turns_the_lead() -> None:
    scorer = scorer_on("markout_hs", 4, 0.0, 3.5, post=-1.0, take=-5.0, ping=-5.0)
    for made in (
        body(scorer, facts(masks=("", "", "", "", "MASKED_LOCKED"))), body(runtime(take=1.0), facts()),
        body(runtime(take=1.0), facts(masks=("", "", *("MASKED_LOCKED",) * 3))),
        body(runtime(rest=1.0), facts(masks=("MASKED_HALT",) * 5)),
    ):  # fmt: skip
        assert made["counterfactual"] is None and made["flips"] == []


# --- what lit would have cost


COSTS = Costs(10_000, 1e8, 1.0, (0.0, -1.25, -0.5, -0.15, 0.2), 10.0, 0.6, 10_000.0, 1e-4, 2e-5, 0.4)


def test_lit_alternative_parts_add_up_and_dark_prints_weigh_less() -> None:
    lit = lit_alternative(LIMITS, facts(remaining_shares=50_200), COSTS, np.array([100, 200, 0, 200, 0]))
    assert lit is not None and (lit["shares"], lit["basis"]) == (200, "model")
    for way in ("dark", "take", "post"):
        assert sum(lit[way][part] for part in COST_PARTS) == lit[way]["cost_e6"]
    assert (lit["dark"]["spread_e6"], lit["take"]["spread_e6"], lit["post"]["spread_e6"]) == (0, 10_000, -10_000)
    assert lit["dark"]["adverse_e6"] == 1_500  # markout -0.15 half spreads of 1 bp at $100
    # own mark 1e-4 x 200 + trace 2e-5 x 50,000 = 1.02 bps = $0.0102
    assert (lit["take"]["impact_e6"], lit["dark"]["impact_e6"]) == (10_200, 4_080)
    assert lit["take"]["instant_e6"] == round(1e4 * 10.0 * 0.02**0.6)


def test_lit_alternative_of_two_pools_is_their_weighted_mean_and_of_none_nothing() -> None:
    lit = lit_alternative(LIMITS, facts(), COSTS, np.array([0, 0, 0, 100, 300]))
    assert lit is not None and lit["dark"]["route"] == "XQDA:rest+XQDB:rest"
    assert lit["dark"]["adverse_e6"] == round((1_500 - 3 * 2_000) / 4)
    assert sum(lit["dark"][part] for part in COST_PARTS) == lit["dark"]["cost_e6"]
    assert lit_alternative(LIMITS, facts(), COSTS, np.array([100, 200, 0, 0, 0])) is None


# --- the other records


def test_an_unknown_run_fact_is_refused_and_a_missing_one_is_null() -> None:
    with pytest.raises(UserError, match=r"unknown fact 'policy_sha'.*policy_sha256"):
        run_body(LIMITS, "t-1", {"policy_sha": "x"}, "clock")
    made = run_body(LIMITS, "t-1", {}, "clock")
    assert made["code_commit"] is None and made["stage"] == "eval" and made["simulated"] is True


def test_a_parent_says_side_size_and_times() -> None:
    made = parent_body(LIMITS, PARENT, facts())
    assert (made["side"], made["pct_adv"], made["decision_price_e6"]) == ("buy", "1.0", 100_020_000)
    assert int(made["end_ns"]) - int(made["start_ns"]) == 900 * 10**9


@pytest.mark.parametrize(
    ("route", "inside", "liquidity", "event"),
    [("XQLA:take", False, 2, "expire"), ("XQLA:post", True, 1, "MECR"), ("XQDA:ping", False, 2, "expire"),
     ("XQDA:rest", False, 2, "MECR"), ("XQDA:rest", True, 1, "MECR")],
)  # fmt: skip
def test_liquidity_and_the_end_of_a_child_follow_its_order_type(
    route: str, inside: bool, liquidity: int, event: str
) -> None:
    child = decide(runtime(), LIMITS, PARENT, facts(slot=89)).children[0]
    routed = route_body(PARENT, facts(), "P-7-0089", child, route, 5)
    fill = Fill("x", child.child_id, route, 100, inside, 9, 1, 2, 3, 4, (5, 6))
    assert fill_body(fill, routed)["liquidity"] == liquidity
    assert (end_body(routed, 30)["event"], end_body(routed, 30)["leaves_shares"]) == (event, 30)


def test_a_control_record_repeats_the_intervention() -> None:
    control = {"code": "MAX_DARK_FRAC", "route": "XQDA:rest", "limit": 250, "seen": 500, "outcome": "clip"}
    made = control_body("P-7-0010", control)
    assert (made["action"], made["code"], made["limit"], made["seen"]) == ("clip", "MAX_DARK_FRAC", 250, 500)
