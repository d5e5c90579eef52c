"""One decision from its facts: scores, weights, child orders, and the log record that tells them.

Pure: the same facts, limits and policy give the same record, down to the byte. The writer of a log sends the orders
that `decide` returns; its verifier calls it again and compares.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..envs.features import GLOBAL_FEATURES, N_GLOBAL, N_ROUTE, ROUTE_FEATURES
from .attribution import PACE, Explanation, ScoreParts, Scorer, explain, margin_parts
from .counterfactual import Admits, Flip, anything, counterfactuals
from .facts import Body, Facts, Limits, Parent, is_dark, venue_of
from .reasons import Story, fills_measured, objections, reasons, sentence
from .release import (
    Release,
    child_body,
    children_of,
    controls,
    cuts_of,
    order_body,
    pace_band,
    weights_of,
    work_of,
)
from .what_if import what_if


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision(Release):
    """What a policy decided. `weights`: masked softmax of the scores; `chosen`: the released route with the largest
    score, else the open one."""

    explanation: Explanation
    lo_shares: float  # the pace lies in [lo, hi]
    hi_shares: float


def decide(scorer: Scorer, limits: Limits, parent: Parent, facts: Facts) -> Decision:
    """Score, weigh, and cut into child orders.

    Raises:
        UserError: the policy is not additive.
    """
    explanation = explain(scorer, np.array(facts.observation), limits.routes)
    weights = weights_of(limits, facts, np.array([[p.score_e9 for p in explanation.routes]]))[0]
    lo, hi = pace_band(limits, parent, facts)
    work = work_of((lo, hi), explanation.pace.score_e9)
    proposed, capped, released = cuts_of(limits, parent, facts, work, weights)
    open_routes = [r for r, mask in enumerate(facts.masks) if not mask]
    ranked = explanation.order([r for r in open_routes if released[r] > 0] or open_routes)
    return Decision(
        explanation=explanation, lo_shares=lo, hi_shares=hi, work_shares=work, weights=weights, proposed=proposed,
        capped=capped, released=released, children=children_of(limits, parent, facts, released),
        chosen=ranked[0] if ranked else None,
    )  # fmt: skip


def decision_body(
    limits: Limits, parent: Parent, facts: Facts, d: Decision, scorer: Scorer, *, policy_id: str, baseline: Body,
    lit_alternative: Body | None, admits: Admits = anything,
) -> Body:  # fmt: skip
    """Body of the `decision` record. `baseline` and `lit_alternative` are taken as they are; `admits`: where the policy
    decides, of `counterfactuals`."""
    story = Story.of(limits, parent, facts, d.explanation, d.chosen, d.released, d.work_shares)
    open_routes = [r for r, mask in enumerate(facts.masks) if not mask]
    lit = [r for r in open_routes if not is_dark(limits.routes[r])]

    def lead(rivals: list[int]) -> int | None:
        return None if d.chosen is None else d.explanation.lead_e9(d.chosen, rivals)

    turns = [_turned(scorer, limits, parent, facts, flip) for flip in counterfactuals(story, scorer, admits)]
    return what_was_known(limits, parent, facts, policy_id) | {
        "pace_shares": math.floor(d.work_shares + 0.5),
        "features": features_by_name(limits, facts, [r for r in (d.chosen, story.rival) if r is not None]),
        "candidates": candidates(limits, parent, facts, d),
        **orders_sent(limits, parent, facts, d),
        "controls": controls(limits, parent, facts, d), "fallback": None,
        "baseline": baseline, "agrees": _agrees(limits, d.chosen, baseline.get("top")),
        "margin_e9": lead(open_routes), "margin_lit_e9": lead(lit),
        "margins": _margins(limits, d, open_routes, lit, story.rival), "exploration": False,
        "lit_alternative": lit_alternative, "reasons": reasons(story), "objections": objections(story),
        "against": None if story.rival is None else limits.routes[story.rival],
        "sentence": sentence(story),
        "counterfactual": "; ".join(text for text, _ in turns) or None, "flips": [turn for _, turn in turns],
    }  # fmt: skip


def _turned(scorer: Scorer, limits: Limits, parent: Parent, facts: Facts, flip: Flip) -> tuple[str, Body]:
    """A turn in words and in numbers, with the orders that would then have been sent."""
    changed = what_if(limits, parent, facts, flip.lever.name, flip.route, flip.value)
    then = decide(scorer, limits, parent, changed).released
    orders = {limits.routes[r]: n for r, n in enumerate(then.tolist()) if n}
    told = ", ".join(f"{n:,} to {route}" for route, n in orders.items())
    equal = ", equal largest" if sum(n == max(orders.values()) for n in orders.values()) > 1 else ""
    return f"{flip.text} (sent would have been {told}{equal})", flip.body() | {"orders": orders}


def what_was_known(limits: Limits, parent: Parent, facts: Facts, policy_id: str) -> Body:
    """The part of a decision's body that is read off the market and the order, whoever decides.

    `beyond_range`: features that were measured outside the range of the feature table, by column name; everywhere else
    `observation` is what was measured.
    """
    target = math.floor(parent.ordered_shares * (1.0 - facts.schedule_now_frac) + 0.5)
    columns = column_names(limits.routes)
    return {
        "decision_id": f"{parent.parent_id}-{facts.slot:04d}", "parent_id": parent.parent_id, "policy_id": policy_id,
        "interval": facts.slot, "last_slot": facts.slot == parent.n_slots - 1,
        "remaining_shares": facts.remaining_shares, "dark_shares": facts.dark_shares,
        "children_before": facts.children_before, "target_shares": target,
        "gap_shares": target - (parent.ordered_shares - facts.remaining_shares),
        "schedule_now_frac": repr(facts.schedule_now_frac), "schedule_next_frac": repr(facts.schedule_next_frac),
        "completing_route": limits.routes[facts.completing_route], "flags": [],
        "nbbo": {"bid_e6": facts.bid_e6, "ask_e6": facts.ask_e6, "source": "sim", "changes_10s": facts.nbbo_moves_10s,
                 "ts_ns": str(parent.slot_ns(limits, facts.slot))},
        "vol_ratio": repr(facts.vol_ratio),
        "observation": [repr(x) for x in facts.observation],
        "beyond_range": {
            columns[i]: repr(x)
            for i, (x, seen) in enumerate(zip(facts.measured, facts.observation, strict=True)) if repr(x) != repr(seen)
        },
    }  # fmt: skip


def column_names(routes: Sequence[str]) -> list[str]:
    """Names of the observation's columns: the global features, then `route.feature` route by route."""
    return [f.name for f in GLOBAL_FEATURES] + [f"{route}.{f.name}" for route in routes for f in ROUTE_FEATURES]


def orders_sent(limits: Limits, parent: Parent, facts: Facts, d: Release) -> Body:
    """`proposed` and `released` of a decision's body."""
    return {
        "proposed": [order_body(limits, parent, facts, r, n) for r, n in enumerate(d.proposed.tolist()) if n],
        "released": [child_body(limits, parent, facts, c) for c in d.children],
    }


def candidates(limits: Limits, parent: Parent, facts: Facts, d: Decision | None) -> list[Body]:
    """The pace, then every route in route order; without `d` (no policy could score) none has a score or a weight."""
    routes = [_candidate(limits, parent, facts, d, r) for r in range(len(limits.routes))]
    return [{"route": PACE, "score_e9": None} if d is None else _pace(d), *routes]


def features_by_name(limits: Limits, facts: Facts, shown: list[int]) -> Body:
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


def _candidate(limits: Limits, parent: Parent, facts: Facts, d: Decision | None, r: int) -> Body:
    """A masked route has no score."""
    route, mask = limits.routes[r], facts.masks[r]
    body: Body = {
        "route": route, "masks": [mask] if mask else [], "p_fill_ppm": facts.p_fill_ppm[r],
        "exp_price_e6": facts.limit_e6(route, parent.side), "fee_e6": facts.fee_e6[r],
        "min_qty": facts.min_qty_shares[r], "fills_measured": fills_measured(facts, r), "score_e9": None,
        "weight_ppm": None if d is None else math.floor(1e6 * float(d.weights[r]) + 0.5),
    }  # fmt: skip
    return body if mask or d is None else body | _parts(d.explanation.routes[r])


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
