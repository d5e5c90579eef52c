"""A bundle: a policy as plain tables or as an ONNX graph, with everything needed to check it. No pickle.

policy.json       additive only: the functions, knot by knot; they decide
policy.onnx       the same scores as a graph; an MLP's decides
config.yaml       the experiment     model_card.md     explanations/     decision log over sample orders
manifest.json     hashes, versions, rule constants
"""

from __future__ import annotations

import datetime
import hashlib
import json
import platform
import secrets
import shutil
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from pydantic import ValidationError

from ..configs.errors import UserError
from ..configs.experiment import ExperimentConfig
from ..configs.loading import dump_yaml, read_yaml
from ..configs.rule_table import RULE_TABLE_VERSION, table_rows
from ..envs.features import FEATURES, N_GLOBAL, N_ROUTE, schema_sha256
from ..envs.market import Market
from ..envs.venues import routes_of
from ..explain.canonical import canonical_bytes
from ..explain.facts import Limits
from ..explain.monotonicity import monotone_breaks
from .explaining import write_decision_log
from .fallback import FeatureRanges, seen_ranges
from .integrated_gradients import MlpScorer
from .model_card import model_card
from .onnx_graph import additive_model, mlp_model
from .onnx_policy import OnnxMlp
from .policies import MlpPolicy
from .router import ScoreRouter, ScoringRouter
from .runs import Run, load_run, refuse_bounds, what_lies
from .runtime import AdditiveRuntime

FORMAT, VERSION = "glasspool-bundle", 1
POLICY, ONNX, CONFIG, CARD, MANIFEST = "policy.json", "policy.onnx", "config.yaml", "model_card.md", "manifest.json"
LOG = "explanations/decisions.jsonl"
_REQUIRED = (CONFIG, CARD)
_PACKAGES = ("glasspool", "numpy", "torch", "stable-baselines3", "onnx", "onnxruntime")


@dataclass(frozen=True)
class Bundle:
    """A checked bundle."""

    runtime: AdditiveRuntime | OnnxMlp
    config: ExperimentConfig
    manifest: dict[str, Any]
    policy_id: str
    ranges: FeatureRanges

    @property
    def policy_file(self) -> str:
        """The file that decides."""
        return POLICY if POLICY in self.manifest["files"] else ONNX

    @property
    def policy_sha256(self) -> str:
        return str(self.manifest["files"][self.policy_file])

    @property
    def exact(self) -> bool:
        return isinstance(self.runtime, AdditiveRuntime)

    def scorer(self) -> AdditiveRuntime | MlpScorer:
        """The policy as explanations see it."""
        return self.runtime if isinstance(self.runtime, AdditiveRuntime) else MlpScorer(self.runtime)

    def additive(self) -> AdditiveRuntime:
        """Raises UserError: an MLP."""
        if not isinstance(self.runtime, AdditiveRuntime):
            raise UserError(f"bundle {self.policy_id}: its policy is an MLP. Only an additive policy has functions.")
        return self.runtime


def export_bundle(run_dir: str | Path, out: str | Path, *, orders: int, seed: int) -> Path:
    """Write the bundle of a run; it appears at `out` whole or not at all. A bundle that lies there is replaced.

    Args:
        orders: sample parents of the test stream whose decisions are logged in it; 0: no log.

    Raises:
        UserError: not a finished run, or something at `out` that is no bundle.
    """
    run_dir, out = Path(run_dir), Path(out)
    run = load_run(run_dir)
    refuse_bounds(run, "exported")
    if isinstance(run.policy, AdditiveRuntime):
        check_monotone(run.policy, run.config, run_dir / "policy.zip")
    _refuse_other(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.{secrets.token_hex(4)}.partial")
    try:
        partial.mkdir(parents=True)
        command = f"glasspool export {run_dir} --orders {orders} --seed {seed} --out {out}"
        _write_files(partial, run, orders, seed, command)
        _put_in_place(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return out


def load_bundle(path: str | Path) -> Bundle:
    """Read a bundle and check everything in it: format, every hash, feature table, config, tables.

    Raises:
        UserError: with the file and the reason.
    """
    folder = Path(path)
    manifest = _read_manifest(folder)
    for name, expected in manifest["files"].items():
        file = folder / name
        if not file.is_file():
            raise UserError(f"{file}: missing, though the manifest lists it. Export the run again.")
        if (found := _sha256(file)) != expected:
            raise UserError(f"{file}: was changed. SHA-256 {found}, manifest {expected}. Export the run again.")
    if manifest["feature_schema_sha256"] != schema_sha256():
        raise UserError(
            f"{folder / MANIFEST}: feature_schema_sha256 is not that of this version's features. Use glasspool "
            f"{manifest['versions'].get('glasspool')}, or train and export again."
        )
    config = _read_config(folder / CONFIG)
    n_routes = len(routes_of(config.market))
    ranges = FeatureRanges.read(manifest.get("feature_ranges"), folder / MANIFEST)
    decides = POLICY if config.agent.policy == "additive" else ONNX
    if decides not in manifest["files"] or (decides == ONNX and POLICY in manifest["files"]):
        raise UserError(
            f"{folder / MANIFEST}: files does not fit agent.policy={config.agent.policy} of {CONFIG}, whose policy is "
            f"{decides} alone. Export the run again."
        )
    if decides == ONNX:
        network = _read_onnx(folder / ONNX, manifest["policy_id"], n_routes)
        return Bundle(network, config, manifest, manifest["policy_id"], ranges)
    runtime = _read_policy(folder / POLICY, manifest["policy_id"], n_routes)
    check_monotone(runtime, config, folder / POLICY)
    return Bundle(runtime, config, manifest, manifest["policy_id"], ranges)


def check_monotone(runtime: AdditiveRuntime, config: ExperimentConfig, where: Path) -> None:
    """Refuse tables that are not monotone where the config says so. Raises UserError with the first place."""
    if config.agent.monotone and (breaks := monotone_breaks(runtime.table_e9, runtime.kind_names)):
        raise UserError(
            f"{where}: {breaks[0]}, but its config says agent.monotone ({len(breaks)} such places). Train again, or "
            "export a run with agent.monotone=false."
        )


def _write_files(folder: Path, run: Run, orders: int, orders_seed: int, command: str) -> None:
    run_dir, config, seed = run.path, run.config, run.seed
    policy_id = f"{config.name}-s{seed}"
    runtime, decides = _write_policy(folder, run.policy, policy_id)
    scorer = runtime if isinstance(runtime, AdditiveRuntime) else MlpScorer(runtime)
    (folder / CONFIG).write_text(dump_yaml(config.model_copy(update={"seed": seed})), encoding="utf-8")
    created = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    versions = {"python": platform.python_version()} | {name: version(name) for name in _PACKAGES}
    market = Market(config.market)
    ranges = run.ranges or seen_ranges(market, ScoreRouter(runtime), run.seed)
    counts = dict.fromkeys(("orders", "decisions", "fallbacks", "children", "fills", "records"), 0)
    if orders:
        (folder / LOG).parent.mkdir()
        counts = write_decision_log(
            market, scorer, folder / LOG, orders=orders, seed=orders_seed, stream="test", policy_id=policy_id,
            ranges=ranges, run_facts={
                "run_id": f"{policy_id}-export", "policy_sha256": _sha256(folder / decides),
                "config_sha256": _sha256(folder / CONFIG), "versions": versions, "command": command,
                "operator": "glasspool export",
            },
        )  # fmt: skip
    training = _read_json(run_dir / "training.json", "training.json")
    evaluation = _read_json(run_dir / "evaluation.json", "evaluation.json")
    card = model_card(policy_id, config, seed, runtime, training, evaluation, counts, command, created)
    (folder / CARD).write_text(card, encoding="utf-8")
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    summary = {k: training.get(k) for k in ("seed", "steps", "seconds", "best_step", "best_validation_hs", "done")}
    manifest = {
        "format": FORMAT, "version": VERSION, "policy_id": policy_id, "created": created, "command": command,
        "files": {name: _sha256(folder / name) for name in names}, "versions": versions,
        "feature_schema_sha256": schema_sha256(), "config_sha256": _sha256(folder / CONFIG),
        "feature_ranges": ranges.body(),
        "training": {k: repr(v) if isinstance(v, float) else v for k, v in summary.items()},
        "seeds": {"training": seed, "explanations": orders_seed},
        "rule_constants": table_rows(config.market.trade_date), "rule_table_version": RULE_TABLE_VERSION,
        "control_limits": Limits.of(market).body(), "explanations": counts, "simulated": True,
    }  # fmt: skip
    manifest["manifest_sha256"] = hashlib.sha256(canonical_bytes(manifest)).hexdigest()
    (folder / MANIFEST).write_text(_manifest_text(manifest), encoding="utf-8")


def _write_policy(folder: Path, policy: ScoringRouter, name: str) -> tuple[AdditiveRuntime | OnnxMlp, str]:
    """(the policy as the bundle decides it, the file that decides)."""
    if isinstance(policy, AdditiveRuntime):
        (folder / POLICY).write_text(policy_text(policy), encoding="utf-8")
        (folder / ONNX).write_bytes(additive_model(policy).SerializeToString(deterministic=True))
        return policy, POLICY
    if not isinstance(policy, MlpPolicy):
        raise TypeError(f"a run's policy is additive or an MLP, not {type(policy).__name__}")
    content = mlp_model(policy.weights()).SerializeToString(deterministic=True)
    (folder / ONNX).write_bytes(content)
    return OnnxMlp(content, name), ONNX


def policy_text(policy: AdditiveRuntime) -> str:
    """The text of `policy.json`, whose hash names the policy wherever it is written."""
    return json.dumps(policy.to_json(), indent=1) + "\n"


def _manifest_text(manifest: dict[str, Any]) -> str:
    """The one text of a manifest, so that any changed byte shows."""
    return json.dumps(manifest, indent=1, sort_keys=True) + "\n"


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    if not path.is_file():
        raise UserError(f"{folder}: not a bundle (no {MANIFEST}). {what_lies(folder)}")
    manifest = _read_json(path, MANIFEST)
    if manifest.get("format") != FORMAT or manifest.get("version") != VERSION:
        raise UserError(
            f"{path}: format {manifest.get('format')!r} version {manifest.get('version')!r}; this version reads "
            f"{FORMAT!r} version {VERSION}. Export the run again with it."
        )
    content = {k: v for k, v in manifest.items() if k != "manifest_sha256"}
    try:
        whole = hashlib.sha256(canonical_bytes(content)).hexdigest() == manifest.get("manifest_sha256")
    except UserError:
        whole = False
    if not whole or path.read_bytes() != _manifest_text(manifest).encode():
        raise UserError(f"{path}: does not match its own manifest_sha256. It was changed; export the run again.")
    files = manifest.get("files")
    keys = {"policy_id": str, "versions": dict, "feature_schema_sha256": str, "files": dict}
    wrong = [key for key, kind in keys.items() if not isinstance(manifest.get(key), kind)]
    if wrong or not isinstance(files, dict) or any(name not in files for name in _REQUIRED):
        raise UserError(f"{path}: {wrong[0] if wrong else 'files'} is missing or incomplete. Export the run again.")
    if outside := [name for name in files if name.startswith("/") or ".." in Path(name).parts]:
        raise UserError(f"{path}: files names {outside[0]!r}, which lies outside the bundle. Export the run again.")
    return manifest


def _read_json(path: Path, what: str) -> dict[str, Any]:
    """A JSON object; {} where an optional file is missing."""
    if not path.is_file():
        return {}
    try:
        data = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: {what} is not JSON ({error}). Write it again.") from None
    if not isinstance(data, dict):
        raise UserError(f"{path}: {what} holds {type(data).__name__}, not an object. Write it again.")
    return data


def _read_config(path: Path) -> ExperimentConfig:
    try:
        return ExperimentConfig.model_validate(read_yaml(path))
    except (ValidationError, yaml.YAMLError) as error:
        raise UserError(f"{path}: not a config of this version ({error}). Export the run again.") from None


def _read_policy(path: Path, policy_id: str, n_routes: int) -> AdditiveRuntime:
    try:
        runtime = AdditiveRuntime.from_json(json.loads(path.read_bytes()), policy_id)
    except (KeyError, TypeError, ValueError, IndexError, OverflowError, AttributeError, RecursionError) as error:
        kind = type(error).__name__
        raise UserError(f"{path}: not a policy of this version ({kind}: {error}). Export again.") from None
    kinds = len(runtime.kind_names)
    fits = runtime.kind.ndim == 1 and runtime.table_e9.ndim == 3
    fits = fits and runtime.table_e9.shape[:2] == (kinds, len(FEATURES)) and runtime.table_e9.shape[2] >= 2
    if not fits or len(runtime.kind) != n_routes or not np.isin(runtime.kind, np.arange(1, kinds)).all():
        raise UserError(f"{path}: its tables do not fit the {n_routes} routes of {CONFIG} beside it. Export again.")
    return runtime


def _read_onnx(path: Path, policy_id: str, n_routes: int) -> OnnxMlp:
    try:
        network = OnnxMlp(path.read_bytes(), policy_id)
    except ValueError as error:
        raise UserError(f"{path}: not a policy of this version ({error}). Export again.") from None
    if (network.n_obs, network.n_routes) != (N_GLOBAL + n_routes * N_ROUTE, n_routes):
        raise UserError(f"{path}: its network does not fit the {n_routes} routes of {CONFIG} beside it. Export again.")
    return network


def _refuse_other(out: Path) -> None:
    """Only a bundle, or an empty folder, may lie where a bundle is to be written."""
    if not out.exists() and not out.is_symlink():
        return
    if out.is_dir() and not out.is_symlink():
        if not any(out.iterdir()) or _read_json(out / MANIFEST, MANIFEST).get("format") == FORMAT:
            return
    raise UserError(f"{out}: something that is no bundle lies there. Name another --out, or move it away.")


def _put_in_place(partial: Path, out: Path) -> None:
    old = out.with_name(f".{out.name}.{secrets.token_hex(4)}.old")
    if not out.exists():
        partial.replace(out)
        return
    out.replace(old)
    try:
        partial.replace(out)
    except OSError:
        old.replace(out)
        raise
    shutil.rmtree(old)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
