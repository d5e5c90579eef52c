"""Training: imitation of a rule-based router, SB3's PPO on the native vector environment, then policy search in pairs.

With curves that mean something and resumable checkpoints.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch as th
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger, configure

from ..configs.errors import UserError
from ..configs.experiment import ExperimentConfig, SearchConfig
from ..configs.market import MarketConfig
from ..envs.market import Market
from ..envs.vector_env import EpisodeBatch, RoutingVecEnv
from .additive import ScorePolicy
from .cloning import clone
from .evaluation import paired_costs
from .fallback import seen_ranges
from .policies import load_policy, snapshot
from .policy_search import PairedSearch
from .registry import named_router
from .rule_based import RuleSor
from .runs import training_summary, write_ranges
from .views import RoutingOnlyBatch, router_of, training_columns

_STEPS_A_SEARCHED_ORDER = 30  # of PPO take as long as one order of the search


def training_market(config: ExperimentConfig) -> MarketConfig:
    """The market as the experiment trains on it: its own orders, venues and stocks, or those of `training`."""
    market, orders = taught_market(config), config.training.orders
    return market if orders is None else market.model_copy(update={"orders": orders})


def taught_market(config: ExperimentConfig) -> MarketConfig:
    """The market with the venues of `training.randomisation` and the classes of `training.extra_stocks`; its own
    classes share what probability those leave."""
    market, t = config.market, config.training
    if t.randomisation is not None:
        market = market.model_copy(update={"randomisation": t.randomisation})
    if not t.extra_stocks:
        return market
    left = 1.0 - sum(s.probability for s in t.extra_stocks)
    own = tuple(s.model_copy(update={"probability": left * s.probability}) for s in market.stocks)
    return market.model_copy(update={"stocks": (*own, *t.extra_stocks)})


def make_ppo(config: ExperimentConfig, env: RoutingVecEnv, seed: int, tensorboard: Path | None) -> PPO:
    """PPO as the config has it. The learning rate falls linearly to its final fraction."""
    t, a = config.training, config.agent
    floor = t.final_learning_rate_frac

    def rate(left: float) -> float:
        return t.learning_rate * (floor + (1 - floor) * left)

    model = PPO(
        ScorePolicy, env, seed=seed, device="cpu", verbose=0,
        tensorboard_log=None if tensorboard is None else str(tensorboard),
        learning_rate=rate, n_steps=t.steps_per_rollout, batch_size=t.batch_size, n_epochs=t.epochs, gamma=t.discount,
        gae_lambda=t.gae_lambda, clip_range=t.clip_range, ent_coef=t.entropy_coef, vf_coef=t.value_coef,
        max_grad_norm=t.max_grad_norm,
        policy_kwargs={
            "route_types": [int(k) for k in env.core.market.rules.route_type], "policy": a.policy, "knots": a.knots,
            "share_venues": a.share_venues, "monotone": a.monotone, "hidden": list(a.hidden),
            "critic_hidden": list(a.critic_hidden), "privileged": a.privileged,
            "log_std_init": math.log(a.start_std),
        },
    )  # fmt: skip
    with th.no_grad():
        model.policy.log_std[0] = math.log(a.start_pace_std)
    return model


@dataclass
class Curve:
    """What training looked like, point by point."""

    points: list[dict[str, Any]] = field(default_factory=list)
    best: float = math.inf
    best_step: int = 0


class Progress(BaseCallback):
    """After every rollout: training slippage to TensorBoard and the progress bar; at times: validation, checkpoint."""

    def __init__(
        self, config: ExperimentConfig, market: Market, folder: Path | None, seed: int, curve: Curve, report: Any
    ) -> None:
        super().__init__()
        self.config, self.market, self.folder, self.seed = config, market, folder, seed
        self.curve, self.report = curve, report
        t = config.training
        self.every = max(1, t.steps // t.validations)
        self.next_validation = self.every
        self.searched = 0  # decisions of the policy search, on top of PPO's steps
        orders = 0 if t.search is None else 2 * t.search.pairs * t.search.rounds
        self.ppo_frac = t.steps / (t.steps + _STEPS_A_SEARCHED_ORDER * orders)  # of the time, for the bar
        self.started = time.perf_counter()
        self.before_s = curve.points[-1]["seconds"] if curve.points else 0.0
        self.train_bps = math.nan

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        env = self.training_env
        assert isinstance(env, RoutingVecEnv)
        if env.finished:
            merged = {k: np.concatenate([s[k] for s in env.finished]) for k in env.finished[0]}
            env.finished.clear()
            for name, values in merged.items():
                self.logger.record(f"train/{name}", float(values.mean()))
            self.train_bps = float(merged["vwap_slippage_bps"].mean())
            self.logger.record("train/orders", values.size)
        t = self.config.training
        out_of_time = t.max_seconds is not None and self.elapsed() >= t.max_seconds
        done = self.num_timesteps >= t.steps or out_of_time
        if self.num_timesteps >= self.next_validation or done:
            self.next_validation = self.num_timesteps + self.every
            self.validate()
        if self.report is not None:
            self.report(self.ppo_frac * self.num_timesteps / t.steps, self.train_bps, self.curve)

    def elapsed(self) -> float:
        return self.before_s + time.perf_counter() - self.started

    def after_search_round(self, search: PairedSearch) -> bool:
        """At milestones: validation and checkpoint. False once the time is up."""
        self.searched = search.decisions
        limit = self.config.training.max_seconds
        go_on = limit is None or self.elapsed() < limit
        if search.at_milestone or not go_on:
            self.validate()
            self.logger.dump(self.step)
        if self.report is not None:
            done = self.ppo_frac + (1 - self.ppo_frac) * search.round / search.config.rounds
            self.report(done, self.train_bps, self.curve)
        return go_on

    @property
    def step(self) -> int:
        """Decisions so far."""
        return int(self.model.num_timesteps) + self.searched

    def _on_training_start(self) -> None:
        if self.num_timesteps == 0:  # what the policy does before any reinforcement learning (the teacher's imitation)
            self.validate()
            # the time of a limited training is for training: on first use, what goes before is mostly compiling
            self.started, self.curve.points[-1]["seconds"] = time.perf_counter(), 0.0

    def validate(self) -> None:
        policy = snapshot(self.model.policy)  # type: ignore[arg-type]
        n = self.config.training.validation_orders
        router = router_of(policy, self.config.agent)
        costs = paired_costs(self.market, [router, RuleSor()], n, self.seed, "validation")
        mine, theirs = costs[router.name], costs["rule_sor"]
        gap = mine.denoised_bps - theirs.denoised_bps
        half_width = 1.96 * gap.std(ddof=1) / math.sqrt(n)
        point: dict[str, Any] = {
            "step": self.step,
            "seconds": round(self.elapsed(), 2),
            "train_slippage_bps": None if math.isnan(self.train_bps) else self.train_bps,
            "validation_slippage_bps": float(mine.denoised_bps.mean()),
            "validation_slippage_hs": float(mine.denoised_hs.mean()),
            "validation_vs_sor_bps": float(gap.mean()),
            "validation_vs_sor_hs": float((mine.denoised_hs - theirs.denoised_hs).mean()),
            "validation_vs_sor_ci95_bps": [float(gap.mean() - half_width), float(gap.mean() + half_width)],
            **mine.shares_and_fills(),
        }
        self.curve.points.append(point)
        for name, value in point.items():
            if isinstance(value, float):
                self.logger.record(f"validation/{name}", value)
        if point["validation_slippage_hs"] < self.curve.best:
            self.curve.best, self.curve.best_step = point["validation_slippage_hs"], self.step
            if self.folder is not None:
                self.model.save(self.folder / "best.zip")
        if self.folder is not None:
            if not self.searched:  # the search keeps its own state
                self.model.save(self.folder / "checkpoint.zip")
            write_training_json(self.folder, self.config, self.seed, self.curve, done=False)


def write_training_json(folder: Path, config: ExperimentConfig, seed: int, curve: Curve, *, done: bool) -> None:
    """`training.json`, replaced atomically."""
    last = curve.points[-1] if curve.points else {"seconds": 0.0, "step": 0}
    payload = {
        "seed": seed, "config": config.name, "policy": config.agent.policy, "steps": last["step"],
        "seconds": last["seconds"], "best_step": curve.best_step, "best_validation_hs": curve.best, "done": done,
        "curve": curve.points,
    }  # fmt: skip
    partial = folder / "training.json.partial"
    partial.write_text(json.dumps(payload, indent=1))
    partial.replace(folder / "training.json")


def train(
    config: ExperimentConfig, seed: int, folder: Path | None, *, resume: bool = False, report: Any = None
) -> tuple[PPO, Curve]:
    """Train one seed. With a folder: `policy.zip` (the best on the validation markets), `feature_ranges.json`,
    `training.json`, checkpoints.

    `report(done_frac, train_slippage_bps, curve)` is called after every rollout and round.
    """
    t = config.training
    th.set_num_threads(t.threads)
    market = Market(training_market(config))
    parents = RoutingOnlyBatch if config.agent.routing_only else EpisodeBatch
    env = RoutingVecEnv(
        parents(
            market, t.n_envs, seed, "train", in_half_spreads=True, reduce_variance=t.reduce_variance,
            privileged=training_columns(config.agent),
        )
    )  # fmt: skip
    curve = Curve()
    logs = None if folder is None else folder / "tensorboard"
    if resume and folder is not None and (folder / "checkpoint.zip").is_file():
        state = training_summary(folder)
        try:
            model = PPO.load(folder / "checkpoint.zip", env=env, device="cpu", tensorboard_log=str(logs))
        except (ValueError, KeyError, RuntimeError, OSError, EOFError) as error:
            raise UserError(
                f"{folder / 'checkpoint.zip'}: cannot be read ({type(error).__name__}: {error}). Train again without "
                "--resume, or restore the file."
            ) from error
        curve = Curve(state["curve"], state["best_validation_hs"], state["best_step"])
    else:
        model = make_ppo(config, env, seed, logs)
        if t.teacher is not None:
            teacher = named_router(t.teacher)
            clone(model.policy, market, teacher, seed, n_orders=t.teacher_orders)  # type: ignore[arg-type]
    progress = Progress(config, market, folder, seed, curve, report)
    progress.next_validation = model.num_timesteps + progress.every
    left = t.steps - model.num_timesteps
    if left > 0:
        callbacks: list[BaseCallback] = [progress, _StopInTime(progress, t.max_seconds)]
        model.learn(left, callback=callbacks, reset_num_timesteps=False, tb_log_name="ppo")
    if t.search is not None and (t.max_seconds is None or progress.elapsed() < t.max_seconds):
        _search(model, t.search, progress, parents)
    if folder is not None:
        best = folder / "best.zip"
        if best.is_file():  # a copy: a resumed run that finds nothing better must still know it
            shutil.copyfile(best, folder / "policy.zip")
        else:
            model.save(folder / "policy.zip")
        if config.agent.privileged == "none":
            router = router_of(load_policy(folder / "policy.zip"), config.agent)
            write_ranges(folder, seen_ranges(Market(taught_market(config)), router, seed))
        write_training_json(folder, config, seed, curve, done=True)
    return model, curve


def _search(model: PPO, config: SearchConfig, progress: Progress, parents: type[EpisodeBatch]) -> None:
    """The finishing stage; goes on from `search.pt` in the run folder if it is there."""
    search = PairedSearch(progress.market, cast(ScorePolicy, model.policy), config, progress.seed, parents=parents)
    logger, path = Logger(None, []), None
    if progress.folder is not None:
        logger = configure(str(progress.folder / "tensorboard" / "search"), ["tensorboard"])
        path = progress.folder / "search.pt"
        if path.is_file():
            search.load(path)
    model.set_logger(logger)
    progress.init_callback(model)
    reached, points = model.num_timesteps + search.decisions, progress.curve.points
    points[:] = [p for p in points if p["step"] <= reached]  # those after the last save are made again
    search.run(path, lambda: progress.after_search_round(search))
    progress.searched = search.decisions
    progress.validate()  # the averaged parameters


class _StopInTime(BaseCallback):
    """Ends training once the time limit of the config is reached."""

    def __init__(self, progress: Progress, max_seconds: float | None) -> None:
        super().__init__()
        self.progress, self.max_seconds = progress, max_seconds

    def _on_step(self) -> bool:
        return self.max_seconds is None or self.progress.elapsed() < self.max_seconds
