"""Train, evaluate, export and report in one go."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from ...tca.report import write_report
from ..bundle import export_bundle
from .evaluation import evaluate_job
from .training import outcome, train_job


def demo_job(out: Path, minutes: float, command: str) -> tuple[Path, Path, dict[str, Any], str]:
    """Everything in one go into `out`: run/, evaluation/ and bundle/; returns report page, bundle, evaluation, what
    training came to."""
    run, evaluation, bundle = out / "run", out / "evaluation", out / "bundle"
    train_job("demo", [f"training.max_seconds={minutes * 60:g}"], None, run, overwrite=True)
    folder, payload = evaluate_job(
        [str(run)], against=None, episodes=None, market=None, seed=None, decisions=2, out=evaluation, command=command
    )
    shutil.copyfile(folder / "evaluation.json", run / "evaluation.json")
    export_bundle(run, bundle, orders=2, seed=1_000)
    return write_report(evaluation), bundle, payload, outcome(run)
