"""What came of a decision, what the rule-based SOR would have done, and what would have changed it, in sentences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from .reason_words import REASON_WORDS
from .story import Record, chosen_and_rival, is_lit, orders_sent, pace_candidate, scored_routes
from .words import number, percent


def baseline(records: Sequence[Record], body: Record) -> str:
    """What the rule-based SOR would have sent and why; where the log holds its outcome, what that was worth."""
    way = body.get("baseline") or {}
    if not way:
        return ""
    told = [REASON_WORDS.get(str(c), str(c)) for c in way.get("reasons", [])]
    if isinstance(way.get("votes"), int):  # of its factors for dark less those for lit
        told.insert(0, f"votes for dark less votes for lit: {number(way['votes'], 0, sign=True)}")
    if way.get("rule"):
        told.insert(0, f"rule {way['rule']}")
    reasons = "; ".join(told) or "no reason given"
    if body.get("fallback"):
        did = f"led with {way['top']}" if way.get("top") else "sends nothing"
        return f"The rule-based SOR {did} ({reasons})."
    outcome = next((r["body"] for r in records if _is_outcome(r, body)), None)
    top = way.get("top")
    if outcome is not None:
        sent = outcome["baseline"]["sent"]
        would = orders_sent([{"route": route, "shares": n} for route, n in sent.items()])
    else:
        sent = {top: 1} if top else {}
        would = f"first to {top}" if top else "nothing"
    if not sent and way.get("work_shares"):
        would += f", its own pace asking for {float(way['work_shares']):,.0f} shares"
    text = f"The rule-based SOR would have sent {would} ({reasons})"
    if sent and body.get("released") and scored_routes(body):
        chosen, _ = chosen_and_rival(body)
        here = "where the largest order went" if top == chosen["route"] else "not where the largest order went"
        text += f"; its first choice was {top}, {here}"
    return text + "." + ("" if outcome is None else _worth(outcome))


def _is_outcome(record: Record, body: Record) -> bool:
    return record["type"] == "baseline_outcome" and bool(record["body"]["decision_id"] == body.get("decision_id"))


def _worth(outcome: Record) -> str:
    """What going another way than the rule-based SOR was worth on the same tape."""
    filled, worth = int(outcome["baseline"]["filled_shares"]), outcome["worth_e6"] / 1e6
    if abs(worth) < 0.005:
        same = "the policy's way came to the same cost" if filled else "the policy's way filled nothing either"
        return f" On the same tape it would have filled {filled:,}; {same}."
    cheaper = "cheaper" if worth > 0 else "dearer"
    return (
        f" On the same tape it would have filled {filled:,}; the policy's way was ${abs(worth):,.2f} {cheaper}, the "
        "shares that only one of them filled counted as taken later."
    )


def came_of_it(children: Sequence[Record], fills: Mapping[str, Sequence[Record]]) -> str:
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


def turn(body: Record, limits: Record) -> str:
    """The nearest change of a quantity that would have given the largest order elsewhere; or why none is told."""
    told = body.get("counterfactual")
    if told:
        flips = [flip.get("to") for flip in body.get("flips", [])]
        kind = "dark" if scored_routes(body) and is_lit(chosen_and_rival(body)[0]["route"]) else "lit"
        closed = [c for c in body.get("candidates", []) if c.get("masks") and is_lit(c["route"]) == (kind == "lit")]
        neither = f"; no change found of one quantity within its range sends the largest order {kind}"
        neither += " (routes that a control closed stay closed)" if closed else ""
        sent = sorted((int(r.get("shares", 0)) for r in body.get("released", [])), reverse=True)
        tied = len(sent) > 1 and sent[0] == sent[1]
        equal = "its largest orders are equal, and the first is that of the higher score; " if tied else ""
        text = f"{equal}by the smallest change found of one quantity, {told}{neither if flips == ['other'] else ''}"
        return text + _size_turns(body, limits)
    if body.get("fallback"):
        return "the features named above within what training met"
    if not scored_routes(body):
        return "an open route"
    if body.get("last_slot"):
        return (
            "a lit take with a lower fee, or an interval before the last, where the policy's proposal would have been "
            "sent; no score counts in the last interval, since a control sends what is left by the lit take with the "
            "lowest fee"
        )
    asked, lot = pace_candidate(body), limits.get("lot_shares")
    if not body.get("released") and asked.get("hi_shares") and lot:
        lo, hi, work = (float(asked[k]) for k in ("lo_shares", "hi_shares", "work_shares"))
        way = (work - lo) / (hi - lo) if hi > lo else 0.0
        if lo == 0.0 and 0.0 < way:
            first = scored_routes(body)[0]["route"]
            return (
                f"a band that ended at {math.ceil(0.5 * lot / way):,} shares instead of {hi:,.0f}: the same pace, "
                f"{percent(way, 0)} of the way up it, would have come to half a lot, and {lot:,} would have gone to "
                f"{first}. It ends at what the schedule has due by the interval's end and a fixed part of the order; "
                "no other change of one quantity reaches that now"
            )
    return "no other value of any one quantity within its range: spread, volatility, or a route's fill rate or markout"


def _size_turns(body: Record, limits: Record) -> str:
    """What would have changed how much was sent: a control that cut, and the half lot under which nothing goes."""
    text = ""
    for c in body.get("controls", []):
        if c.get("outcome") == "clip" and c.get("route"):
            text += f"; without the control {c.get('code')}, {c.get('seen'):,} would have gone to {c['route']}"
    lot, work = int(limits.get("lot_shares") or 0), float(pace_candidate(body).get("work_shares") or 0)
    if lot and work < lot and sum(int(r.get("shares", 0)) for r in body.get("released", [])) == lot:
        text += f"; nothing would have been sent at a pace under {lot / 2:,.0f} shares instead of {work:,.1f}"
    return text
