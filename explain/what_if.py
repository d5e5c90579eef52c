"""A decision's inputs with one quantity changed, and what moves with it: what counterfactuals are about.

The spread moves the three features that read it and every fee in half spreads; a route's measured markout and fill rate
are that route's alone; more shares left to do move the order's place against its schedule, and with it its band. The
size of the order is no lever: with another, its schedule and its caps would be others too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..envs.features import FEATURES, N_GLOBAL, N_ROUTE, observation_bounds
from .facts import Facts, Limits, Parent
from .reasons import COLUMN

Floats = NDArray[np.float64]
FEATURE = {f.name: f for f in FEATURES}


@dataclass(frozen=True)
class Lever:
    """One quantity: `base`'s feature and what moves with it by `slope` a unit; base 1: the feature is the quantity."""

    name: str
    feature: str  # its range is the measure of a change
    base: float  # quantity = base ** feature; 1: the feature itself
    moves: tuple[tuple[str, float], ...]
    scales: str | None = None  # a feature of every route that shrinks as the quantity grows
    scoped: bool = False  # of one route
    words: str = ""

    def natural(self, x: float) -> float:
        return x if self.base == 1 else self.base**x

    def coordinate(self, value: float) -> float:
        if self.base == 1:
            return value
        return math.log10(value) if self.base == 10 else math.log2(value)

    def columns(self, route: int | None) -> list[tuple[int, str, float]]:
        """(column of the observation, feature, slope) of what it moves."""
        if route is None:
            return [(COLUMN[name], name, slope) for name, slope in self.moves]
        return [(N_GLOBAL + route * N_ROUTE + COLUMN[name], name, slope) for name, slope in self.moves]

    def rows(self, route: int | None, measured: Floats, xs: Floats) -> Floats:
        """(n, n_obs): the features before their clip at the coordinates `xs` (n,), from those `measured` (n_obs,)."""
        rows = np.repeat(measured[None, :], len(xs), axis=0)
        columns = self.columns(route)
        start = measured[columns[0][0]]
        for at, _, slope in columns:
            rows[:, at] = measured[at] + slope * (xs - start)
        if self.scales is not None:
            first = N_GLOBAL + COLUMN[self.scales]
            rows[:, first::N_ROUTE] = measured[None, first::N_ROUTE] * (self.base ** (start - xs))[:, None]
        return rows


def clipped(rows: Floats) -> Floats:
    """(n, n_obs) features as a policy sees them, every one within its range."""
    n_routes = (rows.shape[1] - N_GLOBAL) // N_ROUTE
    seen: Floats = np.clip(rows, *observation_bounds(n_routes))
    return seen


_LOG2_10 = math.log2(10.0)
LEVERS = (
    Lever("markout_hs", "markout_hs", 1, (("markout_hs", 1.0),), scoped=True,
          words="{route}'s {known} 10 s markout had been {value} half spreads instead of {now}"),
    Lever("fill_rate_frac", "log_fill_rate", 10, (("log_fill_rate", 1.0),), scoped=True,
          words="{route}'s {known} fill rate had been {value} instead of {now}"),
    Lever("spread_bps", "log_spread_bps", 10,
          (("log_spread_bps", 1.0), ("log_spread_ratio", _LOG2_10), ("log_move_per_spread", -_LOG2_10)), "fee_hs",
          words="the spread, before rounding to ticks, had been {value} bps instead of {now}"),
    Lever("volatility_ratio", "log_vol_ratio", 2, (("log_vol_ratio", 1.0),),
          words="volatility had been {value} x normal instead of {now}"),
)  # fmt: skip
# Not a feature but a fact that three features and the band follow; only a decision to send nothing is asked for it.
LEFT = Lever("remaining_shares", "remaining_frac", 1, (), words="{value} shares had been left to do instead of {now}")
BY_NAME = {lever.name: lever for lever in LEVERS}


def order_place(parent: Parent, facts: Facts, left_shares: int) -> dict[str, float]:
    """The features that say where an order stands with `left_shares` to do, as `envs.features` has them, unclipped."""
    x, now, then = float(parent.ordered_shares), facts.schedule_now_frac, facts.schedule_next_frac
    due = (left_shares - x * then) / max(x * (now - then), 1e-9)
    return {
        "remaining_frac": left_shares / x, "gap_frac": left_shares / x - now,
        "log_due_slices": math.copysign(math.log2(1.0 + abs(due)), due),
    }  # fmt: skip


def with_left(parent: Parent, facts: Facts, left_shares: int) -> Facts:
    """The facts with another number of shares left to do."""
    measured = list(facts.measured)
    for name, value in order_place(parent, facts, left_shares).items():
        measured[COLUMN[name]] = value
    return _seen(replace(facts, remaining_shares=left_shares), np.array(measured))


def _seen(facts: Facts, measured: Floats) -> Facts:
    return replace(facts, measured=tuple(measured.tolist()), observation=tuple(clipped(measured[None])[0].tolist()))


def what_if(limits: Limits, parent: Parent, facts: Facts, lever: str, route: str | None, value: str) -> Facts:
    """The facts with one quantity at another value: what a turn in a decision record (`flips`) is about.

    Args:
        lever, route, value: as in the record.

    Raises:
        KeyError, ValueError: no such lever, route or number.
    """
    if lever == LEFT.name:
        return with_left(parent, facts, int(value))
    x = BY_NAME[lever].coordinate(float(value))
    at = None if route is None else limits.routes.index(route)
    return _seen(facts, BY_NAME[lever].rows(at, np.array(facts.measured), np.array([x]))[0])
