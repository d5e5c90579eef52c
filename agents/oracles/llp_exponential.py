"""O7 (`llp_exponential`): unit volume over two pools."""

from __future__ import annotations

import math
from typing import Literal

from .parameters import Params, Positive


class LlpExponentialParams(Params):
    """O7: unit volume over two pools with exponential contra sizes; Laruelle, Lehalle, Pages (2011)."""

    kind: Literal["llp_exponential"] = "llp_exponential"
    means: tuple[Positive, Positive]
    rebates: tuple[Positive, Positive]


def llp_value(params: LlpExponentialParams, first: float) -> float:
    """Phi = sum rho_i m_i (1 - e^(-r_i/m_i)) with r = (first, 1 - first)."""
    parts = zip(params.means, params.rebates, (first, 1 - first), strict=True)
    return sum(-rho * m * math.expm1(-r / m) for m, rho, r in parts)


def llp_optimum(params: LlpExponentialParams) -> float:
    """r_1: marginal values rho_i e^(-r_i/m_i) equal, or all in the pool that is worth more throughout."""
    (m_1, m_2), (rho_1, rho_2) = params.means, params.rebates
    return min(max(m_1 * (m_2 * math.log(rho_1 / rho_2) + 1) / (m_1 + m_2), 0.0), 1.0)


def solve_llp(params: LlpExponentialParams) -> float:
    """Phi at the optimum."""
    return llp_value(params, llp_optimum(params))
