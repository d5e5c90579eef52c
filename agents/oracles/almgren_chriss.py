"""O4 (`almgren_chriss`): the mean-variance schedule of Almgren and Chriss."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from pydantic import model_validator

from .parameters import Count, FloatArray, NonNegative, Params, Positive


class AlmgrenChrissParams(Params):
    """O4: Almgren & Chriss (2000), J. Risk 3. Shares, days, dollars."""

    kind: Literal["almgren_chriss"] = "almgren_chriss"
    risk_aversion: NonNegative
    shares: Positive
    days: Positive
    n_slots: Count
    sigma: NonNegative
    eps: NonNegative
    gamma: NonNegative
    eta: Positive

    @model_validator(mode="after")
    def _impact_is_convex(self) -> AlmgrenChrissParams:
        if self.eta <= self.gamma * self.days / self.n_slots / 2:
            raise ValueError("eta must be above gamma x (days / n_slots) / 2, or trading faster would earn; raise eta")
        return self


def almgren_chriss(params: AlmgrenChrissParams) -> tuple[FloatArray, float, float]:
    """(positions x_0..x_N, E, Var) of the schedule that minimises E + risk_aversion Var."""
    n, tau = params.n_slots, params.days / params.n_slots
    eta = params.eta - params.gamma * tau / 2
    half = math.sqrt(params.risk_aversion * params.sigma**2 / eta) * tau / 2
    kappa_tau = 2 * math.asinh(half)  # cosh(a) - 1 = 2 sinh^2(a/2)
    left = n - np.arange(n + 1)
    if kappa_tau < 1e-9:
        frac = left / n
    else:  # sinh(a l)/sinh(a n) without overflow
        frac = np.exp(kappa_tau * (left - n)) * np.expm1(-2 * kappa_tau * left) / math.expm1(-2 * kappa_tau * n)
    x = params.shares * frac
    cost = params.gamma * params.shares**2 / 2 + params.eps * params.shares + eta / tau * float((np.diff(x) ** 2).sum())
    return x, cost, params.sigma**2 * tau * float((x[1:] ** 2).sum())


def solve_almgren_chriss(params: AlmgrenChrissParams) -> float:
    """E + risk_aversion Var, dollars."""
    _, cost, variance = almgren_chriss(params)
    return cost + params.risk_aversion * variance
