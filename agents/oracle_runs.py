"""Learned policies on problems with a known optimum: train seeds, evaluate each exactly, and table the gap.

The policy sees the schedule, time and position of the order; what the venues showed on the way (scorecards, last fills)
is held at its opening value, so that a decision is a function of the problem's state and its cost is a finite sum.
The deterministic policy (mean scores, no exploration) is what is evaluated, and nothing exact enters training.
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
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch as th
from scipy import stats
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback

from ..configs.experiment import AgentConfig, ExperimentConfig, TrainingConfig
from ..envs.controls import release_rows
from ..envs.features import FEATURES, N_GLOBAL, observe_rows
from ..envs.market import Market, proposals_from_scores, stream_key
from ..envs.vector_env import EpisodeBatch, RoutingVecEnv
from .oracle_markets import CONTINUOUS_SHARES, LOT_SHARES, OracleParams, market_of
from .oracle_problems import Problem, best_simple_cost, optimum_of, problems_of
from .oracles.fill_paths import cost_of_policy
from .oracles.lot_problem import LotRoutingParams
from .oracles.lot_routing import evaluate_lot_policy
from .policies import snapshot
from .router import ScoringRouter
from .training import make_ppo

Floats32 = npt.NDArray[np.float32]
FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
# What changes along an order in these markets. The functions of everything else would be a dozen more biases, and Adam,
# which moves each parameter by the learning rate, would shake their sum a dozen times as much as it should.
MOVING_FEATURES = ("time_left_frac", "remaining_frac", "gap_frac", "due_slices", "log_slice_lots")
TAIL_FRAC = 0.3  # of the training run, over which the actor's parameters are averaged
END_STD = 0.12  # of the exploration noise, when training ends; it starts at 1
DECISIONS = {
    "dark_fill_quadratic": 1_000_000, "dark_fill_adverse": 1_000_000, "vwap_tracking": 1_000_000,
    "lot_routing": 3_000_000,
}  # of a training run, by kind  # fmt: skip
Report = Callable[[dict[str, Any]], None]


# --------------------------------------------------------------------------------------------- exact evaluation


class StateDecisions:
    """What a score policy sends in given states, through the simulator's own observation, pace, weights and release."""

    def __init__(self, params: OracleParams, policy: ScoringRouter) -> None:
        self.market = Market(market_of(params))
        self.policy = policy

    def child_shares(self, slots: IntArray, remaining_shares: IntArray) -> IntArray:
        """(n, R) shares released in slot `slots` (n,) with `remaining_shares` (n,) > 0 left, routes lit first."""
        n, market = len(slots), self.market
        b, obs = market.batch(n)
        market.reset(stream_key(0, "test"), np.arange(n), np.zeros(n, np.int64), b, obs)
        opening = obs[:, N_GLOBAL:].copy()
        b.order["slot"], b.order["remaining_shares"] = slots, remaining_shares
        observe_rows(market.rules, b, 0, len(slots), obs, 0)
        obs[:, N_GLOBAL:] = opening
        work, weights = np.zeros(n), np.zeros((n, len(market.routes)))
        proposals_from_scores(market.rules, b, self.policy.scores(obs), work, weights)
        release_rows(market.rules, b, work, weights)
        return b.child_shares


def lot_actions(params: LotRoutingParams, policy: ScoringRouter) -> IntArray:
    """(n_slots, lots + 1, 1 + n_pools) lots that the policy sends in every state; nothing when nothing is left."""
    n_slots = len(params.u)
    slots, lots = np.repeat(np.arange(n_slots), params.lots), np.tile(np.arange(1, params.lots + 1), n_slots)
    sent = StateDecisions(params, policy).child_shares(slots, lots * LOT_SHARES) // LOT_SHARES
    actions = np.zeros((n_slots, params.lots + 1, sent.shape[1]), np.int64)
    actions[slots, lots] = sent
    return actions


def exact_cost(params: OracleParams, policy: ScoringRouter) -> float:
    """Expected cost of the deterministic policy in the problem's unit, over all fill paths."""
    if isinstance(params, LotRoutingParams):
        return evaluate_lot_policy(params, lot_actions(params, policy))
    decisions = StateDecisions(params, policy)
    problem = params.fill_problem()

    def quantities(slot: int, remaining: float) -> tuple[float, float]:
        left = max(1, round(remaining / problem.x0 * CONTINUOUS_SHARES))
        lit, dark = decisions.child_shares(np.array([slot]), np.array([left]))[0] / left * remaining
        return float(lit), float(dark)

    return cost_of_policy(problem, quantities)


# --------------------------------------------------------------------------------------------- training


class StateVecEnv(RoutingVecEnv):
    """The training environment, its route features held at their opening values."""

    def reset(self) -> Floats32:
        obs = super().reset()
        self._opening = obs[0, N_GLOBAL:].copy()
        return obs

    def step_wait(self) -> tuple[Floats32, Floats32, npt.NDArray[np.bool_], list[dict[str, Any]]]:
        obs, reward, done, infos = super().step_wait()
        self.finished.clear()
        obs[:, N_GLOBAL:] = self._opening
        return obs, reward, done, infos


class ShrinkingNoise(BaseCallback):
    """Exploration noise of all scores, shrunk geometrically over the run.

    Left to the optimiser it dies before the policy is good, since every score's noise costs something at once.
    """

    def __init__(self, start_std: float, end_std: float) -> None:
        super().__init__()
        self.start_std, self.end_std = start_std, end_std

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        model = cast(PPO, self.model)
        done_frac = 1 - model._current_progress_remaining
        log_std = model.policy.log_std
        log_std.requires_grad_(False)
        log_std.fill_(math.log(self.start_std) + done_frac * math.log(self.end_std / self.start_std))


class TailAverage(BaseCallback):
    """Mean of the actor's parameters over the last part of the run, put in place of the last ones (Polyak and Juditsky
    (1992), SIAM J. Control and Optimization 30(4)): what a step's noise shakes, the mean holds still."""

    def __init__(self, part: float) -> None:
        super().__init__()
        self.start_frac, self.count = 1 - part, 0
        self.sums: list[th.Tensor] = []

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        model = cast(PPO, self.model)
        if 1 - model._current_progress_remaining >= self.start_frac:
            values = [value.detach().clone() for value in self._actor()]
            self.sums = [a + b for a, b in zip(self.sums, values, strict=True)] if self.count else values
            self.count += 1

    def _on_training_end(self) -> None:
        if self.count:
            with th.no_grad():
                for value, total in zip(self._actor(), self.sums, strict=True):
                    value.copy_(total / self.count)

    def _actor(self) -> list[th.Tensor]:
        extractor = cast(Any, self.model).policy.mlp_extractor
        actor = extractor.mlp if extractor.additive is None else extractor.additive
        return list(actor.parameters())


def oracle_experiment(params: OracleParams, policy: str, steps: int | None = None) -> ExperimentConfig:
    """How a policy is trained on a problem: plain PPO from nothing, every route with functions of its own.

    A rollout is one order per environment; the knots are so many that every slot and, where they fit, every count of
    lots left has one of its own. `steps` replaces the number of decisions that training sees.
    """
    n_slots, lots = (
        (len(params.u), params.lots) if isinstance(params, LotRoutingParams) else (params.fill_problem().n_slots, 1)
    )
    steps_of_state = math.lcm(n_slots, lots)
    intervals = steps_of_state * math.ceil(16 / steps_of_state)
    return ExperimentConfig(
        name=f"oracle-{params.kind}",
        market=market_of(params),
        agent=AgentConfig(
            policy=cast(Any, policy), knots=1 + min(intervals if intervals < 64 else max(n_slots, lots), 63),
            share_venues=False, monotone=False, start_std=1.0, start_pace_std=1.0,
        ),
        training=TrainingConfig(
            steps=steps or DECISIONS[params.kind], n_envs=512, steps_per_rollout=n_slots, batch_size=128 * n_slots,
            epochs=2, learning_rate=1e-2, final_learning_rate_frac=0.02, discount=1.0, gae_lambda=0.3, teacher=None,
            threads=1,
        ),
    )  # fmt: skip


def train_policy(params: OracleParams, policy: str, seed: int, steps: int | None = None) -> ScoringRouter:
    """The deterministic policy at the end of one training run, on one core.

    Args:
        policy: `additive` or `mlp`.
        steps: decisions to train on; None: the number that the tables are made with.
    """
    config = oracle_experiment(params, policy, steps)
    th.set_num_threads(config.training.threads)
    env = StateVecEnv(EpisodeBatch(Market(config.market), config.training.n_envs, seed, in_half_spreads=True))
    model = make_ppo(config, env, seed, None)
    if (actor := cast(Any, model.policy).mlp_extractor.additive) is not None:
        moving = th.tensor([f.name in MOVING_FEATURES for f in FEATURES])[None, :, None]
        actor.raw.register_hook(lambda gradient: gradient * moving)
    callbacks: list[BaseCallback] = [ShrinkingNoise(config.agent.start_std, END_STD), TailAverage(TAIL_FRAC)]
    model.learn(config.training.steps, callback=callbacks)
    return snapshot(cast(Any, model.policy), policy)


def train_oracle(problem: Problem, policy: str, seed: int, out_dir: Path) -> dict[str, Any]:
    """One seed: train, evaluate exactly, and write `<problem>-<policy>-s<seed>.json`; a finished one is read back.

    Returns:
        `{"problem", "policy", "seed", "cost", "gap_percent", "seconds", "cpu_seconds", "config"}`; cost in the
        unit of the problem, seconds by the wall clock and of the processor.
    """
    config = oracle_experiment(problem.params, policy).model_dump(mode="json")
    config |= {"end_std": END_STD, "tail_frac": TAIL_FRAC}
    path = out_dir / f"{problem.name}-{policy}-s{seed}.json"
    if path.is_file():
        done: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if done["config"] == config:
            return done
    started, started_cpu = time.perf_counter(), time.process_time()
    cost = exact_cost(problem.params, train_policy(problem.params, policy, seed))
    optimum = optimum_of(problem.params)
    result = {
        "problem": problem.name, "policy": policy, "seed": seed, "cost": cost,
        "gap_percent": 100 * (cost - optimum) / abs(optimum), "seconds": round(time.perf_counter() - started, 1),
        "cpu_seconds": round(time.process_time() - started_cpu, 1), "config": config,
    }  # fmt: skip
    out_dir.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(result, indent=1), encoding="utf-8")
    partial.replace(path)
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
