"""O1 (`dark_fill_quadratic`): one lit market, one dark pool that fills whole or not at all; costs are quadratic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from .fill_paths import FillProblem, even_targets
from .parameters import Count, FloatArray, NonNegative, Params, Positive, Probability


class DarkFillQuadraticParams(Params):
    """Problem file of kind `dark_fill_quadratic` (O1): slot cost q X_n^2 + lam x_n^2, dark fill with probability p."""

    kind: Literal["dark_fill_quadratic"] = "dark_fill_quadratic"
    q: NonNegative  # cost of holding one squared unit through one slot
    p: Probability  # that the whole dark order fills in a slot
    n_slots: Count
    lam: Positive  # lit impact: x costs lam x^2
    x0: Positive  # units to trade

    def fill_problem(self) -> FillProblem:
        return FillProblem(
            lam=(self.lam,) * self.n_slots, target=even_targets(self.x0, self.n_slots), p=self.p, x0=self.x0, q=self.q
        )


@dataclass(frozen=True, slots=True, eq=False)
class QuadraticSolution:
    """The optimum of O1: V_n(X) = cost_coef[n] X^2.

    value: V_0(x0).
    cost_coef: (n_slots,) the coefficients C_n.
    lit_of_remaining_frac: (n_slots,) x_n / X_n; the rest rests in the dark pool. The last is 1.
    lit_frac_no_fill: (n_slots,) x_n / x0 along the path on which the dark order never fills; sums to 1.
    """

    value: float
    cost_coef: FloatArray
    lit_of_remaining_frac: FloatArray
    lit_frac_no_fill: FloatArray

    def policy(self, slot: int, remaining: float) -> tuple[float, float]:
        """The optimal (lit, dark) quantities; everything that is not sent lit rests in the dark pool."""
        lit = float(self.lit_of_remaining_frac[slot]) * remaining
        return lit, remaining - lit


def solve_dark_fill_quadratic(params: DarkFillQuadraticParams) -> QuadraticSolution:
    """Solve O1 by its scalar recursion; every term is positive, so no digits cancel.

    C_{N-1} = lam + q,  C_n = q + lam w_n,  x_n = w_n X_n,  w_n = (1-p) C_{n+1} / (lam + (1-p) C_{n+1}).

    Source: setting of Kratz & Schoeneborn (2014), Quantitative Finance 14(9). Filling everything makes the
    continuation zero, the least possible, so y = X - x and a scalar quadratic is left.
    """
    n_slots = params.n_slots
    cost_coef, lit_of_remaining = np.empty(n_slots), np.ones(n_slots)
    cost_coef[-1] = params.lam + params.q
    for n in range(n_slots - 2, -1, -1):
        unfilled_cost = (1 - params.p) * cost_coef[n + 1]
        lit_of_remaining[n] = unfilled_cost / (params.lam + unfilled_cost)
        cost_coef[n] = params.q + params.lam * lit_of_remaining[n]
    kept_frac = np.concatenate(([1.0], np.cumprod(1 - lit_of_remaining[:-1])))
    return QuadraticSolution(
        value=float(cost_coef[0] * params.x0**2),
        cost_coef=cost_coef,
        lit_of_remaining_frac=lit_of_remaining,
        lit_frac_no_fill=kept_frac * lit_of_remaining,
    )
