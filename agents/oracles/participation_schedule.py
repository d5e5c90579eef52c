"""O12 (`participation_schedule`): cost of a schedule that is convex in participation."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from .parameters import FloatArray, Params, Positive


class ParticipationScheduleParams(Params):
    """O12: cost sum eta x_n (x_n/u_n)^beta over sum x = 1."""

    kind: Literal["participation_schedule"] = "participation_schedule"
    u: Annotated[tuple[Positive, ...], Field(min_length=1)]
    beta: Positive
    eta: Positive


def participation_cost(params: ParticipationScheduleParams, schedule: FloatArray) -> float:
    """Cost of any schedule x >= 0; VWAP, x = u/sum u, is the least for every beta > 0: eta (sum u)^-beta."""
    return float((params.eta * schedule * (schedule / np.array(params.u)) ** params.beta).sum())


def solve_participation_schedule(params: ParticipationScheduleParams) -> float:
    """Cost of TWAP."""
    return participation_cost(params, np.full(len(params.u), 1 / len(params.u)))
