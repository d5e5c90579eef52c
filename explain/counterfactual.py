"""What would have turned a decision: the nearest change of one quantity that gives the largest order to a lit route
instead of a dark one, or to a dark one.

Where nothing within the ranges does, it is the nearest change that gives it to another route; of a decision to send
nothing, the nearest that sends something.

A lever moves what moves together: the spread moves the three features that read it and every fee in half spreads; a
pool's measured markout and fill rate are the chosen pool's, or the leading pool's of a decision for lit. The order's
size is no lever: with another, its schedule, its band and its caps would be others too. "Nearest" is the smallest
change as a fraction of the lever's range in the feature table. Orders are made anew, through pace, weights, lots and
controls, at every knot of a function and three points between; the first interval in which the decision turns is cut
down to the last digit that is told, and the value a step nearer to the present does not turn it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..envs.features import FEATURES, N_GLOBAL, N_ROUTE
from ..envs.state import TAKE
from .attribution import Scorer
from .facts import Body, Limits, is_dark, type_of
from .reasons import COLUMN, Story, fills_behind
from .release import released_at

_EVEN_POINTS = 65  # beside the knots, for what is not straight between them
_BETWEEN = 4  # parts of the way from one point to the next
_CUTS, _ROUNDS = 33, 3  # points an interval is cut by, and how often: to 3e-5 of it
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
          words="{route}'s {known} 10 s markout had been {value} half spreads instead of {now}"),
    Lever("fill_rate_frac", "log_fill_rate", 10, (("log_fill_rate", 1.0),), scoped=True,
          words="{route}'s {known} fill rate had been {value} instead of {now}"),
    Lever("spread_bps", "log_spread_bps", 10,
          (("log_spread_bps", 1.0), ("log_spread_ratio", _LOG2_10), ("log_move_per_spread", -_LOG2_10)), "fee_hs",
          words="the spread, before rounding to ticks, had been {value} bps instead of {now}"),
    Lever("volatility_ratio", "log_vol_ratio", 2, (("log_vol_ratio", 1.0),),
          words="volatility had been {value} x normal instead of {now}"),
)  # fmt: skip
OTHER, SENT = "other", "sent"
_BY_NAME = {lever.name: lever for lever in LEVERS}


@dataclass(frozen=True)
class Flip:
    """The nearest turn. `value` is a decimal text: what is told is what was scored."""

    to: str  # lit or dark; "other": another route of the same kind has the largest order; "sent": nothing was sent
    leader: str  # the route with the largest order then
    lever: Lever
    route: str | None
    known: str  # of a route's record: measured, or a prior
    now: str
    value: str
    before: str  # the value a step nearer to the present, or the present: it does not turn
    distance_frac: float

    @property
    def text(self) -> str:
        what = self.lever.words.format(route=self.route, known=self.known, value=self.value, now=self.now)
        if self.to == SENT:
            return f"something would have been sent if {what}"
        kind = "" if self.to == OTHER else f" {self.to},"
        return f"the largest order would have gone{kind} to {self.leader}{',' if kind else ''} if {what}"

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

    None too for the last slot (a control decides), where no route is open, and where the controls left the largest
    order to a route that does not have the highest score.
    """
    chosen = story.chosen
    if chosen is None or story.completing:
        return None
    routes = story.limits.routes
    ranked = story.explanation.order([r for r, mask in enumerate(story.facts.masks) if not mask])
    measured = [r for r in ranked[:2] if type_of(routes[r]) != TAKE]  # a take has no record to be different
    if not sum(story.released):
        return _nearest(story, scorer, ranked, SENT, measured)
    if ranked[0] != chosen or story.released[chosen] < max(story.released):
        return None
    dark = is_dark(routes[chosen])
    across = [r for r in ranked if is_dark(routes[r]) != dark]
    if across:
        pool = chosen if dark else across[0]
        if flip := _nearest(story, scorer, across, "lit" if dark else "dark", [pool]):
            return flip
    if len(ranked) < 2:
        return None
    return _nearest(story, scorer, ranked[1:], OTHER, measured)


def _nearest(story: Story, scorer: Scorer, others: list[int], to: str, measured: list[int]) -> Flip | None:
    """The nearest turn over all levers; those of one route are tried on each of `measured`.

    All levers are looked at from point to point at once; then the interval of the nearest turn is searched first, and
    the others only while they begin nearer than what was found.
    """
    search = _Search(story, scorer, np.array(others), to)
    lines = [_Line(scorer, story, lever, r) for lever in LEVERS for r in (measured if lever.scoped else [None])]
    leaders = search.leaders(np.concatenate([line.rows(line.points) for line in lines]))
    by_line = np.split(leaders, np.cumsum([len(line.points) for line in lines])[:-1])
    turns = [turn for line, found in zip(lines, by_line, strict=True) for turn in line.first_turns(found)]
    best: Flip | None = None
    for line, last, first in sorted(turns, key=lambda turn: turn[0].distance(turn[1])):
        if best is not None and line.distance(last) >= best.distance_frac:
            break
        flip = search.told(line, last, first)
        if flip is not None and (best is None or flip.distance_frac < best.distance_frac):
            best = flip
    return best


class _Line:
    """The observations along one lever."""

    def __init__(self, scorer: Scorer, story: Story, lever: Lever, route: int | None) -> None:
        self.lever, self.route = lever, route
        self._obs = np.array(story.facts.observation)
        self._range = _FEATURE[lever.feature]
        self.start = float(self._obs[_columns(lever, route)[0][0]])
        self.points = self._points(scorer.knots)

    def rows(self, xs: Floats) -> Floats:
        return _rows(self.lever, self.route, self._obs, xs)

    def distance(self, x: float) -> float:
        return abs(x - self.start) / (self._range.high - self._range.low)

    def first_turns(self, leaders: NDArray[np.int64]) -> list[tuple[_Line, float, float]]:
        """Down and up from the present: the last point before the decision turns, and the first where it has."""
        at, found = int(np.searchsorted(self.points, self.start)), []
        for way in (slice(at, None, -1), slice(at, None)):
            hits = np.flatnonzero(leaders[way] >= 0)
            if hits.size and hits[0] > 0:
                xs = self.points[way]
                found.append((self, float(xs[hits[0] - 1]), float(xs[hits[0]])))
        return found

    def _points(self, knots: int) -> Floats:
        """Coordinates to look at, the present among them: where functions bend, and points between."""
        f = self._range
        parts = [np.array([self.start, f.low, f.high])]
        steps = np.linspace(0.0, 1.0, knots) if knots else np.empty(0)
        for at, name, slope in _columns(self.lever, self.route):
            g = _FEATURE[name]
            parts.append(self.start + (g.low + (g.high - g.low) * steps - self._obs[at]) / slope)
        if self.lever.scales is not None or not knots:
            parts.append(np.linspace(f.low, f.high, _EVEN_POINTS))
        bends = np.unique(np.concatenate(parts))
        bends = bends[(bends >= f.low) & (bends <= f.high)]
        between = np.linspace(0.0, 1.0, _BETWEEN, endpoint=False)
        inside: Floats = (bends[:-1, None] + between * np.diff(bends)[:, None]).ravel()
        return np.unique(np.concatenate([inside, bends]))


def largest_orders(
    routes: Sequence[str], released: NDArray[np.int64], scores_e9: NDArray[np.int64], chosen: int | None
) -> NDArray[np.int64]:
    """(n,) the route with the largest order of `released` (n, R); -1: nothing is sent.

    Of equals it is `chosen`, then one of its kind, then the one with the higher score: a tie turns nothing."""
    rank = 4 * released
    if chosen is not None:
        rank[:, chosen] += 2
        rank += np.array([is_dark(r) == is_dark(routes[chosen]) for r in routes])
    equals = rank == rank.max(1, keepdims=True)
    best = np.where(equals, scores_e9, np.iinfo(np.int64).min).argmax(1)
    return np.where(released.any(1), best, -1)


@dataclass(frozen=True)
class _Search:
    story: Story
    scorer: Scorer
    others: NDArray[np.int64]  # the open routes that the largest order may turn to
    to: str

    def leaders(self, rows: Floats) -> NDArray[np.int64]:
        """(n,) the route that the decision turns to at each of the observations; -1: it does not turn."""
        story = self.story
        scores = self.scorer.scores_e9(rows)
        released = released_at(story.limits, story.parent, story.facts, scores)
        chosen = None if self.to == SENT else story.chosen
        found = largest_orders(story.limits.routes, released, scores[:, 1:], chosen)
        return np.where(np.isin(found, self.others), found, -1)

    def told(self, line: _Line, last: float, first: float) -> Flip | None:
        """The turn between two coordinates in decimals: the first of its digits that turns the decision, the one before
        not."""
        way = 1 if first > last else -1
        for _ in range(_ROUNDS):
            xs = np.linspace(last, first, _CUTS)
            i = int(np.flatnonzero(self.leaders(line.rows(xs)) >= 0)[0])  # the last of xs turns
            last, first = float(xs[i - 1]), float(xs[i])
        lever, f = line.lever, _FEATURE[line.lever.feature]
        now, value = lever.natural(line.start), lever.natural(first)
        low, high = lever.natural(f.low), lever.natural(f.high)

        def leader(v: float) -> int:
            if not low <= v <= high:
                return -1
            return int(self.leaders(line.rows(np.array([lever.coordinate(v)])))[0])

        routes = self.story.limits.routes
        for digits in _DIGITS:
            places = digits - (1 if lever.base == 1 else 1 + math.floor(math.log10(value))) + (lever.base == 1)
            unit = 10.0**places
            k = (math.ceil(value * unit) if way > 0 else math.floor(value * unit)) - way
            at = next((k + way * i for i in range(4) if leader((k + way * i) / unit) >= 0), None)
            if at is None:
                continue
            told, before = at / unit, (at - way) / unit
            if (before - now) * way <= 0:
                before = now
            elif leader(before) >= 0:
                continue
            decimals, to = max(places, 0), leader(told)
            unseen = line.route is not None and not fills_behind(self.story, line.route)
            return Flip(
                self._kind(to), routes[to], lever, None if line.route is None else routes[line.route],
                "assumed (nothing has filled there yet)" if unseen else "measured", f"{now:.6g}",
                f"{told:.{decimals}f}", f"{before:.{decimals}f}" if before != now else repr(now),
                line.distance(lever.coordinate(told)),
            )  # fmt: skip
        return None

    def _kind(self, leader: int) -> str:
        """What the turn is told as: where any other route may lead, it may still be one of the other kind."""
        routes, chosen = self.story.limits.routes, self.story.chosen
        if self.to != OTHER or chosen is None or is_dark(routes[leader]) == is_dark(routes[chosen]):
            return self.to
        return "dark" if is_dark(routes[leader]) else "lit"


__all__ = ["LEVERS", "OTHER", "SENT", "Flip", "Lever", "counterfactual", "largest_orders", "observation_at"]
