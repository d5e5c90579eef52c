"""A live router decides a state as the simulation does, refuses one that contradicts itself, and falls back aloud."""

from __future__ import annotations

import copy
import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import glasspool.agents
from glasspool.agents.additive import route_kinds
from glasspool.agents.fallback import FeatureRanges, seen_ranges
from glasspool.agents.live import LiveRouter, RoutingDecision
from glasspool.agents.registry import named_router
from glasspool.agents.router import Router, ScoreRouter
from glasspool.agents.rule_based import RuleSor
from glasspool.agents.runtime import AdditiveRuntime
from glasspool.configs.errors import UserError
from glasspool.configs.loading import load_market
from glasspool.envs.features import FEATURES, N_GLOBAL, N_ROUTE, observation_bounds, observation_names
from glasspool.envs.market import Market, step_proposals, stream_key
from glasspool.envs.routing_state import RoutingState
from glasspool.explain.decision_log import DecisionLog, read_log
from glasspool.explain.fallback_record import CODE
from glasspool.explain.verification import verify_log

STATE_FIELDS = [f.name for f in dataclasses.fields(RoutingState)]

PUT_BACK = [f for f in STATE_FIELDS if f not in ("symbol", "measured", "time_s")]  # the rest is not decided on


@pytest.fixture(scope="module")
def market() -> Market:
    return Market(load_market("base", ["orders.horizon_minutes={15: 1.0}"]))


@pytest.fixture(scope="module")
def runtime(market: Market) -> AdditiveRuntime:
    kind, names = route_kinds(market.rules.route_type, True)
    rng = np.random.default_rng(1)
    table = rng.integers(-5 * 10**8, 5 * 10**8, (len(names), len(FEATURES), 9))
    return AdditiveRuntime(table, rng.integers(-(10**9), 10**9, len(names)), kind, tuple(names))


@pytest.fixture(scope="module")
def live(market: Market, runtime: AdditiveRuntime) -> LiveRouter:
    return LiveRouter(market, runtime, seen_ranges(market, ScoreRouter(runtime), seed=1, episodes=200))


@pytest.fixture(scope="module")
def state(market: Market) -> RoutingState:
    b, obs = market.batch(1)
    market.reset(stream_key(1, "train"), [0], [0], b, obs, "train")
    return RoutingState.from_batch(market, b, 0, obs[0])


def shares_of(market: Market, decision: RoutingDecision) -> list[int]:
    """Released shares by route."""
    sums = {r.name: 0 for r in market.routes}
    for child in decision.children:
        sums[child["route"]] += child["shares"]
    return list(sums.values())


@pytest.mark.parametrize("name", ["learned", "rule_sor", "tuned_sor", "sor_strong", "vwap_lit"])
def test_a_state_is_decided_as_the_simulation_decides_it(market: Market, runtime: AdditiveRuntime, name: str) -> None:
    """Whole orders, slot by slot: the same shares on the same routes, masks and last slot included."""
    router: Router = ScoreRouter(runtime) if name == "learned" else named_router(name)
    live = LiveRouter(market, runtime if name == "learned" else router)
    b, obs = market.batch(1)
    work, weights = np.zeros(1), np.zeros((1, len(market.routes)))
    compared = 0
    for episode in range(4):
        market.reset(stream_key(5, "test"), [0], [episode], b, obs)
        while b.order["active"][0]:
            state = RoutingState.from_batch(market, b, 0, obs[0])
            decision = live.decide(state)
            again = RoutingState.from_batch(market, live._b, 0, obs[0])
            assert [f for f in PUT_BACK if repr(getattr(again, f)) != repr(getattr(state, f))] == []
            router.propose(market, b, obs, work, weights)
            step_proposals(market.rules, b, work, weights, obs)
            assert shares_of(market, decision) == b.child_shares[0].tolist()
            compared += 1
    assert compared > 200


def test_the_parts_add_up_and_the_reasons_are_there(
    live: LiveRouter, runtime: AdditiveRuntime, state: RoutingState
) -> None:
    decision = live.decide(state)
    assert decision.scores_e9 is not None and decision.attributions_e9 is not None
    for bias, (route, score) in zip(runtime.biases_e9.tolist(), decision.scores_e9.items(), strict=True):
        assert bias + sum(decision.attributions_e9[route].values()) == score
    assert decision.reasons and decision.sentence and decision.fallback_features == ()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e12])
@pytest.mark.parametrize("column", [0, 12, N_GLOBAL + 1, N_GLOBAL + 3 * N_ROUTE])
def test_a_feature_that_is_missing_or_far_off_is_named_and_the_rule_sor_decides(
    market: Market, live: LiveRouter, state: RoutingState, value: float, column: int
) -> None:
    measured = state.measured.copy()
    measured[column] = value
    observation = np.clip(measured, *observation_bounds(len(market.routes)))
    named = dict(zip(observation_names(market.routes), observation.tolist(), strict=True))
    features = {name: named[name] for name in state.features}
    of_routes = {r: {f: named[f"{r}.{f}"] for f in values} for r, values in state.route_features.items()}
    decision = live.decide(
        dataclasses.replace(
            state, measured=measured, observation=observation, features=features, route_features=of_routes
        )
    )
    name = FEATURES[column if column < N_GLOBAL else N_GLOBAL + (column - N_GLOBAL) % N_ROUTE].name
    assert decision.fallback_features == (name,) and decision.proposed_by == "rule_sor"
    assert decision.reasons[0] == {"code": CODE, "attr_e9": 0, "features": [name]} and name in decision.sentence
    assert decision.children == LiveRouter(market, RuleSor()).decide(state).children != ()


def changed(state: RoutingState, field: str, value: Any) -> RoutingState:
    return dataclasses.replace(state, **{field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("ordered_shares", 0), ("ordered_shares", 10**18), ("remaining_shares", 0), ("remaining_shares", 10**12),
        ("remaining_shares", 1.5), ("adv_shares", -1), ("slot", -1), ("slot", 10**6), ("n_slots", 10**6), ("side", 0),
        ("side", math.nan), ("bid_e6", 0), ("bid_e6", math.nan), ("ask_e6", 10**15), ("tick_e6", 0),
        ("half_spread_bps", math.nan),
        ("half_spread_bps", 900.0), ("arrival_usd", 0.0), ("arrival_usd", math.inf), ("schedule_next_frac", math.nan),
        ("schedule_now_frac", -0.1), ("dark_shares", -5), ("interval_s", 1.0), ("time_s", math.nan),
        ("observation", np.zeros(3)), ("features", {}), ("target_shares", math.nan), ("slice_shares", -1.0),
        ("measured", np.zeros(0)), ("scorecard", {}), ("fees_bps", {}), ("masked", {}), ("mask_codes", {"X": ""}),
    ],
)  # fmt: skip
def test_a_state_that_cannot_be_is_refused_by_its_field(
    live: LiveRouter, state: RoutingState, field: str, value: Any
) -> None:
    with pytest.raises(UserError, match=field):
        live.decide(changed(state, field, value))


def test_a_control_cannot_be_left_out(market: Market, live: LiveRouter, state: RoutingState) -> None:
    """A pool that its own scorecard shuts stays shut, whatever the masks say."""
    pool = next(r for r in market.routes if r.order_type == "ping")
    cards = copy.deepcopy(state.scorecard)
    cards[pool.venue]["ping"] = {"attempts": 1000.0, "filled": 500.0, "markouts": 500.0, "markout_hs_sum": -5000.0}
    with pytest.raises(UserError, match=f"mask_codes of {pool.name} = '', but .* 'MASKED_TOXICITY'"):
        live.decide(changed(state, "scorecard", cards))
    codes = state.mask_codes | {pool.name: "MASKED_TOXICITY"}
    shut = dataclasses.replace(state, scorecard=cards, mask_codes=codes, masked=state.masked | {pool.name: True})
    for router in (live, LiveRouter(market, RuleSor())):
        assert pool.name not in {c["route"] for c in router.decide(shut).children}


def test_features_of_before_and_after_the_clip_must_agree(live: LiveRouter, state: RoutingState) -> None:
    observation = state.observation.copy()
    observation[5] += 0.25
    with pytest.raises(UserError, match="observation of log_participation_pct"):
        live.decide(changed(state, "observation", observation))


odd_numbers = st.one_of(
    st.floats(), st.integers(-(10**20), 10**20), st.sampled_from([math.nan, math.inf, -math.inf, 0, -1, 2**63])
)


@settings(max_examples=300)
@given(data=st.data())
def test_any_state_is_decided_or_refused(
    market: Market, live: LiveRouter, state: RoutingState, data: st.DataObject
) -> None:
    """Never a traceback, never more shares than are left, never a child of a masked route; a fallback says why."""
    field = data.draw(st.sampled_from([f for f in STATE_FIELDS if f != "symbol"]))
    value = getattr(state, field)
    if isinstance(value, np.ndarray):
        value = value.copy()
        value[data.draw(st.integers(0, len(value) - 1))] = float(data.draw(odd_numbers))
    elif isinstance(value, dict):
        value = copy.deepcopy(value)
        node: Any = value
        while isinstance(node[key := data.draw(st.sampled_from(sorted(node)))], dict):
            node = node[key]
        node[key] = data.draw(odd_numbers)
    else:
        value = data.draw(odd_numbers)
    try:
        decision = live.decide(changed(state, field, value))
    except UserError as refused:
        assert str(refused)
        return
    assert sum(c["shares"] for c in decision.children) <= state.remaining_shares or field == "remaining_shares"
    assert all(c["shares"] > 0 and not state.masked[c["route"]] for c in decision.children)
    assert (decision.proposed_by == "rule_sor") == bool(decision.fallback_features)
    assert decision.sentence


def test_load_router_takes_a_baseline_by_name_and_refuses_others(state: RoutingState) -> None:
    assert glasspool.agents.load_router("rule_sor").name == "rule_sor"
    with pytest.raises(UserError, match="router 'rule_sr' is not known"):
        glasspool.agents.load_router("rule_sr")
    with pytest.raises(UserError, match="not a bundle"):
        glasspool.agents.load_router("no/such/bundle")


def test_without_stored_ranges_only_what_is_no_number_is_outside(market: Market, state: RoutingState) -> None:
    assert not FeatureRanges.unlimited().outside(state.measured[None]).any()
    far = np.where(np.arange(state.measured.size) == 3, math.nan, 1e200)
    assert np.flatnonzero(FeatureRanges.unlimited().outside(far[None])[0]).tolist() == [3]


def test_a_killed_router_sends_nothing_until_a_named_resume_and_all_of_it_is_logged(
    market: Market, runtime: AdditiveRuntime, state: RoutingState, tmp_path: Path
) -> None:
    path = tmp_path / "controls.jsonl"
    with DecisionLog(path) as log:
        for router in (runtime, named_router("rule_sor")):
            live = LiveRouter(market, router, log=log)
            before = live.decide(state)
            assert before.children
            live.switch.kill("A. Desk", "odd fills", ts_ns=1)
            for odd in (state, changed(state, "bid_e6", 0)):  # a state that would be refused sends nothing either
                decision = live.decide(odd, parent_id="P-7")
                assert (decision.children, decision.reasons[0]["code"]) == ((), "KILL")
                assert "killed by A. Desk (odd fills)" in decision.sentence
            with pytest.raises(UserError, match="killed by A. Desk already"):
                live.switch.kill("B. Desk", "again")
            for by, reason in (("", "fine now"), ("A. Desk", " ")):
                with pytest.raises(UserError, match="resume needs a name and a reason"):
                    live.switch.resume(by, reason)
            assert live.decide(state).children == ()
            live.switch.resume("B. Desk", "venue answered", ts_ns=9)
            assert live.decide(state) == before
            with pytest.raises(UserError, match="nothing to resume"):
                live.switch.resume("B. Desk", "again")
    bodies = [r["body"] for r in read_log(path)][:-1]
    assert [b["action"] for b in bodies] == ["kill", "block", "block", "block", "resume"] * 2
    assert {(b["code"], b["route"]) for b in bodies} == {("KILL", None)}
    assert [b["approver"] for b in bodies[:5]] == ["A. Desk"] * 4 + ["B. Desk"]
    assert bodies[1]["decision_id"] == "P-7-0000" and bodies[4]["reason"] == "venue answered"
    assert verify_log(path).ok
