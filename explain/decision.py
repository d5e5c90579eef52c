"""One decision from its facts: scores, weights, child orders, and the log record that tells them.

Pure: the same facts, limits and policy give the same record, down to the byte. The writer of a log sends the orders
that `decide` returns; its verifier calls it again and compares.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..envs.controls import child_orders, weights_from_scores
from ..envs.features import GLOBAL_FEATURES, N_GLOBAL, N_ROUTE, ROUTE_FEATURES
from ..envs.state import PING
from .attribution import E9, Explanation, ScoreParts, Scorer, explain, margin_parts
from .counterfactual import counterfactual
from .facts import Body, Facts, Limits, Parent, is_dark, type_of, venue_of
from .reasons import Story, reasons, sentence

_NO_LIMIT = 1 << 50
_TIF = ("IOC", "DAY", "IOC", "DAY")  # take, post, ping, rest


@dataclass(frozen=True, slots=True)
class Child:
    """One child order, as sent."""

    child_id: str
    route: int
    shares: int


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided. Arrays are (R,) in route order."""

    explanation: Explanation
    lo_shares: float  # the pace lies in [lo, hi]
    hi_shares: float
    work_shares: float
    weights: NDArray[np.float64]  # masked softmax of the scores
    proposed: NDArray[np.int64]  # shares before the caps
    capped: NDArray[np.int64]  # ... after the cap a child, before the parent's dark cap
    released: NDArray[np.int64]
    children: tuple[Child, ...]
    chosen: int | None  # the released route with the largest score, else the open one; None: all are masked


def decide(scorer: Scorer, limits: Limits, parent: Parent, facts: Facts) -> Decision:
    """Score, weigh, and cut into child orders.

    Raises:
        UserError: the policy is not additive.
    """
    explanation = explain(scorer, np.array(facts.observation), limits.routes)
    scores = np.array([p.score_e9 for p in explanation.routes]) / E9
    masked = np.array([m != "" for m in facts.masks])
    weights = np.zeros(len(limits.routes))
    weights_from_scores(scores[None], masked[None], weights[None])
    lo, hi = _pace_band(limits, parent, facts)
    work = lo + (hi - lo) * _sigmoid(explanation.pace.score_e9 / E9)
    last = facts.slot == parent.n_slots - 1 and limits.completes
    room = int(limits.max_dark_frac * parent.ordered_shares) - facts.dark_shares

    def cut(completing: int, caps: tuple[int, ...], dark_room: int) -> NDArray[np.int64]:
        shares = np.zeros(len(limits.routes), np.int64)
        child_orders(
            np.array([facts.remaining_shares]), np.array([work]), weights[None].copy(), masked[None],
            limits.route_types,
            np.array(caps, np.int64), limits.lot_shares, limits.max_routes, limits.weight_cut, np.array([completing]),
            np.array([dark_room]), shares[None],
        )  # fmt: skip
        return shares

    completing = facts.completing_route if last else -1
    released = cut(completing, limits.route_caps_shares, room)
    open_routes = [r for r, mask in enumerate(facts.masks) if not mask]
    ranked = explanation.order([r for r in open_routes if released[r] > 0] or open_routes)
    return Decision(
        explanation, lo, hi, work, weights,
        proposed=cut(-1, (_NO_LIMIT,) * len(limits.routes), _NO_LIMIT),
        capped=cut(completing, limits.route_caps_shares, _NO_LIMIT),
        released=released,
        children=children_of(limits, parent, facts, released),
        chosen=ranked[0] if ranked else None,
    )  # fmt: skip


def _sigmoid(score: float) -> float:
    return 1.0 / (1.0 + math.exp(-score)) if score > -700.0 else 0.0


def _pace_band(limits: Limits, parent: Parent, facts: Facts) -> tuple[float, float]:
    """As `envs.controls.pace_band`, operation for operation."""
    q, x = float(facts.remaining_shares), parent.ordered_shares
    if limits.full_band:
        return 0.0, q
    lo = min(max(q - x * (facts.schedule_next_frac + limits.band_frac), 0.0), q)
    hi = min(max(q - x * (facts.schedule_next_frac - limits.band_frac), 0.0), q)
    return lo, hi


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


def decision_body(
    limits: Limits, parent: Parent, facts: Facts, d: Decision, scorer: Scorer, *, policy_id: str, baseline: Body,
    lit_alternative: Body | None,
) -> Body:  # fmt: skip
    """Body of the `decision` record. `baseline` and `lit_alternative` are taken as they are."""
    story = Story.of(limits, parent, facts, d.explanation, d.chosen, d.released, d.work_shares)
    open_routes = [r for r, mask in enumerate(facts.masks) if not mask]
    lit = [r for r in open_routes if not is_dark(limits.routes[r])]
    target = math.floor(parent.ordered_shares * (1.0 - facts.schedule_now_frac) + 0.5)

    def lead(rivals: list[int]) -> int | None:
        return None if d.chosen is None else d.explanation.lead_e9(d.chosen, rivals)

    flip = counterfactual(story, scorer)
    return {
        "decision_id": f"{parent.parent_id}-{facts.slot:04d}", "parent_id": parent.parent_id, "policy_id": policy_id,
        "interval": facts.slot, "last_slot": facts.slot == parent.n_slots - 1,
        "remaining_shares": facts.remaining_shares, "dark_shares": facts.dark_shares,
        "children_before": facts.children_before, "target_shares": target,
        "gap_shares": target - (parent.ordered_shares - facts.remaining_shares),
        "pace_shares": math.floor(d.work_shares + 0.5),
        "schedule_now_frac": repr(facts.schedule_now_frac), "schedule_next_frac": repr(facts.schedule_next_frac),
        "completing_route": limits.routes[facts.completing_route], "flags": [],
        "nbbo": {"bid_e6": facts.bid_e6, "ask_e6": facts.ask_e6, "source": "sim", "changes_10s": facts.nbbo_moves_10s,
                 "ts_ns": str(parent.slot_ns(limits, facts.slot))},
        "vol_ratio": repr(facts.vol_ratio),
        "features": _features(limits, facts, [r for r in (d.chosen, story.rival) if r is not None]),
        "observation": [repr(x) for x in facts.observation],
        "candidates": [_pace(d), *(_candidate(limits, parent, facts, d, r) for r in range(len(limits.routes)))],
        "proposed": [order_body(limits, parent, facts, r, n) for r, n in enumerate(d.proposed.tolist()) if n],
        "controls": controls(limits, parent, facts, d),
        "released": [child_body(limits, parent, facts, c) for c in d.children],
        "baseline": baseline, "agrees": _agrees(limits, d.chosen, baseline.get("top")),
        "margin_e9": lead(open_routes), "margin_lit_e9": lead(lit),
        "margins": _margins(limits, d, open_routes, lit, story.rival), "exploration": False,
        "lit_alternative": lit_alternative, "reasons": reasons(story),
        "against": None if story.rival is None else limits.routes[story.rival],
        "sentence": sentence(story), "counterfactual": None if flip is None else flip.text,
        "flip": None if flip is None else flip.body(),
    }  # fmt: skip


def _features(limits: Limits, facts: Facts, shown: list[int]) -> Body:
    """Features by name; those of routes for the `shown` ones (all are in `observation`)."""
    named: Body = {f.name: repr(x) for f, x in zip(GLOBAL_FEATURES, facts.observation, strict=False)}
    for r in shown:
        values = facts.observation[N_GLOBAL + r * N_ROUTE : N_GLOBAL + (r + 1) * N_ROUTE]
        named[limits.routes[r]] = {f.name: repr(x) for f, x in zip(ROUTE_FEATURES, values, strict=True)}
    return named


def _margins(limits: Limits, d: Decision, open_routes: list[int], lit: list[int], rival: int | None) -> list[Body]:
    """The chosen route's lead over the runner-up, the best lit route and the route that `against` names, in parts."""
    if d.chosen is None:
        return []
    over: dict[int, list[str]] = {}
    for what, rivals in (("runner_up", open_routes), ("best_lit", lit), ("against", [] if rival is None else [rival])):
        if others := d.explanation.order([r for r in rivals if r != d.chosen]):
            over.setdefault(others[0], []).append(what)
    mine = d.explanation.routes[d.chosen]
    return [
        {"over": limits.routes[r], "is": what} | margin_parts(mine, d.explanation.routes[r]) for r, what in over.items()
    ]


def _parts(p: ScoreParts) -> Body:
    return {
        "bias_e9": p.bias_e9, "feature_attr_e9": p.feature_attr_e9, "attr_e9": p.attr_e9, "residual_e9": p.residual_e9,
        "score_e9": p.score_e9,
    }  # fmt: skip


def _pace(d: Decision) -> Body:
    """The pace's own candidate. Its band is exact; what exp() touches has six places, the same on every machine."""
    return {"route": d.explanation.pace.route} | _parts(d.explanation.pace) | {
        "lo_shares": repr(d.lo_shares), "hi_shares": repr(d.hi_shares), "work_shares": f"{d.work_shares:.6f}",
    }  # fmt: skip


def _candidate(limits: Limits, parent: Parent, facts: Facts, d: Decision, r: int) -> Body:
    """A masked route has no score."""
    route, mask = limits.routes[r], facts.masks[r]
    body: Body = {
        "route": route, "masks": [mask] if mask else [], "p_fill_ppm": facts.p_fill_ppm[r],
        "exp_price_e6": facts.limit_e6(route, parent.side), "fee_e6": facts.fee_e6[r],
        "min_qty": facts.min_qty_shares[r], "score_e9": None,
        "weight_ppm": math.floor(1e6 * float(d.weights[r]) + 0.5),
    }  # fmt: skip
    return body if mask else body | _parts(d.explanation.routes[r])


def order_body(limits: Limits, parent: Parent, facts: Facts, r: int, shares: int) -> Body:
    """One order as records tell it: route, shares, limit on a legal tick, time in force; dark: minimum quantity."""
    route = limits.routes[r]
    kind = type_of(route)
    body: Body = {"route": route, "shares": shares, "limit_e6": facts.limit_e6(route, parent.side), "tif": _TIF[kind]}
    return body | {"min_qty": min(facts.min_qty_shares[r], shares)} if kind >= PING else body


def child_body(limits: Limits, parent: Parent, facts: Facts, child: Child) -> Body:
    """`order_body` of a child order, with its id."""
    return {"child_id": child.child_id} | order_body(limits, parent, facts, child.route, child.shares)


def controls(limits: Limits, parent: Parent, facts: Facts, d: Decision) -> list[Body]:
    """Which control changed the proposal, with its limit and the value it saw."""
    masked = sorted(set(facts.masks) - {""})
    if d.chosen is None:
        return [{"code": code, "limit": 0, "seen": int(d.work_shares), "outcome": "block"} for code in masked]
    found: list[Body] = []
    completing = facts.slot == parent.n_slots - 1 and limits.completes
    if completing and not np.array_equal(d.proposed, d.released):
        seen = int(d.proposed[facts.completing_route])
        found.append({"code": "TIME_RUNNING_OUT", "limit": facts.remaining_shares, "seen": seen, "outcome": "complete"})
    room = max(0, int(limits.max_dark_frac * parent.ordered_shares) - facts.dark_shares)
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


def _agrees(limits: Limits, chosen: int | None, top: object) -> str:
    """How far the baseline's first choice is the same: route, venue, type of order, or no."""
    if chosen is None or not isinstance(top, str):
        return "route" if chosen is None and top is None else "no"
    mine = limits.routes[chosen]
    if mine == top:
        return "route"
    if venue_of(mine) == venue_of(top):
        return "venue"
    return "type" if mine.partition(":")[2] == top.partition(":")[2] else "no"
