"""Learned policies on problems with a known optimum: train seeds, evaluate each exactly, and table the gap.

The policy sees the schedule, time and position of the order (`oracle_views.py`), so that a decision is a function of
the problem's state and its cost is a finite sum. The deterministic policy (mean scores, no exploration) is what is
evaluated, and nothing exact enters training.
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
import numpy.typing as npt
from scipy import stats

from ..configs.oracle_training import oracle_training
from ..envs.controls import release_rows
from ..envs.features import N_GLOBAL, observe_rows
from ..envs.market import Market, proposals_from_scores, stream_key
from .oracle_markets import CONTINUOUS_SHARES, LOT_SHARES, OracleParams, market_of
from .oracle_problems import Problem, best_simple_cost, optimum_of, problems_of
from .oracle_training import train_policy
from .oracle_views import SIGNAL
from .oracles.fill_paths import cost_of_policy
from .oracles.lot_problem import LotRoutingParams
from .oracles.lot_regimes import belief_chain, evaluate_lot_regimes
from .oracles.lot_routing import evaluate_lot_policy
from .router import ScoringRouter

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Report = Callable[[dict[str, Any]], None]


# --------------------------------------------------------------------------------------------- exact evaluation


class StateDecisions:
    """What a score policy sends in given states, through the simulator's own observation, pace, weights and release."""

    def __init__(self, params: OracleParams, policy: ScoringRouter) -> None:
        self.market = Market(market_of(params))
        self.policy = policy

    def child_shares(self, slots: IntArray, remaining_shares: IntArray, belief: float | None = None) -> IntArray:
        """(n, R) shares released in slot `slots` (n,) with `remaining_shares` (n,) > 0 left, routes lit first.

        `belief` in the first regime, where one is hidden.
        """
        n, market = len(slots), self.market
        b, obs = market.batch(n)
        market.reset(stream_key(0, "test"), np.arange(n), np.zeros(n, np.int64), b, obs)
        opening = obs[:, N_GLOBAL:].copy()
        b.order["slot"], b.order["remaining_shares"] = slots, remaining_shares
        observe_rows(market.rules, b, 0, len(slots), obs, 0)
        obs[:, N_GLOBAL:] = opening
        if belief is not None:
            obs[:, SIGNAL] = 2 * belief - 1
        work, weights = np.zeros(n), np.zeros((n, len(market.routes)))
        proposals_from_scores(market.rules, b, self.policy.scores(obs), work, weights)
        release_rows(market.rules, b, work, weights)
        return b.child_shares


def lot_actions(params: LotRoutingParams, policy: ScoringRouter, belief: float | None = None) -> IntArray:
    """(n_slots, lots + 1, 1 + n_pools) lots that the policy sends in every state; nothing when nothing is left."""
    n_slots = len(params.u)
    slots, lots = np.repeat(np.arange(n_slots), params.lots), np.tile(np.arange(1, params.lots + 1), n_slots)
    sent = StateDecisions(params, policy).child_shares(slots, lots * LOT_SHARES, belief) // LOT_SHARES
    actions = np.zeros((n_slots, params.lots + 1, sent.shape[1]), np.int64)
    actions[slots, lots] = sent
    return actions


def exact_cost(params: OracleParams, policy: ScoringRouter) -> float:
    """Expected cost of the deterministic policy in the problem's unit, over all fill paths."""
    if isinstance(params, LotRoutingParams) and params.regimes is not None:
        beliefs = belief_chain(params).prob
        by_belief = [lot_actions(params, policy, float(belief)) for belief in beliefs]
        return evaluate_lot_regimes(params, np.stack(by_belief, axis=1))
    if isinstance(params, LotRoutingParams):
        return evaluate_lot_policy(params, lot_actions(params, policy))
    decisions = StateDecisions(params, policy)
    problem = params.fill_problem()

    def quantities(slot: int, remaining: float) -> tuple[float, float]:
        left = max(1, round(remaining / problem.x0 * CONTINUOUS_SHARES))
        lit, dark = decisions.child_shares(np.array([slot]), np.array([left]))[0] / left * remaining
        return float(lit), float(dark)

    return cost_of_policy(problem, quantities)


def train_oracle(problem: Problem, policy: str, seed: int, out_dir: Path) -> dict[str, Any]:
    """One seed: train, evaluate exactly, and write `<problem>-<policy>-s<seed>.json`; a finished one is read back, a
    stopped one goes on from its last saved search.

    Returns:
        `{"problem", "policy", "seed", "cost", "gap_percent", "seconds", "cpu_seconds", "config"}`; cost in the
        unit of the problem, seconds by the wall clock and of the processor.
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
    cost = exact_cost(problem.params, train_policy(problem.params, policy, seed, settings, checkpoint))
    optimum = optimum_of(problem.params)
    result = {
        "problem": problem.name, "policy": policy, "seed": seed, "cost": cost,
        "gap_percent": 100 * (cost - optimum) / abs(optimum), "seconds": round(time.perf_counter() - started, 1),
        "cpu_seconds": round(time.process_time() - started_cpu, 1), "config": config,
    }  # fmt: skip
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(result, indent=1), encoding="utf-8")
    partial.replace(path)
    checkpoint.unlink(missing_ok=True)
    return result


# --------------------------------------------------------------------------------------------- table


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
        "best_simple_rule", "seeds", "seconds_per_seed", "pass_mark_percent", "passed"}`. The interval is a t interval
        over the seeds, null for a single one; `passed`: the mean gap is at or below the mark.

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
        "seeds": [result["seed"] for result in results],
        "seconds_per_seed": float(np.mean([result["seconds"] for result in results])),
        "pass_mark_percent": problem.mark_percent, "passed": mean <= problem.mark_percent,
    }  # fmt: skip
