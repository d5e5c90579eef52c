"""Simulated orders as a `fills.csv` of the contract in docs/data.md: every child order, its fills and its misses.

What a desk would have in its own files, so that estimates made from files can be tested against a known truth. Mids
hold the own impact as it was then, leakage included: it is part of what a desk sees.
"""

from __future__ import annotations

import csv
import datetime
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from ..envs.counter_rng import derive, uniform
from ..envs.market import Market, step_proposals, stream_key
from ..envs.mid_path import MidPath
from ..envs.state import IN_SLOT, NODE, PING, POST, TAKE, Batch
from .router import Router

_NEW_YORK = ZoneInfo("America/New_York")
_FIRST_DATE = datetime.date(2026, 3, 2)  # order i is of the i-th weekday from here
_STREAM_TIME = 0x46494C45  # when inside a slot a fill is stamped
HORIZONS_S = {"mid_1s": 1.0, "mid_10s": 10.0, "mid_1m": 60.0, "mid_5m": 300.0}
COLUMNS = ("ts", "child_id", "side", "shares", "price", "bid", "ask", "venue", "venue_type", "parent_id",
           "routed_shares", "tif", "liquidity", "fee_per_share", "recv_ts", *HORIZONS_S)  # fmt: skip
Row = dict[str, Any]


def write_fills(market: Market, router: Router, n: int, seed: int, path: Path, *, first: int = 0) -> int:
    """Work episodes first..first+n-1 of the test stream and write their children to `path`, whole or not at all.

    Returns:
        the number of rows.
    """
    part = path.with_name(f".{path.name}.part")
    rows = 0
    with part.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for order in _orders(market, router, n, seed, first):
            for row in order.rows():
                writer.writerow(row)
                rows += 1
    os.replace(part, path)
    return rows


def _orders(market: Market, router: Router, n: int, seed: int, first: int) -> Iterator[_Order]:
    b, obs = market.batch(n)
    market.reset(stream_key(seed, "test"), np.arange(n), np.arange(first, first + n), b, obs)
    orders = [_Order(market, b, e) for e in range(n)]
    work, weights = np.zeros(n), np.zeros((n, len(market.routes)))
    while (active := np.flatnonzero(b.order["active"] == 1)).size:
        router.propose(market, b, obs, work, weights)
        slots = b.order["slot"].copy()
        step_proposals(market.rules, b, work, weights, obs)
        for e in active:
            orders[e].add(int(slots[e]))
    return iter(orders)


class _Order:
    """One parent: its children as they were worked, and the path of its own impact."""

    def __init__(self, market: Market, b: Batch, e: int) -> None:
        self.market, self.b, self.e = market, b, e
        self.children: list[tuple[int, int, int, NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]] = []
        self.impact = [np.zeros(6)]  # at each node: two transient parts, two of leak, display, permanent; bps

    def add(self, slot: int) -> None:
        b, e = self.b, self.e
        for r in np.flatnonzero(b.child_shares[e]):
            self.children.append((slot, int(r), int(b.child_shares[e, r]), b.fill_shares[e, r].copy(),
                                  b.fill_mid_bps[e, r].copy(), b.fill_extra_bps[e].copy()))  # fmt: skip
        order, ep = b.order[e], b.episode[e]
        self.impact.append(
            np.array([order["transient_1"], order["transient_2"], order["leak_1"], order["leak_2"],
                      order["display_bps"], ep["permanent_coef"] * order["executed_adv"]])
        )  # fmt: skip

    def rows(self) -> Iterator[Row]:
        """Rows of the file, child by child; prices in dollars to six decimals."""
        market, b, e, rules = self.market, self.b, self.e, self.market.rules
        ep, dt = b.episode[e], rules.interval_s
        self.path = MidPath(b, e, dt)
        date = np.busday_offset(_FIRST_DATE, int(ep["number"])).astype(object)
        opened = datetime.datetime.combine(date, datetime.time(9, 30), _NEW_YORK).astimezone(datetime.UTC)
        self.start = opened + datetime.timedelta(seconds=float(ep["start_s"]))
        key = np.uint64(derive(ep["key"], _STREAM_TIME))
        for slot, r, sent, fills, mids, extra in self.children:
            kind, venue = int(rules.route_type[r]), b.venue[e, rules.route_venue[r]]
            start_s, half = slot * dt, float(extra[3])
            added = kind == POST or (kind > PING and fills[IN_SLOT] > 0)
            fee_bps = float(venue["post_fee_bps"] if kind == POST else venue["take_fee_bps"])
            child: Row = {
                "child_id": f"P{ep['number']}-{slot}-{r}", "parent_id": f"P{ep['number']}", "routed_shares": sent,
                "side": "buy" if ep["side"] > 0 else "sell", "venue": market.routes[r].venue,
                "venue_type": "lit" if kind <= POST else "dark", "tif": "IOC" if kind in (TAKE, PING) else "DAY",
                "liquidity": "added" if added else "removed", "recv_ts": self._time(start_s),
                "fee_per_share": f"{1e-4 * fee_bps * float(ep['price_usd']):.6f}",
            }  # fmt: skip
            paid = float(extra[0] + extra[2] + (extra[1] if kind == TAKE else 0.0))  # own impact on the print
            spread = half if kind == TAKE else (-half if kind == POST else 0.0)
            for phase in (NODE, IN_SLOT):
                if not fills[phase]:
                    continue
                print_bps = float(mids[phase])
                into_s = uniform(key, slot, r) * dt if phase == IN_SLOT else 0.0
                later = self._after(kind, slot, into_s, print_bps, phase == IN_SLOT)
                own = self._own_bps(start_s + into_s)
                price = self._usd(print_bps + ep["side"] * (spread + paid))
                mid = print_bps + ep["side"] * own
                yield child | self._quoted(start_s + into_s, mid, half, later) | {
                    "shares": int(fills[phase]), "price": f"{price:.6f}",
                }  # fmt: skip
            if fills.sum() < sent:
                end_s = start_s if kind in (TAKE, PING) else start_s + dt * (1 - 1e-6)
                mid = self.path.at(end_s) + ep["side"] * self._own_bps(end_s)
                later = [self.path.at(end_s + h) for h in HORIZONS_S.values()]
                yield child | self._quoted(end_s, mid, half, later) | {"shares": 0, "price": ""}

    def _quoted(self, time_s: float, mid_bps: float, half_bps: float, later_bps: list[float]) -> Row:
        side = self.b.episode[self.e]["side"]
        mids = {
            name: f"{self._usd(bps + side * self._own_bps(time_s + h)):.6f}"
            for (name, h), bps in zip(HORIZONS_S.items(), later_bps, strict=True)
        }
        return {"ts": self._time(time_s), "bid": f"{self._usd(mid_bps - half_bps):.6f}",
                "ask": f"{self._usd(mid_bps + half_bps):.6f}", **mids}  # fmt: skip

    def _after(self, kind: int, slot: int, into_s: float, print_bps: float, inside: bool) -> list[float]:
        """The unaffected mid at each horizon after a print at the unaffected `print_bps`."""
        time_s = slot * self.market.rules.interval_s + into_s
        if not inside:
            return [self.path.at(time_s + h) for h in HORIZONS_S.values()]
        base = self.path.print_base_bps(slot, kind == POST, print_bps)
        return [self.path.after_fill(time_s, base, print_bps - base, h) for h in HORIZONS_S.values()]

    def _own_bps(self, time_s: float) -> float:
        """Own displacement of the mid against the client; after the last slot it fades, bar the permanent part."""
        rules = self.market.rules
        n = int(time_s / rules.interval_s + 1e-9)
        last = len(self.impact) - 1
        parts = self.impact[min(n, last)]
        k = max(0, n - last)
        fade = np.array([rules.decay_1**k, rules.decay_2**k] * 2 + [rules.display_decay**k, 1.0])
        return float((parts * fade).sum())

    def _usd(self, bps: float) -> float:
        return float(self.b.episode[self.e]["price_usd"]) * (1.0 + 1e-4 * float(bps))

    def _time(self, seconds: float) -> str:
        return (self.start + datetime.timedelta(seconds=seconds)).isoformat(timespec="microseconds")


__all__ = ["COLUMNS", "HORIZONS_S", "write_fills"]
