"""A decision's record in sentences: what was sent, why that many, why there, what else, and what would have turned it.

What features added is told by group (`FEATURE_WORDS`), everywhere the same: so the numbers of two sentences agree.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from .reason_words import FEATURE_WORDS, MASK_WORDS
from .words import number, percent

Record = Mapping[str, Any]
SHOWN_PARTS = 2  # groups that told two routes apart, for and against
_DUST_E9 = 5_000_000  # of a score: under 0.005 no reason


def scored_routes(body: Record) -> list[Record]:
    """Scored routes, best first. Pace has a score too but is no route."""
    scored = [c for c in body.get("candidates", []) if c.get("score_e9") is not None and ":" in str(c.get("route"))]
    return sorted(scored, key=lambda c: -c["score_e9"])


def is_lit(route: object) -> bool:
    return str(route).endswith((":take", ":post"))


def chosen_and_rival(body: Record) -> tuple[Record, Record | None]:
    """The chosen route (largest released score) and its rival: the best lit route, else the runner-up.

    Of a decision that the rule SOR took: as the policy ranks them. It needs a scored route.
    """
    scored = scored_routes(body)
    released = set() if body.get("fallback") else {r.get("route") for r in body.get("released", [])}
    chosen = next((c for c in scored if c["route"] in released), scored[0])
    others = [c for c in scored if c["route"] != chosen["route"]]
    lit = [c for c in others if is_lit(c["route"])]
    rivals = others if is_lit(chosen["route"]) or not lit else lit
    return chosen, rivals[0] if rivals else None


def completed(body: Record) -> bool:
    """A control sent all that was left, in place of the proposal."""
    return any(c.get("outcome") == "complete" for c in body.get("controls", []))


def what(record: Record, parent: Record | None) -> str:
    body = record["body"]
    time = datetime.fromtimestamp(int(record["ts_ns"]) // 1_000_000_000, tz=UTC).strftime("%H:%M:%S UTC on %Y-%m-%d")
    order = f"order {body.get('parent_id')}"
    if parent is not None:
        side = str(parent.get("side", "")).replace("_", " ")
        order = (
            f"{order} ({side} {parent.get('ordered_shares', 0):,} shares of stock {parent.get('symbol', 'unknown')})"
        )
    left = body.get("remaining_shares")
    remaining = f", with {left:,} shares left" if isinstance(left, int) else ""
    who = "the rule-based SOR, in the policy's place," if body.get("fallback") else "the policy"
    sent = orders_sent(body.get("released", []))
    if completed(body):
        return (
            f"At {time}{remaining} of {order}, a control sent {sent}: it was the last interval. "
            f"The policy had proposed {orders_sent(body.get('proposed', []))}."
        )
    return f"At {time}{remaining} of {order}, {who} sent {sent}."


def orders_sent(orders: Sequence[Record]) -> str:
    return ", ".join(f"{o.get('shares', 0):,} to {o.get('route')}" for o in orders) or "nothing"


def pace(body: Record, limits: Record) -> str:
    """Why that many: where the order stood, and what the pace asked for within its band."""
    gap = body.get("gap_shares")
    if not isinstance(gap, int):
        return ""
    where = "on schedule" if gap == 0 else f"{abs(gap):,} shares {'behind' if gap > 0 else 'ahead of'} schedule"
    asked = pace_candidate(body)
    if body.get("fallback") or asked.get("work_shares") is None:
        return f"The order was {where}."
    lo, hi, work = (float(asked[k]) for k in ("lo_shares", "hi_shares", "work_shares"))
    band = f"its band allowed {_few(lo)} to {_few(hi)} shares"
    if limits.get("band_frac") and not limits.get("full_band"):
        band += (
            f" (the schedule at the interval's end, give or take {percent(float(limits['band_frac']))} of the order)"
        )
    text = f"The order was {where}; {band}, and the policy's pace asked for {_few(work)}"
    if completed(body):
        return text + "."
    if hi > lo:
        text += f", {percent((work - lo) / (hi - lo), 0)} of the way up it{_pace_parts(asked)}"
        text += ". The band follows the schedule; how far up it to go is what the policy learned, ahead or behind"
    lot = limits.get("lot_shares")
    sent = sum(int(r.get("shares", 0)) for r in body.get("released", []))
    lots = f"Rounded to the nearest whole lot{f' of {lot:,}' if lot else ''}, which may pass the band,"
    return f"{text}. {lots} and after the controls {sent:,} went out."


def _few(shares: float) -> str:
    """With a decimal where rounding would hide what decides."""
    return f"{shares:,.1f}" if 0 < shares < 100 else f"{shares:,.0f}"


def pace_candidate(body: Record) -> Record:
    return next((c for c in body.get("candidates", []) if c.get("route") == "pace"), {})


def _pace_parts(asked: Record) -> str:
    """What moved the pace most, up and down its band."""
    said = _for_and_against(asked.get("feature_attr_e9") or {}, ("further up", "further down"))
    return f" ({said})" if said else ""


def why(body: Record) -> str:
    if body.get("fallback"):
        return _why_not_the_policy(body)
    if not scored_routes(body):
        codes = ", ".join(str(r.get("code")) for r in body.get("reasons", []))
        return f"No route was open ({codes}), so none has a score."
    chosen, _ = chosen_and_rival(body)
    best, second = (
        scored_routes(body)[0],
        next((c for c in scored_routes(body) if c["route"] != chosen["route"]), None),
    )
    score = number(chosen["score_e9"] / 1e9, 3)
    if chosen["route"] != best["route"]:
        reason = "The controls left no shares for that one."
        if completed(body):
            reason = "The last interval sends what is left by the cheapest lit take, whatever the scores."
        return f"{chosen['route']} had score {score}; {best['route']} had the highest. {reason}"
    text = f"{chosen['route']} had the highest score, {score}."
    if second is not None:
        text += f" Second was {_rival(body, second, 'runner_up')}."
        rival = next((c for c in scored_routes(body) if c["route"] == body.get("against")), None)
        if rival is not None and rival["route"] != second["route"]:
            kind = "lit" if is_lit(rival["route"]) else "dark"
            text += f" The best {kind} route was {_rival(body, rival, 'against')}."
        compared = [c["route"] for c in (chosen, second, rival) if c is not None and is_prior(c)]
        if compared:
            names = " and ".join(dict.fromkeys(compared))
            text += f" Nothing has filled at {names} yet: fill rate and markout there are assumed, not measured."
    return text


def is_prior(candidate: Record) -> bool:
    """Nothing has filled there: its record is assumed."""
    return candidate.get("fills_measured") == 0 and not str(candidate["route"]).endswith(":take")


def _rival(body: Record, rival: Record, margin: str) -> str:
    """A rival with its score, and what told the chosen route from it."""
    parts: Record = next((m for m in body.get("margins", []) if margin in m.get("is", [])), {})
    gains: Mapping[str, int] = parts.get("feature_attr_e9") or {}
    if not gains:
        return f"{rival['route']} with {number(rival['score_e9'] / 1e9, 3)}"
    first = chosen_and_rival(body)[0]
    told = [(first["route"], _largest(gains, 1)), (rival["route"], _largest(gains, -1))]
    said = "; ".join(
        f"for {route}: {', '.join(f'{words} {_points(abs(part))}' for words, part in groups)}"
        for route, groups in told if groups
    )  # fmt: skip
    left = first["score_e9"] - rival["score_e9"] - sum(part for _, groups in told for _, part in groups)
    return f"{rival['route']} with {number(rival['score_e9'] / 1e9, 3)} ({said}; all else {_points(left)})"


def closed(body: Record) -> str:
    """Routes that a control closed before any was scored."""
    by_code: dict[str, list[str]] = {}
    for c in body.get("candidates", []):
        for code in c.get("masks", []):
            by_code.setdefault(str(code), []).append(str(c["route"]))
    if not by_code or not scored_routes(body):
        return ""
    told = [f"{', '.join(routes)} ({MASK_WORDS.get(code, code)}; {code})" for code, routes in by_code.items()]
    return f"Closed by a control, and so without a score: {'; '.join(told)}."


def others(body: Record, limits: Record) -> str:
    """Why the further orders: how work is shared out, and what their routes had over the best one left out."""
    if body.get("fallback") or completed(body) or not scored_routes(body):
        return ""
    sent: dict[str, int] = {}
    for r in body.get("released", []):
        sent[str(r.get("route"))] = sent.get(str(r.get("route")), 0) + int(r.get("shares", 0))
    by_score = [c for c in scored_routes(body) if not c.get("masks")]
    further = [c for c in by_score if c["route"] in sent][1:]
    left_out = next((c for c in by_score if c["route"] not in sent), None)
    weights = {c["route"]: c["weight_ppm"] / 1e6 for c in by_score if c["route"] in sent}
    if not further:
        if not weights or left_out is None:
            return ""
        only = f"{percent(sum(weights.values()))} against {percent(left_out['weight_ppm'] / 1e6)} of the next"
        return f"Work goes to the largest weights, in whole lots; here all of it went to the largest ({only})."
    cut = float(limits.get("weight_cut") or 0.0)
    for c in by_score:  # routes that share the work and come to no lot
        if len(weights) < int(limits.get("max_routes") or 0) and c["weight_ppm"] / 1e6 >= cut:
            weights.setdefault(c["route"], c["weight_ppm"] / 1e6)
    total = sum(weights.values())
    shares = ", ".join(f"{r} {percent(w)} of all, {percent(w / total, 0)} of these" for r, w in weights.items())
    most = f", {limits['max_routes']} at most," if limits.get("max_routes") else ""
    text = (
        f"The largest weights{most} and a take that comes to half a lot share the work: {shares}. Each gets the whole "
        "lots of its share, and the lots that are over go to the largest remainders."
    )
    left_out = next((c for c in by_score if c["route"] not in weights), None)
    if left_out is None:
        return text
    text += f" Best of what was left out: {left_out['route']} ({percent(left_out['weight_ppm'] / 1e6)})"
    asked, lot = float(pace_candidate(body).get("work_shares") or 0), int(limits.get("lot_shares") or 0)
    for c in further:
        weight = c["weight_ppm"] / 1e6
        if c["weight_ppm"] < left_out["weight_ppm"]:
            half = f"half a lot ({lot / 2:,.0f} shares; here {_few(weight * asked)} of {asked:,.0f})"
            text += f"; {c['route']} came before it, since a take whose weight comes to {half} always shares in it"
        mine, theirs = (x.get("feature_attr_e9") or {} for x in (c, left_out))
        gains = {k: v - theirs.get(k, 0) for k, v in mine.items()}
        lead = c["score_e9"] - left_out["score_e9"]
        if said := _for_and_against(gains, ("for it", "against it"), lead):
            text += f"; {c['route']} over that one: {said}"
    return text + "."


def _for_and_against(parts: Mapping[str, int], words: tuple[str, str], total_e9: int | None = None) -> str:
    """The largest groups of either sign, and what all else comes to where `total_e9` is what they are parts of."""
    told = [(word, _largest(parts, sign)) for word, sign in zip(words, (1, -1), strict=True)]
    said = "; ".join(
        f"{word}: {', '.join(f'{group} {_points(part)}' for group, part in groups)}" for word, groups in told if groups
    )
    if total_e9 is None or not said:
        return said
    return f"{said}; all else {_points(total_e9 - sum(part for _, groups in told for _, part in groups))}"


def _largest(parts: Mapping[str, int], sign: int) -> list[tuple[str, int]]:
    """The largest groups of one sign and their parts in 1e-9, at most SHOWN_PARTS; without what rounds to nothing."""
    groups: dict[str, int] = {}
    for feature, part in parts.items():
        words = FEATURE_WORDS.get(feature, feature)
        groups[words] = groups.get(words, 0) + part
    ranked = sorted(groups.items(), key=lambda item: -sign * item[1])
    return [(words, part) for words, part in ranked if sign * part >= _DUST_E9][:SHOWN_PARTS]


def _points(part_e9: int) -> str:
    return number(part_e9 / 1e9, 3, sign=True)


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
    return f"A control took the decision from the policy: {told}. The policy would have sent {orders_sent(orders)}."


def _short(text: object) -> str:
    """A number of the log to three places; what is none as it stands."""
    try:
        value = float(str(text))
    except ValueError:
        return str(text)
    return number(value, 3) if math.isfinite(value) else str(text)


def controls(body: Record) -> list[str]:
    told = []
    for c in body.get("controls", []):
        if c.get("outcome") == "complete":
            told.append(
                f"Control {c.get('code')}: in the last interval all {c.get('limit'):,} shares that are left are sent."
            )
        elif c.get("outcome") != "fallback":
            told.append(f"Control {c.get('code')} stepped in: {_clipped(c)}.")
    if told or body.get("fallback") or "controls" not in body:
        return told
    return ["No control changed the orders to the open routes."]


def _clipped(control: Record) -> str:
    """What a control allowed, and what was asked for."""
    limit, seen, route = control.get("limit"), control.get("seen"), control.get("route")
    if control.get("code") == "MAX_DARK_FRAC":
        return (
            f"{seen:,} shares were meant for {route}, with room for {limit:,} more dark shares in this order, those of "
            "other routes in this interval included"
        )
    if not route:
        return f"{seen:,} shares were to be worked, the limit is {limit:,}"
    asked = f"{seen:,} shares were meant for {route}, the limit is {limit:,}"
    return f"{asked}; what is cut goes to the other routes in turn, a lot at a time"
