"""Run folders: where they lie, what is in them, and reading a trained policy back."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ..configs.errors import UserError, near_miss
from ..configs.experiment import ExperimentConfig
from ..configs.loading import dump_yaml, read_yaml
from .fallback import FeatureRanges
from .policies import load_policy
from .router import ScoreRouter, ScoringRouter
from .views import router_of

RANGES = "feature_ranges.json"


@dataclass(frozen=True)
class Run:
    """A trained policy with the config and seed that made it."""

    path: Path
    config: ExperimentConfig
    seed: int
    policy: ScoringRouter
    ranges: FeatureRanges | None  # of the features in training; None: a run of a version that did not store them

    @property
    def router(self) -> ScoreRouter:
        return router_of(self.policy, self.config.agent)


def default_folder(config: ExperimentConfig, seed: int) -> Path:
    return Path("runs") / f"{config.name}-s{seed}"


def write_config(folder: Path, config: ExperimentConfig, seed: int) -> None:
    """The resolved config, with the seed that is used."""
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / ".config.partial"
    partial.write_text(dump_yaml(config.model_copy(update={"seed": seed})))
    partial.replace(folder / "config.yaml")


def read_config(folder: Path) -> ExperimentConfig:
    path = folder / "config.yaml"
    if not path.is_file():
        raise UserError(f"{folder}: not a run folder (no config.yaml). {what_lies(folder)}")
    try:
        return ExperimentConfig.model_validate(read_yaml(path))
    except ValidationError as error:
        error.add_note(str(path))
        raise


def write_ranges(folder: Path, ranges: FeatureRanges) -> None:
    """`feature_ranges.json`, replaced atomically."""
    partial = folder / f".{RANGES}.partial"
    partial.write_text(json.dumps(ranges.body(), indent=1) + "\n")
    partial.replace(folder / RANGES)


def _read_ranges(folder: Path) -> FeatureRanges | None:
    path = folder / RANGES
    if not path.is_file():
        return None
    try:
        data = json.loads(path.read_text())
    except (ValueError, RecursionError):
        data = None
    return FeatureRanges.read(data, path, "Train again, or restore the file.")


def training_summary(folder: Path) -> dict[str, Any]:
    path = folder / "training.json"
    try:
        data = json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(
            f"{folder}: training.json is missing; the run has not reached its first validation yet."
        ) from None
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path}: line {error.lineno}: not JSON ({error.msg}). Train again or restore the file."
        ) from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read ({error}). Train again or restore the file.") from None
    if not isinstance(data, dict):
        raise UserError(f"{path}: holds {type(data).__name__}, not an object. Train again or restore the file.")
    return data


def load_run(folder: Path) -> Run:
    """A run folder written by `glasspool train`. Its policy.zip holds a pickle: load only your own."""
    config = read_config(folder)
    path = folder / "policy.zip"
    if not path.is_file():
        if is_bundle(folder):
            raise UserError(f"{folder}: not a run folder. {what_lies(folder)}")
        raise UserError(
            f"{folder}: no policy.zip yet. Finish training with `glasspool train ... --out {folder} --resume`."
        )
    try:
        policy = load_policy(path)
    except Exception as error:  # a damaged archive or pickle raises anything
        raise UserError(
            f"{path}: cannot be read ({type(error).__name__}: {error}). Train again or restore the file."
        ) from error
    return Run(folder, config, config.seed, policy, _read_ranges(folder))


def is_bundle(path: Path) -> bool:
    return (path / "manifest.json").is_file()


def what_lies(path: Path) -> str:
    """What a path is that is not what a command wanted, or what was probably meant, as a sentence with the mend."""
    if not path.exists():
        beside = [p.name for p in path.parent.iterdir() if p.is_dir()] if path.parent.is_dir() else []
        return near_miss(path.name, beside) or "There is no such folder; `glasspool train` and `export` make them."
    if is_bundle(path):
        return "It is a bundle: evaluate it, explain it, or export the run that it came from."
    if (path / "policy.zip").is_file():
        return "It is a run folder: evaluate it, or export it with `glasspool export RUN --out BUNDLE`."
    if (path / "evaluation.json").is_file():
        return "It is an evaluation: its page is made by `glasspool report`; name the policy instead."
    inside = (
        sorted(p.name for p in path.iterdir() if is_bundle(p) or (p / "policy.zip").is_file()) if path.is_dir() else []
    )
    if inside:
        return f"It holds {', '.join(inside)}: name {path / inside[0]}, for example."
    return "Name a run folder, which `glasspool train` makes, or a bundle, which `glasspool export` makes."


def refuse_bounds(run: Run, wanted: str) -> None:
    """Policies that see latent columns or leave the pace to another router bound and attribute gains; nobody runs them.

    Raises:
        UserError: the run is one of them.
    """
    agent = run.config.agent
    if agent.privileged != "none" or agent.routing_only:
        why = f"agent.privileged is {agent.privileged}" if agent.privileged != "none" else "agent.routing_only is on"
        raise UserError(f"{run.path}: cannot be {wanted}: {why}, so it is for evaluation only. Train without it.")
