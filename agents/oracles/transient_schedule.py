"""O11 (`transient_schedule`): the schedule under transient impact."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from .parameters import FloatArray, Params, Positive


class ExponentialKernel(Params):
    """G(d) = sum_k weights_k e^(-rates_k d)."""

    type: Literal["exponential"]
    weights: Annotated[tuple[Positive, ...], Field(min_length=1)]
    rates: Annotated[tuple[Positive, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _as_many_rates_as_weights(self) -> ExponentialKernel:
        if len(self.weights) != len(self.rates):
            raise ValueError(f"{len(self.weights)} weights but {len(self.rates)} rates; give one rate a weight")
        return self


class PowerKernel(Params):
    """G(d) = (1 + d)^-g."""

    type: Literal["power"]
    g: Positive


class TransientScheduleParams(Params):
    """O11: n + 1 equally spaced trades that sum to 1, cost x'Gx/2; Obizhaeva & Wang (2013)."""

    kind: Literal["transient_schedule"] = "transient_schedule"
    n: Annotated[int, Field(ge=1, le=2000)]
    kernel: Annotated[ExponentialKernel | PowerKernel, Field(discriminator="type")]


def impact_matrix(params: TransientScheduleParams) -> FloatArray:
    """(n + 1, n + 1) G(|i - j|)."""
    steps = np.arange(params.n + 1)
    lag = np.abs(steps[:, None] - steps[None, :]).astype(float)
    if isinstance(params.kernel, PowerKernel):
        return np.asarray((1 + lag) ** -params.kernel.g)
    pairs = zip(params.kernel.weights, params.kernel.rates, strict=True)
    return np.asarray(sum(w * np.exp(-rate * lag) for w, rate in pairs))


def transient_schedule(params: TransientScheduleParams) -> FloatArray:
    """G^-1 1/(1' G^-1 1); Alfonsi, Fruth, Schied (2010)."""
    x = np.linalg.solve(impact_matrix(params), np.ones(params.n + 1))
    return np.asarray(x / x.sum())


def solve_transient_schedule(params: TransientScheduleParams) -> float:
    """The least cost."""
    x = transient_schedule(params)
    return float(x @ impact_matrix(params) @ x / 2)
