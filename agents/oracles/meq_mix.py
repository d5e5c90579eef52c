"""O13 (`meq_mix`): what a minimum execution quantity keeps out."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from .parameters import NonNegative, Params, Probability


class ContraSizes(Params):
    """Pr[S = k] ~ k^-beta, k = 1..m lots."""

    beta: Annotated[float, Field(ge=-100, le=100)]
    m: Annotated[int, Field(ge=1, le=1_000_000)]


class MeqMixParams(Params):
    """A minimum execution quantity in front of informed and uninformed contra orders."""

    kind: Literal["meq_mix"] = "meq_mix"
    informed_frac: Probability
    kappa_informed: NonNegative
    sigma_a: NonNegative
    informed: ContraSizes
    uninformed: ContraSizes
    meq: Annotated[int, Field(ge=1)]  # lots


def meq_kept(params: MeqMixParams) -> tuple[float, float]:
    """(share of arrivals that reach the minimum, informed share of these)."""

    def tail(sizes: ContraSizes) -> float:
        lots = np.arange(1, sizes.m + 1)
        weight = np.exp(-sizes.beta * np.log(lots))
        return float(weight[lots >= params.meq].sum() / weight.sum())

    informed = params.informed_frac * tail(params.informed)
    kept = informed + (1 - params.informed_frac) * tail(params.uninformed)
    return kept, informed / kept if kept > 0 else 0.0


def solve_meq_mix(params: MeqMixParams) -> float:
    """Limit markout -pi(m) kappa_informed sigma_a; - = adverse."""
    return -meq_kept(params)[1] * params.kappa_informed * params.sigma_a
