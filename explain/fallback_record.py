"""The record of a decision that the control FALLBACK_RULE_SOR took from the policy: the rule SOR proposed instead.

Pure, like `decision.py`. The policy's own view stands beside what was sent: scores and attributions in `candidates`,
the orders that it would have sent in `fallback.policy_orders`. Where a feature is no finite number there is no view.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .decision import Decision, candidates, features_by_name, orders_sent, what_was_known
from .facts import Body, Facts, Limits, Parent
from .release import Release, children_of, controls, cuts_of, order_body

CODE = "FALLBACK_RULE_SOR"


@dataclass(frozen=True, slots=True)
class Outside:
    """A feature outside what training saw, on the first route where it is; inside is low <= seen <= high."""

    feature: str
    route: str | None  # None: a feature of the order or the market
    seen: float
    low: float
    high: float

    def control(self) -> Body:
        """As an entry of a decision's `controls`."""
        return {
            "code": CODE, "feature": self.feature, "route": self.route, "limit": [repr(self.low), repr(self.high)],
            "seen": repr(self.seen), "outcome": "fallback",
        }  # fmt: skip


def rule_release(
    limits: Limits, parent: Parent, facts: Facts, work_shares: float, weights: NDArray[np.float64], top: str | None
) -> Release:
    """The rule SOR's proposal, `work_shares` over `weights` (R,) with `top` in the lead, cut into child orders."""
    proposed, capped, released = cuts_of(limits, parent, facts, work_shares, weights)
    return Release(
        work_shares=work_shares, weights=weights, proposed=proposed, capped=capped, released=released,
        children=children_of(limits, parent, facts, released), chosen=None if top is None else limits.routes.index(top),
    )  # fmt: skip


def fallback_body(
    limits: Limits, parent: Parent, facts: Facts, d: Release, own: Decision | None, outside: Sequence[Outside], *,
    policy_id: str, baseline: Body, rule_inputs: Body, lit_alternative: Body | None,
) -> Body:  # fmt: skip
    """Body of the `decision` record.

    Args:
        d: what the rule SOR proposed and what was released of it.
        own: what the policy would have done; None where it cannot score.
        baseline: votes, rule and reasons of that proposal; baseline and lit_alternative are taken as they are.
        rule_inputs: what the rule SOR read and no other field holds.
    """
    weights = {r: math.floor(1e6 * w + 0.5) for r, w in zip(limits.routes, d.weights.tolist(), strict=True) if w}
    return what_was_known(limits, parent, facts, policy_id) | {
        "pace_shares": math.floor(d.work_shares + 0.5),
        "features": features_by_name(limits, facts, [] if d.chosen is None else [d.chosen]),
        "candidates": candidates(limits, parent, facts, own),
        **orders_sent(limits, parent, facts, d),
        "controls": [*(o.control() for o in outside), *controls(limits, parent, facts, d)],
        "fallback": {
            "proposed_by": baseline["policy_id"], "features": [o.feature for o in outside], "weights_ppm": weights,
            "policy_orders": None if own is None else [
                order_body(limits, parent, facts, r, n) for r, n in enumerate(own.released.tolist()) if n
            ],
            "rule_inputs": rule_inputs,
        },
        "baseline": baseline, "agrees": "route", "margin_e9": None, "margin_lit_e9": None, "margins": [],
        "exploration": False, "lit_alternative": lit_alternative, "reasons": fallback_reasons(outside, baseline),
        "against": None, "sentence": fallback_sentence(outside, baseline), "counterfactual": None, "flips": [],
    }  # fmt: skip


def fallback_reasons(outside: Sequence[Outside], baseline: Mapping[str, Any]) -> list[Body]:
    """The control with the features that set it off, then the rule SOR's own codes."""
    first = {"code": CODE, "attr_e9": 0, "features": [o.feature for o in outside]}
    return [first, *({"code": code, "attr_e9": 0, "features": []} for code in baseline["reasons"])]


def fallback_sentence(outside: Sequence[Outside], baseline: Mapping[str, Any]) -> str:
    """What was outside, with its numbers, and the rule SOR's justification."""
    told = "; ".join(_told(o) for o in outside)
    return " ".join([f"Outside what training saw: {told}. The rule SOR decides.", *baseline["justification"]])


def _told(o: Outside) -> str:
    where = "" if o.route is None else f" of {o.route}"
    if not math.isfinite(o.seen):
        return f"{o.feature}{where} is {'missing' if math.isnan(o.seen) else 'not finite'}"
    return f"{o.feature}{where} = {o.seen:.4g}, known from {o.low:.4g} to {o.high:.4g}"
