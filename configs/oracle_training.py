"""How policies are trained on problems with a known optimum; the values stand in `oracles/training.yaml`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .experiment import Count
from .loading import PACKAGED, read_yaml
from .model import Frac, Model, Positive


class OraclePpo(Model):
    """The first stage: plain PPO from nothing."""

    decisions: Count
    orders: Count
    minibatches: Count
    epochs: Count
    learning_rate: Positive
    gae_lambda: Frac
    start_std: Positive
    end_std: Positive


class OracleSearch(Model):
    """The second: policy search in pairs, as `SearchConfig`, its length in decisions."""

    decisions: Count
    pairs: Count
    start_std: Positive
    end_std: Positive
    learning_rate: dict[Literal["additive", "mlp"], Positive]
    final_learning_rate_frac: Annotated[float, Field(gt=0.0, le=1.0)]
    tail_frac: Frac


class OracleTraining(Model):
    """Both."""

    ppo: OraclePpo
    search: OracleSearch


def oracle_training() -> OracleTraining:
    """The packaged settings."""
    return OracleTraining.model_validate(read_yaml(PACKAGED / "oracles" / "training.yaml"))
