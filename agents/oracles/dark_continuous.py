"""O1 in continuous time (`dark_fill_continuous`)."""

from __future__ import annotations

import math
from typing import Literal

from .parameters import NonNegative, Params, Positive


class DarkFillContinuousParams(Params):
    """O1 in continuous time: lit cost eta xi^2, running cost risk X^2, dark fills at rate theta, X(horizon) = 0."""

    kind: Literal["dark_fill_continuous"] = "dark_fill_continuous"
    eta: Positive
    risk: NonNegative
    theta: NonNegative
    horizon: Positive


def solve_dark_fill_continuous(params: DarkFillContinuousParams) -> float:
    """C(0) = eta (k coth kT - theta/2), k^2 = theta^2/4 + risk/eta; from C' = C^2/eta + theta C - risk, C(T) = inf.

    Written as eta (e + 2 k/(e^(2kT) - 1)), e = k - theta/2 = (risk/eta)/(k + theta/2), so that no digits cancel.
    """
    k = math.sqrt(params.theta**2 / 4 + params.risk / params.eta)
    if k == 0:
        return params.eta / params.horizon
    excess = params.risk / params.eta / (k + params.theta / 2)
    exponent = 2 * k * params.horizon
    return params.eta * (excess + (2 * k / math.expm1(exponent) if exponent < 700 else 0.0))
