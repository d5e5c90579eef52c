"""What came of a decision's child orders: fills, cancels and markouts; and of the same shares, had they gone lit.

Own impact is held as it was at the start of a markout, so that it shows the market's move and not our footprint.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..envs.controls import release_rows
from ..envs.counter_rng import derive, uniform
from ..envs.market import Market
from ..envs.market_step import market_step
from ..envs.mid_path import MidPath
from ..envs.quotes import own_impact_bps
from ..envs.state import POST, TAKE, Batch
from ..explain.facts import Body, Facts, Limits, Parent
from ..explain.records import HORIZONS_S, Fill, baseline_outcome_body, end_body, fill_body, markout_body, route_body
from ..explain.release import Child, Release
from .evaluation import fills_of

Event = tuple[int, str, Body]  # UTC ns, record type, body
_STREAM_FILL_TIME = 0x4C4F47  # when inside a slot a fill is stamped; for logs only
_STEP_FIELDS = (
    "order", "venue_state", "card", "pending", "n_pending", "total", "cost_bps", "masked", "child_shares",
    "fill_shares", "fill_mid_bps", "fill_extra_bps",
)  # fmt: skip  # what a step may change


def _price_e6(b: Batch, bps: float) -> float:
    return 1e6 * float(b.episode[0]["price_usd"]) * (1.0 + 1e-4 * bps)


def _from_mid_bps(kind: int, half_spread_bps: float) -> float:
    """What a fill pays over the mid before impact; + = cost."""
    return half_spread_bps if kind == TAKE else (-half_spread_bps if kind == POST else 0.0)


@dataclass
class ChildEvents:
    """Records of one decision's children; made before the slot is worked, filled in after it."""

    market: Market
    b: Batch
    parent: Parent
    facts: Facts
    decision: Release
    decision_id: str
    limits: Limits
    close_ns: int
    path: MidPath
    own_bps: float
    found: list[Event] = field(default_factory=list)

    def after_step(self) -> None:
        """Routes at the slot's start, fills when they happen, cancels at its end, markouts when they are known."""
        start_ns = self.parent.slot_ns(self.limits, self.facts.slot)
        end_ns = self.parent.slot_ns(self.limits, self.facts.slot + 1)
        fills = self._fills(start_ns, end_ns)
        for child in self.decision.children:
            route = self.limits.routes[child.route]
            routed = route_body(self.parent, self.facts, self.decision_id, child, route, start_ns)
            self.found.append((start_ns, "route_event", routed))
            own = [f for f in fills if f.child_id == child.child_id]
            for fill in own:
                self.found.append((fill.ts_ns, "fill", fill_body(fill, routed)))
                self._markouts("exec_id", fill.exec_id, fill.ts_ns, fill.mid2_e6)
            left = child.shares - sum(f.shares for f in own)
            if left:
                at_ns = end_ns if routed["tif"] == "DAY" else start_ns
                self.found.append((at_ns, "route_event", end_body(routed, left)))
            if not own:
                self._markouts("child_id", child.child_id, start_ns, self._mids_after_start())

    def _markouts(self, key: str, name: str, ts_ns: int, mid2_e6: tuple[int, ...]) -> None:
        for (horizon, seconds), mid2 in zip(HORIZONS_S.items(), mid2_e6, strict=True):
            due_ns = ts_ns + round(1e9 * seconds)
            self.found.append((due_ns, "markout", markout_body(key, name, horizon, mid2, due_ns > self.close_ns)))

    def _mids_after_start(self) -> tuple[int, ...]:
        """Twice the mid, the horizons after the slot's start, for children without a fill."""
        start_s = self.facts.slot * self.market.rules.interval_s
        held = self.parent.side * self.own_bps
        return tuple(round(2 * _price_e6(self.b, self.path.at(start_s + h) + held)) for h in HORIZONS_S.values())

    def _fills(self, start_ns: int, end_ns: int) -> list[Fill]:
        """The slot's fills, dealt out to a route's children in their order; an in-slot fill gets a uniform time."""
        b, side = self.b, self.parent.side
        left = {c.child_id: c.shares for c in self.decision.children}
        key = np.uint64(derive(b.episode[0]["key"], _STREAM_FILL_TIME))
        found: list[Fill] = []
        for row in fills_of(self.market, b, np.array([0])):
            r, inside = int(row["route"]), bool(row["inside_slot"])
            kind = int(self.market.rules.route_type[r])
            half = float(row["half_spread_bps"])
            instant = float(b.fill_extra_bps[0, 1]) if kind == TAKE else 0.0
            spread = _from_mid_bps(kind, half)
            mid = float(row["price_bps"]) - side * (spread + instant)  # affected
            ts_ns = start_ns + (int(uniform(key, self.facts.slot, r) * (end_ns - start_ns)) if inside else 0)
            moved = self._moves_after(kind, float(row["mid_bps"]), 1e-9 * (ts_ns - start_ns), inside)
            later = [mid + move for move in moved]
            for child, shares in deal(self.decision.children, r, int(row["shares"]), left):
                number = 1 + sum(f.child_id == child.child_id for f in found)
                found.append(
                    Fill(
                        f"{child.child_id}-f{number}", child.child_id, self.limits.routes[r], shares, inside, ts_ns,
                        price_e6=round(_price_e6(b, float(row["price_bps"]))),
                        bid_e6=round(_price_e6(b, mid - half)), ask_e6=round(_price_e6(b, mid + half)),
                        fee_e6=self.facts.fee_e6[r], mid2_e6=tuple(round(2 * _price_e6(b, m)) for m in later),
                    )
                )  # fmt: skip
        return found

    def _moves_after(self, kind: int, print_bps: float, into_slot_s: float, inside: bool) -> list[float]:
        """What the unaffected mid moves after a print at the unaffected `print_bps`, at each horizon, bps."""
        time_s = self.facts.slot * self.market.rules.interval_s + into_slot_s
        if not inside:
            return [self.path.at(time_s + h) - print_bps for h in HORIZONS_S.values()]
        base = self.path.print_base_bps(self.facts.slot, kind == POST, print_bps)
        return [self.path.after_fill(time_s, base, print_bps - base, h) - print_bps for h in HORIZONS_S.values()]


def deal(children: tuple[Child, ...], route: int, shares: int, left: dict[str, int]) -> list[tuple[Child, int]]:
    """A route's filled `shares` over its children in their order; `left` (shares by child id) is counted down."""
    dealt = []
    for child in children:
        if child.route == route and (got := min(shares, left[child.child_id])):
            dealt.append((child, got))
            left[child.child_id] -= got
            shares -= got
    return dealt


def child_events(
    market: Market, b: Batch, parent: Parent, facts: Facts, decision: Release, decision_id: str, limits: Limits,
    close_ns: int, path: MidPath,
) -> ChildEvents:  # fmt: skip
    """Before the slot of row 0 is worked; `path`: the order's mid between nodes, one for all its decisions."""
    own_bps = float(own_impact_bps(b, 0))
    return ChildEvents(market, b, parent, facts, decision, decision_id, limits, close_ns, path, own_bps)


@dataclass(frozen=True)
class _Way:
    """The slot as it went with the dark shares at a lit route."""

    route: int
    filled: int
    cost_bps: float


@dataclass(frozen=True)
class LitOutcomes:
    """The realised twin of `lit_alternative`: the same slot, on the same tape, with the dark shares lit."""

    market: Market
    b: Batch
    shares: int
    ways: dict[str, _Way]

    @classmethod
    def of(cls, market: Market, b: Batch, lit: Body, released: NDArray[np.int64]) -> LitOutcomes:
        """Run the slot of row 0 once a way and put everything back."""
        saved = {name: getattr(b, name).copy() for name in _STEP_FIELDS}
        names = [r.name for r in market.routes]
        lit_only = np.where(market.rules.route_type > POST, 0, released)
        ways: dict[str, _Way] = {}
        for name in ("take", "post"):
            if name in lit:
                r = names.index(lit[name]["route"])
                b.child_shares[0] = lit_only
                b.child_shares[0, r] += lit["shares"]
                market_step(market.rules, b, 0)
                ways[name] = _Way(r, *_cost_of(market, b, [r]))
                for field_name, values in saved.items():
                    getattr(b, field_name)[...] = values
        return cls(market, b, int(lit["shares"]), ways)

    def after_step(self, dark_routes: list[int]) -> dict[str, Body]:
        """Filled shares and cost_e6 a filled share (null without a fill), for dark, take and post.

        Cost: price over the mid 10 s later, and the fee, own impact held; + = cost. A lit route that had children of
        its own counts the fills that the moved shares add.
        """
        price_usd = float(self.b.episode[0]["price_usd"])

        def entry(filled: int, cost_bps: float) -> Body:
            cost = round(100.0 * price_usd * cost_bps) if filled else None
            return {"shares": self.shares, "filled_shares": filled, "cost_e6": cost}

        out = {"dark": entry(*_cost_of(self.market, self.b, dark_routes))}
        for name, way in self.ways.items():
            own = int(self.b.fill_shares[0, way.route].sum())
            added = max(0, min(self.shares, way.filled - own))
            out[name] = {"route": self.market.routes[way.route].name} | entry(added, way.cost_bps)
        return out


@dataclass(frozen=True)
class BaselineOutcome:
    """The slot as the rule SOR would have worked it, on the same tape, beside the slot as it went."""

    market: Market
    b: Batch
    sent: tuple[int, ...]  # (R,) shares of the baseline
    filled: int
    cost_bps: float

    @classmethod
    def of(cls, market: Market, b: Batch, work: NDArray[np.float64], weights: NDArray[np.float64]) -> BaselineOutcome:
        """Run the slot of row 0 with the baseline's proposal (work (1,), weights (1, R)) and put everything back."""
        saved = {name: getattr(b, name).copy() for name in _STEP_FIELDS}
        release_rows(market.rules, b, work, weights)
        sent = tuple(b.child_shares[0].tolist())
        market_step(market.rules, b, 0)
        filled, cost_bps = _cost_of(market, b, list(range(len(market.routes))))
        for name, values in saved.items():
            getattr(b, name)[...] = values
        return cls(market, b, sent, filled, cost_bps)

    def after_step(self, decision_id: str, released: NDArray[np.int64], later_e6: Callable[[int], int]) -> Body | None:
        """Body of the record, after the policy's own slot; None: both sent the same. `later_e6`: of so many shares."""
        if tuple(released.tolist()) == self.sent:
            return None
        routes = [r.name for r in self.market.routes]
        price_usd = float(self.b.episode[0]["price_usd"])

        def way(sent: tuple[int, ...], filled: int, cost_bps: float) -> Body:
            return {
                "sent": {routes[r]: n for r, n in enumerate(sent) if n}, "filled_shares": filled,
                "cost_e6": round(100.0 * price_usd * cost_bps) if filled else None,
            }  # fmt: skip

        own = way(tuple(released.tolist()), *_cost_of(self.market, self.b, list(range(len(routes)))))
        gap = abs(own["filled_shares"] - self.filled)
        return baseline_outcome_body(decision_id, own, way(self.sent, self.filled, self.cost_bps), later_e6(gap))


def _cost_of(market: Market, b: Batch, routes: list[int]) -> tuple[int, float]:
    """(filled shares, mean cost of a filled share in bps) of the slot just worked at `routes`."""
    fills = fills_of(market, b, np.array([0]))
    fills = fills[np.isin(fills["route"], routes)]
    shares = int(fills["shares"].sum())
    if not shares:
        return 0, 0.0
    side = fills["side"]
    spread = [_from_mid_bps(int(market.rules.route_type[f["route"]]), float(f["half_spread_bps"])) for f in fills]
    moved = fills["markout_10s_bps"] + np.array(spread)  # of the mid, + = our way
    cost = side * (fills["price_bps"] - fills["mid_bps"]) - moved + fills["fee_bps"]
    return shares, float((fills["shares"] * cost).sum() / shares)
