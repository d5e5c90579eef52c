"""Evaluate policies against baselines on the same held-out orders."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...configs.errors import UserError
from ...configs.loading import load_experiment, load_market
from ...envs.market import Market
from ..bundle import policy_text
from ..comparison import POOLED, compare, episodes_frame, evaluation_payload, fills_frame, write_evaluation
from ..explaining import write_decision_log
from ..fallback import FallbackRouter, fallback_entry
from ..registry import named_router
from ..runtime import AdditiveRuntime
from .policies import fitted, ranges_of, resolve, scorer_of
from .progress import progress_bar


def evaluate_job(
    policies: Sequence[str], *, against: Sequence[str] | None, episodes: int | None, market: str | None,
    seed: int | None, decisions: int, out: Path | None, command: str, json_file: str | None = None,
) -> tuple[Path, dict[str, Any]]:  # fmt: skip
    """Paired comparison; writes the evaluation folder and returns it with the payload."""
    learned, named = resolve(policies)
    config = learned[0].config if learned else load_experiment("default")
    venue = Market(load_market(market) if market is not None else config.market)
    learned = [fitted(item, venue) for item in learned]
    wanted = list(against) if against is not None else list(config.evaluation.against)
    baselines = named + [named_router(n) for n in wanted if n not in {r.name for r in named}]
    orders = episodes if episodes is not None else config.evaluation.orders
    test_seed = seed if seed is not None else config.evaluation.seed
    of = config.name if learned else re.sub(r"[^\w.-]+", "-", policies[0])  # of a user's router: cmd:./our_sor
    folder = out or Path("runs") / f"evaluation-{of}-{venue.config.name}"
    _writable(folder, json_file)
    explained = bool(learned) and learned[0].config.agent.privileged == "none"  # a bound never is
    scorer = scorer_of(learned[0]) if explained else None
    if decisions and scorer is None:
        raise UserError("--decisions logs a learned policy: name a run (not a bound) or a bundle first.")
    with progress_bar("evaluating", venue.config) as bar:
        task = bar.add_task("", total=1.0, note="")
        by_name, runs = compare(
            venue, learned, baselines, orders=orders, seed=test_seed, fills_orders=config.evaluation.fills_orders,
            progress=lambda name, i, n: bar.update(task, completed=i / n, note=name),
        )  # fmt: skip
        bar.update(task, completed=1.0, note="")
    seeds = [item.seed for item in learned]
    policy = config.agent.policy if learned else policies[0]
    payload = evaluation_payload(venue, by_name, runs, seeds, policy=policy, seed=test_seed, command=command)
    if guarded := [item.router for item in learned if isinstance(item.router, FallbackRouter)]:
        payload["routers"][POOLED]["fallback"] = fallback_entry(guarded)
    folder.mkdir(parents=True, exist_ok=True)
    _clear(folder)
    for item in learned:
        if item.folder is not None:
            shutil.copyfile(item.folder / "training.json", folder / f"training-s{item.seed}.json")
    if isinstance(scorer, AdditiveRuntime):
        (folder / "policy.json").write_text(policy_text(scorer))
    if decisions and scorer is not None:
        write_decision_log(
            venue, scorer, folder / "decisions.jsonl", orders=decisions, seed=test_seed, stream="test",
            policy_id=f"{config.name}-s{seeds[0]}", ranges=ranges_of(learned[0]),
            run_facts={
                "policy_sha256": learned[0].policy_sha256, "config_sha256": learned[0].config_sha256,
                "command": command,
            },
        )  # fmt: skip
    write_evaluation(folder, payload, episodes_frame(by_name, runs, seeds, venue), fills_frame(by_name, runs, seeds))
    return folder, payload


def _clear(folder: Path) -> None:
    """Take away what an earlier evaluation left there: a report would tell its decisions and curves as this one's."""
    if (folder / "evaluation.json").is_file():
        for pattern in ("decisions.*", "policy.json", "training-s*.json", "report.html"):
            for path in folder.glob(pattern):
                path.unlink()


def _writable(folder: Path, json_file: str | None) -> None:
    """Refuse places that cannot be written before anything is computed."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file where a folder was expected. Name a folder with --out.")
    if json_file not in (None, "-") and not Path(json_file).resolve().parent.is_dir():
        raise UserError(f"{json_file}: its folder does not exist. Make it, or name another file with --json.")
