"""What would have to differ for the runner-up to lead: one feature, the chosen pool's measured markout."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ..envs.features import N_GLOBAL, N_ROUTE, ROUTE_FEATURES
from .attribution import Scorer
from .facts import is_dark
from .reasons import COLUMN, Story

_GRID = 129  # points each way; the functions have at most 64 knots


def counterfactual(story: Story, scorer: Scorer) -> str | None:
    """The nearest measured markout of the chosen pool at which the runner-up would lead; None where there is none.

    Searched on a grid, narrowed by bisection, and the value that is told is scored again.
    """
    chosen = story.chosen
    if chosen is None or story.completing or not is_dark(story.limits.routes[chosen]):
        return None
    others = story.explanation.order([r for r, mask in enumerate(story.facts.masks) if not mask and r != chosen])
    if not others or story.explanation.routes[chosen].score_e9 < story.explanation.routes[others[0]].score_e9:
        return None
    rival_e9 = story.explanation.routes[others[0]].score_e9
    feature = next(f for f in ROUTE_FEATURES if f.name == "markout_hs")
    at = N_GLOBAL + chosen * N_ROUTE + COLUMN["markout_hs"]

    def behind(values: NDArray[np.float64]) -> NDArray[np.bool_]:
        rows = np.tile(np.array(story.facts.observation), (len(values), 1))
        rows[:, at] = values
        return scorer.scores_e9(rows)[:, 1 + chosen] < rival_e9

    found: list[tuple[float, float, str]] = []
    start = story.facts.observation[at]
    for end, words in ((feature.low, "below"), (feature.high, "above")):
        grid = np.linspace(start, end, _GRID)
        hits = np.flatnonzero(behind(grid))
        if hits.size:
            value = _turn(behind, float(grid[hits[0] - 1]), float(grid[hits[0]]))
            found.append((abs(value - start), value, words))
    if not found:
        return None
    _, value, words = min(found)
    leader = story.limits.routes[others[0]]
    return f"{leader} leads if markout_hs of {story.limits.routes[chosen]} is at {value!r} or {words}"


def _turn(behind: Callable[[NDArray[np.float64]], NDArray[np.bool_]], ahead_at: float, behind_at: float) -> float:
    """Where the lead turns: four decimals on the far side, if they still turn it."""
    while abs(behind_at - ahead_at) > 1e-5:
        middle = 0.5 * (ahead_at + behind_at)
        if behind(np.array([middle]))[0]:
            behind_at = middle
        else:
            ahead_at = middle
    rounded = math.floor(behind_at * 1e4) / 1e4 if behind_at < ahead_at else math.ceil(behind_at * 1e4) / 1e4
    return rounded if behind(np.array([rounded]))[0] else behind_at
