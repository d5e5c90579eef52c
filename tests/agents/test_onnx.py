"""ONNX beside the network that was trained and the runtime that decides: the same scores, routes and shares.

And an MLP's bundle, which is nothing but its ONNX file: it decides, is decided again, and is refused when it is not the
graph that glasspool writes.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch as th
from numpy.typing import NDArray

from glasspool.agents.bundle import LOG, MANIFEST, ONNX, POLICY, export_bundle, load_bundle
from glasspool.agents.integrated_gradients import MlpScorer
from glasspool.agents.jobs.evaluation import evaluate_job
from glasspool.agents.jobs.explaining import explain_job, shapes_job
from glasspool.agents.onnx_graph import additive_model, mlp_model
from glasspool.agents.onnx_policy import OnnxMlp, run_scores, session
from glasspool.agents.policies import MlpPolicy, snapshot
from glasspool.agents.redecision import Redecider
from glasspool.agents.router import RandomRouter
from glasspool.agents.runs import write_config
from glasspool.agents.runtime import E9, AdditiveRuntime
from glasspool.agents.training import Curve, make_ppo, write_training_json
from glasspool.configs.errors import UserError
from glasspool.configs.experiment import ExperimentConfig
from glasspool.configs.loading import load_market
from glasspool.envs.controls import child_orders, weights_from_scores
from glasspool.envs.features import observation_bounds
from glasspool.envs.market import Market, step_proposals, stream_key
from glasspool.envs.vector_env import EpisodeBatch, RoutingVecEnv
from glasspool.explain.canonical import canonical_bytes
from glasspool.explain.decision_log import read_log
from glasspool.explain.verification import verify_log

Floats = NDArray[np.float64]
STATES = 100_000


def tiny_run(folder: Path, form: str) -> tuple[Path, Any]:
    """(run folder as training writes it, its SB3 policy) of random weights, spread enough to use every order type."""
    config = ExperimentConfig.model_validate(
        {
            "name": form, "market": load_market("base", ["orders.horizon_minutes={15: 1.0}"]),
            "agent": {"policy": form, "knots": 5, "hidden": [16, 8], "critic_hidden": [8]},
            "training": {"n_envs": 8, "steps_per_rollout": 4, "batch_size": 32, "teacher": None, "search": None},
        }
    )  # fmt: skip
    model = make_ppo(config, RoutingVecEnv(EpisodeBatch(Market(config.market), 8, 4)), 4, None)
    rng = np.random.default_rng(4)
    extractor: Any = model.policy.mlp_extractor
    with th.no_grad():
        if form == "additive":
            raw = extractor.additive.raw
            raw += th.from_numpy(rng.normal(0, 0.3, raw.shape).astype(np.float32))
        else:
            for value in extractor.mlp.parameters():
                value += th.from_numpy(rng.normal(0, 0.3, value.shape).astype(np.float32))
    write_config(folder, config, 4)
    model.save(folder / "policy.zip")
    write_training_json(folder, config, 4, Curve(), done=True)
    return folder, model.policy


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Any]]:
    return {form: tiny_run(tmp_path_factory.mktemp(form), form) for form in ("additive", "mlp")}


@pytest.fixture(scope="module")
def bundles(runs: dict[str, tuple[Path, Any]], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    out = tmp_path_factory.mktemp("bundles")
    return {form: export_bundle(run, out / form, orders=1, seed=1_000) for form, (run, _) in runs.items()}


@pytest.fixture(scope="module")
def market() -> Market:
    return Market(load_market("base", ["orders.horizon_minutes={15: 1.0}"]))


@dataclass
class States:
    """What a decision needs beside the policy. Arrays have a row a state."""

    obs: Floats
    masked: NDArray[np.bool_]
    remaining: NDArray[np.int64]
    lo: Floats  # the pace lies in [lo, hi]
    hi: Floats
    dark_room: NDArray[np.int64]

    def shares(self, market: Market, scores: Floats) -> NDArray[np.int64]:
        """(E, R) child orders of (E, 1 + R) scores."""
        rules, settings = market.rules, market.rules.settings[0]
        weights = np.zeros(self.masked.shape)
        weights_from_scores(np.ascontiguousarray(scores[:, 1:]), self.masked, rules.route_type, weights)
        work = self.lo + (self.hi - self.lo) / (1.0 + np.exp(-scores[:, 0]))
        child = np.zeros(weights.shape, np.int64)
        child_orders(
            self.remaining, work, weights, self.masked, rules.route_type, rules.route_cap, int(settings["lot_shares"]),
            int(settings["max_routes"]), float(settings["weight_cut"]), np.full(len(work), -1), self.dark_room, child,
        )  # fmt: skip
        return child


@pytest.fixture(scope="module")
def states(market: Market) -> States:
    """Half the states of orders that a random router works; half drawn within the features' ranges, masks as there."""
    n, band = 700, float(market.rules.settings[0]["band_frac"])
    b, obs = market.batch(n)
    market.reset(stream_key(3, "test"), np.arange(n), np.arange(n), b, obs)
    work, weights = np.zeros(n), np.zeros((n, len(market.routes)))
    parts: list[tuple[Any, ...]] = []
    while b.order["active"].any():
        on = np.flatnonzero(b.order["active"])
        q, x = b.order["remaining_shares"][on], b.episode["shares"][on]
        target = b.tape["schedule_next"][on, b.order["slot"][on]]
        lo, hi = (np.clip(q - x * (target + side * band), 0.0, q) for side in (1, -1))
        room = (market.config.controls.max_dark_frac * x).astype(np.int64) - b.order["dark_shares"][on]
        parts.append((obs[on], b.masked[on] != 0, q.astype(np.int64), lo, hi, room))
        RandomRouter(3).propose(market, b, obs, work, weights)
        step_proposals(market.rules, b, work, weights, obs)
    seen = [np.concatenate(columns)[: STATES // 2] for columns in zip(*parts, strict=True)]
    assert len(seen[0]) == STATES // 2
    low, high = observation_bounds(len(market.routes))
    drawn = np.random.default_rng(5).uniform(low, high, seen[0].shape)
    return States(*(np.concatenate([a, drawn if i == 0 else a]) for i, a in enumerate(seen)))


def network_scores(policy: Any, obs: Floats) -> Floats:
    """Of the SB3 network, float32, as training saw them."""
    with th.no_grad():
        found = policy.mlp_extractor.forward_actor(th.from_numpy(obs.astype(np.float32)))
    return np.asarray(found.numpy().astype(np.float64))


def refuse_difference(market: Market, states: States, one: Floats, other: Floats) -> None:
    """The three marks: scores to 1e-5; the chosen route where it leads by more than 1e-4; shares within one lot.

    Shares can jump where a route is all but tied with the first one left out (the best three are kept, and those above
    the cut), so they are compared where neither border is within 1e-4 of a score; nearly every state.
    """
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)
    settings = market.rules.settings[0]
    ranked = np.sort(np.where(states.masked, -np.inf, one[:, 1:]), axis=1)[:, ::-1]
    clear = ranked[:, 0] - ranked[:, 1] > 1e-4
    assert clear.mean() > 0.99
    first = [np.argmax(np.where(states.masked, -np.inf, s[:, 1:]), axis=1) for s in (one, other)]
    assert np.array_equal(first[0][clear], first[1][clear])
    kept = int(settings["max_routes"])
    open_scores = np.where(states.masked, -np.inf, one[:, 1:])
    weight = np.exp(open_scores - ranked[:, :1])
    weight /= weight.sum(axis=1, keepdims=True)
    at_the_cut = (np.abs(np.log(np.maximum(weight, 1e-300) / settings["weight_cut"])) < 1e-4).any(axis=1)
    settled = (ranked[:, kept - 1] - ranked[:, kept] > 1e-4) & ~at_the_cut
    assert settled.mean() > 0.99
    apart = np.abs(states.shares(market, one) - states.shares(market, other))[settled]
    assert apart.max() <= settings["lot_shares"]


def test_three_forms_of_an_additive_policy_agree(
    market: Market, states: States, runs: dict[str, tuple[Path, Any]], bundles: dict[str, Path]
) -> None:
    """SB3's network, the integer tables, the graph. The last two agree to the last bit."""
    assert len(states.obs) == STATES
    runtime = load_bundle(bundles["additive"]).runtime
    exact = runtime.scores(states.obs)
    graph = run_scores(session((bundles["additive"] / ONNX).read_bytes()), states.obs)
    assert np.array_equal(graph, exact)
    assert np.ptp(exact, axis=0).min() > 0.01  # not the zeros of a fresh policy
    refuse_difference(market, states, network_scores(runs["additive"][1], states.obs), exact)


def test_an_mlp_decides_by_onnx_what_its_network_decides(
    market: Market, states: States, runs: dict[str, tuple[Path, Any]], bundles: dict[str, Path]
) -> None:
    policy = load_bundle(bundles["mlp"]).runtime
    assert isinstance(policy, OnnxMlp)
    found = policy.scores(states.obs)
    assert np.ptp(found, axis=0).min() > 1.0
    refuse_difference(market, states, found, network_scores(runs["mlp"][1], states.obs))
    np.testing.assert_allclose(policy.network.scores(states.obs), found, rtol=0, atol=1e-12)


def test_the_additive_graph_is_exact_at_between_and_beyond_the_knots() -> None:
    rng = np.random.default_rng(1)
    names, kind = ("pace", "take", "post", "ping", "rest"), np.array([1, 2, 2, 3, 4, 4])
    low, high = observation_bounds(len(kind))
    for knots in (2, 9):
        table = rng.integers(-4 * E9, 4 * E9, (5, 19, knots))
        runtime = AdditiveRuntime(table, rng.integers(-E9, E9, 5), kind, names)
        obs = low + (high - low) * rng.integers(-1, knots + 1, (2_000, low.size)) / max(1, knots - 1)
        obs[::3] = np.nextafter(obs[::3], rng.choice([-np.inf, np.inf], obs[::3].shape))
        obs[1::3] = rng.uniform(low, high, obs[1::3].shape)
        found = run_scores(session(additive_model(runtime).SerializeToString()), obs)
        assert np.array_equal(found, runtime.scores(obs))


def test_the_graph_says_what_goes_in_and_what_comes_out(bundles: dict[str, Path], market: Market) -> None:
    for folder in bundles.values():
        opened = session((folder / ONNX).read_bytes())
        (given,), (told,) = opened.get_inputs(), opened.get_outputs()
        n = len(market.routes)
        assert (given.name, given.type, given.shape) == ("observation", "tensor(double)", ["n", 13 + 6 * n])
        assert (told.name, told.type, told.shape) == ("scores", "tensor(double)", ["n", 1 + n])


def test_one_state_scores_as_in_a_batch(bundles: dict[str, Path], states: States) -> None:
    obs = states.obs[::5_000]
    for folder in bundles.values():
        opened = session((folder / ONNX).read_bytes())
        alone = np.concatenate([run_scores(opened, row[None]) for row in obs])
        np.testing.assert_allclose(alone, run_scores(opened, obs), rtol=0, atol=1e-12)


def test_one_policy_makes_one_file(runs: dict[str, tuple[Path, Any]], bundles: dict[str, Path]) -> None:
    for form, (_, policy) in runs.items():
        made: Any = snapshot(policy)
        model = additive_model(made) if form == "additive" else mlp_model(made.weights())
        assert model.SerializeToString(deterministic=True) == (bundles[form] / ONNX).read_bytes()


def test_an_mlp_bundle_holds_its_policy_in_onnx_alone(bundles: dict[str, Path]) -> None:
    bundle = load_bundle(bundles["mlp"])
    assert POLICY not in bundle.manifest["files"] and not (bundles["mlp"] / POLICY).exists()
    content = (bundles["mlp"] / ONNX).read_bytes()
    assert bundle.policy_sha256 == hashlib.sha256(content).hexdigest()
    assert "hidden layers of 16, 8 tanh units, for the 14 routes" in (bundles["mlp"] / "model_card.md").read_text()


def test_an_mlps_log_keeps_integrated_gradients_and_is_decided_again(bundles: dict[str, Path]) -> None:
    bundle = load_bundle(bundles["mlp"])
    verdict = verify_log(bundles["mlp"] / LOG, redecide=Redecider(bundle))
    assert verdict.ok and verdict.records > 90, verdict.message
    bodies = [r["body"] for r in read_log(bundles["mlp"] / LOG) if r["type"] == "decision"]
    scored = [c for body in bodies for c in body["candidates"] if c["score_e9"] is not None]
    for c in scored:
        assert c["bias_e9"] + sum(c["feature_attr_e9"].values()) + c["residual_e9"] == c["score_e9"]
    assert max(abs(c["residual_e9"]) for c in scored) < 10**6  # a thousandth of a score, of 32 steps
    assert max(abs(v) for c in scored for v in c["feature_attr_e9"].values()) > 10**8


def test_a_log_of_another_network_is_not_decided_again(bundles: dict[str, Path], tmp_path: Path) -> None:
    """The same file name and policy, one weight a little different: its first decision differs."""
    bundle = load_bundle(bundles["mlp"])
    assert isinstance(bundle.runtime, OnnxMlp)
    bundle.runtime.network.parameters()[-1].add_(0.01)  # gradients of a last bias are the same, those of the bound not
    verdict = verify_log(bundles["mlp"] / LOG, redecide=Redecider(bundle))
    assert not verdict.ok and "attr_e9" in verdict.message


def test_an_mlp_scores_its_own_routes_only(bundles: dict[str, Path], base_data: dict[str, Any], tmp_path: Path) -> None:
    fewer = tmp_path / "fewer.yaml"
    fewer.write_text(f"base: base\nname: fewer\ndark_slots: {base_data['dark_slots'][:3]}\n")
    out = tmp_path / "log"
    with pytest.raises(UserError, match="scores 14 routes, market 'fewer' has 12. Name a market with the venues"):
        explain_job(bundles["mlp"], market=str(fewer), orders=1, seed=1, out=out)
    with pytest.raises(UserError, match="scores 14 routes, market 'fewer' has 12. Name a market with the venues"):
        evaluate_job(
            [str(bundles["mlp"])], against=[], episodes=2, market=str(fewer), seed=1, decisions=0, out=out, command=""
        )
    with pytest.raises(UserError, match="Only an additive policy has functions"):
        shapes_job(bundles["mlp"], out)
    assert not out.exists()


def test_parts_of_a_bundle_are_those_of_its_run(runs: dict[str, tuple[Path, Any]], bundles: dict[str, Path]) -> None:
    trained = snapshot(runs["mlp"][1])
    assert isinstance(trained, MlpPolicy)
    low, high = observation_bounds(trained.n_routes)
    obs = np.random.default_rng(2).uniform(low, high, (50, low.size))
    own, file = MlpScorer(trained), load_bundle(bundles["mlp"]).scorer()
    np.testing.assert_allclose(file.contributions_e9(obs), own.contributions_e9(obs), rtol=0, atol=10_000)
    assert np.ptp(file.contributions_e9(obs)) > E9


# --------------------------------------------------------------------------------------------------- what is refused


def forged(folder: Path, content: bytes) -> None:
    """Another policy.onnx under a manifest that fits it."""
    (folder / ONNX).write_bytes(content)
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"][ONNX] = hashlib.sha256(content).hexdigest()
    manifest.pop("manifest_sha256")
    manifest["manifest_sha256"] = hashlib.sha256(canonical_bytes(manifest)).hexdigest()
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")


@pytest.fixture
def copied(bundles: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundles["mlp"], tmp_path / "bundle"))


def test_a_changed_byte_of_the_graph_is_refused(copied: Path) -> None:
    raw = bytearray((copied / ONNX).read_bytes())
    raw[len(raw) // 2] ^= 1
    (copied / ONNX).write_bytes(raw)
    with pytest.raises(UserError, match=r"policy\.onnx: was changed"):
        load_bundle(copied)


def _named(model: Any, name: str) -> Any:
    return next(c for c in model.graph.initializer if c.name == name)


def _as(model: Any, name: str, value: Any) -> None:
    _named(model, name).CopyFrom(onnx.numpy_helper.from_array(np.asarray(value), name))


def _elsewhere(model: Any) -> None:
    weight = _named(model, "weight_0")
    weight.ClearField("raw_data")
    weight.data_location = onnx.TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="/etc/passwd")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.graph.node.pop(), "not that of a glasspool MLP"),
        (lambda m: m.graph.node[-1].__setattr__("op_type", "Add"), "not that of a glasspool MLP"),
        (lambda m: _as(m, "action_bound", 5.0), "not that of a glasspool MLP"),
        (lambda m: m.graph.initializer.remove(_named(m, "bias_0")), "no bias_0 in it"),
        (lambda m: _as(m, "bias_0", np.zeros(3)), "shapes of its weights"),
        (lambda m: _as(m, "weight_1", np.full((8, 16), np.nan)), "not a finite float64"),
        (lambda m: _as(m, "weight_1", np.zeros((8, 16), np.float32)), "not a finite float64"),
        (lambda m: _as(m, "span", np.zeros(97)), "shapes of its weights"),
        (lambda m: m.graph.ClearField("initializer"), "no weights in it"),
        (lambda m: m.functions.add(name="f", domain="d"), "not that of a glasspool MLP"),
        (_elsewhere, "lie in another file"),
    ],
)
def test_a_graph_that_glasspool_does_not_write_is_refused(
    copied: Path, change: Callable[[Any], object], message: str
) -> None:
    """Hashes and manifest fit: what is in the file is looked at all the same."""
    model = onnx.load_model_from_string((copied / ONNX).read_bytes())
    change(model)
    forged(copied, model.SerializeToString())
    with pytest.raises(UserError, match=rf"policy\.onnx: .*{message}"):
        load_bundle(copied)


@pytest.mark.parametrize("content", [b"", b"\x00\x01", b"not a graph at all" * 9])
def test_what_is_no_onnx_file_is_refused(copied: Path, content: bytes) -> None:
    forged(copied, content)
    with pytest.raises(UserError, match=r"policy\.onnx: not a policy of this version"):
        load_bundle(copied)


def test_a_network_for_other_routes_is_refused(copied: Path) -> None:
    from glasspool.agents.onnx_graph import MlpWeights

    rng = np.random.default_rng(1)
    low, high = observation_bounds(3)
    weights = MlpWeights(
        low, high - low, ((rng.normal(size=(4, low.size)), np.zeros(4)), (np.zeros((4, 4)), np.zeros(4)))
    )
    forged(copied, mlp_model(weights).SerializeToString())
    with pytest.raises(UserError, match="does not fit the 14 routes"):
        load_bundle(copied)


def test_a_bundle_whose_policy_is_of_the_other_kind_is_refused(copied: Path, bundles: dict[str, Path]) -> None:
    text = (copied / "config.yaml").read_text().replace("policy: mlp", "policy: additive")
    (copied / "config.yaml").write_text(text)
    manifest = json.loads((copied / MANIFEST).read_text())
    manifest["files"]["config.yaml"] = hashlib.sha256(text.encode()).hexdigest()
    (copied / MANIFEST).write_text(json.dumps(manifest))
    forged(copied, (copied / ONNX).read_bytes())
    with pytest.raises(UserError, match=r"files does not fit agent.policy=additive of config\.yaml"):
        load_bundle(copied)
