"""One experiment: market, agent, training budget, evaluation, seeds."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from .chance import RandomisationConfig
from .market import MarketConfig
from .model import Frac, Model, NonNegative, Positive
from .order import OrderConfig
from .stock import StockConfig

Count = Annotated[int, Field(gt=0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


Privileged = Literal["none", "venue", "all"]


class AgentConfig(Model):
    """The learned policy."""

    policy: Literal["additive", "mlp"] = "additive"
    knots: Annotated[int, Field(ge=2, le=64)] = 9  # of every one-feature function
    share_venues: bool = True  # venues of an order type share their functions
    monotone: bool = True  # a better fill rate or markout, or a lower fee, never lowers a score
    hidden: tuple[Count, ...] = (64, 64)  # of the MLP policy
    critic_hidden: tuple[Count, ...] = (64, 64)
    start_std: Positive = 0.3  # of the exploration noise on route scores
    start_pace_std: Positive = 0.1  # on the pace score, whose band spans tens of slices
    critic_privileged: Privileged = "none"  # latent columns that the critic alone is shown, in training alone
    privileged: Privileged = "none"  # latent columns that the policy itself is shown: a bound, never exported
    routing_only: bool = False  # the tuned SOR sets the pace and the imbalance is hidden


class SearchConfig(Model):
    """Policy search in pairs, a finishing stage of training (agents/policy_search.py)."""

    noise: Literal["scores", "parameters"] = "parameters"
    rounds: Count = 160  # one step of the optimizer each
    pairs: Count = 1024  # of orders a round, both of a pair on one tape
    start_std: Positive = 0.2  # of the noise, shrinking geometrically
    end_std: Positive = 0.1
    learning_rate: Positive = 0.04  # falling geometrically
    final_learning_rate_frac: Annotated[float, Field(gt=0.0, le=1.0)] = 0.1
    tail_frac: Frac = 0.2  # of the rounds, whose parameters are averaged
    reduce_variance: bool = True


class TrainingConfig(Model):
    """Imitation of a rule-based router, Stable-Baselines3 PPO on the native vector environment, policy search."""

    steps: Count = 1_000_000  # of PPO
    n_envs: Count = 1024
    steps_per_rollout: Count = 32
    batch_size: Annotated[int, Field(ge=2)] = 8192
    epochs: Count = 4
    learning_rate: Positive = 3e-3
    final_learning_rate_frac: Frac = 0.1
    discount: Frac = 1.0
    gae_lambda: Frac = 0.95
    clip_range: Positive = 0.2
    entropy_coef: NonNegative = 0.0
    value_coef: NonNegative = 0.5
    max_grad_norm: Positive = 0.5
    reduce_variance: bool = True
    teacher: str | None = "sor_strong"  # the rule-based router that the policy is first fitted to; null: none
    teacher_orders: Count = 1024
    search: SearchConfig | None = SearchConfig()  # policy search after PPO; null: none
    max_seconds: Positive | None = None  # stop early, at a checkpoint
    validation_orders: Count = 500
    validations: Count = 10  # over the run; the best policy on the validation markets is kept
    orders: OrderConfig | None = None  # another order distribution for training; null: the market's
    randomisation: RandomisationConfig | None = None  # all ranges of the venues in training; null: the market's
    extra_stocks: tuple[StockConfig, ...] = ()  # classes met in training alone, each with its probability
    threads: Count = 1  # of torch; one is fastest where seeds run side by side

    @model_validator(mode="after")
    def _leave_room_for_the_market(self) -> TrainingConfig:
        if (total := sum(s.probability for s in self.extra_stocks)) >= 1.0:
            raise ValueError(f"the probabilities of extra_stocks sum to {total:g}; leave some for the market")
        return self


class EvaluationConfig(Model):
    """Held-out comparison on the same tapes."""

    orders: Count = 4_000
    seed: Seed = 1_000
    against: tuple[str, ...] = ("random", "vwap_lit", "rule_sor", "tuned_sor", "sor_strong")
    fills_orders: Annotated[int, Field(ge=0)] = 200  # parents of each router whose fills are written


class ExperimentConfig(Model):
    """All of it; saved with every artefact."""

    name: str
    market: MarketConfig
    agent: AgentConfig = AgentConfig()
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    seed: Seed = 1
