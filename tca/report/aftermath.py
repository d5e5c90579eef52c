"""What came of a decision, and what the rule-based SOR would have done, in sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .reason_words import REASON_WORDS
from .story import Record, chosen_and_rival, orders_sent, scored_routes
from .words import number


def baseline(records: Sequence[Record], body: Record) -> str:
    """What the rule-based SOR would have sent and why; where the log holds its outcome, what that was worth."""
    way = body.get("baseline") or {}
    if not way:
        return ""
    told = [REASON_WORDS.get(str(c), str(c)) for c in way.get("reasons", [])]
    if isinstance(way.get("votes"), int):  # of its factors for dark less those for lit
        told.insert(0, f"votes for dark less votes for lit: {number(way['votes'], 0, sign=True)}")
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
    if sent and scored_routes(body):
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
