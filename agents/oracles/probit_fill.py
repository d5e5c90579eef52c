"""O13 (`probit_fill`): the alpha behind an all-or-nothing fill."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from scipy import stats

from .parameters import NonNegative, Params


class ProbitFillParams(Params):
    """One contra a slot, fill = 1{Z < Phi^-1(p)}, corr(Z, A) = r for a buy."""

    kind: Literal["probit_fill"] = "probit_fill"
    p: Annotated[float, Field(gt=0, lt=1)]
    r: Annotated[float, Field(ge=-1, le=1)]
    sigma_a: NonNegative


def solve_probit_fill(params: ProbitFillParams) -> float:
    """E[A | fill] = -r sigma_a phi(Phi^-1(p))/p."""
    return float(-params.r * params.sigma_a * stats.norm.pdf(stats.norm.ppf(params.p)) / params.p)
