"""A proposal cut into child orders: what was proposed, what each control left of it, and what went out.

Whoever proposes, the policy or the rule SOR in its place, passes here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..envs.controls import child_orders, weights_from_scores
from ..envs.state import PING
from .attribution import E9
from .facts import Body, Facts, Limits, Parent, type_of

_NO_LIMIT = 1 << 50
_TIF = ("IOC", "DAY", "IOC", "DAY")  # take, post, ping, rest


@dataclass(frozen=True, slots=True)
class Child:
    """One child order, as sent."""

    child_id: str
    route: int
    shares: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """What goes out, and what it was cut from. Arrays are (R,) in route order."""

    work_shares: float
    weights: NDArray[np.float64]  # of the proposal
    proposed: NDArray[np.int64]  # shares before the caps
    capped: NDArray[np.int64]  # ... after the cap a child, before the parent's dark cap
    released: NDArray[np.int64]
    children: tuple[Child, ...]
    chosen: int | None  # the route that leads; None: there is none


def pace_band(limits: Limits, parent: Parent, facts: Facts) -> tuple[float, float]:
    """As `envs.controls.pace_band`, operation for operation."""
    q, x = float(facts.remaining_shares), parent.ordered_shares
    if limits.full_band:
        return 0.0, q
    lo = min(max(q - x * (facts.schedule_next_frac + limits.band_frac), 0.0), q)
    hi = min(max(q - x * (facts.schedule_next_frac - limits.band_frac), 0.0), q)
    return lo, hi


def work_of(band: tuple[float, float], pace_e9: int) -> float:
    """Shares to work: the pace's score within its band."""
    score = pace_e9 / E9
    return band[0] + (band[1] - band[0]) * (1.0 / (1.0 + math.exp(-score)) if score > -700.0 else 0.0)


def weights_of(limits: Limits, facts: Facts, scores_e9: NDArray[np.int64]) -> NDArray[np.float64]:
    """(n, R) weights of `scores_e9` (n, R), masked routes left out."""
    weights = np.zeros(scores_e9.shape)
    masked = np.tile(np.array([m != "" for m in facts.masks]), (len(scores_e9), 1))
    weights_from_scores(scores_e9 / E9, masked, limits.route_types, weights)
    return weights


def released_at(limits: Limits, parent: Parent, facts: Facts, scores_e9: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n, R) shares that would go out at each of the scores (n, 1 + R), the pace first; the last slot is not asked."""
    n = len(scores_e9)
    band = pace_band(limits, parent, facts)
    work = np.array([work_of(band, pace) for pace in scores_e9[:, 0].tolist()])
    shares = np.zeros((n, len(limits.routes)), np.int64)
    child_orders(
        np.full(n, facts.remaining_shares), work, weights_of(limits, facts, scores_e9[:, 1:]),
        np.tile(np.array([m != "" for m in facts.masks]), (n, 1)), limits.route_types,
        np.array(limits.route_caps_shares, np.int64), limits.lot_shares, limits.max_routes, limits.weight_cut,
        np.full(n, -1), np.full(n, _dark_room(limits, parent, facts)), shares,
    )  # fmt: skip
    return shares


def _dark_room(limits: Limits, parent: Parent, facts: Facts) -> int:
    return int(limits.max_dark_frac * parent.ordered_shares) - facts.dark_shares


def cuts_of(
    limits: Limits, parent: Parent, facts: Facts, work_shares: float, weights: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """(proposed, capped, released) shares by route, (R,) each, of `work_shares` over `weights` (R,)."""
    masked = np.array([m != "" for m in facts.masks])
    room = _dark_room(limits, parent, facts)
    completing = facts.completing_route if facts.slot == parent.n_slots - 1 and limits.completes else -1

    def cut(finishing: int, caps: tuple[int, ...], dark_room: int) -> NDArray[np.int64]:
        shares = np.zeros(len(limits.routes), np.int64)
        child_orders(
            np.array([facts.remaining_shares]), np.array([work_shares]), weights[None].copy(), masked[None],
            limits.route_types,
            np.array(caps, np.int64), limits.lot_shares, limits.max_routes, limits.weight_cut, np.array([finishing]),
            np.array([dark_room]), shares[None],
        )  # fmt: skip
        return shares

    return (
        cut(-1, (_NO_LIMIT,) * len(limits.routes), _NO_LIMIT),
        cut(completing, limits.route_caps_shares, _NO_LIMIT),
        cut(completing, limits.route_caps_shares, room),
    )


def children_of(limits: Limits, parent: Parent, facts: Facts, released: NDArray[np.int64]) -> tuple[Child, ...]:
    """Child orders of released shares (R,), numbered on from those sent before."""
    sizes = [(r, n) for r, total in enumerate(released.tolist()) for n in split_shares(total, limits)]
    first = facts.children_before + 1
    return tuple(Child(f"{parent.parent_id}-c{first + i:05d}", r, n) for i, (r, n) in enumerate(sizes))


def split_shares(total: int, limits: Limits) -> list[int]:
    """A route's shares as child orders of at most `max_child_shares`: equal in lots, the odd lot with the smallest."""
    unit = limits.lot_shares if limits.max_child_shares >= limits.lot_shares else 1
    if total <= limits.max_child_shares:
        return [total] if total else []
    count = -(-total // (limits.max_child_shares // unit * unit))
    each, more = divmod(total // unit, count)
    sizes = [(each + 1) * unit] * more + [each * unit] * (count - more)
    sizes[-1] += total % unit
    return sizes


def order_body(limits: Limits, parent: Parent, facts: Facts, r: int, shares: int) -> Body:
    """One order as records tell it: route, shares, limit on a legal tick, time in force; dark: minimum quantity."""
    route = limits.routes[r]
    kind = type_of(route)
    body: Body = {"route": route, "shares": shares, "limit_e6": facts.limit_e6(route, parent.side), "tif": _TIF[kind]}
    return body | {"min_qty": min(facts.min_qty_shares[r], shares)} if kind >= PING else body


def child_body(limits: Limits, parent: Parent, facts: Facts, child: Child) -> Body:
    """`order_body` of a child order, with its id."""
    return {"child_id": child.child_id} | order_body(limits, parent, facts, child.route, child.shares)


def controls(limits: Limits, parent: Parent, facts: Facts, d: Release) -> list[Body]:
    """Which control changed the proposal, with its limit and the value it saw."""
    if all(facts.masks):
        masked = sorted(set(facts.masks))
        return [{"code": code, "limit": 0, "seen": int(d.work_shares), "outcome": "block"} for code in masked]
    found: list[Body] = []
    completing = facts.slot == parent.n_slots - 1 and limits.completes
    if completing and not np.array_equal(d.proposed, d.released):
        seen = int(d.proposed[facts.completing_route])
        found.append({"code": "TIME_RUNNING_OUT", "limit": facts.remaining_shares, "seen": seen, "outcome": "complete"})
    room = max(0, _dark_room(limits, parent, facts))
    for r, cap in enumerate(limits.route_caps_shares):
        proposed, capped, released = (int(x[r]) for x in (d.proposed, d.capped, d.released))
        route = limits.routes[r]
        if not completing and capped < proposed:
            found.append(_clip("MAX_CHILD_SHARES", route, cap, proposed))
        if released < capped:
            found.append(_clip("MAX_DARK_FRAC", route, room, capped))
    return found


def _clip(code: str, route: str, limit: int, seen: int) -> Body:
    return {"code": code, "route": route, "limit": limit, "seen": seen, "outcome": "clip"}
