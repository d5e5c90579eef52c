"""What would have turned a decision: the nearest change of one quantity that gives the largest order to another route.

Where that route is of the same kind, also the nearest that gives it to a route of the other kind, dark or lit. Of a
decision to send nothing, they are the nearest changes of a market's quantity and of the shares left to do that send
something.

"Nearest" is the smallest change as a fraction of the quantity's range in the feature table. Fill rates and markouts are
those of the chosen route, the runner-up and the best route of the other kind; with spread, volatility and the shares
left to do these are all the levers (`what_if`). Orders are made anew, through pace,
weights, lots and controls, at every knot of a function and three points between; the first interval in which the
decision turns is cut down to the last digit that is told, and the value a step nearer to the present does not turn it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..envs.state import TAKE
from .attribution import Scorer
from .facts import Body, is_dark, type_of
from .reasons import Story, fills_behind
from .release import released_at
from .what_if import FEATURE, LEFT, LEVERS, Floats, Lever, clipped, with_left

_EVEN_POINTS = 65  # beside the knots, for what is not straight between them
_BETWEEN = 4  # parts of the way from one point to the next
_CUTS, _ROUNDS = 33, 3  # points an interval is cut by, and how often: to 3e-5 of it
_DIGITS = (4, 6, 8)  # significant digits of the value that is told; more only where fewer step over the turn
OTHER, SENT = "other", "sent"


@dataclass(frozen=True)
class Flip:
    """A turn. `value` is a decimal text: what is told is what was scored."""

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


Admits = Callable[[Floats], NDArray[np.bool_]]


def anything(measured: Floats) -> NDArray[np.bool_]:
    """(n,) whether the policy decides at features (n, n_obs) before their clip: always, where there is no fallback."""
    return np.ones(len(measured), np.bool_)


def counterfactuals(story: Story, scorer: Scorer, admits: Admits = anything) -> list[Flip]:
    """The nearest turn, then, where that stays lit or stays dark, the nearest to the other kind; nothing where no value
    within the ranges turns the decision. Of nothing sent: the market's and the shares left, the nearer first. Where
    `admits` says no, the fallback would decide, and nothing is told of what it would do.

    Nothing too for the last slot (a control decides), where no route is open, and where the controls left the largest
    order to a route that does not have the highest score.
    """
    chosen = story.chosen
    if chosen is None or story.completing:
        return []
    routes = story.limits.routes
    ranked = story.explanation.order([r for r, mask in enumerate(story.facts.masks) if not mask])
    nothing = not sum(story.released)
    if not nothing and (ranked[0] != chosen or story.released[chosen] < max(story.released)):
        return []
    across = [r for r in ranked if is_dark(routes[r]) != is_dark(routes[chosen])]
    told_of = dict.fromkeys([chosen, *ranked[:2], *across[:1]])
    measured = [r for r in told_of if type_of(routes[r]) != TAKE]  # a take has no record
    search = _Search(story, scorer, measured, admits)
    if nothing:
        found = [search.nearest(ranked, SENT), search.more_left()]
        return sorted((f for f in found if f is not None), key=lambda f: f.distance_frac)
    nearest = search.nearest(ranked[1:], OTHER)
    stays = nearest is not None and nearest.to == OTHER
    found = [nearest, search.nearest(across, "lit" if is_dark(routes[chosen]) else "dark") if stays else None]
    return [f for f in found if f is not None]


class _Line:
    """The observations along one lever."""

    def __init__(self, scorer: Scorer, story: Story, lever: Lever, route: int | None) -> None:
        self.lever, self.route = lever, route
        self._measured = np.array(story.facts.measured)
        self._range = FEATURE[lever.feature]
        self.start = float(self._measured[lever.columns(route)[0][0]])
        self.points = self._points(scorer.knots)

    def rows(self, xs: Floats) -> Floats:
        return self.lever.rows(self.route, self._measured, xs)

    def distance(self, x: float) -> float:
        return abs(x - self.start) / (self._range.high - self._range.low)

    def first_turns(self, turned: NDArray[np.bool_]) -> list[tuple[_Line, float, float]]:
        """Down and up from the present: the last point before the decision turns, and the first where it has."""
        at, found = int(np.searchsorted(self.points, self.start)), []
        for way in (slice(at, None, -1), slice(at, None)):
            hits = np.flatnonzero(turned[way])
            if hits.size and hits[0] > 0:
                xs = self.points[way]
                found.append((self, float(xs[hits[0] - 1]), float(xs[hits[0]])))
        return found

    def _points(self, knots: int) -> Floats:
        """Coordinates to look at, the present among them: where functions bend, and points between."""
        f = self._range
        parts = [np.array([self.start, f.low, f.high])]
        steps = np.linspace(0.0, 1.0, knots) if knots else np.empty(0)
        for at, name, slope in self.lever.columns(self.route):
            g = FEATURE[name]
            parts.append(self.start + (g.low + (g.high - g.low) * steps - self._measured[at]) / slope)
        if self.lever.scales is not None or not knots:
            parts.append(np.linspace(f.low, f.high, _EVEN_POINTS))
        bends = np.unique(np.concatenate(parts))
        bends = bends[(bends >= min(f.low, self.start)) & (bends <= max(f.high, self.start))]
        between = np.linspace(0.0, 1.0, _BETWEEN, endpoint=False)
        inside: Floats = (bends[:-1, None] + between * np.diff(bends)[:, None]).ravel()
        return np.unique(np.concatenate([inside, bends]))


def largest_orders(released: NDArray[np.int64], scores_e9: NDArray[np.int64], chosen: int | None) -> NDArray[np.int64]:
    """(n,) the route with the largest order of `released` (n, R); -1: nothing is sent.

    Where several are equal no route has it: then it is `chosen`, so that a tie turns nothing; without one, the route of
    them with the highest score.
    """
    equals = released == released.max(1, keepdims=True)
    best = np.where(equals, scores_e9, np.iinfo(np.int64).min).argmax(1)
    if chosen is not None:
        best = np.where(equals.sum(1) > 1, chosen, best)
    return np.where(released.any(1), best, -1)


class _Search:
    """The turns of one decision; the levers of one route are tried on each of `measured`.

    All levers are looked at from point to point at once, for every kind of turn that is asked for.
    """

    def __init__(self, story: Story, scorer: Scorer, measured: Sequence[int], admits: Admits) -> None:
        self._story, self._scorer, self._admits = story, scorer, admits
        self._chosen = story.chosen if sum(story.released) else None
        self._lines = [
            _Line(scorer, story, lever, r) for lever in LEVERS for r in (measured if lever.scoped else [None])
        ]
        leaders = self._leaders(np.concatenate([line.rows(line.points) for line in self._lines]))
        self._by_line = np.split(leaders, np.cumsum([len(line.points) for line in self._lines])[:-1])

    def nearest(self, others: Sequence[int], to: str) -> Flip | None:
        """The nearest turn to one of the routes `others`.

        The interval of the nearest is cut first, and the others only while they begin nearer than what was found.
        """
        turns = [
            turn
            for line, found in zip(self._lines, self._by_line, strict=True)
            for turn in line.first_turns(np.isin(found, others))
        ]
        best: Flip | None = None
        for line, last, first in sorted(turns, key=lambda turn: turn[0].distance(turn[1])):
            if best is not None and line.distance(last) >= best.distance_frac:
                break
            flip = self._told(line, last, first, others, to)
            if flip is not None and (best is None or flip.distance_frac < best.distance_frac):
                best = flip
        return best

    def more_left(self) -> Flip | None:
        """How many more shares left to do would have sent something: the fewest of those looked at, a lot's twentieths
        and then thirds of what was done."""
        story, ordered = self._story, self._story.parent.ordered_shares
        now, lot = story.facts.remaining_shares, story.limits.lot_shares
        step = max(1, lot // 20)
        looked_at = [
            *range(now + step, now + 2 * lot + 1, step),
            *np.linspace(now, ordered, 33)[1:].astype(int).tolist(),
        ]
        last = now
        for left in sorted(n for n in looked_at if now < n <= ordered):
            if self._sent_with(left) >= 0:
                break
            last = left
        else:
            return None
        while left - last > 1:
            middle = (last + left) // 2
            last, left = (last, middle) if self._sent_with(middle) >= 0 else (middle, left)
        leader = story.limits.routes[self._sent_with(left)]
        return Flip(
            SENT, leader, LEFT, None, "", str(now), str(left), str(last), (left - now) / ordered,
        )  # fmt: skip

    def _sent_with(self, left_shares: int) -> int:
        facts = with_left(self._story.parent, self._story.facts, left_shares)
        if not self._admits(np.array([facts.measured]))[0]:
            return -1
        scores = self._scorer.scores_e9(np.array([facts.observation]))
        released = released_at(self._story.limits, self._story.parent, facts, scores)
        return int(largest_orders(released, scores[:, 1:], None)[0])

    def _leaders(self, measured: Floats) -> NDArray[np.int64]:
        """(n,) the route with the largest order at features (n, n_obs) before their clip; -1: nothing is sent, or the
        fallback decides."""
        story = self._story
        scores = self._scorer.scores_e9(clipped(measured))
        released = released_at(story.limits, story.parent, story.facts, scores)
        leaders = largest_orders(released, scores[:, 1:], self._chosen)
        return np.where(self._admits(measured), leaders, -1)

    def _told(self, line: _Line, last: float, first: float, others: Sequence[int], to: str) -> Flip | None:
        """The turn between two coordinates in decimals: the first of its digits that turns the decision, the one before
        not."""
        way = 1 if first > last else -1
        for _ in range(_ROUNDS):
            xs = np.linspace(last, first, _CUTS)
            i = int(np.flatnonzero(np.isin(self._leaders(line.rows(xs)), others))[0])  # the last of xs turns
            last, first = float(xs[i - 1]), float(xs[i])
        lever, f = line.lever, FEATURE[line.lever.feature]
        now, value = lever.natural(line.start), lever.natural(first)
        low, high = lever.natural(f.low), lever.natural(f.high)

        def leader(v: float) -> int:
            if not low <= v <= high:
                return -1
            found = int(self._leaders(line.rows(np.array([lever.coordinate(v)])))[0])
            return found if found in others else -1

        routes = self._story.limits.routes
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
            decimals, turned_to = max(places, 0), leader(told)
            unseen = line.route is not None and not fills_behind(self._story, line.route)
            return Flip(
                self._kind(turned_to, to), routes[turned_to], lever, None if line.route is None else routes[line.route],
                "assumed (nothing has filled there yet)" if unseen else "measured", f"{now:.6g}",
                f"{told:.{decimals}f}", f"{before:.{decimals}f}" if before != now else repr(now),
                line.distance(lever.coordinate(told)),
            )  # fmt: skip
        return None

    def _kind(self, leader: int, to: str) -> str:
        """What the turn is told as: where any other route may lead, it may still be one of the other kind."""
        routes, chosen = self._story.limits.routes, self._chosen
        if to != OTHER or chosen is None or is_dark(routes[leader]) == is_dark(routes[chosen]):
            return to
        return "dark" if is_dark(routes[leader]) else "lit"
