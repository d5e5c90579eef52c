"""O3 (`vwap_tracking`): one unit along a volume curve, lit impact inverse to volume, a dark pool with adverse charge.

lam_n = eta/u_n, R_n = 1 - (volume done before slot n), slot cost lam_n x^2 + gamma (filled y) + phi (X_{n+1} -
R_{n+1})^2. Lit only the minimum is eta (Cauchy-Schwarz) for sum u = 1, reached by VWAP.
"""

from __future__ import annotations

from itertools import accumulate
from typing import Annotated, Literal

from pydantic import Field

from .fill_paths import FillProblem
from .fill_recursion import FillSolution, solve_fill_problem
from .parameters import Finite, NonNegative, Params, Positive, Probability


class VwapTrackingParams(Params):
    """Problem file of kind `vwap_tracking` (O3). `u` are shares of volume; other totals are scaled to 1 for R only."""

    kind: Literal["vwap_tracking"] = "vwap_tracking"
    u: Annotated[tuple[Positive, ...], Field(min_length=1)]
    eta: Positive
    p: Probability
    gamma: Finite
    phi: NonNegative

    def fill_problem(self) -> FillProblem:
        done = [0.0, *accumulate(self.u)]
        return FillProblem(
            lam=tuple(self.eta / u for u in self.u), target=tuple(1 - d / done[-1] for d in done), p=self.p, x0=1.0,
            gamma=self.gamma, phi=self.phi,
        )  # fmt: skip


def solve_vwap_tracking(params: VwapTrackingParams) -> FillSolution:
    """The optimum of O3, see `fill_recursion.py`."""
    return solve_fill_problem(params.fill_problem())
