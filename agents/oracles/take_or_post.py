"""O8 (`take_or_post`): take now or post behind a queue."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import model_validator

from .parameters import Finite, NonNegative, Params, Positive


class TakeOrPostParams(Params):
    """O8: one venue, take M or post L = S - M behind Q; Cont & Kukanov (2017), Quantitative Finance 17(1)."""

    kind: Literal["take_or_post"] = "take_or_post"
    half_spread: NonNegative
    take_fee: Finite
    rebate: Finite
    theta: NonNegative  # impact of every share sent
    queue: NonNegative
    size: Positive
    outflow_mean: Positive  # exponential
    underfill: NonNegative  # extra charge a share that is missed

    @model_validator(mode="after")
    def _taking_costs_more_than_a_posted_fill(self) -> TakeOrPostParams:
        if 2 * self.half_spread + self.take_fee + self.rebate < 0:
            raise ValueError(
                "2 half_spread + take_fee + rebate is negative: a take earns more than a post; mend the fees"
            )
        return self


def take_or_post(params: TakeOrPostParams) -> tuple[float, float]:
    """(posted L, taken M)."""
    gain = 2 * params.half_spread + params.take_fee + params.rebate
    miss = params.underfill + params.half_spread + params.rebate + params.theta
    if miss <= gain:  # F >= gain/miss can never be needed: even a certain miss is cheaper than a take
        return params.size, 0.0
    posted = -params.outflow_mean * math.log1p(-gain / miss) - params.queue  # F^-1(gain/miss) - Q
    posted = min(max(posted, 0.0), params.size)
    return posted, params.size - posted


def take_or_post_cost(params: TakeOrPostParams, posted: float) -> float:
    """Expected cost of posting `posted` and taking the rest; exponential outflow."""
    m = params.outflow_mean
    fill = m * math.exp(-params.queue / m) * -math.expm1(-posted / m)
    taken, missed = params.size - posted, posted - fill
    cost = (params.half_spread + params.take_fee) * taken - (params.half_spread + params.rebate) * fill
    return cost + params.theta * (params.size + missed) + params.underfill * missed


def solve_take_or_post(params: TakeOrPostParams) -> float:
    """The least expected cost."""
    return take_or_post_cost(params, take_or_post(params)[0])
