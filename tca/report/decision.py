"""One decision of the log, told from its records: what was chosen, why, what else was possible, what came of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from . import aftermath, story
from .story import Record, chosen_and_rival, is_lit, is_prior, scored_routes
from .words import number, percent

SHOWN_STEPS = 9  # contributions drawn one by one; the rest is one bar, so that the sum stays exact

DASH = "\N{EN DASH}"


@dataclass(frozen=True, slots=True)
class Score:
    """One route's score taken apart, in score units; `exact` = bias and contributions add up to the last digit."""

    title: str
    route: str
    steps: list[tuple[str, float]]
    total: float
    exact: bool


@dataclass(frozen=True, slots=True)
class Decision:
    """What the page tells of one decision."""

    decision_id: str
    choice_rule: str
    sentences: list[str]
    scores: list[Score]
    candidates: list[dict[str, str]]
    lit_alternative: list[dict[str, str]]
    lit_shares: str
    counterfactual: str
    completes: bool  # a control sent all that was left


def tell_decision(records: Sequence[Record]) -> Decision | None:
    """Pick the most telling decision of the policy in a log and explain it; None when none has a scored route.

    Preferred, in this order: shares went dark, a fill came of it, the rule SOR would have sent them elsewhere; the
    earliest of the best. The choice never looks at whether the outcome was good.
    """
    children, fills = _events(records)

    def telling(record: Record) -> tuple[bool, bool, bool]:
        body = record["body"]
        filled = any(fills[str(c.get("child_id"))] for c in children[str(body.get("decision_id"))])
        chosen, _ = chosen_and_rival(body)
        return bool(body.get("lit_alternative")), filled, chosen["route"] != (body.get("baseline") or {}).get("top")

    decisions = [
        r for r in records if r["type"] == "decision" and scored_routes(r["body"]) and not r["body"].get("fallback")
    ]
    if not decisions:
        return None
    picked = max(decisions, key=telling)  # max keeps the first of equals
    dark, filled, differs = telling(picked)
    wanted = [("sent shares dark", dark), ("got a fill", filled), ("differs from the rule-based SOR", differs)]
    told = [text for text, holds in wanted if holds] or ["has a scored route"]
    return explain_decision(records, picked, "The first decision in the log that " + ", ".join(told) + ".")


def explain_decision(records: Sequence[Record], picked: Record, choice_rule: str) -> Decision:
    """One decision told; without scores where no route had one (all masked, or a feature that is no number)."""
    parents = {r["body"].get("parent_id"): r["body"] for r in records if r["type"] == "parent"}
    children, fills = _events(records)
    body = picked["body"]
    own = children[str(body.get("decision_id"))]
    run: Record = next((r["body"] for r in records if r["type"] == "run"), {})
    limits: Record = run.get("control_limits") or {}
    sentences = [
        story.what(picked, parents.get(body.get("parent_id"))),
        story.pace(body, limits),
        story.why(body),
        story.others(body, limits),
        story.closed(body),
        aftermath.baseline(records, body),
        *story.controls(body),
        aftermath.came_of_it(own, fills),
    ]
    return Decision(
        decision_id=str(body.get("decision_id")),
        choice_rule=choice_rule,
        sentences=[s for s in sentences if s],
        scores=_scores(body),
        candidates=_candidates(body),
        lit_alternative=_lit_rows(body),
        lit_shares=f"{(body.get('lit_alternative') or {}).get('shares', 0):,}",
        counterfactual=aftermath.turn(body, limits),
        completes=story.completed(body),
    )


def _events(records: Sequence[Record]) -> tuple[Mapping[str, list[Record]], Mapping[str, list[Record]]]:
    """Children sent by decision, fills by child."""
    children: dict[str, list[Record]] = defaultdict(list)
    fills: dict[str, list[Record]] = defaultdict(list)
    for r in records:
        if r["type"] == "route_event" and r["body"].get("event") == "MEOR":
            children[str(r["body"].get("decision_id"))].append(r["body"])
        elif r["type"] == "fill":
            fills[str(r["body"].get("child_id"))].append(r["body"])
    return children, fills


def _scores(body: Record) -> list[Score]:
    if not scored_routes(body):
        return []
    chosen, rival = chosen_and_rival(body)
    title = "Chosen" if body.get("released") else "Highest score, nothing sent"
    scores = [_score("The policy's own choice, not sent" if body.get("fallback") else title, chosen)]
    if rival is not None:
        other = "other " if is_lit(chosen["route"]) else ""
        scores.append(_score(f"Best {other}lit route" if is_lit(rival["route"]) else "Runner-up", rival))
    return scores


def _score(title: str, candidate: Record) -> Score:
    parts: dict[str, int] = dict(candidate.get("feature_attr_e9") or candidate.get("attr_e9") or {})
    residual = int(candidate.get("residual_e9") or 0)
    bias, total = int(candidate.get("bias_e9") or 0), int(candidate["score_e9"])
    exact = bias + sum(parts.values()) + residual == total
    ranked = sorted(((k, v) for k, v in parts.items() if v), key=lambda item: -abs(item[1]))
    steps = [("bias", bias), *ranked[:SHOWN_STEPS]]
    if rest := ranked[SHOWN_STEPS:]:
        steps.append((f"{len(rest)} smaller", sum(v for _, v in rest)))
    if residual:
        steps.append(("residual", residual))
    return Score(title, str(candidate["route"]), [(k, v / 1e9) for k, v in steps], total / 1e9, exact)


def _candidates(body: Record) -> list[dict[str, str]]:
    released = {r.get("route"): r.get("shares", 0) for r in body.get("released", [])}
    routes = [c for c in body.get("candidates", []) if ":" in str(c.get("route"))]
    rows = sorted(routes, key=lambda c: (c.get("score_e9") is None, -(c.get("score_e9") or 0)))
    return [
        {
            "route": str(c.get("route")),
            "score": number(c["score_e9"] / 1e9, 3)
            if c.get("score_e9") is not None
            else "masked"
            if c.get("masks")
            else DASH,
            "weight": percent(c["weight_ppm"] / 1e6) if c.get("weight_ppm") is not None else DASH,
            "p_fill": _p_fill(c),
            "fee": f"{c['fee_e6'] / 1e4:+.2f}" if c.get("fee_e6") is not None else DASH,
            "shares": f"{released[c.get('route')]:,}" if c.get("route") in released else DASH,
            "masks": ", ".join(map(str, c.get("masks", []))),
        }
        for c in rows
    ]


def _p_fill(candidate: Record) -> str:
    if candidate.get("p_fill_ppm") is None:
        return DASH
    return percent(candidate["p_fill_ppm"] / 1e6) + (" (no fill yet)" if is_prior(candidate) else "")


LIT_PARTS = ("spread_e6", "instant_e6", "adverse_e6", "fee_e6", "impact_e6", "cost_e6")


def _lit_rows(body: Record) -> list[dict[str, str]]:
    """What the dark shares would have cost lit, in cents a filled share (+ = cost)."""
    lit = body.get("lit_alternative") or {}
    rows = []
    for way, label in (("dark", "dark (sent)"), ("take", "lit take"), ("post", "lit post")):
        if entry := lit.get(way):
            row = {"way": label, "route": str(entry.get("route"))}
            row["p_fill"] = percent(entry["p_fill_ppm"] / 1e6) if entry.get("p_fill_ppm") is not None else DASH
            row |= {key: number(entry[key] / 1e4, 2, sign=True) if key in entry else DASH for key in LIT_PARTS}
            rows.append(row)
    return rows
