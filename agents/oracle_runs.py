"""Learned policies on problems with a known optimum: train seeds, evaluate each exactly, and table the gap.

The policy sees the schedule, time and position of the order (`oracle_views.py`), so that a decision is a function of
the problem's state and its cost is a finite sum (`oracle_evaluation.py`). The deterministic policy (mean scores, no
exploration) is what is evaluated, and nothing exact enters training (`oracle_training.py`).
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from ..configs.oracle_training import oracle_training
from .oracle_evaluation import exact_cost, worst_regret
from .oracle_problems import Problem, best_simple_cost, optimum_of, problems_of
from .oracle_training import train_policy

Report = Callable[[dict[str, Any]], None]


def train_oracle(problem: Problem, policy: str, seed: int, out_dir: Path) -> dict[str, Any]:
    """One seed: train, evaluate exactly, and write `<problem>-<policy>-s<seed>.json`; a finished one is read back, a
    stopped one goes on from its last saved search.

    Returns:
        `{"problem", "policy", "seed", "cost", "gap_percent", "action_regret_percent", "seconds", "cpu_seconds",
        "config"}`; cost in the unit of the problem, the worst regret of a decision (`worst_regret`) in % of the
        optimum, seconds of training by the wall clock and of the processor.
    """
    settings = oracle_training()
    config = {"training": settings.model_dump(mode="json"), "problem": problem.params.model_dump(mode="json")}
    path = out_dir / f"{problem.name}-{policy}-s{seed}.json"
    if path.is_file():
        done: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if done["config"] == config:
            return done
    out_dir.mkdir(parents=True, exist_ok=True)
    checkpoint = path.with_suffix(".search")
    started, started_cpu = time.perf_counter(), time.process_time()
    learned = train_policy(problem.params, policy, seed, settings, checkpoint)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - started_cpu
    cost, regret = exact_cost(problem.params, learned), worst_regret(problem.params, learned)
    optimum = optimum_of(problem.params)
    result = {
        "problem": problem.name, "policy": policy, "seed": seed, "cost": cost,
        "gap_percent": 100 * (cost - optimum) / abs(optimum), "action_regret_percent": 100 * regret / abs(optimum),
        "seconds": round(seconds, 1), "cpu_seconds": round(cpu_seconds, 1), "config": config,
    }  # fmt: skip
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(result, indent=1), encoding="utf-8")
    partial.replace(path)
    checkpoint.unlink(missing_ok=True)
    return result


def oracle_table(
    names: Sequence[str], policy: str, seeds: Sequence[int], out_dir: Path, report: Report | None = None
) -> list[dict[str, Any]]:
    """Train every seed on every problem, as many at a time as there are cores, and compare with the optimum.

    Args:
        names: problems by name or file, see `problems_of`.
        seeds: training seeds, all different.
        out_dir: where finished seeds are kept; a stopped table resumes from them.
        report: called with the result of every seed (see `train_oracle`) as it is done.

    Returns:
        One row a problem: `{"problem", "policy", "optimum", "learned_mean", "gap_percent", "gap_ci95_percent",
        "best_simple_rule", "action_regret_percent", "gaps_percent", "seeds", "seconds_per_seed",
        "cpu_seconds_per_seed", "pass_mark_percent", "passed"}`. The interval is a t interval over the seeds, null for
        a single one; the regret is the worst of all seeds; `passed`: the mean gap is at or below the mark.

    Raises:
        UserError: an unknown problem.
    """
    problems = problems_of(names)
    jobs = [(problem, policy, seed, out_dir) for problem in problems for seed in seeds]
    results: list[dict[str, Any]] = []
    # spawned, not forked: torch and numba hold threads that a fork would break
    with ProcessPoolExecutor(min(os.cpu_count() or 1, len(jobs)), get_context("spawn")) as pool:
        for future in as_completed([pool.submit(train_oracle, *job) for job in jobs]):
            results.append(future.result())
            if report is not None:
                report(results[-1])
    return [_row(problem, policy, [r for r in results if r["problem"] == problem.name]) for problem in problems]


def _row(problem: Problem, policy: str, results: list[dict[str, Any]]) -> dict[str, Any]:
    results = sorted(results, key=lambda result: result["seed"])
    gaps = np.array([result["gap_percent"] for result in results])
    mean, interval = float(gaps.mean()), None
    if len(gaps) > 1:
        half_width = float(stats.t.ppf(0.975, len(gaps) - 1) * gaps.std(ddof=1) / math.sqrt(len(gaps)))
        interval = [mean - half_width, mean + half_width]
    return {
        "problem": problem.name, "policy": policy, "optimum": optimum_of(problem.params),
        "learned_mean": float(np.mean([result["cost"] for result in results])), "gap_percent": mean,
        "gap_ci95_percent": interval, "best_simple_rule": best_simple_cost(problem.params),
        "action_regret_percent": max(result["action_regret_percent"] for result in results),
        "gaps_percent": gaps.tolist(), "seeds": [result["seed"] for result in results],
        "cpu_seconds_per_seed": float(np.mean([result["cpu_seconds"] for result in results])),
        "seconds_per_seed": float(np.mean([result["seconds"] for result in results])),
        "pass_mark_percent": problem.mark_percent, "passed": mean <= problem.mark_percent,
    }  # fmt: skip
