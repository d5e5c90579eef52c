"""Training on problems with a known optimum: PPO from nothing, then policy search in pairs. Nothing exact enters.

Settings: configs/oracles/training.yaml, the same for every problem.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch as th
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback

from ..configs.experiment import AgentConfig, ExperimentConfig, SearchConfig, TrainingConfig
from ..configs.oracle_training import OracleTraining, oracle_training
from ..envs.features import FEATURES
from ..envs.market import Market
from ..envs.vector_env import EpisodeBatch, RoutingVecEnv
from .additive import ScorePolicy
from .oracle_markets import OracleParams, market_of
from .oracle_views import ProblemView, n_slots_and_lots
from .oracles.lot_problem import LotRoutingParams
from .policies import snapshot
from .policy_search import PairedSearch, rounds_of
from .router import ScoringRouter
from .training import make_ppo

Floats32 = npt.NDArray[np.float32]
# What changes along an order in these markets. The functions of everything else would be a dozen more biases, and Adam,
# which moves each parameter by the learning rate, would shake their sum a dozen times as much as it should.
MOVING_FEATURES = ("time_left_frac", "remaining_frac", "gap_frac", "log_due_slices", "log_slice_lots")
_LEAST_INTERVALS = 16  # between the knots of a function; a quantity of a few lots has more knots than lots


class StateVecEnv(RoutingVecEnv):
    """The training environment, as the problem's view shows it."""

    def __init__(self, core: EpisodeBatch, params: OracleParams) -> None:
        super().__init__(core)
        self.view = ProblemView(core.market.rules, params)

    def reset(self) -> Floats32:
        super().reset()
        return self.view(self.core.batch, self.core.obs).astype(np.float32)

    def step_wait(self) -> tuple[Floats32, Floats32, npt.NDArray[np.bool_], list[dict[str, Any]]]:
        _, reward, done, infos = super().step_wait()
        self.finished.clear()
        return self.view(self.core.batch, self.core.obs).astype(np.float32), reward, done, infos


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


def oracle_experiment(params: OracleParams, policy: str, settings: OracleTraining) -> ExperimentConfig:
    """The first stage: plain PPO from nothing, every route with functions of its own.

    A rollout is one order per environment; the knots are so many that every slot and, where they fit, every count of
    lots left has one of its own.
    """
    n_slots, lots = n_slots_and_lots(params)
    state_steps = math.lcm(n_slots, lots)
    intervals = state_steps * math.ceil(_LEAST_INTERVALS / state_steps)
    ppo = settings.ppo
    return ExperimentConfig(
        name=f"oracle-{params.kind}",
        market=market_of(params),
        agent=AgentConfig(
            policy=cast(Any, policy), knots=1 + min(intervals if intervals < 64 else max(n_slots, lots), 63),
            share_venues=False, monotone=False, start_std=ppo.start_std, start_pace_std=ppo.start_std,
        ),
        training=TrainingConfig(
            steps=ppo.decisions, n_envs=ppo.orders, steps_per_rollout=n_slots,
            batch_size=ppo.orders * n_slots // ppo.minibatches, epochs=ppo.epochs, learning_rate=ppo.learning_rate,
            discount=1.0, gae_lambda=ppo.gae_lambda, teacher=None, search=None, threads=1,
        ),
    )  # fmt: skip


def search_config(params: OracleParams, policy: str, settings: OracleTraining) -> SearchConfig:
    """The second stage; nothing of these markets is a mid's noise, so there is no variance to reduce."""
    search, (n_slots, _) = settings.search, n_slots_and_lots(params)
    return SearchConfig(
        noise="scores", rounds=rounds_of(search.decisions, search.pairs, n_slots), pairs=search.pairs,
        start_std=search.start_std, end_std=search.end_std, learning_rate=search.learning_rate[cast(Any, policy)],
        final_learning_rate_frac=search.final_learning_rate_frac, tail_frac=search.tail_frac, reduce_variance=False,
    )  # fmt: skip


def train_policy(
    params: OracleParams, policy: str, seed: int, settings: OracleTraining | None = None, checkpoint: Path | None = None
) -> ScoringRouter:
    """The deterministic policy at the end of one training run, on one core.

    Args:
        policy: `additive` or `mlp`.
        settings: None: the packaged ones, which the tables are made with.
        checkpoint: where the search is kept while it runs; a stopped one goes on from there.
    """
    settings = settings or oracle_training()
    config = oracle_experiment(params, policy, settings)
    th.set_num_threads(config.training.threads)
    market = Market(config.market)
    env = StateVecEnv(EpisodeBatch(market, config.training.n_envs, seed, in_half_spreads=True), params)
    model = make_ppo(config, env, seed, None)
    if (actor := cast(Any, model.policy).mlp_extractor.additive) is not None:
        moving = th.tensor([name in moving_features(params) for name in (f.name for f in FEATURES)])[None, :, None]
        actor.raw.register_hook(lambda gradient: gradient * moving)
    if checkpoint is None or not checkpoint.is_file():
        model.learn(config.training.steps, callback=ShrinkingNoise(settings.ppo.start_std, settings.ppo.end_std))
    search = PairedSearch(
        market, cast(ScorePolicy, model.policy), search_config(params, policy, settings), seed,
        new_view=lambda: ProblemView(market.rules, params),
    )  # fmt: skip
    search.run(checkpoint)
    return snapshot(cast(ScorePolicy, model.policy), policy)


def moving_features(params: OracleParams) -> tuple[str, ...]:
    """The features whose functions are learned: those that change along an order, and the signal of a hidden regime."""
    hidden = isinstance(params, LotRoutingParams) and params.regimes is not None
    return (*MOVING_FEATURES, "imbalance_signed") if hidden else MOVING_FEATURES
