"""Train one seed of an experiment into its folder."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...configs.errors import UserError
from ...configs.experiment import ExperimentConfig
from ...configs.loading import load_experiment
from ...envs.market import Market
from ..registry import named_router
from ..runs import RANGES, default_folder, read_config, training_summary, write_config
from ..training import train, training_market
from .progress import progress_bar


def train_job(
    config: str, overrides: Sequence[str], seed: int | None, out: Path | None, *, resume: bool = False,
    overwrite: bool = False,
) -> Path:  # fmt: skip
    """Train one seed into its folder, with a progress bar; returns the folder. A run that lies there is gone on with
    (`resume`) or replaced (`overwrite`), or refused."""
    experiment = load_experiment(config, overrides)
    folder = out or default_folder(experiment, experiment.seed if seed is None else seed)
    if resume and (folder / "config.yaml").is_file():
        experiment = read_config(folder)
        if overrides or seed not in (None, experiment.seed):
            raise UserError(
                f"--resume goes on with the config and seed ({experiment.seed}) that {folder} was begun with. "
                "Leave out --set and --seed (a time limit can be changed in its config.yaml), or name another folder."
            )
    seed = experiment.seed if seed is None else seed
    # refuse what cannot be trained or evaluated before anything is written or replaced
    Market(experiment.market)
    Market(training_market(experiment))
    if experiment.training.teacher is not None:
        named_router(experiment.training.teacher)
    if not resume and (folder / "training.json").is_file():
        if not overwrite:
            done = "finished" if (folder / "policy.zip").is_file() else "begun"
            raise UserError(
                f"{folder}: holds a {done} run. Name another folder with --out, go on with it (--resume), or replace "
                "it (--overwrite)."
            )
        files = ("best.zip", "checkpoint.zip", "search.pt", "policy.zip", RANGES, "training.json", "evaluation.json")
        for name in ("tensorboard", *files):
            target = folder / name
            shutil.rmtree(target) if target.is_dir() else target.unlink(missing_ok=True)
    write_config(folder, experiment, seed)
    run_training(experiment, seed, folder, resume=resume)
    return folder


def run_training(experiment: ExperimentConfig, seed: int, folder: Path, *, resume: bool) -> None:
    """Train with a bar that shows ETA, training slippage and the last validation against the rule SOR."""
    limit = experiment.training.max_seconds
    with progress_bar("training", experiment.market) as bar:
        task = bar.add_task("", total=1.0, note="starting")
        started = time.perf_counter()

        def report(done: float, train_bps: float, curve: Any) -> None:
            if limit is not None:
                done = max(done, (time.perf_counter() - started) / limit)
            notes = []
            if curve.points:
                notes.append(f"{curve.points[-1]['validation_vs_sor_bps']:+.2f} bps against rule_sor")
            if not math.isnan(train_bps):
                notes.append(f"slippage {train_bps:+.2f} bps")
            bar.update(task, completed=min(done, 1.0), note=", ".join(notes))

        train(experiment, seed, folder, resume=resume, report=report)
        bar.update(task, completed=1.0)


def outcome(folder: Path) -> str:
    """What training came to, in a sentence or two."""
    summary, teacher = training_summary(folder), read_config(folder).training.teacher
    best = min(summary["curve"], key=lambda point: point["validation_slippage_hs"])
    lo, hi = best["validation_vs_sor_ci95_bps"]
    text = (
        f"{summary['steps']:,} decisions in {summary['seconds']:.0f} s; kept: the policy after {best['step']:,}, "
        f"{best['validation_vs_sor_bps']:+.2f} bps [{lo:+.2f}, {hi:+.2f}] against rule_sor on validation orders"
    )
    if best["step"] > 0:
        return text
    what = "the policy as it was begun" if teacher is None else f"the imitation of {teacher}"
    return f"{text}\nwarning: training found nothing better than {what}, so that is what was kept. Train for longer."
