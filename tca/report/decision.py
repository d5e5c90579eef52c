"""One decision of the log, told from its records: what was chosen, why, what else was possible, what came of it."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from .words import number, percent

Record = Mapping[str, Any]
SHOWN_PARTS = 2  # of what told two routes apart, for and against
SHOWN_STEPS = 9  # contributions drawn one by one; the rest is one bar, so that the sum stays exact

REASON_WORDS = {
    "SIZE_PCT_ADV_HIGH": "the parent order is large against daily volume",
    "SIZE_PCT_ADV_MID": "the parent order is of middling size",
    "SIZE_PCT_ADV_LOW": "the parent order is small against daily volume",
    "SPREAD_TIGHT_LIQUID": "the spread is tight and the stock liquid",
    "SPREAD_MID": "spread and liquidity are middling",
    "SPREAD_WIDE_ILLIQUID": "the spread is wide or the stock illiquid",
    "SPREAD_WIDE_PI_LARGE": "the wide spread makes a midpoint fill worth much",
    "VOL_LOW_STABLE_NBBO": "volatility is low and the quote stable",
    "VOL_MID": "volatility is middling",
    "VOL_HIGH": "volatility is high",
    "VENUE_QUALITY_GOOD": "the venue has filled well and without adverse moves",
    "VENUE_MIXED": "the venue's record is mixed",
    "VENUE_QUALITY_POOR": "the venue's record is poor",
    "VENUE_SAMPLE_SMALL": "the venue's record is too short to judge",
    "VENUE_FILL_PROB_HIGH": "the venue is likely to fill",
    "VENUE_MARKOUT_OK": "prices have not moved against us after fills there",
    "BEHIND_SCHEDULE": "the order is behind its schedule",
    "AHEAD_OF_SCHEDULE": "the order is ahead of its schedule",
    "TIME_RUNNING_OUT": "little time is left",
    "FEE_ADVANTAGE": "the fee is lower",
    "VETO_VOLATILITY": "high volatility vetoes dark venues",
    "VETO_VENUE": "the venue is vetoed by its record",
    "NET_VOTES_LIT": "the votes for dark are too few",
    "FALLBACK_RULE_SOR": "a control handed the decision to the rule-based SOR",
    "EXPLORATION": "exploration",
    "ON_SCHEDULE": "the order is on its schedule",
    "VENUE_LAST_VISIT": "what the last visit to the venue found",
    "SIGNAL_ADVERSE": "the quote's imbalance points against the order",
    "SIGNAL_FAVOURABLE": "the quote's imbalance points the order's way",
    "VOL_NO_DATA": "there is no reference for volatility",
}
# Where a policy's reason is what a feature added, not a verdict: whatever the number was, it counted for the route.
POLICY_WORDS = REASON_WORDS | {
    "VENUE_SAMPLE_SMALL": "what was measured after few fills",
    "VENUE_FILL_PROB_HIGH": "the fill rate",
    "VENUE_MARKOUT_OK": "the measured markout",
    "VENUE_MIXED": "the venue's record",
    "VENUE_QUALITY_POOR": "the venue's record",
    "VENUE_QUALITY_GOOD": "the venue's record",
    "VENUE_LAST_VISIT": "when the pool was last visited, and what it filled",
}
FEATURE_WORDS = {
    "time_left_frac": "time left", "remaining_frac": "shares left", "gap_frac": "position against the schedule",
    "log_due_slices": "what is due, in slices", "log_pct_adv": "the order's size",
    "log_participation_pct": "the order's share of the volume", "log_slice_lots": "the size of a slice",
    "log_spread_bps": "spread", "log_spread_ratio": "spread against the usual",
    "log_adv_shares": "the stock's daily volume", "log_vol_ratio": "volatility against the usual",
    "log_move_per_spread": "how far the price moves against the spread", "imbalance_signed": "imbalance",
    "log_fill_rate": "fill rate", "markout_hs": "measured markout", "fee_hs": "fee",
    "log_evidence": "number of fills measured", "visit_age": "time since the last visit",
    "last_filled_frac": "what the last visit filled",
}  # fmt: skip
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
        chosen, _ = _ranked(body)
        return bool(body.get("lit_alternative")), filled, chosen["route"] != (body.get("baseline") or {}).get("top")

    decisions = [r for r in records if r["type"] == "decision" and _scored(r["body"]) and not r["body"].get("fallback")]
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
    parent = parents.get(body.get("parent_id"))
    sentences = [
        _what(picked, parent),
        _pace(body),
        _why(body),
        _others(body),
        _baseline(body),
        _other_way(records, body),
        *_controls(body),
        _outcome(own, fills),
    ]
    return Decision(
        decision_id=str(body.get("decision_id")),
        choice_rule=choice_rule,
        sentences=[s for s in sentences if s],
        scores=_scores(body),
        candidates=_candidates(body),
        lit_alternative=_lit_rows(body),
        lit_shares=f"{(body.get('lit_alternative') or {}).get('shares', 0):,}",
        counterfactual=_turn(body),
        completes=_completes(body),
    )


def _turn(body: Record) -> str:
    """The nearest change of a quantity that would have given the largest order elsewhere; or why none is told."""
    turn = str(body.get("counterfactual") or _no_turn(body))
    if body.get("released") or body.get("fallback") or not _scored(body):
        return turn
    pace: Record = next((c for c in body.get("candidates", []) if c.get("route") == "pace"), {})
    most = f" (its band ends at {float(pace['hi_shares']):,.0f} shares)" if pace.get("hi_shares") else ""
    return f"a pace of half a lot or more{most}: nothing was sent because it asked for less; {turn}"


def _no_turn(body: Record) -> str:
    """Why no other value of a quantity is told that would have changed the decision."""
    if body.get("fallback"):
        return "the features named above within what training met"
    if not _scored(body):
        return "an open route"
    if body.get("last_slot"):
        return "no score: in the last interval a control sends what is left, by the lit take with the lowest fee"
    return "no other value of one measured quantity within its range"


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


def _scored(body: Record) -> list[Record]:
    """Scored routes, best first. Pace has a score too but is no route."""
    scored = [c for c in body.get("candidates", []) if c.get("score_e9") is not None and ":" in str(c.get("route"))]
    return sorted(scored, key=lambda c: -c["score_e9"])


def _ranked(body: Record) -> tuple[Record, Record | None]:
    """The chosen route (largest released score) and its rival: the best lit route, else the runner-up.

    Of a decision that the rule SOR took: as the policy ranks them. It needs a scored route.
    """
    scored = _scored(body)
    released = set() if body.get("fallback") else {r.get("route") for r in body.get("released", [])}
    chosen = next((c for c in scored if c["route"] in released), scored[0])
    others = [c for c in scored if c["route"] != chosen["route"]]
    lit = [c for c in others if str(c["route"]).endswith((":take", ":post"))]
    chosen_is_lit = str(chosen["route"]).endswith((":take", ":post"))
    rivals = others if chosen_is_lit or not lit else lit
    return chosen, rivals[0] if rivals else None


def _scores(body: Record) -> list[Score]:
    if not _scored(body):
        return []
    chosen, rival = _ranked(body)
    title = "Chosen" if body.get("released") else "Highest score, nothing sent"
    scores = [_score("The policy's own choice, not sent" if body.get("fallback") else title, chosen)]
    if rival is not None:
        is_lit = str(rival["route"]).endswith((":take", ":post"))
        other = "other " if str(chosen["route"]).endswith((":take", ":post")) else ""
        scores.append(_score(f"Best {other}lit route" if is_lit else "Runner-up", rival))
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


def _what(record: Record, parent: Record | None) -> str:
    body = record["body"]
    time = datetime.fromtimestamp(int(record["ts_ns"]) // 1_000_000_000, tz=UTC).strftime("%H:%M:%S UTC on %Y-%m-%d")
    sent = ", ".join(f"{r.get('shares', 0):,} to {r.get('route')}" for r in body.get("released", [])) or "nothing"
    order = f"order {body.get('parent_id')}"
    if parent is not None:
        side = str(parent.get("side", "")).replace("_", " ")
        order = f"{order} ({side} {parent.get('ordered_shares', 0):,} shares of {parent.get('symbol', 'a stock')})"
    left = body.get("remaining_shares")
    remaining = f", with {left:,} shares left" if isinstance(left, int) else ""
    who = "the rule-based SOR, in the policy's place," if body.get("fallback") else "the policy"
    if _completes(body):
        proposed = (
            ", ".join(f"{r.get('shares', 0):,} to {r.get('route')}" for r in body.get("proposed", [])) or "nothing"
        )
        return (
            f"At {time}{remaining} of {order}, a control sent {sent}: it was the last interval. "
            f"The policy had proposed {proposed}."
        )
    return f"At {time}{remaining} of {order}, {who} sent {sent}."


def _completes(body: Record) -> bool:
    """A control sent all that was left, in place of the proposal."""
    return any(c.get("outcome") == "complete" for c in body.get("controls", []))


def _pace(body: Record) -> str:
    """Why that many: where the order stood, and what the pace asked for within its band."""
    gap = body.get("gap_shares")
    if not isinstance(gap, int):
        return ""
    where = "on schedule" if gap == 0 else f"{abs(gap):,} shares {'behind' if gap > 0 else 'ahead of'} schedule"
    pace: Record = next((c for c in body.get("candidates", []) if c.get("route") == "pace"), {})
    if body.get("fallback") or pace.get("work_shares") is None:
        return f"The order was {where}."
    lo, hi, work = (f"{float(pace[k]):,.0f}" for k in ("lo_shares", "hi_shares", "work_shares"))
    band = f"of the {lo} to {hi} shares that its band allowed, the policy's pace asked for {work}"
    sent = sum(int(r.get("shares", 0)) for r in body.get("released", []))
    if _completes(body):
        return f"The order was {where}; {band}."
    return f"The order was {where}; {band}{_pace_parts(pace)}; in whole lots, after the controls, {sent:,} went out."


def _pace_parts(pace: Record) -> str:
    """The features that moved the pace most, up and down its band."""
    parts = pace.get("feature_attr_e9") or {}
    told = [(word, _largest(parts, sign)) for word, sign in (("for more", 1), ("for less", -1))]
    said = "; ".join(f"{word}: {text}" for word, text in told if text)
    return f" ({said})" if said else ""


def _others(body: Record) -> str:
    """Why the further orders: what their routes had over the best route that was left out."""
    if body.get("fallback") or _completes(body) or not _scored(body):
        return ""
    sent = {str(r.get("route")) for r in body.get("released", [])}
    by_score = [c for c in _scored(body) if not c.get("masks")]
    further = [c for c in by_score if c["route"] in sent][1:]
    left_out = next((c for c in by_score if c["route"] not in sent), None)
    if not further or left_out is None:
        return ""
    weights = ", ".join(f"{c['route']} {c['weight_ppm'] / 1e4:.1f} %" for c in further)
    text = f"Orders are shared out by weight; the further ones went to {weights}. Best of what was left out: "
    text += f"{left_out['route']} ({left_out['weight_ppm'] / 1e4:.1f} %)"
    for c in further:
        mine, theirs = (x.get("feature_attr_e9") or {} for x in (c, left_out))
        gains = {k: v - theirs.get(k, 0) for k, v in mine.items()}
        told = [(word, _largest(gains, sign)) for word, sign in (("for it", 1), ("against it", -1))]
        said = "; ".join(f"{word}: {parts}" for word, parts in told if parts)
        if said:
            text += f"; {c['route']} over that one: {said}"
    return text + "."


def _why(body: Record) -> str:
    if body.get("fallback"):
        return _why_not_the_policy(body)
    reasons = [POLICY_WORDS.get(str(r.get("code")), str(r.get("code"))) for r in body.get("reasons", [])]
    if not _scored(body):
        codes = ", ".join(str(r.get("code")) for r in body.get("reasons", []))
        return f"No route was open ({codes}), so none has a score."
    chosen, _ = _ranked(body)
    best, second = _scored(body)[0], next((c for c in _scored(body) if c["route"] != chosen["route"]), None)
    score = number(chosen["score_e9"] / 1e9, 3)
    if chosen["route"] != best["route"]:
        why = "The controls left no shares for that one."
        if _completes(body):
            why = "The last interval sends what is left by the cheapest lit take, whatever the scores."
        return f"{chosen['route']} had score {score}; {best['route']} had the highest. {why}"
    text = f"{chosen['route']} had the highest score, {score}"
    if second is not None:
        text += f" against {number(second['score_e9'] / 1e9, 3)} for {second['route']}"
        told_below = bool(reasons) and second["route"] == body.get("against")
        if not told_below and (told := _over_the_runner_up(body)):
            text += f" ({told})"
    against = body.get("against")
    if reasons:
        over = ""
        if against and _kind(against) != _kind(chosen["route"]):
            over = f" over {against}, the best {_kind(against)} route,"
        text += f". What spoke most for it{over} was: {'; '.join(reasons)}"
        if told := _parts(body, "against", -1):
            text += f"; against it: {told}"
    return text + "."


def _kind(route: object) -> str:
    return "lit" if str(route).endswith((":take", ":post")) else "dark"


def _over_the_runner_up(body: Record) -> str:
    """What spoke most for and against the first route, held against the second."""
    told = [(word, _parts(body, "runner_up", sign)) for word, sign in (("for it", 1), ("against it", -1))]
    return "; ".join(f"{word}: {parts}" for word, parts in told if parts)


def _parts(body: Record, rival: str, sign: int) -> str:
    """The features that weighed most of one sign in the lead over a rival, at most SHOWN_PARTS of them."""
    margin = next((m for m in body.get("margins", []) if rival in m.get("is", [])), None)
    return _largest((margin or {}).get("feature_attr_e9", {}), sign)


def _largest(parts: Mapping[str, int], sign: int) -> str:
    """The largest parts of one sign in words, at most SHOWN_PARTS of them."""
    ranked = sorted(parts.items(), key=lambda item: -sign * item[1])
    told = [f"{FEATURE_WORDS.get(k, k)} {number(v / 1e9, 3, sign=True)}" for k, v in ranked if sign * v > 0]
    return ", ".join(told[:SHOWN_PARTS])


def _why_not_the_policy(body: Record) -> str:
    """Which feature handed the decision over, and what the policy would have sent."""
    outside = [c for c in body.get("controls", []) if c.get("outcome") == "fallback"]
    told = "; ".join(
        f"{c.get('feature')}{' of ' + str(c['route']) if c.get('route') else ''} was {_short(c.get('seen'))}, "
        f"in training {' to '.join(map(_short, c.get('limit', [])))}"
        for c in outside
    )
    orders = body["fallback"].get("policy_orders")
    if orders is None:
        return f"The policy could not decide: {told}."
    own = ", ".join(f"{o.get('shares', 0):,} to {o.get('route')}" for o in orders) or "nothing"
    return f"A control took the decision from the policy: {told}. The policy would have sent {own}."


def _short(text: object) -> str:
    """A number of the log to three places; what is none as it stands."""
    try:
        value = float(str(text))
    except ValueError:
        return str(text)
    return number(value, 3) if math.isfinite(value) else str(text)


def _baseline(body: Record) -> str:
    baseline = body.get("baseline") or {}
    reasons = ", ".join(REASON_WORDS.get(str(c), str(c)) for c in baseline.get("reasons", [])) or "no reason given"
    if not baseline.get("top"):
        if body.get("fallback"):
            return f"The rule-based SOR sends nothing ({reasons})."
        return f"The rule-based SOR would have sent nothing ({reasons})." if baseline else ""
    votes = ""
    if isinstance(baseline.get("votes"), int):  # of its factors for dark less those for lit
        votes = f" with {number(baseline['votes'], 0, sign=True)} votes for dark"
    if body.get("fallback"):
        return f"It led with {baseline['top']}{votes} ({reasons})."
    if not _scored(body):
        return ""
    chosen, _ = _ranked(body)
    same = "the same route first" if baseline["top"] == chosen["route"] else "another route first"
    work = f"worked {float(baseline['work_shares']):,.0f} shares, led by" if baseline.get("work_shares") else "led with"
    return f"The rule-based SOR would have {work} {baseline['top']},{votes} ({reasons}): {same}."


def _other_way(records: Sequence[Record], body: Record) -> str:
    """What the rule-based SOR's orders would have been and filled, and what going another way was worth."""
    decision_id = body.get("decision_id")
    found = [r["body"] for r in records if r["type"] == "baseline_outcome" and r["body"]["decision_id"] == decision_id]
    if not found:
        return ""
    other, worth = found[0]["baseline"], found[0]["worth_e6"] / 1e6
    sent = ", ".join(f"{n:,} to {route}" for route, n in other["sent"].items()) or "nothing"
    text = f"On the same tape it would have sent {sent} and filled {other['filled_shares']:,}; the policy's way "
    if abs(worth) < 0.005:
        return text + ("came to the same cost." if other["filled_shares"] else "filled nothing either.")
    cheaper = "cheaper" if worth > 0 else "dearer"
    return text + f"was ${abs(worth):,.2f} {cheaper}, the shares that only one of them filled counted as taken later."


def _controls(body: Record) -> list[str]:
    told = []
    for c in body.get("controls", []):
        if c.get("outcome") == "complete":
            told.append(
                f"Control {c.get('code')}: in the last interval all {c.get('limit'):,} shares that are left are sent."
            )
        elif c.get("outcome") != "fallback":
            told.append(f"Control {c.get('code')} stepped in: {_clipped(c)}.")
    return told or ([] if body.get("fallback") or "controls" not in body else ["No control changed the decision."])


def _clipped(control: Record) -> str:
    """What a control allowed, and what was asked for."""
    limit, seen, route = control.get("limit"), control.get("seen"), control.get("route")
    if control.get("code") == "MAX_DARK_FRAC":
        return (
            f"{seen:,} shares were meant for {route}, with room for {limit:,} more dark shares in this order, those of "
            "other routes in this interval included"
        )
    asked = f"{seen:,} shares were meant for {route}" if route else f"{seen:,} shares were to be worked"
    return f"{asked}, the limit is {limit:,}"


def _outcome(children: Sequence[Record], fills: Mapping[str, Sequence[Record]]) -> str:
    if not children:
        return "The log holds no child orders for this decision."
    parts = []
    for child in children:
        got = fills.get(str(child.get("child_id")), [])
        shares = sum(int(f["shares"]) for f in got)
        where = ":".join(str(child[k]) for k in ("mic", "order_type") if child.get(k))
        at = ""
        if shares:
            dollars_e6 = sum(int(f["shares"]) * int(f["price_e6"]) for f in got)
            at = f" at {dollars_e6 / shares / 1e6:,.4f}"
        parts.append(f"{where} filled {shares:,} of {child.get('shares', 0):,}{at}")
    return "What came of it: " + "; ".join(parts) + "."


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
            "p_fill": percent(c["p_fill_ppm"] / 1e6) if c.get("p_fill_ppm") is not None else DASH,
            "fee": f"{c['fee_e6'] / 1e4:+.2f}" if c.get("fee_e6") is not None else DASH,
            "shares": f"{released[c.get('route')]:,}" if c.get("route") in released else DASH,
            "masks": ", ".join(map(str, c.get("masks", []))),
        }
        for c in rows
    ]


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
