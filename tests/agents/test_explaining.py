"""A real log of a real market: what it says is what was done, it adds up, and it can be decided again."""

from __future__ import annotations

import copy
import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from glasspool.agents.additive import route_kinds
from glasspool.agents.bundle import Bundle
from glasspool.agents.evaluation import run_router
from glasspool.agents.explaining import write_decision_log
from glasspool.agents.fallback import FeatureRanges
from glasspool.agents.log_accounts import Inconsistent, check_features
from glasspool.agents.outcomes import deal
from glasspool.agents.redecision import Redecider
from glasspool.agents.router import RandomRouter, ScoreRouter
from glasspool.agents.runtime import AdditiveRuntime
from glasspool.configs.errors import UserError
from glasspool.configs.experiment import ExperimentConfig
from glasspool.configs.loading import load_market
from glasspool.envs.features import FEATURES, N_GLOBAL, N_ROUTE
from glasspool.envs.market import Market
from glasspool.explain.decision_log import DecisionLog, read_log
from glasspool.explain.lit_alternative import COST_PARTS
from glasspool.explain.release import Child
from glasspool.explain.verification import verify_log
from glasspool.explain.what_if import LEVERS

Records = list[dict[str, Any]]
MarketWith = Callable[..., Market]
ORDERS = 3


def random_runtime(market: Market, seed: int = 1) -> AdditiveRuntime:
    """Functions drawn at random, small enough that every order type is used."""
    kind, names = route_kinds(market.rules.route_type, True)
    rng = np.random.default_rng(seed)
    table = rng.integers(-5 * 10**8, 5 * 10**8, (len(names), len(FEATURES), 9))
    return AdditiveRuntime(table, rng.integers(-(10**9), 10**9, len(names)), kind, tuple(names))


def bundle_of(market: Market, runtime: AdditiveRuntime) -> Bundle:
    config = ExperimentConfig(name="t", market=market.config)
    return Bundle(runtime, config, {"files": {"policy.json": "0" * 64}}, "t-s1", FeatureRanges.unlimited())


@pytest.fixture(scope="module")
def market() -> Market:
    return Market(load_market("base", ["orders.horizon_minutes={15: 1.0}"]))


@pytest.fixture(scope="module")
def runtime(market: Market) -> AdditiveRuntime:
    return random_runtime(market)


@pytest.fixture(scope="module")
def log(market: Market, runtime: AdditiveRuntime, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("log") / "decisions.jsonl"
    counts = write_decision_log(
        market, runtime, path, orders=ORDERS, seed=1, stream="test", policy_id="t-s1",
        run_facts={"policy_sha256": "0" * 64},
    )  # fmt: skip
    assert counts["records"] == len(list(read_log(path)))
    return path


@pytest.fixture(scope="module")
def records(log: Path) -> Records:
    return list(read_log(log))


def bodies(records: Records, kind: str) -> Records:
    return [r["body"] for r in records if r["type"] == kind]


# --- what it says is what was done


def test_the_logged_orders_are_the_ones_that_evaluation_works(
    market: Market, runtime: AdditiveRuntime, records: Records
) -> None:
    """Also shows that running slots again with the shares lit leaves no trace."""
    result = run_router(market, ScoreRouter(runtime), ORDERS, 1, "test")
    kinds = {e["child_id"]: e["order_type"] for e in bodies(records, "route_event")}
    parents = {c["child_id"]: d["parent_id"] for d in bodies(records, "decision") for c in d["released"]}
    filled: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for fill in bodies(records, "fill"):
        kind = kinds[fill["child_id"]]
        filled[parents[fill["child_id"]]][kind if kind in ("take", "post") else "dark"] += fill["shares"]
    for i in range(ORDERS):
        expected = np.rint(result.kind_frac[i] * result.shares[i]).astype(int)
        assert [filled[f"P-{i}"][k] for k in ("take", "post", "dark")] == expected.tolist()


def test_every_child_ends_and_every_share_is_accounted_for(records: Records) -> None:
    events = bodies(records, "route_event")
    filled: dict[str, int] = defaultdict(int)
    for fill in bodies(records, "fill"):
        filled[fill["child_id"]] += fill["shares"]
    left = {e["child_id"]: e["leaves_shares"] for e in events if e["event"] != "MEOR"}
    sent = {e["child_id"]: e["shares"] for e in events if e["event"] == "MEOR"}
    released = {c["child_id"]: c["shares"] for d in bodies(records, "decision") for c in d["released"]}
    assert sent == released
    assert all(filled[child] + left.get(child, 0) == shares for child, shares in sent.items())


def test_an_ioc_expires_at_once_and_a_day_order_is_cancelled_at_the_slots_end(records: Records) -> None:
    ended = [r for r in records if r["type"] == "route_event" and r["body"]["event"] != "MEOR"]
    waits = {(e["body"]["event"], int(e["ts_ns"]) - int(e["body"]["recv"]["ts_ns"])) for e in ended}
    assert waits == {("expire", 0), ("MECR", 10 * 10**9)}


def test_fills_of_a_route_go_to_its_children_in_order_and_fill_none_twice() -> None:
    first, other, second = Child("c1", 3, 100), Child("c2", 5, 100), Child("c3", 3, 100)
    left = {"c1": 100, "c2": 100, "c3": 100}
    assert deal((first, other, second), 3, 60, left) == [(first, 60)]  # at the slot's start
    assert deal((first, other, second), 3, 90, left) == [(first, 40), (second, 50)]  # inside the slot
    assert left == {"c1": 0, "c2": 100, "c3": 50}


def test_orders_complete_at_prices_that_cost_what_the_market_says(
    market: Market, runtime: AdditiveRuntime, records: Records
) -> None:
    """Average price against arrival, fees in, is the simulator's arrival cost, but for a tick."""
    result = run_router(market, ScoreRouter(runtime), ORDERS, 1, "test")
    parents = {c["child_id"]: d["parent_id"] for d in bodies(records, "decision") for c in d["released"]}
    for i, parent in enumerate(bodies(records, "parent")):
        fills = [f for f in bodies(records, "fill") if parents[f["child_id"]] == parent["parent_id"]]
        shares = sum(f["shares"] for f in fills)
        assert shares == parent["ordered_shares"]
        side = 1 if parent["side"] == "buy" else -1
        arrival = (parent["arrival"]["bid_e6"] + parent["arrival"]["ask_e6"]) / 2
        paid = sum(f["shares"] * (side * (f["price_e6"] - arrival) + f["fee_e6"]) for f in fills) / shares
        tick_bps = 1e4 * parent["tick_e6"] / arrival  # the quote that is shown lies on ticks, the model's mid need not
        assert abs(1e4 * paid / arrival - result.arrival_bps[i]) < tick_bps


def test_dark_fills_print_at_the_midpoint_of_their_quote(records: Records) -> None:
    dark = [f for f in bodies(records, "fill") if f["mic"].startswith("XQD")]
    assert len(dark) > 10
    for fill in dark:
        assert abs(2 * fill["price_e6"] - fill["exec"]["bid_e6"] - fill["exec"]["ask_e6"]) <= 2  # 1e-6 dollars


def test_limits_lie_on_ticks_and_dark_ones_on_half_ticks(records: Records) -> None:
    ticks = {p["parent_id"]: p["tick_e6"] for p in bodies(records, "parent")}
    for decision in bodies(records, "decision"):
        for child in decision["released"]:
            dark = child["route"].startswith("XQD")
            assert 2 * child["limit_e6"] % ticks[decision["parent_id"]] == 0
            assert dark or child["limit_e6"] % ticks[decision["parent_id"]] == 0
            assert child["tif"] == ("IOC" if child["route"].endswith((":take", ":ping")) else "DAY")


def test_records_stand_in_time_order_and_in_slot_fills_inside_their_slot(records: Records) -> None:
    times = [int(r["ts_ns"]) for r in records]
    assert times == sorted(times)
    routed = {e["child_id"]: int(e["recv"]["ts_ns"]) for e in bodies(records, "route_event")}
    waits = [int(r["ts_ns"]) - routed[r["body"]["child_id"]] for r in records if r["type"] == "fill"]
    assert min(waits) == 0 and 0 < max(waits) < 10 * 10**9


def test_every_fill_and_every_empty_child_has_its_markouts(records: Records) -> None:
    fills, marks = bodies(records, "fill"), bodies(records, "markout")
    filled = {f["child_id"] for f in fills}
    empty = {c["child_id"] for d in bodies(records, "decision") for c in d["released"]} - filled
    for key, names in (("exec_id", {f["exec_id"] for f in fills}), ("child_id", empty)):
        for horizon in ("50ms", "1s", "10s", "15s", "1m", "5m"):
            assert {m[key] for m in marks if key in m and m["horizon"] == horizon} == names


# --- it adds up


def test_attributions_add_up_in_every_record(records: Records) -> None:
    scored = [c for d in bodies(records, "decision") for c in d["candidates"] if c["score_e9"] is not None]
    assert len(scored) > 1_000
    for c in scored:
        assert c["bias_e9"] + sum(c["feature_attr_e9"].values()) + c["residual_e9"] == c["score_e9"]
        assert c["bias_e9"] + sum(c["attr_e9"].values()) == c["score_e9"]


def test_lit_alternatives_add_up_and_each_has_its_outcome(records: Records) -> None:
    lit = {d["decision_id"]: d["lit_alternative"] for d in bodies(records, "decision") if d["lit_alternative"]}
    assert len(lit) > 20
    for alternative in lit.values():
        for way in ("dark", "take", "post"):
            assert sum(alternative[way][part] for part in COST_PARTS) == alternative[way]["cost_e6"]
    outcomes = {o["decision_id"]: o for o in bodies(records, "lit_outcome")}
    assert outcomes.keys() == lit.keys()
    for name, outcome in outcomes.items():
        assert outcome["take"]["filled_shares"] == lit[name]["shares"]  # a take always fills
        assert 0 <= outcome["post"]["filled_shares"] <= lit[name]["shares"]
        assert (outcome["dark"]["cost_e6"] is None) == (outcome["dark"]["filled_shares"] == 0)


def test_a_disagreement_with_the_baseline_is_worth_what_its_costs_say(records: Records) -> None:
    """Only where another set of shares was sent; the same fills at the same cost are worth nothing."""
    decisions = {d["decision_id"]: d for d in bodies(records, "decision")}
    outcomes = bodies(records, "baseline_outcome")
    assert 50 < len(outcomes) < len(decisions)
    for o in outcomes:
        sent: dict[str, int] = defaultdict(int)
        for child in decisions[o["decision_id"]]["released"]:
            sent[child["route"]] += child["shares"]
        assert o["policy"]["sent"] == sent != o["baseline"]["sent"]
        most = max(o[way]["filled_shares"] for way in ("policy", "baseline"))
        cost = {
            way: o[way]["filled_shares"] * (o[way]["cost_e6"] or 0) + (most - o[way]["filled_shares"]) * o["later_e6"]
            for way in ("policy", "baseline")
        }
        assert o["worth_e6"] == cost["baseline"] - cost["policy"]
    assert {o["worth_e6"] > 0 for o in outcomes} == {True, False}


def test_the_baseline_tells_rule_votes_and_words(records: Records) -> None:
    rules = set()
    for d in bodies(records, "decision"):
        baseline = d["baseline"]
        rules.add(baseline["rule"])
        assert set(baseline["venue_votes"]) == {"XQDA", "XQDB", "XQDC", "XQDD"}
        if baseline["rule"] == "BEST_VENUE":
            assert baseline["votes"] == sum(baseline["factor_votes"].values()) >= 1
        assert baseline["reasons"] and 3 <= len(baseline["justification"]) <= 4
    assert {"BEST_VENUE", "TIME_RUNNING_OUT"} <= rules


def test_the_table_has_a_row_a_candidate_and_the_same_numbers(log: Path, records: Records, market: Market) -> None:
    table = pq.read_table(log.with_suffix(".parquet")).to_pylist()
    decisions = bodies(records, "decision")
    assert len(table) == len(decisions) * (1 + len(market.routes))
    for row in table:
        if row["score_e9"] is not None:
            parts = [row[f"{f.name}_attr_e9"] or 0 for f in FEATURES]
            assert row["bias_e9"] + sum(parts) == row["score_e9"]
    routes = [r for r in table if r["route"] != "pace"]
    assert sum(r["released_shares"] for r in routes) == sum(c["shares"] for d in decisions for c in d["released"])
    assert sum(r["filled_shares"] for r in routes) == sum(f["shares"] for f in bodies(records, "fill"))


def test_the_seed_order_goes_out_in_children_of_100_to_500_shares(tmp_path: Path) -> None:
    market = Market(load_market("seed_order", ["orders.horizon_minutes={15: 1.0}", "orders.shares=40037"]))
    path = tmp_path / "decisions.jsonl"
    write_decision_log(market, random_runtime(market, 2), path, orders=1, seed=1, stream="test", policy_id="t-s1")
    children = [c for d in bodies(list(read_log(path)), "decision") for c in d["released"]]
    assert [c["child_id"] for c in children] == [f"P-0-c{i + 1:05d}" for i in range(len(children))]
    assert all(100 <= c["shares"] <= 500 for c in children)
    assert len(children) > 90


def test_one_log_is_written_like_another(market: Market, runtime: AdditiveRuntime, log: Path, tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    write_decision_log(
        market,
        runtime,
        path,
        orders=ORDERS,
        seed=1,
        stream="test",
        policy_id="t-s1",
        run_facts={"policy_sha256": "0" * 64},
    )
    assert path.read_bytes() == log.read_bytes()


# --- counterfactuals


def test_every_stated_counterfactual_turns_the_decision_and_a_step_nearer_does_not(
    market: Market, runtime: AdditiveRuntime, records: Records, tmp_path: Path
) -> None:
    """On every decision of two policies' logs, deciding again with the one quantity changed (not by scores alone)."""
    other = random_runtime(market, 4)  # one that turns on a markout too
    path = tmp_path / "decisions.jsonl"
    write_decision_log(
        market, other, path, orders=1, seed=1, stream="test", policy_id="t-s1", run_facts={"policy_sha256": "0" * 64}
    )
    levers, told = set(), 0
    for policy, of_policy in ((runtime, records), (other, list(read_log(path)))):
        redecider = Redecider(bundle_of(market, policy))
        for record in of_policy:
            body = record["body"]
            if record["type"] in ("run", "parent"):
                assert redecider(record) is None
            for flip in body.get("flips", []):
                here = {"lit": "dark", "dark": "lit", "other": "same", "sent": None}[flip["to"]]
                assert redecider.turned(body, flip, flip["value"]) == flip["to"]
                assert redecider.turned(body, flip, flip["before"]) == here
                assert flip["value"] in body["counterfactual"]
                assert flip["leader"] in body["counterfactual"]
                sent = Counter({c["route"]: 0 for c in body["released"]})
                for child in body["released"]:
                    sent[child["route"]] += child["shares"]
                assert flip["orders"] != dict(sent)
                assert flip["orders"][flip["leader"]] == max(flip["orders"].values())
                levers.add((flip["lever"], flip["to"]))
                told += 1
    assert told > 150
    assert len({lever for lever, _ in levers}) >= len(LEVERS) - 1  # which is nearest is the policy's affair
    assert {"lit", "dark", "other"} <= {to for _, to in levers}


# --- refusals


def test_what_cannot_be_explained_is_refused_and_nothing_is_left_behind(
    market: Market, runtime: AdditiveRuntime, tmp_path: Path
) -> None:
    path = tmp_path / "decisions.jsonl"
    few = AdditiveRuntime(runtime.table_e9, runtime.bias_e9, runtime.kind[:3], runtime.kind_names)
    for policy, orders, message in (
        (RandomRouter(), 1, "only additive and MLP policies"), (few, 1, "scores 3 routes"),
        (runtime, 0, "at least one order"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=message):
            write_decision_log(market, policy, path, orders=orders, seed=1, stream="test", policy_id="t-s1")
    with pytest.raises(UserError, match="unknown fact"):
        write_decision_log(market, runtime, path, orders=1, seed=1, stream="test", policy_id="t-s1", run_facts={"x": 1})
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_leaves_nothing_behind(market: Market, runtime: AdditiveRuntime, tmp_path: Path) -> None:
    def stop(done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_decision_log(
            market, runtime, tmp_path / "d.jsonl", orders=2, seed=1, stream="test", policy_id="t-s1", progress=stop
        )
    assert list(tmp_path.iterdir()) == []


# --- deciding again


def test_the_log_is_decided_again(market: Market, runtime: AdditiveRuntime, log: Path) -> None:
    verdict = verify_log(log, redecide=Redecider(bundle_of(market, runtime)))
    assert verdict.ok, verdict.message


def test_another_policy_does_not_decide_the_same(
    market: Market, runtime: AdditiveRuntime, log: Path, records: Records
) -> None:
    table = runtime.table_e9.copy()
    table[1] += 1  # 1e-9 on every take
    other = AdditiveRuntime(table, runtime.bias_e9, runtime.kind, runtime.kind_names)
    verdict = verify_log(log, redecide=Redecider(bundle_of(market, other)))
    first = next(i for i, r in enumerate(records) if r["type"] == "decision")
    assert (verdict.ok, verdict.first_bad_record) == (False, first)


def test_shared_functions_decide_again_a_log_of_other_venues(
    market: Market, runtime: AdditiveRuntime, log: Path
) -> None:
    fewer = Market(load_market("base", ["dark_slots=[XQDA, XQDB]"]))
    elsewhere = runtime.for_routes(fewer.rules.route_type, "t-s1")
    assert verify_log(log, redecide=Redecider(bundle_of(fewer, elsewhere))).ok


def rewritten(records: Records, path: Path) -> Path:
    """The same records under fresh hashes."""
    with DecisionLog(path) as log:
        for record in records[:-1]:
            log.append(record["type"], int(record["ts_ns"]), record["body"])
        log.close(int(records[-1]["ts_ns"]))
    return path


def drop(key: str) -> Callable[[dict[str, Any]], None]:
    return lambda body: body.pop(key) and None


def put(*place: Any) -> Callable[[dict[str, Any]], None]:
    def change(body: dict[str, Any]) -> None:
        *path, last, value = place
        node: Any = body
        for key in path:
            node = node[key]
        node[last] = value

    return change


EDITS: Mapping[str, Callable[[dict[str, Any]], None]] = {
    "score": put("candidates", 1, "score_e9", 10**9),
    "attribution": put("candidates", 0, "feature_attr_e9", "gap_frac", 1),
    "work": put("candidates", 0, "work_shares", "1.000000"),
    "weight": put("candidates", 2, "weight_ppm", 999_999),
    "shares": put("released", 0, "shares", 5_000),
    "child": put("released", 0, "child_id", "P-0-c99999"),
    "limit": put("released", 0, "limit_e6", 1),
    "nothing sent": put("released", []),
    "reason": put("reasons", []),
    "sentence": put("sentence", "Because."),
    "agrees": put("agrees", "route"),
    "observation": put("observation", 2, "0.01"),
    "observation form": put("observation", 2, "1e-2"),
    "observation nan": put("observation", 2, "nan"),
    "observation text": put("observation", 2, "much"),
    "observation type": put("observation", 2, 0),
    "observation length": put("observation", []),
    "mask": put("candidates", 1, "masks", ["MASKED_HALT"]),
    "unknown mask": put("candidates", 1, "masks", ["MASKED_MOON"]),
    "two masks": put("candidates", 1, "masks", ["MASKED_HALT", "MASKED_CAP"]),
    "candidates": put("candidates", {}),
    "no candidates": put("candidates", []),
    "candidate": put("candidates", 3, None),
    "route": put("candidates", 3, "route", "XQLZ:post"),
    "quote": put("nbbo", None),
    "quote sides": put("nbbo", "bid_e6", -5),
    "interval": put("interval", 10**9),
    "bool for int": put("remaining_shares", True),
    "remaining": put("remaining_shares", 2**53 - 1),
    "dark": put("dark_shares", 1),
    "children": put("children_before", 10**6),
    "schedule": put("schedule_next_frac", "inf"),
    "completing": put("completing_route", "XQDA:rest"),
    "parent": put("parent_id", "P-999"),
    "policy": put("policy_id", "other"),
    "baseline": put("baseline", []),
    "lit sum": put("lit_alternative", "take", "cost_e6", 0),
    "lit shares": put("lit_alternative", "shares", 1),
    "lit none": put("lit_alternative", None),
    "lit type": put("lit_alternative", "dark", "spread_e6", "0"),
    "int for bool": put("exploration", 0),
    "new key": put("note", "added later"),
    "key gone": drop("margin_e9"),
    "input gone": drop("observation"),
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edited_decision_under_fresh_hashes_is_named(
    name: str, market: Market, runtime: AdditiveRuntime, records: Records, tmp_path: Path
) -> None:
    end = next(i for i, r in enumerate(records) if r["type"] == "decision" and r["body"]["interval"] == 30)
    changed = copy.deepcopy([*records[:end], records[-1]])
    at, body = next(
        (i, r["body"]) for i, r in enumerate(changed)
        if r["type"] == "decision" and r["body"]["interval"] > 0 and r["body"]["lit_alternative"]
        and r["body"]["agrees"] != "route"
    )  # fmt: skip
    before = json.dumps(body)
    EDITS[name](body)
    assert json.dumps(body) != before
    path = rewritten(changed, tmp_path / "decisions.jsonl")
    assert verify_log(path).ok  # the chain alone cannot know
    verdict = verify_log(path, redecide=Redecider(bundle_of(market, runtime)))
    assert (verdict.ok, verdict.first_bad_record) == (False, at)
    assert verdict.reason is not None and verdict.reason.startswith("REDECIDE_MISMATCH: ")


FORGERIES: dict[str, tuple[Callable[[Records, int, int, int], Any], str]] = {
    # (records, place of an order's MEOR, of its fill, of its end) -> changes them; what the refusal says
    "fewer shares filled": (lambda r, m, f, e: r[f]["body"].update(shares=1), "leaves_shares|remaining_shares is"),
    "more than was sent": (lambda r, m, f, e: r[f]["body"].update(shares=10**6), "fill of 1000000 on"),
    "text for shares": (lambda r, m, f, e: r[f]["body"].update(shares="100"), "fill of '100' on"),
    "unknown order": (lambda r, m, f, e: r[f]["body"].update(child_id="P-0-c99999"), "no decision before it released"),
    "another venue filled": (lambda r, m, f, e: r[f]["body"].update(mic="XQZZ"), "told before, or not at"),
    "filled twice": (lambda r, m, f, e: r.insert(f, copy.deepcopy(r[f])), "told before|fill of|leaves_shares"),
    "fill dropped": (lambda r, m, f, e: r.pop(f), "leaves_shares|remaining_shares is|left open"),
    "sent elsewhere": (lambda r, m, f, e: r[m]["body"].update(mic="XQZZ"), "route of .* is 'XQZZ:"),
    "other shares sent": (lambda r, m, f, e: r[m]["body"].update(shares=99_999), "shares of .* is 99999, released was"),
    "another limit": (lambda r, m, f, e: r[m]["body"].update(limit_e6=1), "limit_e6 of .* is 1, released was"),
    "another decision's": (lambda r, m, f, e: r[m]["body"].update(decision_id="P-9-0000"), "decision_id of"),
    "unknown event": (lambda r, m, f, e: r[m]["body"].update(event="moon"), "moon"),
    "sent twice": (lambda r, m, f, e: r.insert(m, copy.deepcopy(r[m])), "MEOR of .*, which was sent"),
    "never sent": (lambda r, m, f, e: r.pop(m), "not sent|never sent|fill of"),
    "end dropped": (lambda r, m, f, e: r.pop(e), "left open"),
    "end with other leaves": (lambda r, m, f, e: r[e]["body"].update(leaves_shares=0), "leaves_shares of"),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_orders_and_fills_are_held_to_their_decision(
    name: str, market: Market, runtime: AdditiveRuntime, records: Records, tmp_path: Path
) -> None:
    changed = copy.deepcopy(records)
    filled = {r["body"]["child_id"]: i for i, r in enumerate(changed) if r["type"] == "fill"}
    ends = {r["body"]["child_id"]: i for i, r in enumerate(changed) if r["body"].get("event") in ("MECR", "expire")}
    child = next(c for c, i in filled.items() if c in ends and changed[i]["body"]["shares"] > 1)
    sent = next(
        i for i, r in enumerate(changed) if r["body"].get("child_id") == child and r["body"].get("event") == "MEOR"
    )
    forge, told = FORGERIES[name]
    forge(changed, sent, filled[child], ends[child])
    path = rewritten(changed, tmp_path / "decisions.jsonl")
    assert verify_log(path).ok
    verdict = verify_log(path, redecide=Redecider(bundle_of(market, runtime)))
    assert not verdict.ok and verdict.reason is not None and re.search(told, verdict.reason), verdict.reason


def of_type(*kinds: str) -> Callable[[Records], int]:
    return lambda records: next(i for i, r in enumerate(records) if r["type"] in kinds)


WHOLES: dict[str, tuple[Callable[[Records], Any], str]] = {
    "no decisions": (lambda r: [r.pop(i) for i in range(len(r) - 2, 0, -1)], "no decision stands in this log"),
    "a decision twice": (
        lambda r: r.insert(of_type("decision")(r), copy.deepcopy(r[of_type("decision")(r)])),
        "interval is 0, but .* 1|no control|never sent",
    ),
    "another time": (lambda r: r[of_type("decision")(r)].update(ts_ns="1"), "ts_ns is 1, but"),
    "the parent's end": (lambda r: r[of_type("parent")(r)]["body"].update(end_ns="1"), "is not the one that its first"),
    "a second run": (lambda r: r.insert(1, copy.deepcopy(r[0])), "a second run record"),
    "an outcome dropped": (lambda r: r.pop(of_type("lit_outcome")(r)), "no lit_outcome of"),
    "a control invented": (
        lambda r: r.insert(len(r) - 1, {"type": "control", "ts_ns": r[-1]["ts_ns"], "body": {"action": "kill"}}),
        "control 'kill' of None is not its decision's",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WHOLES)
def test_a_log_that_is_not_whole_is_refused_with_its_bundle(
    name: str, market: Market, runtime: AdditiveRuntime, records: Records, tmp_path: Path
) -> None:
    changed = copy.deepcopy(records)
    forge, told = WHOLES[name]
    forge(changed)
    path = rewritten(changed, tmp_path / "decisions.jsonl")
    verdict = verify_log(path, redecide=Redecider(bundle_of(market, runtime)))
    assert not verdict.ok and verdict.reason is not None and re.search(told, verdict.reason), verdict.reason


@pytest.mark.parametrize(
    ("column", "name"),
    [(0, "time_left_frac"), (1, "remaining_frac"), (2, "gap_frac"), (3, "log_due_slices"), (4, "log_pct_adv"),
     (7, "log_spread_bps"), (9, "log_adv_shares"), (10, "log_vol_ratio"), (N_GLOBAL + 3 * N_ROUTE, "XQLA:post")],
)  # fmt: skip
def test_features_that_the_record_contradicts_are_refused(
    column: int, name: str, market: Market, runtime: AdditiveRuntime, records: Records
) -> None:
    """Made again from other features, the whole record: only its own other fields tell."""
    redecider = Redecider(bundle_of(market, runtime))
    at = next(i for i, r in enumerate(records) if r["type"] == "decision" and r["body"]["interval"] == 5)
    assert all(redecider(r) is None for r in records[:at])
    _, limits, _, parent, facts = redecider._read(records[at]["body"])
    check_features(limits, parent, facts)
    measured = list(facts.measured)
    measured[column] += 0.5
    with pytest.raises(Inconsistent, match=name):
        check_features(limits, parent, replace(facts, measured=tuple(measured)))


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("run", put("policy_sha256", "1" * 64)), ("run", put("policy_id", "x")), ("run", put("control_limits", None)),
        ("run", put("control_limits", "max_routes", 2)), ("run", put("control_limits", "routes", ["XQLA:buy"])),
        ("run", put("feature_schema_sha256", "")), ("parent", put("side", "long")), ("parent", put("n_slots", "90")),
        ("parent", put("ordered_shares", 1)), ("parent", put("start_ns", "x")), ("parent", drop("tick_e6")),
    ],
)  # fmt: skip
def test_an_edited_run_or_parent_does_not_decide_the_same(
    kind: str, change: Callable[[dict[str, Any]], None], market: Market, runtime: AdditiveRuntime, records: Records,
    tmp_path: Path,
) -> None:  # fmt: skip
    changed = copy.deepcopy(records[:60] + records[-1:])
    change(next(r["body"] for r in changed if r["type"] == kind))
    path = rewritten(changed, tmp_path / "decisions.jsonl")
    verdict = verify_log(path, redecide=Redecider(bundle_of(market, runtime)))
    assert not verdict.ok and verdict.reason is not None and verdict.reason.startswith("REDECIDE_MISMATCH")


def places(node: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [at] * bool(at) + [p for key, value in inner for p in places(value, (*at, key))]


def test_no_value_anywhere_in_a_decision_makes_deciding_again_fail(
    market: Market, runtime: AdditiveRuntime, records: Records
) -> None:
    """Odd values at 600 random places: always an answer, and with another type of value always a refusal of it."""
    at = next(i for i, r in enumerate(records) if r["type"] == "decision" and r["body"]["lit_alternative"])
    record, redecider = records[at], Redecider(bundle_of(market, runtime))
    assert all(redecider(r) is None for r in records[:at])
    before = copy.deepcopy(redecider._accounts)
    everywhere = [p for p in places(record["body"]) if p[0] not in ("baseline", "lit_alternative")]
    odd: list[Any] = [None, True, -1, 2**53 - 1, "", "nan", "1e400", "\u0661", [], {}, [None], {"a": 1}]
    rng = np.random.default_rng(7)
    for _ in range(600):
        changed = copy.deepcopy(record)
        place = everywhere[rng.integers(len(everywhere))]
        value = odd[rng.integers(len(odd))]
        node: Any = changed["body"]
        for key in place[:-1]:
            node = node[key]
        same_type = type(node[place[-1]]) is type(value)
        node[place[-1]] = value
        redecider._accounts = copy.deepcopy(before)
        answer = redecider(changed)
        assert answer is None or isinstance(answer, str)
        assert same_type or answer is not None, place
