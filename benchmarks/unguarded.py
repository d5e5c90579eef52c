"""A policy without its fallback, which would hand decisions far from what training met to the rule SOR."""

from __future__ import annotations

from pathlib import Path

from glasspool.agents.bundle import load_bundle
from glasspool.agents.router import Router, ScoreRouter, ScoringRouter
from glasspool.agents.runs import is_bundle, load_run


def unguarded(folder: str | Path) -> tuple[ScoringRouter, Router]:
    """Scores and router of a run folder or bundle. Raises UserError as their loaders."""
    path = Path(folder)
    if is_bundle(path):
        runtime = load_bundle(path).runtime
        return runtime, ScoreRouter(runtime)
    run = load_run(path)
    return run.policy, run.router
