"""Bodies of the log records around a decision: run, parent, route events, fills, markouts, outcomes, controls.

Integers with their unit in the name, times as decimal strings of UTC nanoseconds, other numbers as `repr` strings. The
decision's own body is made in `decision.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..configs.errors import UserError
from ..configs.rule_table import RULE_TABLE_VERSION
from ..envs.features import schema_sha256
from ..envs.state import ORDER_TYPES, POST, REST
from .facts import Body, Facts, Limits, Parent, type_of, venue_of
from .release import Child

SIDES = {1: "buy", -1: "sell"}
HORIZONS_S = {"50ms": 0.05, "1s": 1.0, "10s": 10.0, "15s": 15.0, "1m": 60.0, "5m": 300.0}  # of the markouts
RUN_FACTS = (
    "run_id", "policy_sha256", "code_commit", "config_sha256", "data_sha256", "operator", "seeds", "versions",
    "command", "feature_ranges",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Fill:
    """One fill of one child. The quote is the one at the fill, own impact included."""

    exec_id: str
    child_id: str
    route: str
    shares: int
    inside_slot: bool
    ts_ns: int
    price_e6: int
    bid_e6: int
    ask_e6: int
    fee_e6: int
    mid2_e6: tuple[int, ...]  # twice the mid after each of HORIZONS_S, the own impact held as it was at the fill


def run_body(limits: Limits, policy_id: str, facts: Mapping[str, object], clock: str) -> Body:
    """Body of `run`. `facts`: some of RUN_FACTS; what is not given is null.

    Raises:
        UserError: an unknown key in `facts`.
    """
    if unknown := sorted(set(facts) - set(RUN_FACTS)):
        raise UserError(f"run record: unknown fact {unknown[0]!r}. The facts are {', '.join(RUN_FACTS)}.")
    return {name: facts.get(name) for name in RUN_FACTS} | {
        "policy_id": policy_id, "feature_schema_sha256": schema_sha256(), "rule_table_version": RULE_TABLE_VERSION,
        "clock": clock, "stage": "eval", "simulated": True, "control_limits": limits.body(),
    }  # fmt: skip


def parent_body(limits: Limits, parent: Parent, first: Facts) -> Body:
    """Body of `parent`, from the first decision's facts. Not held, undirected, no limit price."""
    end_ns = parent.slot_ns(limits, parent.n_slots)
    return {
        "parent_id": parent.parent_id, "symbol": parent.symbol, "side": SIDES[parent.side],
        "ordered_shares": parent.ordered_shares, "start_ns": str(parent.start_ns), "end_ns": str(end_ns),
        "n_slots": parent.n_slots, "tick_e6": parent.tick_e6, "benchmark": "vwap", "limit_e6": None,
        "adv_shares": parent.adv_shares, "pct_adv": repr(100 * parent.ordered_shares / parent.adv_shares),
        "not_held": True, "directed": False, "arrival": {"bid_e6": first.bid_e6, "ask_e6": first.ask_e6},
        "decision_price_e6": first.mid_e6(parent.side), "simulated": True,
    }  # fmt: skip


def route_body(parent: Parent, facts: Facts, decision_id: str, child: Child, route: str, ts_ns: int) -> Body:
    """`route_event` MEOR: the child is sent, and received at once."""
    kind = type_of(route)
    return {
        "decision_id": decision_id, "child_id": child.child_id, "event": "MEOR", "mic": venue_of(route),
        "order_type": ORDER_TYPES[kind], "shares": child.shares, "leaves_shares": child.shares,
        "limit_e6": facts.limit_e6(route, parent.side), "tif": "DAY" if kind in (POST, REST) else "IOC",
        "min_qty": min(facts.min_qty_shares[child.route], child.shares),
        "recv": {"bid_e6": facts.bid_e6, "ask_e6": facts.ask_e6, "ts_ns": str(ts_ns)}, "reject_code": None,
    }  # fmt: skip


def end_body(routed: Body, leaves_shares: int) -> Body:
    """`route_event` of what was not filled: a DAY order is cancelled (MECR), an IOC expires."""
    event = "MECR" if routed["tif"] == "DAY" else "expire"
    return routed | {"event": event, "leaves_shares": leaves_shares}


def fill_body(fill: Fill, routed: Body) -> Body:
    """Body of `fill`. Liquidity 1 added (a post, a rest that was met in the slot), 2 removed."""
    added = type_of(fill.route) in (POST, REST) and fill.inside_slot
    return {
        "exec_id": fill.exec_id, "child_id": fill.child_id, "mic": venue_of(fill.route), "shares": fill.shares,
        "price_e6": fill.price_e6, "liquidity": 1 if added else 2, "capacity": "agency", "fee_e6": fill.fee_e6,
        "recv": routed["recv"], "exec": {"bid_e6": fill.bid_e6, "ask_e6": fill.ask_e6, "ts_ns": str(fill.ts_ns)},
        "simulated": True,
    }  # fmt: skip


def markout_body(key: str, name: str, horizon: str, mid2_e6: int, after_close: bool) -> Body:
    """Body of `markout` of a fill (`key` "exec_id") or of a child without one ("child_id").

    Own impact is held as it was at the start, so the move is the market's and not the own footprint fading.
    """
    flag = "after_close" if after_close else "ok"
    return {key: name, "horizon": horizon, "mid2_e6": mid2_e6, "flag": flag, "own_impact": "held"}


def lit_outcome_body(decision_id: str, ways: Mapping[str, Body]) -> Body:
    """Body of `lit_outcome`: for dark, take and post the filled shares and the realised cost a filled share."""
    return {"decision_id": decision_id, "basis": "same_tape", **ways}


def baseline_outcome_body(decision_id: str, policy: Body, baseline: Body, later_e6: int) -> Body:
    """Body of `baseline_outcome`: the slot as it went and as the rule SOR would have worked it, on the same tape.

    `worth_e6`: what going another way saved, in $0.000001, + = the policy was cheaper. Each way's fills are costed over
    the mid 10 s later, fees in; shares that one way filled and the other left are costed as a take then, `later_e6`.
    """
    most = max(policy["filled_shares"], baseline["filled_shares"])

    def cost(way: Body) -> int:
        return int(way["filled_shares"] * (way["cost_e6"] or 0) + (most - way["filled_shares"]) * later_e6)

    return {
        "decision_id": decision_id, "basis": "same_tape", "policy": policy, "baseline": baseline, "later_e6": later_e6,
        "worth_e6": cost(baseline) - cost(policy),
    }  # fmt: skip


def control_body(decision_id: str, control: Body) -> Body:
    """Body of `control` for one intervention in a decision: block, clip, fallback, complete (in the last slot)."""
    return {
        "action": control["outcome"], "decision_id": decision_id, "code": control["code"],
        "route": control.get("route"), "limit": control["limit"], "seen": control["seen"], "approver": None,
        "reason": "pre-trade control",
    } | ({"feature": control["feature"]} if "feature" in control else {})  # fmt: skip
