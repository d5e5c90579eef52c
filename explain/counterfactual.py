"""What would have turned a decision: the nearest change of one quantity that sends it lit instead of dark, or dark.

Where nothing within the ranges does, it is the nearest change that puts another route first.

A lever moves what moves together: the spread moves the three features that read it and every fee in half spreads, the
order's size its three features; a pool's measured markout and fill rate are the chosen pool's, or the leading pool's of
a decision for lit. "Nearest" is the smallest change as a fraction of the lever's range in the feature table. Scores are
searched from knot to knot, where those of an additive policy are straight lines, so no nearer turn is stepped over; the
value that is told is scored again, and so is the one a step (its last digit) nearer to the present.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..envs.features import FEATURES, N_GLOBAL, N_ROUTE
from ..envs.state import TAKE
from .attribution import Scorer
from .facts import Body, Limits, is_dark, type_of
from .reasons import COLUMN, Story

_EVEN_POINTS = 65  # beside the knots, for what is not straight between them
_DIGITS = (4, 6, 8)  # significant digits of the value that is told; more only where fewer step over the turn
_FEATURE = {f.name: f for f in FEATURES}
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Lever:
    """One quantity: `base`'s feature and what moves with it by `slope` a unit; base 1: the feature is the quantity."""

    name: str
    feature: str  # its range is the measure
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


_LOG2_10 = math.log2(10.0)
LEVERS = (
    Lever("markout_hs", "markout_hs", 1, (("markout_hs", 1.0),), scoped=True,
          words="{route}'s measured 10 s markout had been {value} half spreads instead of {now}"),
    Lever("fill_rate_frac", "log_fill_rate", 10, (("log_fill_rate", 1.0),), scoped=True,
          words="{route}'s measured fill rate had been {value} instead of {now}"),
    Lever("spread_bps", "log_spread_bps", 10,
          (("log_spread_bps", 1.0), ("log_spread_ratio", _LOG2_10), ("log_move_per_spread", -_LOG2_10)), "fee_hs",
          words="the spread, before rounding to ticks, had been {value} bps instead of {now}"),
    Lever("size_pct_adv", "log_pct_adv", 10,
          (("log_pct_adv", 1.0), ("log_participation_pct", 1.0), ("log_slice_lots", 1.0)),
          words="the order had been {value} % of ADV instead of {now} %, its slices and its share of volume in step"),
    Lever("volatility_ratio", "log_vol_ratio", 2, (("log_vol_ratio", 1.0),),
          words="volatility had been {value} x normal instead of {now}"),
)  # fmt: skip
OTHER = "other"
_BY_NAME = {lever.name: lever for lever in LEVERS}


@dataclass(frozen=True)
class Flip:
    """The nearest turn. `value` is a decimal text: what is told is what was scored."""

    to: str  # lit or dark; "other": another route of the same kind leads
    leader: str
    lever: Lever
    route: str | None
    now: str
    value: str
    before: str  # the value a step nearer to the present, or the present: it does not turn
    distance_frac: float

    @property
    def text(self) -> str:
        what = self.lever.words.format(route=self.route, value=self.value, now=self.now)
        if self.to == OTHER:
            return f"{self.leader} would have come first if {what}"
        return f"the lead would have gone {self.to}, to {self.leader}, if {what}"

    def body(self) -> Body:
        return {
            "to": self.to, "leader": self.leader, "lever": self.lever.name, "route": self.route, "now": self.now,
            "value": self.value, "before": self.before, "distance_ppm": round(1e6 * self.distance_frac),
        }  # fmt: skip


def observation_at(
    observation: tuple[float, ...], limits: Limits, lever: str, route: str | None, value: str
) -> tuple[float, ...]:
    """The observation with one quantity at another value: what `flip` of a decision record is about.

    Args:
        lever, route, value: as in the record.

    Raises:
        KeyError, ValueError: no such lever, route or number.
    """
    x = _BY_NAME[lever].coordinate(float(value))
    at = None if route is None else limits.routes.index(route)
    return tuple(_rows(_BY_NAME[lever], at, np.array(observation), np.array([x]))[0].tolist())


def _columns(lever: Lever, route: int | None) -> list[tuple[int, str, float]]:
    if route is None:
        return [(COLUMN[name], name, slope) for name, slope in lever.moves]
    return [(N_GLOBAL + route * N_ROUTE + COLUMN[name], name, slope) for name, slope in lever.moves]


def _rows(lever: Lever, route: int | None, obs: Floats, xs: Floats) -> Floats:
    """(n, n_obs): the observation at the coordinates `xs` (n,) of a lever, every feature within its range."""
    rows = np.repeat(obs[None, :], len(xs), axis=0)
    start = obs[_columns(lever, route)[0][0]]
    for at, name, slope in _columns(lever, route):
        rows[:, at] = np.clip(obs[at] + slope * (xs - start), _FEATURE[name].low, _FEATURE[name].high)
    if lever.scales is not None:
        f, first = _FEATURE[lever.scales], N_GLOBAL + COLUMN[lever.scales]
        scaled = obs[None, first::N_ROUTE] * (lever.base ** (start - xs))[:, None]
        rows[:, first::N_ROUTE] = np.clip(scaled, f.low, f.high)
    return rows


def counterfactual(story: Story, scorer: Scorer) -> Flip | None:
    """The nearest turn of a decision over all levers, from dark to lit or back; else to another route; else None:
    nothing within the ranges turns it.

    None too for the last slot (a control decides) and where the released route is not the leader of the open ones. No
    turn to dark is told where the parent's dark cap has no room for a child order.
    """
    chosen = story.chosen
    if chosen is None or story.completing:
        return None
    routes = story.limits.routes
    ranked = story.explanation.order([r for r, mask in enumerate(story.facts.masks) if not mask])
    if ranked[0] != chosen:
        return None
    dark = is_dark(routes[chosen])
    if not dark and _no_dark_room(story):
        ranked = [r for r in ranked if not is_dark(routes[r])]
    own = [r for r in ranked if is_dark(routes[r]) == dark]
    across = [r for r in ranked if is_dark(routes[r]) != dark]
    if across:
        pool = chosen if dark else across[0]
        if flip := _nearest(story, scorer, own, across, "lit" if dark else "dark", [pool]):
            return flip
    if len(ranked) < 2:
        return None
    measured = [r for r in ranked[:2] if type_of(routes[r]) != TAKE]  # a take has no record to be different
    return _nearest(story, scorer, [chosen], ranked[1:], OTHER, measured)


def _nearest(
    story: Story, scorer: Scorer, own: list[int], others: list[int], to: str, measured: list[int]
) -> Flip | None:
    """The nearest turn over all levers; those of one route are tried on each of `measured`."""
    search = _Search(story, scorer, np.array(sorted(own)), np.array(sorted(others)), to)
    found = [search.nearest(lever, r) for lever in LEVERS for r in (measured if lever.scoped else [None])]
    return min((f for f in found if f is not None), key=lambda f: f.distance_frac, default=None)


def _no_dark_room(story: Story) -> bool:
    """What is left under the parent's dark cap is too little for a child order, so no score could send one."""
    room = int(story.limits.max_dark_frac * story.parent.ordered_shares) - story.facts.dark_shares
    return room < min(story.limits.lot_shares, story.facts.remaining_shares)


@dataclass(frozen=True)
class _Search:
    story: Story
    scorer: Scorer
    own: NDArray[np.int64]  # the open routes that must lose the lead
    others: NDArray[np.int64]
    to: str

    def nearest(self, lever: Lever, route: int | None) -> Flip | None:
        obs = np.array(self.story.facts.observation)
        start = float(obs[_columns(lever, route)[0][0]])
        points = self._points(lever, route, obs, start)
        scores = self.scorer.scores_e9(_rows(lever, route, obs, points))[:, 1:]
        at = int(np.searchsorted(points, start))
        best: Flip | None = None
        for way, line in ((-1, slice(at, None, -1)), (1, slice(at, None))):
            x = self._first_turn(points[line], scores[line])
            flip = None if x is None else self._told(lever, route, obs, start, x, way)
            if flip is not None and (best is None or flip.distance_frac < best.distance_frac):
                best = flip
        return best

    def _points(self, lever: Lever, route: int | None, obs: Floats, start: float) -> Floats:
        """Coordinates, the present among them, between which scores are straight lines (but for a spread's fees)."""
        f = _FEATURE[lever.feature]
        parts = [np.array([start, f.low, f.high])]
        columns = _columns(lever, route)
        steps = np.linspace(0.0, 1.0, self.scorer.knots) if self.scorer.knots else np.empty(0)
        for at, name, slope in columns:
            g = _FEATURE[name]
            parts.append(start + (g.low + (g.high - g.low) * steps - obs[at]) / slope)
        if lever.scales is not None or not self.scorer.knots:
            parts.append(np.linspace(f.low, f.high, _EVEN_POINTS))
        points = np.unique(np.concatenate(parts))
        return points[(points >= f.low) & (points <= f.high)]

    def _first_turn(self, xs: Floats, scores: NDArray[np.int64]) -> float | None:
        """Where, going along `xs`, one of the others first reaches all of the own; straight lines between points."""
        if len(xs) < 2:
            return None
        lead = (scores[:, self.others, None] - scores[:, None, self.own]).astype(np.float64)  # (n, others, own)
        a, b = lead[:-1], lead[1:]
        with np.errstate(divide="ignore", invalid="ignore"):
            cross = a / (a - b)
        enters = np.where(a >= 0, 0.0, np.where(b >= 0, cross, np.inf)).max(axis=2)
        leaves = np.where(b >= 0, 1.0, np.where(a >= 0, cross, -np.inf)).min(axis=2)
        turn = np.where(enters <= leaves, enters, np.inf).min(axis=1)
        hit = np.flatnonzero(np.isfinite(turn))
        if not hit.size:
            return None
        i = int(hit[0])
        return float(xs[i] + turn[i] * (xs[i + 1] - xs[i]))

    def _told(self, lever: Lever, route: int | None, obs: Floats, start: float, x: float, way: int) -> Flip | None:
        """The turn in decimals: the first of its digits that turns the decision, the one before not."""
        f = _FEATURE[lever.feature]
        now, value = lever.natural(start), lever.natural(x)

        def leader(v: float) -> int:
            scores = self.scorer.scores_e9(_rows(lever, route, obs, np.array([lever.coordinate(v)])))[0, 1:]
            every = np.sort(np.concatenate([self.own, self.others]))
            return int(every[np.argmax(scores[every])])

        for digits in _DIGITS:
            places = digits - (1 if lever.base == 1 else 1 + math.floor(math.log10(value))) + (lever.base == 1)
            unit = 10.0**places
            k = (math.ceil(value * unit) if way > 0 else math.floor(value * unit)) - way
            first = next((k + way * i for i in range(4) if self._turns(leader, (k + way * i) / unit, lever)), None)
            if first is None:
                continue
            told = first / unit
            before, ahead = (first - way) / unit, (first - way) / unit
            if (ahead - now) * way <= 0:
                before = now
            elif self._turns(leader, ahead, lever):
                continue
            decimals = max(places, 0)
            return Flip(
                self._kind(leader(told)), self.story.limits.routes[leader(told)], lever,
                None if route is None else self.story.limits.routes[route], f"{now:.6g}", f"{told:.{decimals}f}",
                f"{before:.{decimals}f}" if before != now else repr(now),
                abs(lever.coordinate(told) - start) / (f.high - f.low),
            )  # fmt: skip
        return None

    def _kind(self, leader: int) -> str:
        """What the turn is told as: where any other route may lead, it may still be one of the other kind."""
        routes, chosen = self.story.limits.routes, self.own[0]
        if self.to != OTHER or is_dark(routes[leader]) == is_dark(routes[chosen]):
            return self.to
        return "dark" if is_dark(routes[leader]) else "lit"

    def _turns(self, leader: Callable[[float], int], value: float, lever: Lever) -> bool:
        low, high = (lever.natural(x) for x in (_FEATURE[lever.feature].low, _FEATURE[lever.feature].high))
        return low <= value <= high and leader(value) in self.others


__all__ = ["LEVERS", "OTHER", "Flip", "Lever", "counterfactual", "observation_at"]
