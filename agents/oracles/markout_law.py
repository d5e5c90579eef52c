"""O13 (`markout_law`): what the mid does after an informed arrival."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import numpy as np
from pydantic import Field
from scipy import integrate, stats

from .parameters import FloatArray, NonNegative, Params, Positive


class MarkoutLawParams(Params):
    """O13: limit toxicity kappa sigma_a, decay tau. `arrivals_per_slot`: the first arrival fills the order."""

    kind: Literal["markout_law"] = "markout_law"
    kappa: NonNegative
    sigma_a: NonNegative
    tau: Positive
    horizons: Annotated[tuple[NonNegative, ...], Field(min_length=1)]
    arrivals_per_slot: Positive | None = None


def first_fill_alpha(kappa: float, arrivals: float) -> tuple[float, float]:
    """(fill probability, E[a | fill]) of a buy that the first of Poisson(arrivals e^(-kappa a - kappa^2/2)) completes,
    a standard normal; by quadrature."""

    def fill(a: float) -> float:
        return -math.expm1(-arrivals * math.exp(-kappa * a - kappa**2 / 2)) * float(stats.norm.pdf(a))

    bounds = [(i, i + 1) for i in range(-40, 40)]  # piece by piece: adaptive quadrature of a smooth law
    prob = sum(integrate.quad(fill, *b, epsabs=1e-18, epsrel=1e-12)[0] for b in bounds)
    mean = sum(integrate.quad(lambda a: a * fill(a), *b, epsabs=1e-18, epsrel=1e-12)[0] for b in bounds)
    return prob, mean / prob


def markouts(params: MarkoutLawParams) -> FloatArray:
    """(n_horizons,) -kappa sigma_a (1 - e^(-h/tau)), or with the first-fill alpha in place of -kappa; - = adverse."""
    alpha = -params.kappa
    if params.arrivals_per_slot is not None:
        alpha = first_fill_alpha(params.kappa, params.arrivals_per_slot)[1]
    return np.asarray(alpha * params.sigma_a * -np.expm1(-np.array(params.horizons) / params.tau))


def solve_markout_law(params: MarkoutLawParams) -> float:
    """Markout at the last horizon."""
    return float(markouts(params)[-1])
