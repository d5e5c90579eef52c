"""A log's records held to each other: what a decision releases is sent, what is filled was sent, what was left is true.

Every check is one that a log of this version passes by construction, so a difference is a changed record.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..envs.features import GLOBAL_FEATURES, N_GLOBAL, N_ROUTE, ROUTE_FEATURES
from ..explain.facts import Body, Facts, Limits, Parent, is_dark, type_of
from ..explain.records import control_body, parent_body
from ..explain.what_if import order_place

_COLUMN = {f.name: i for i, f in enumerate(GLOBAL_FEATURES)}
_FILL_RATE = [f.name for f in ROUTE_FEATURES].index("log_fill_rate")
_NO_QUOTE = frozenset({"MASKED_HALT", "MASKED_CROSSED", "MASKED_LOCKED"})
_SENT_AS = ("shares", "limit_e6", "tif", "min_qty")  # of a released order, which its MEOR repeats


class Inconsistent(Exception):
    """Two records, or two fields of one, contradict each other."""


@dataclass(slots=True)
class _Child:
    route: str
    released: Body
    decision_id: str
    left_shares: int
    sent: bool = False
    done: bool = False


@dataclass(slots=True)
class _Order:
    """One parent so far."""

    logged: Body
    slots: int = 0
    children: int = 0
    filled_shares: int = 0
    dark_shares: int = 0
    open: dict[str, _Child] = field(default_factory=dict)


class LogAccounts:
    """Hand it the records of a log in order.

    Raises:
        Inconsistent: a record contradicts those before it.
        KeyError, TypeError, ValueError: it lacks what its type has.
    """

    def __init__(self) -> None:
        self._orders: dict[str, _Order] = {}
        self._children: dict[str, tuple[_Order, _Child]] = {}
        self._exec_ids: set[str] = set()
        self._controls: list[Body] = []  # of the last decision, still to come
        self._outcomes: set[str] = set()  # decisions whose lit_outcome is still to come
        self.read: Mapping[str, Callable[[Any], None]] = {
            "route_event": self._event, "fill": self._fill, "control": self._control, "lit_outcome": self._outcome,
        }  # fmt: skip

    def open(self, parent_id: str, body: Body) -> None:
        """A `parent` record."""
        self._orders[parent_id] = _Order(body)

    def before(self, ts_ns: int, limits: Limits, parent: Parent, facts: Facts) -> None:
        """A decision is due: what its record says of its order must follow from the records before it."""
        order = self._orders[parent.parent_id]
        self._settled(order)
        if facts.slot == 0 and order.logged != parent_body(limits, parent, facts):
            raise Inconsistent("the parent's record is not the one that its first decision makes")
        for name, told, found in (
            ("interval", facts.slot, order.slots),
            ("ts_ns", ts_ns, parent.slot_ns(limits, facts.slot)),
            ("remaining_shares", facts.remaining_shares, parent.ordered_shares - order.filled_shares),
            ("dark_shares", facts.dark_shares, order.dark_shares),
            ("children_before", facts.children_before, order.children),
        ):
            if told != found:
                raise Inconsistent(f"{name} is {told}, but by the records before it {found}")

    def decided(self, parent: Parent, body: Body) -> None:
        """A decision was made again, equal: what it releases is to be sent, its controls are to be told."""
        order = self._orders[parent.parent_id]
        order.slots += 1
        order.open = {}
        for r in body["released"]:
            child = _Child(r["route"], r, body["decision_id"], r["shares"])
            order.open[r["child_id"]] = child
            self._children[r["child_id"]] = (order, child)
        order.children += len(body["released"])
        self._controls = [control_body(body["decision_id"], control) for control in body["controls"]]
        if body["lit_alternative"] is not None:
            self._outcomes.add(body["decision_id"])

    def _settled(self, order: _Order | None) -> None:
        """Nothing that an earlier decision promised is missing."""
        if self._controls:
            raise Inconsistent(f"no control record {self._controls[0]['code']} of {self._controls[0]['decision_id']}")
        for child_id, child in ({} if order is None else order.open).items():
            if not child.sent or not (child.done or child.left_shares == 0):
                raise Inconsistent(f"order {child_id} was {'left open' if child.sent else 'released and never sent'}")

    def _known(self, body: Body) -> tuple[_Order, _Child]:
        found = self._children.get(body["child_id"])
        if found is None:
            raise Inconsistent(f"child_id {body['child_id']!r}: no decision before it released that order")
        return found

    def _event(self, body: Body) -> None:
        _, child = self._known(body)
        told = {"decision_id": body["decision_id"], "route": f"{body['mic']}:{body['order_type']}"}
        told |= {key: body[key] for key in _SENT_AS if key in child.released}
        released = {"decision_id": child.decision_id, "route": child.route}
        released |= {key: child.released[key] for key in _SENT_AS if key in child.released}
        for key in released:
            if told[key] != released[key]:
                raise Inconsistent(f"{key} of {body['child_id']} is {told[key]!r}, released was {released[key]!r}")
        if child.done or child.sent == (body["event"] == "MEOR"):
            raise Inconsistent(
                f"{body['event']} of {body['child_id']}, which was {'sent' if child.sent else 'not sent'}"
            )
        if body["event"] not in ("MEOR", "MECR", "expire"):
            raise Inconsistent(f"event {body['event']!r} of {body['child_id']} is unknown")
        if body["leaves_shares"] != child.left_shares:
            raise Inconsistent(f"leaves_shares of {body['child_id']}: {body['leaves_shares']}, but {child.left_shares}")
        child.sent, child.done = True, body["event"] != "MEOR"

    def _fill(self, body: Body) -> None:
        order, child = self._known(body)
        shares, mic = body["shares"], child.route.partition(":")[0]
        if type(shares) is not int or not 0 < shares <= child.left_shares or not child.sent or child.done:
            raise Inconsistent(f"fill of {shares!r} on {body['child_id']}, which has {child.left_shares} open")
        if body["mic"] != mic or body["exec_id"] in self._exec_ids:
            raise Inconsistent(f"fill {body['exec_id']!r} at {body['mic']!r}: told before, or not at {mic}")
        self._exec_ids.add(body["exec_id"])
        child.left_shares -= shares
        order.filled_shares += shares
        order.dark_shares += shares if is_dark(child.route) else 0

    def _control(self, body: Body) -> None:
        if body["action"] == "close":
            for order in self._orders.values():
                self._settled(order)
            if not any(order.slots for order in self._orders.values()):
                raise Inconsistent("no decision stands in this log")
            if self._outcomes:
                raise Inconsistent(f"no lit_outcome of {min(self._outcomes)}")
        elif not self._controls or body != self._controls.pop(0):
            raise Inconsistent(f"control {body['action']!r} of {body.get('decision_id')!r} is not its decision's")

    def _outcome(self, body: Body) -> None:
        if body["decision_id"] not in self._outcomes:
            raise Inconsistent(f"lit_outcome of {body['decision_id']!r}, which has none to come")
        self._outcomes.remove(body["decision_id"])


def check_features(limits: Limits, parent: Parent, facts: Facts) -> None:
    """What a decision's features say must be what its other fields say: order, schedule, quote, volatility, fill rates.

    Raises:
        Inconsistent: names the feature.
    """
    told = order_place(parent, facts, facts.remaining_shares) | {
        "time_left_frac": (parent.n_slots - facts.slot) / parent.n_slots,
        "log_pct_adv": math.log10(100.0 * parent.ordered_shares / parent.adv_shares),
        "log_adv_shares": math.log10(parent.adv_shares),
        "log_vol_ratio": math.log2(max(facts.vol_ratio, 1e-3)),
    }
    for name, value in told.items():
        seen = facts.measured[_COLUMN[name]]
        if math.isfinite(seen) and math.isfinite(value) and abs(seen - value) > 1e-9 * max(1.0, abs(value)):
            raise Inconsistent(f"{name} is {seen!r}, but the record's other fields give {value!r}")
    if not _NO_QUOTE & set(facts.masks):
        quoted, mid = facts.ask_e6 - facts.bid_e6, (facts.ask_e6 + facts.bid_e6) / 2
        spread = 10.0 ** facts.measured[_COLUMN["log_spread_bps"]] * 1e-4 * mid
        if math.isfinite(spread) and abs(spread - quoted) > 2 * parent.tick_e6:
            raise Inconsistent(f"log_spread_bps gives {spread:.0f}e-6 dollars, the quote {quoted}")
    for r, route in enumerate(limits.routes):
        seen = facts.measured[N_GLOBAL + r * N_ROUTE + _FILL_RATE]
        if type_of(route) and math.isfinite(seen) and abs(1e6 * 10.0**seen - facts.p_fill_ppm[r]) > 2:
            raise Inconsistent(
                f"{route}: fill probability {facts.p_fill_ppm[r]} ppm, its feature {seen!r} says otherwise"
            )
