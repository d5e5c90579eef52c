"""O2 (`dark_fill_adverse`): O1 with a charge gamma per dark-filled unit, the expected adverse move behind a fill.

Half spread and fees fold in: gamma = adverse + dark fee - (half spread + lit fee), plus (half spread + lit fee) x0 in
the value.
"""

from __future__ import annotations

from typing import Literal

from .fill_paths import FillProblem, even_targets
from .fill_recursion import FillSolution, solve_fill_problem
from .parameters import Count, Finite, NonNegative, Params, Positive, Probability


class DarkFillAdverseParams(Params):
    """Problem file of kind `dark_fill_adverse` (O2)."""

    kind: Literal["dark_fill_adverse"] = "dark_fill_adverse"
    q: NonNegative  # cost of holding one squared unit through one slot
    p: Probability  # that the whole dark order fills in a slot
    gamma: Finite  # per dark-filled unit
    n_slots: Count
    lam: Positive  # lit impact: x costs lam x^2
    x0: Positive  # units to trade

    def fill_problem(self) -> FillProblem:
        return FillProblem(
            lam=(self.lam,) * self.n_slots, target=even_targets(self.x0, self.n_slots), p=self.p, x0=self.x0, q=self.q,
            gamma=self.gamma,
        )  # fmt: skip


def solve_dark_fill_adverse(params: DarkFillAdverseParams) -> FillSolution:
    """The optimum of O2, see `fill_recursion.py`."""
    return solve_fill_problem(params.fill_problem())
