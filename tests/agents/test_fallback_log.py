"""A decision that the fallback took is in the log with what set it off, and is decided again like any other."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glasspool.agents.additive import route_kinds
from glasspool.agents.bundle import Bundle
from glasspool.agents.evaluation import run_router
from glasspool.agents.explaining import write_decision_log
from glasspool.agents.fallback import FallbackRouter, FeatureRanges, seen_ranges
from glasspool.agents.redecision import Redecider
from glasspool.agents.router import ScoreRouter
from glasspool.agents.runs import RANGES, load_run
from glasspool.agents.runtime import AdditiveRuntime
from glasspool.agents.training import train
from glasspool.configs.errors import UserError
from glasspool.configs.experiment import ExperimentConfig
from glasspool.configs.loading import load_market
from glasspool.envs.features import FEATURES, observe_rows
from glasspool.envs.market import Market
from glasspool.explain.decision_log import DecisionLog, read_log
from glasspool.explain.fallback_record import CODE
from glasspool.explain.verification import Verdict, verify_log

Records = list[dict[str, Any]]
NAMES = [f.name for f in FEATURES]
ORDERS = 2
MISSING, INFINITE = 5, 7  # slots


class OddMarket(Market):
    """The imbalance is missing in one slot and infinite in another; order 1 meets a pool of unheard-of fees."""

    def reset(self, key: Any, rows: Any, numbers: Any, b: Any, obs: Any, stream: str = "test") -> None:
        super().reset(key, rows, numbers, b, obs, stream)
        for row, number in zip(rows, numbers, strict=True):
            b.tape["imbalance"][row, MISSING], b.tape["imbalance"][row, INFINITE] = math.nan, math.inf
            if number == 1:
                b.venue["take_fee_bps"][row, -1] = 500.0
        observe_rows(self.rules, b, 0, len(obs), obs, 0)


@pytest.fixture(scope="module")
def market() -> OddMarket:
    return OddMarket(load_market("base", ["orders.horizon_minutes={15: 1.0}"]))


@pytest.fixture(scope="module")
def runtime(market: Market) -> AdditiveRuntime:
    kind, names = route_kinds(market.rules.route_type, True)
    rng = np.random.default_rng(1)
    table = rng.integers(-5 * 10**8, 5 * 10**8, (len(names), len(FEATURES), 9))
    return AdditiveRuntime(table, rng.integers(-(10**9), 10**9, len(names)), kind, tuple(names))


@pytest.fixture(scope="module")
def ranges(market: Market, runtime: AdditiveRuntime) -> FeatureRanges:
    """Those of training, but as if it had never come to the last third of an order."""
    seen = seen_ranges(Market(market.config), ScoreRouter(runtime), seed=1, episodes=100)
    low = seen.low.copy()
    low[NAMES.index("time_left_frac")] = 0.4
    return FeatureRanges(low, seen.high)


def bundle_of(market: Market, runtime: AdditiveRuntime, ranges: FeatureRanges) -> Bundle:
    config = ExperimentConfig(name="t", market=market.config)
    return Bundle(runtime, config, {"files": {"policy.json": "0" * 64}}, "t-s1", ranges)


@pytest.fixture(scope="module")
def log(
    market: Market, runtime: AdditiveRuntime, ranges: FeatureRanges, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    path = tmp_path_factory.mktemp("log") / "decisions.jsonl"
    counts = write_decision_log(
        market, runtime, path, orders=ORDERS, seed=1, stream="test", policy_id="t-s1", ranges=ranges
    )
    fallbacks = sum(r["type"] == "decision" and r["body"]["fallback"] is not None for r in read_log(path))
    assert counts["fallbacks"] == fallbacks > 20 and counts["decisions"] > fallbacks + 20
    return path


@pytest.fixture(scope="module")
def records(log: Path) -> Records:
    return list(read_log(log))


def decisions(records: Records) -> Records:
    return [r["body"] for r in records if r["type"] == "decision"]


def again(path: Path, bundle: Bundle) -> Verdict:
    return verify_log(path, redecide=Redecider(bundle))


def test_the_log_says_what_evaluation_under_the_fallback_does(
    market: Market, runtime: AdditiveRuntime, ranges: FeatureRanges, records: Records
) -> None:
    router = FallbackRouter(ScoreRouter(runtime), ranges)
    result = run_router(market, router, ORDERS, 1, "test")
    told = [d for d in decisions(records) if d["fallback"] is not None]
    assert (router.decisions, router.fallbacks) == (len(decisions(records)), len(told))
    assert dict(router.by_feature) == {
        name: n for name in NAMES if (n := sum(name in d["fallback"]["features"] for d in told))
    }
    kinds = {r["body"]["child_id"]: r["body"]["order_type"] for r in records if r["type"] == "route_event"}
    parents = {c["child_id"]: d["parent_id"] for d in decisions(records) for c in d["released"]}
    filled: dict[tuple[str, str], int] = defaultdict(int)
    for record in records:
        if record["type"] == "fill":
            child = record["body"]["child_id"]
            kind = kinds[child] if kinds[child] in ("take", "post") else "dark"
            filled[parents[child], kind] += record["body"]["shares"]
    for i in range(ORDERS):
        expected = np.rint(result.kind_frac[i] * result.shares[i]).astype(int).tolist()
        assert [filled[f"P-{i}", kind] for kind in ("take", "post", "dark")] == expected


def test_the_control_names_the_feature_the_limits_and_what_was_seen(records: Records) -> None:
    logged = [r["body"] for r in records if r["type"] == "control" and r["body"]["action"] == "fallback"]
    for d in decisions(records):
        fired = [c for c in d["controls"] if c["code"] == CODE]
        assert [c["feature"] for c in fired] == (d["fallback"]["features"] if d["fallback"] else [])
        for c in fired:
            low, high = map(float, c["limit"])
            assert not low <= float(c["seen"]) <= high
            assert (c["route"] is not None) == (c["feature"] == "fee_hs")
            assert c["feature"] in d["sentence"] and (c["route"] or "") in d["sentence"]
        assert [c["seen"] for c in fired] == [c["seen"] for c in logged if c["decision_id"] == d["decision_id"]]
        if fired:
            assert d["reasons"][0] == {"code": CODE, "attr_e9": 0, "features": d["fallback"]["features"]}
            assert [r["code"] for r in d["reasons"][1:]] == d["baseline"]["reasons"]
    assert {c["feature"] for c in logged} >= {"time_left_frac", "fee_hs", "imbalance_signed"}


def test_the_policys_own_view_stands_beside_it_where_there_is_one(records: Records) -> None:
    scored = [d for d in decisions(records) if d["fallback"] and d["fallback"]["policy_orders"] is not None]
    assert len(scored) > 20
    for d in scored:
        for c in d["candidates"]:
            if c["score_e9"] is not None:
                assert c["bias_e9"] + sum(c["attr_e9"].values()) == c["score_e9"]
    own, sent = ([[(o["route"], o["shares"]) for o in orders] for orders in found] for found in (
        [d["fallback"]["policy_orders"] for d in scored], [d["released"] for d in scored],
    ))  # fmt: skip
    assert own != sent
    for d in decisions(records):
        if d["interval"] in (MISSING, INFINITE):
            nothing = d["interval"] == MISSING
            seen = next(c["seen"] for c in d["controls"] if c.get("feature") == "imbalance_signed")
            assert seen in (("nan",) if nothing else ("inf", "-inf"))  # against us or with us, by the side
            assert (d["fallback"]["policy_orders"] is None) == nothing
            assert nothing == all(c["score_e9"] is None for c in d["candidates"])


def test_all_of_it_is_decided_again(log: Path, market: Market, runtime: AdditiveRuntime, ranges: FeatureRanges) -> None:
    verdict = again(log, bundle_of(market, runtime, ranges))
    assert verdict.ok, verdict.message


def test_shared_functions_decide_it_again_for_other_venues(
    log: Path, runtime: AdditiveRuntime, ranges: FeatureRanges
) -> None:
    fewer = Market(load_market("base", ["dark_slots=[XQDA, XQDB]"]))
    elsewhere = runtime.for_routes(fewer.rules.route_type, "t-s1")
    assert again(log, bundle_of(fewer, elsewhere, ranges)).ok


def put(*place: Any) -> Callable[[dict[str, Any]], None]:
    def change(body: dict[str, Any]) -> None:
        *path, last, value = place
        node: Any = body
        for key in path:
            node = node[key]
        node[last] = value

    return change


def no_sample(body: dict[str, Any]) -> None:
    """Every pool too seldom visited to judge."""
    for cards in body["fallback"]["rule_inputs"]["scorecard"].values():
        for card in cards.values():
            card["attempts"] = card["markouts"] = 0


EDITS: Mapping[str, Callable[[dict[str, Any]], None]] = {
    "no fallback": put("fallback", None),
    "features": put("fallback", "features", ["gap_frac"]),
    "proposed by": put("fallback", "proposed_by", "t-s1"),
    "weights": put("fallback", "weights_ppm", {}),
    "what the policy wanted": put("fallback", "policy_orders", []),
    "scorecard": no_sample,
    "scorecard form": put("fallback", "rule_inputs", "scorecard", {}),
    "half spread": put("fallback", "rule_inputs", "half_spread_bps", "90.0"),
    "half spread form": put("fallback", "rule_inputs", "half_spread_bps", "inf"),
    "fees": put("fallback", "rule_inputs", "fees_bps", {}),
    "shares": put("released", 0, "shares", 5_000),
    "score": put("candidates", 1, "score_e9", 10**9),
    "seen": put("controls", 0, "seen", "9.0"),
    "limit": put("controls", 0, "limit", ["-1.0", "1.0"]),
    "no control": put("controls", []),
    "reason": put("reasons", 0, "code", "SPREAD_MID"),
    "votes": put("baseline", "votes", 4),
    "why": put("baseline", "justification", ["Because."]),
    "sentence": put("sentence", "The policy decided."),
    "measured": put("beyond_range", "time_left_frac", "0.5"),
    "measured nothing": put("beyond_range", "moon_phase", "0.5"),
    "measured form": put("beyond_range", "time_left_frac", "much"),
}


def rewritten(records: Records, path: Path) -> Path:
    with DecisionLog(path) as log:
        for record in records[:-1]:
            log.append(record["type"], int(record["ts_ns"]), record["body"])
        log.close(int(records[-1]["ts_ns"]))
    return path


@pytest.mark.parametrize("name", EDITS)
def test_an_edited_fallback_under_fresh_hashes_is_named(
    name: str, market: Market, runtime: AdditiveRuntime, ranges: FeatureRanges, records: Records, tmp_path: Path
) -> None:
    at = next(
        i for i, r in enumerate(records)
        if r["type"] == "decision" and r["body"]["fallback"] and r["body"]["fallback"]["policy_orders"]
        and r["body"]["fallback"]["features"] == ["time_left_frac"] and r["body"]["baseline"]["rule"] == "BEST_VENUE"
        and r["body"]["released"]
    )  # fmt: skip
    changed = copy.deepcopy([*records[: at + 1], records[-1]])
    before = json.dumps(changed[at]["body"])
    EDITS[name](changed[at]["body"])
    assert json.dumps(changed[at]["body"]) != before
    path = rewritten(changed, tmp_path / "decisions.jsonl")
    assert verify_log(path).ok
    verdict = again(path, bundle_of(market, runtime, ranges))
    assert (verdict.ok, verdict.first_bad_record) == (False, at)
    assert verdict.reason is not None and verdict.reason.startswith("REDECIDE_MISMATCH: ")


def test_a_policys_decision_cannot_be_passed_off_as_inside(
    market: Market, runtime: AdditiveRuntime, ranges: FeatureRanges, tmp_path: Path
) -> None:
    """The policy decides without limits and the run record claims the bundle's: the first one outside is named."""
    path, forged = tmp_path / "free.jsonl", tmp_path / "forged.jsonl"
    write_decision_log(Market(market.config), runtime, path, orders=1, seed=1, stream="test", policy_id="t-s1")
    bundle = bundle_of(market, runtime, ranges)
    assert again(path, bundle).ok  # the record says that there were no limits
    records = list(read_log(path))
    assert records[0]["body"]["feature_ranges"] is None
    records[0]["body"]["feature_ranges"] = ranges.body()
    verdict = again(rewritten(records, forged), bundle)
    named = "is outside the ranges of training, the record says otherwise|flips|counterfactual"  # turns stop there too
    assert not verdict.ok and re.search(named, str(verdict.reason))
    records[0]["body"]["feature_ranges"] = ranges.body() | {"gap_frac": ["-1.0", "1.0"]}
    verdict = again(rewritten(records, forged), bundle)
    assert verdict.first_bad_record == 0 and "feature_ranges are not the bundle's" in str(verdict.reason)


def test_training_stores_the_ranges_that_evaluation_and_export_use(tmp_path: Path) -> None:
    config = ExperimentConfig.model_validate(
        {
            "name": "tiny", "market": load_market("base", ["orders.horizon_minutes={15: 1.0}"]),
            "agent": {"knots": 3, "critic_hidden": [8]},
            "training": {
                "n_envs": 8, "steps_per_rollout": 4, "batch_size": 32, "teacher": None, "search": None, "steps": 32,
                "validation_orders": 2,
            },
        }
    )  # fmt: skip
    train(config, 3, tmp_path)
    (tmp_path / "config.yaml").write_text(json.dumps(config.model_dump(mode="json") | {"seed": 3}))
    run = load_run(tmp_path)
    assert run.ranges is not None and run.ranges.limited
    seen = seen_ranges(Market(config.market), run.router, 3)
    assert np.array_equal(run.ranges.low, seen.low) and np.array_equal(run.ranges.high, seen.high)
    (tmp_path / RANGES).write_text("{")
    with pytest.raises(UserError, match=f"{RANGES}.*Train again, or restore the file"):
        load_run(tmp_path)
    (tmp_path / RANGES).unlink()
    assert dataclasses.replace(run, ranges=None).ranges == load_run(tmp_path).ranges
