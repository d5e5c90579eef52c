"""A bundle is whole or it is refused: every byte is checked, and its log is decided again by its policy."""

from __future__ import annotations

import hashlib
import json
import runpy
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glasspool.agents import bundle as bundle_module
from glasspool.agents.bundle import MANIFEST, export_bundle, load_bundle
from glasspool.agents.policies import snapshot
from glasspool.agents.redecision import Redecider
from glasspool.agents.runs import write_config
from glasspool.agents.training import Curve, make_ppo, write_training_json
from glasspool.configs.errors import UserError
from glasspool.configs.experiment import ExperimentConfig
from glasspool.configs.loading import load_market
from glasspool.envs.features import observation_bounds
from glasspool.envs.market import Market
from glasspool.envs.vector_env import EpisodeBatch, RoutingVecEnv
from glasspool.explain.canonical import canonical_bytes
from glasspool.explain.verification import verify_log

LOG = "explanations/decisions.jsonl"


def make_run(folder: Path, policy: str) -> Path:
    """A run folder as training writes it, with a policy of random weights."""
    config = ExperimentConfig.model_validate(
        {
            "name": "tiny", "market": load_market("base", ["orders.horizon_minutes={15: 1.0}"]),
            "agent": {"policy": policy, "knots": 3, "hidden": [8], "critic_hidden": [8]},
            "training": {"n_envs": 8, "steps_per_rollout": 4, "batch_size": 32, "teacher": None, "search": None},
        }
    )  # fmt: skip
    env = RoutingVecEnv(EpisodeBatch(Market(config.market), 8, 4))
    model = make_ppo(config, env, 4, None)
    if policy == "additive":
        raw = model.policy.mlp_extractor.additive.raw
        raw.data += raw.data.new_tensor(np.random.default_rng(4).normal(0, 0.3, raw.shape))
    write_config(folder, config, 4)
    model.save(folder / "policy.zip")
    write_training_json(folder, config, 4, Curve(), done=True)
    return folder


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("run"), "additive")


@pytest.fixture(scope="module")
def bundle_dir(run_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_bundle(run_dir, tmp_path_factory.mktemp("out") / "bundle", orders=1, seed=1_000)


@pytest.fixture
def copied(bundle_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle_dir, tmp_path / "bundle"))


def test_a_bundle_holds_what_it_should(bundle_dir: Path) -> None:
    files = {p.relative_to(bundle_dir).as_posix() for p in bundle_dir.rglob("*") if p.is_file()}
    assert files == {
        "policy.json", "policy.onnx", "config.yaml", MANIFEST, "model_card.md", LOG, f"{LOG}.checkpoints",
        "explanations/decisions.parquet",
    }  # fmt: skip
    manifest = json.loads((bundle_dir / MANIFEST).read_text())
    assert manifest["files"].keys() == files - {MANIFEST}
    assert manifest["policy_id"] == "tiny-s4" and manifest["simulated"] is True
    assert {c["rule"] for c in manifest["rule_constants"]} == {"tick", "access_fee_cap", "round_lot"}
    packages = {"glasspool", "python", "numpy", "torch", "stable-baselines3", "onnx", "onnxruntime"}
    assert packages == manifest["versions"].keys()


def test_the_bundle_scores_as_the_trained_policy(bundle_dir: Path, run_dir: Path) -> None:
    """The integer runtime against torch in float32, over the whole range of the features."""
    from stable_baselines3 import PPO

    trained = PPO.load(run_dir / "policy.zip", device="cpu").policy
    runtime = load_bundle(bundle_dir).runtime
    low, high = observation_bounds(len(runtime.kind))
    obs = np.random.default_rng(1).uniform(low, high, (200, low.size))
    actor = trained.mlp_extractor.forward_actor(trained.obs_to_tensor(obs.astype(np.float32))[0]).detach().numpy()
    np.testing.assert_allclose(runtime.scores(obs), actor, atol=1e-5)
    exact = snapshot(trained).scores_e9(obs)  # type: ignore[attr-defined]
    assert np.array_equal(runtime.scores_e9(obs), exact)
    assert np.ptp(exact, axis=0).min() > 10**7  # the weights are not the zeros of a fresh policy


def test_the_bundles_log_is_decided_again_by_its_policy(bundle_dir: Path) -> None:
    verdict = verify_log(bundle_dir / LOG, redecide=Redecider(load_bundle(bundle_dir)))
    assert verdict.ok and verdict.records > 90, verdict.message


def test_ten_cases_for_fresh_readers_are_ten_decisions_with_their_key(
    bundle_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    script = Path(__file__).parents[2] / "scripts" / "fresh_reader_cases.py"
    monkeypatch.setattr("sys.argv", ["fresh_reader_cases.py", str(bundle_dir), "--out", str(tmp_path / "readers")])
    runpy.run_path(str(script), run_name="__main__")
    pages = [Path(line) for line in capsys.readouterr().out.splitlines()]
    key = json.loads((tmp_path / "readers" / "key.json").read_text())
    assert [p.name for p in pages] == [f"case-{i:02d}.html" for i in range(1, 11)] == list(key)
    assert len({told["decision_id"] for told in key.values()}) == 10
    assert len({told["picked_because"] for told in key.values()}) == 10
    for page in pages:
        html = page.read_text()
        assert f"Decision {key[page.name]['decision_id']}" in html and len(html) > 10_000
    assert "from the page alone" in (tmp_path / "readers" / "questions.md").read_text()


def test_any_changed_byte_is_refused_with_its_file(copied: Path) -> None:
    """Three random bytes of every file, one bit each; in the manifest 40."""
    rng = np.random.default_rng(11)
    files = [p for p in copied.rglob("*") if p.is_file()]
    for file in files:
        good = file.read_bytes()
        for _ in range(40 if file.name == MANIFEST else 3):
            bad = bytearray(good)
            bad[rng.integers(len(bad))] ^= 1 << int(rng.integers(8))
            file.write_bytes(bytes(bad))
            with pytest.raises(UserError, match=file.name):
                load_bundle(copied)
        file.write_bytes(good)
    load_bundle(copied)


def test_white_space_in_the_manifest_is_a_change(copied: Path) -> None:
    path = copied / MANIFEST
    path.write_text(path.read_text() + " ")
    with pytest.raises(UserError, match="does not match its own manifest_sha256"):
        load_bundle(copied)


@pytest.mark.parametrize("name", ["policy.json", "config.yaml", MANIFEST, "model_card.md", LOG])
def test_a_missing_file_is_named(copied: Path, name: str) -> None:
    (copied / name).unlink()
    with pytest.raises(UserError, match=Path(name).name):
        load_bundle(copied)


def forged(folder: Path, **changes: Any) -> None:
    """A manifest with changed content under a fresh hash, as another version might write it."""
    manifest = json.loads((folder / MANIFEST).read_text()) | changes
    manifest.pop("manifest_sha256")
    manifest["manifest_sha256"] = hashlib.sha256(canonical_bytes(manifest)).hexdigest()
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 2}, "version 2; this version reads"), ({"format": "zip"}, "format 'zip'"),
        ({"feature_schema_sha256": "0" * 64}, "feature_schema_sha256"),
        ({"files": {}}, "files is missing or incomplete"),
        ({"files": []}, "files is missing or incomplete"), ({"policy_id": 4}, "policy_id"),
    ],
)  # fmt: skip
def test_a_manifest_of_another_kind_is_refused(copied: Path, changes: dict[str, Any], message: str) -> None:
    forged(copied, **changes)
    with pytest.raises(UserError, match=message):
        load_bundle(copied)


def test_files_outside_the_bundle_are_refused(copied: Path) -> None:
    files = json.loads((copied / MANIFEST).read_text())["files"]
    forged(copied, files=files | {"../secret": "0" * 64})
    with pytest.raises(UserError, match="lies outside the bundle"):
        load_bundle(copied)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p.pop("kinds"), "KeyError"),
        (lambda p: p["bias_e9"].update(take="x"), "ValueError"),
        (lambda p: p["route_kind"].pop(), "do not fit the 14 routes"),
        (lambda p: p["route_kind"].__setitem__(0, 9), "do not fit the 14 routes"),
        (lambda p: p["shapes_e9"]["take"]["gap_frac"].append(1), "ValueError"),
    ],
)
def test_tables_of_another_shape_are_refused(copied: Path, change: Any, message: str) -> None:
    policy = json.loads((copied / "policy.json").read_text())
    change(policy)
    (copied / "policy.json").write_text(json.dumps(policy))
    files = json.loads((copied / MANIFEST).read_text())["files"]
    digest = hashlib.sha256((copied / "policy.json").read_bytes()).hexdigest()
    forged(copied, files=files | {"policy.json": digest})
    with pytest.raises(UserError, match=rf"policy\.json: .*{message}"):
        load_bundle(copied)


def test_tables_that_break_a_stated_direction_are_refused_at_load(copied: Path) -> None:
    """Hashes and manifest fit, as after an export by a faulty trainer: the knots are looked at all the same."""
    policy = json.loads((copied / "policy.json").read_text())
    policy["shapes_e9"]["rest"]["markout_hs"][-1] = policy["shapes_e9"]["rest"]["markout_hs"][-2] - 1
    (copied / "policy.json").write_text(json.dumps(policy))
    manifest = json.loads((copied / MANIFEST).read_text())
    sha = hashlib.sha256((copied / "policy.json").read_bytes()).hexdigest()
    forged(copied, files=manifest["files"] | {"policy.json": sha})
    with pytest.raises(UserError, match=r"rest: markout_hs falls by 1 \(1e-9\) up to 1, but .*agent.monotone"):
        load_bundle(copied)


def test_a_config_that_does_not_validate_is_refused(copied: Path) -> None:
    path = copied / "config.yaml"
    path.write_text(path.read_text().replace("knots: 3", "knots: 1"))
    files = json.loads((copied / MANIFEST).read_text())["files"]
    forged(copied, files=files | {"config.yaml": hashlib.sha256(path.read_bytes()).hexdigest()})
    with pytest.raises(UserError, match=r"config\.yaml: not a config of this version"):
        load_bundle(copied)


def test_a_bundle_may_come_without_a_sample_log(run_dir: Path, tmp_path: Path) -> None:
    bundle = export_bundle(run_dir, tmp_path / "bundle", orders=0, seed=1)
    assert not (bundle / "explanations").exists()
    assert "No sample log in this bundle" in (bundle / "model_card.md").read_text()
    assert load_bundle(bundle).runtime.n_routes == 14


def test_a_bundle_is_replaced_but_nothing_else_is(run_dir: Path, copied: Path, tmp_path: Path) -> None:
    (copied / "stale.txt").write_text("from before")
    export_bundle(run_dir, copied, orders=1, seed=1_001)
    assert not (copied / "stale.txt").exists()
    assert load_bundle(copied).manifest["seeds"] == {"training": 4, "explanations": 1_001}
    other = tmp_path / "thesis"
    other.mkdir()
    (other / "chapter1.txt").write_text("mine")
    for out in (other, other / "chapter1.txt"):
        with pytest.raises(UserError, match="something that is no bundle"):
            export_bundle(run_dir, out, orders=1, seed=1)
    assert (other / "chapter1.txt").read_text() == "mine"
    assert {p.name for p in tmp_path.iterdir()} == {"bundle", "thesis"}


def test_a_failing_export_leaves_the_old_bundle_and_no_rubbish(
    run_dir: Path, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any) -> str:
        raise OSError("disk full")

    monkeypatch.setattr(bundle_module, "model_card", fail)
    for out in (copied, copied.with_name("new")):
        with pytest.raises(OSError, match="disk full"):
            export_bundle(run_dir, out, orders=1, seed=1)
    assert [p.name for p in copied.parent.iterdir()] == ["bundle"]
    load_bundle(copied)


def test_the_model_card_says_whether_it_was_evaluated(run_dir: Path, bundle_dir: Path, tmp_path: Path) -> None:
    assert "Not evaluated" in (bundle_dir / "model_card.md").read_text()
    evaluated = Path(shutil.copytree(run_dir, tmp_path / "run"))
    comparison = {
        "router": "learned", "baseline": "rule_sor", "metric": "vwap_slippage_bps", "mean_difference_bps": 0.25,
        "ci95_bps": [0.125, 0.375],
    }  # fmt: skip
    (evaluated / "evaluation.json").write_text(json.dumps({"episodes": 9, "market": "m", "comparisons": [comparison]}))
    card = (export_bundle(evaluated, tmp_path / "b", orders=1, seed=1) / "model_card.md").read_text()
    assert "| learned | rule_sor | vwap_slippage_bps | +0.250 | +0.125 to +0.375 |" in card  # what did not hold, too
    assert "SIMULATED" in card.splitlines()[0] and "Prohibited: live orders" in card


def test_no_pickle_is_read_from_a_bundle(bundle_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pickle

    import torch

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a pickle was read")

    for module, name in ((pickle, "load"), (pickle, "loads"), (pickle, "Unpickler"), (torch, "load")):
        monkeypatch.setattr(module, name, refuse)
    load_bundle(bundle_dir)
    with pytest.raises(AssertionError, match="a pickle was read"):  # the trap does close
        pickle.loads(b"")


def test_what_is_no_run_and_what_is_no_bundle_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a run folder"):
        export_bundle(tmp_path, tmp_path / "out", orders=1, seed=1)
    with pytest.raises(UserError, match=r"not a bundle \(no manifest\.json\)"):
        load_bundle(tmp_path)


@pytest.mark.parametrize("label", ["additive", "mlp"])
def test_the_policies_behind_the_tables_are_five_seeds_of_one_config(label: str) -> None:
    root = Path(__file__).resolve().parents[2]
    found = [load_bundle(path) for path in sorted((root / "benchmarks" / "policies").glob(f"{label}-s*"))]
    assert [bundle.config.seed for bundle in found] == [1, 2, 3, 4, 5]
    assert len({bundle.config.model_copy(update={"seed": 0}).model_dump_json() for bundle in found}) == 1
    assert len({bundle.policy_sha256 for bundle in found}) == 5
    shipped = load_bundle(root / "checkpoints" / "default").policy_sha256
    assert (shipped == found[0].policy_sha256) == (label == "additive")
