"""Paired evaluation: every router works the same parents on the same tapes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..envs.compiled import compiled
from ..envs.market import Market, step_proposals, stream_key
from ..envs.state import (
    COMPONENTS,
    DISPLAY,
    FEE,
    IN_SLOT,
    INSTANT,
    LEAK,
    NODE,
    ORDER_TYPES,
    PERMANENT,
    POST,
    SPREAD,
    TAKE,
    TIMING,
    TRANSIENT,
    Batch,
)
from ..envs.vector_env import reward_unit_bps
from ..envs.venues import Rules
from .router import Router

CHUNK = 500
BLOCK_S = 3_900.0  # six blocks a session: parents of one block meet the same recorded minutes
_SHARES, _IMPROVEMENT, _MARKOUT_10, _MARKOUT_300, _FILLS = range(5)
_PRICE_COMPONENTS = (SPREAD, INSTANT, TRANSIENT, PERMANENT, LEAK, DISPLAY)


@dataclass
class RouterResult:
    """One router's parents, in episode order; arrays of length n unless said otherwise."""

    name: str
    routes: list[str]
    cost_bps: NDArray[np.float64]  # vwap_slippage_bps, + = cost
    cost_hs: NDArray[np.float64]
    denoised_bps: NDArray[np.float64]  # cost less its martingale part: same mean, less noise (synthetic tapes only)
    arrival_bps: NDArray[np.float64]
    affected_bps: NDArray[np.float64]
    components_bps: NDArray[np.float64]  # (n, 10)
    shares: NDArray[np.int64]
    side: NDArray[np.int64]
    stock: NDArray[np.int64]
    horizon_s: NDArray[np.float64]
    block: NDArray[np.int64]  # replay: date and 65-minute block of the start; synthetic: -1, every parent its own tape
    kind_frac: NDArray[np.float64]  # (n, 3) take, post, dark
    completion_frac: NDArray[np.float64]
    totals: NDArray[np.int64]  # (R, 4) attempts, filled orders, routed shares, filled shares
    marks: NDArray[np.float64]  # (R, 5) shares, improvement, markout 10 s, 300 s (share-weighted sums, bps), fills
    fills: list[NDArray[np.void]] = field(default_factory=list)  # none, or one array by episode and slot

    @property
    def denoised_hs(self) -> NDArray[np.float64]:
        """`denoised_bps` in half spreads of the parent's day."""
        return self.denoised_bps * (self.cost_hs / np.where(self.cost_bps == 0, 1.0, self.cost_bps))

    def shares_and_fills(self) -> dict[str, float]:
        """Dark and post share, and fill rates by order type (child orders with a fill over child orders)."""
        out = {"dark_frac": float(self.kind_frac[:, 2].mean()), "post_frac": float(self.kind_frac[:, 1].mean())}
        for kind in ("ping", "rest", "post"):
            rows = [i for i, r in enumerate(self.routes) if r.endswith(f":{kind}")]
            sent = self.totals[rows, 0].sum()
            out[f"fill_rate_{kind}"] = float(self.totals[rows, 1].sum() / sent) if sent else 0.0
        dark = [i for i, r in enumerate(self.routes) if r.endswith((":ping", ":rest"))]
        shares = self.marks[dark, _SHARES].sum()
        out["dark_markout_10s_bps"] = float(self.marks[dark, _MARKOUT_10].sum() / shares) if shares else 0.0
        return out


@compiled
def _mark_fills(rules: Rules, b: Batch, marks: NDArray[np.float64]) -> None:
    """Add improvement against the far touch and markouts from the price of every fill of the slot just worked."""
    settings = rules.settings[0]
    lag_300 = max(1, int(round(300.0 / settings.interval_s)))
    for e in range(b.order.shape[0]):
        n = b.order[e].slot - 1
        ep = b.episode[e]
        for r in range(rules.route_type.shape[0]):
            for phase in range(2):
                shares = b.fill_shares[e, r, phase]
                if shares == 0:
                    continue
                h, kind = b.tape[e, n].half_spread_bps, rules.route_type[r]
                inside_h = -h if kind == TAKE else (h if kind == POST else 0.0)  # better than the mid by
                mid = b.fill_mid_bps[e, r, phase]
                marks[r, 0] += shares
                marks[r, 1] += shares * (h + inside_h)
                at = n + settings.markout_lag
                near, far = b.tape[e, at].mid_bps, b.tape[e, n + lag_300].mid_bps
                if phase == 1:
                    near = 0.5 * (near + b.tape[e, at + 1].mid_bps)
                    far = 0.5 * (far + b.tape[e, n + lag_300 + 1].mid_bps)
                marks[r, 2] += shares * (ep.side * (near - mid) + inside_h)
                marks[r, 3] += shares * (ep.side * (far - mid) + inside_h)
                marks[r, 4] += 1.0


@compiled
def _clear_idle(b: Batch) -> None:
    """Rows that are done keep no fills of their last slot."""
    for e in range(b.order.shape[0]):
        if b.order[e].active == 0:
            b.fill_shares[e, :, :] = 0
            b.child_shares[e, :] = 0


FILL = np.dtype([
    ("episode", "i8"), ("slot", "i8"), ("route", "i8"), ("inside_slot", "i8"), ("child_shares", "i8"), ("shares", "i8"),
    ("time_s", "f8"), ("mid_bps", "f8"), ("price_bps", "f8"), ("half_spread_bps", "f8"), ("fee_bps", "f8"),
    ("markout_10s_bps", "f8"), ("markout_300s_bps", "f8"), ("arrival_usd", "f8"), ("side", "i8"),
])  # fmt: skip


def fills_of(market: Market, b: Batch, rows: NDArray[np.int64]) -> NDArray[np.void]:
    """Fills of the slot just worked in `rows`; an in-slot fill is stamped at the slot's middle. Prices exclude fees."""
    at, routes, phases = np.nonzero(b.fill_shares[rows])
    e = rows[at]
    out = np.zeros(len(e), FILL)
    if not len(e):
        return out
    ep, n = b.episode[e], b.order["slot"][e] - 1
    tape = b.tape
    types = market.rules.route_type[routes]
    half, side = tape["half_spread_bps"][e, n], ep["side"]
    extra = b.fill_extra_bps[e]
    mid = b.fill_mid_bps[e, routes, phases]
    spread = np.where(types == TAKE, half, np.where(types == POST, -half, 0.0))
    impact = extra[:, 0] + extra[:, 2] + np.where(types == TAKE, extra[:, 1], 0.0)
    venue = b.venue[e, market.rules.route_venue[routes]]
    lag, lag_300 = market.rules.markout_lag, max(1, round(300 / market.rules.interval_s))
    out["episode"], out["slot"], out["route"], out["inside_slot"] = ep["number"], n, routes, phases
    out["child_shares"], out["shares"] = b.child_shares[e, routes], b.fill_shares[e, routes, phases]
    out["time_s"] = ep["start_s"] + (n + 0.5 * phases) * market.rules.interval_s
    out["mid_bps"], out["price_bps"], out["half_spread_bps"] = mid, mid + side * (spread + impact), half
    out["fee_bps"] = np.where(types == POST, venue["post_fee_bps"], venue["take_fee_bps"])
    for name, k in (("markout_10s_bps", lag), ("markout_300s_bps", lag_300)):
        node_mid, next_mid = tape["mid_bps"][e, n + k], tape["mid_bps"][e, n + k + 1]
        later = np.where(phases == NODE, node_mid, (node_mid + next_mid) / 2)
        out[name] = side * (later - mid) - spread
    out["arrival_usd"], out["side"] = ep["price_usd"], side
    return out


def run_router(
    market: Market, router: Router, n: int, seed: int, stream: str, *, fills_orders: int = 0, first: int = 0,
    after_chunk: Callable[[int], None] | None = None,
) -> RouterResult:  # fmt: skip
    """Work n episodes of the stream from number `first`; fills are kept for the first `fills_orders` of them.

    Orders of one length are worked side by side, so that a batch does not wait for its longest; what is returned is in
    the order of the episodes. `after_chunk(parents done)` is called every CHUNK parents.
    """
    parts: list[RouterResult] = []
    key = stream_key(seed, stream)
    size = min(CHUNK, n)
    b, obs = market.batch(size)
    work, weights = np.zeros(size), np.zeros((size, len(market.routes)))
    turn = np.argsort(market.horizon_slots(key, first + np.arange(n)), kind="stable")
    for done in range(0, n, size):
        which = turn[done : done + size]
        count = len(which)
        market.reset(key, np.arange(count), first + which, b, obs, stream)
        b.order["active"][count:] = 0
        parts.append(_run_chunk(market, router, b, obs, work, weights, count, np.flatnonzero(which < fills_orders)))
        if after_chunk is not None:
            after_chunk(done + count)
    return _joined(parts, np.argsort(turn, kind="stable"))


def _run_chunk(
    market: Market, router: Router, b: Batch, obs: NDArray[np.float64], work: NDArray[np.float64],
    weights: NDArray[np.float64], count: int, kept: NDArray[np.int64],
) -> RouterResult:  # fmt: skip
    marks = np.zeros((len(market.routes), 5))
    fills: list[NDArray[np.void]] = []
    while b.order["active"].any():
        _clear_idle(b)
        router.propose(market, b, obs, work, weights)
        step_proposals(market.rules, b, work, weights, obs)
        _mark_fills(market.rules, b, marks)
        if len(kept):
            fills.append(fills_of(market, b, kept))
    return _result(router.name, market, b, count, marks, [f for f in fills if len(f)])


def _result(
    name: str, market: Market, b: Batch, count: int, marks: NDArray[np.float64], fills: list[NDArray[np.void]]
) -> RouterResult:
    ep, order, costs = b.episode[:count].copy(), b.order[:count].copy(), b.cost_bps[:count].copy()
    size = ep["shares"].astype(float)
    cost = order["cost_bps"]
    price = costs[:, _PRICE_COMPONENTS].sum(axis=1)  # what own prints paid over their unaffected mids
    own_mid = order["own_weighted_mid_bps"] / size
    done = (size - order["remaining_shares"]) / size
    moved = ep["side"] * order["affected_volume_bps"] / ep["market_volume"]
    market_affected = ep["market_vwap_bps"] + moved
    own_price = own_mid + ep["side"] * price
    share = size / (size + ep["market_volume"])
    affected = (1 - share) * market_affected + share * own_price
    counts = ("attempts", "filled_orders", "routed_shares", "filled_shares")
    totals = np.stack([b.total[:count][f].sum(axis=0) for f in counts], axis=1)
    arrival = ep["side"] * own_mid + price + costs[:, FEE]
    return RouterResult(
        name=name,
        routes=[r.name for r in market.routes],
        cost_bps=cost,
        cost_hs=cost / reward_unit_bps(ep["half_spread_bps"]),
        denoised_bps=cost - np.where(ep["replayed"] == 1, 0.0, order["martingale_sum_bps"]),
        arrival_bps=arrival,
        affected_bps=ep["side"] * (own_price - affected) + costs[:, FEE],
        components_bps=costs,
        shares=ep["shares"],
        side=ep["side"].astype(int),
        stock=ep["stock"],
        horizon_s=ep["n_slots"] * market.rules.interval_s,
        block=_blocks(market, ep),
        kind_frac=np.stack([order[f"{k}_shares"] / size for k in ("take", "post", "dark")], axis=1),
        completion_frac=done,
        totals=totals,
        marks=marks,
        fills=fills,
    )


def _blocks(market: Market, episode: NDArray[np.void]) -> NDArray[np.int64]:
    """Date and 65-minute block of the start for a replay, whatever the name; -1 for a synthetic parent."""
    if market.replay is None:
        return np.full(len(episode), -1, np.int64)
    return np.asarray(100 * market.replay.dates[episode["day"]] + (episode["start_s"] // BLOCK_S).astype(np.int64))


def _joined(parts: Sequence[RouterResult], turn: NDArray[np.int64]) -> RouterResult:
    """The parts as one; parent i of the result is the one worked as number turn[i]."""
    first = parts[0]
    rows = ("cost_bps", "cost_hs", "denoised_bps", "arrival_bps", "affected_bps", "components_bps", "shares", "side",
            "stock", "horizon_s", "block", "kind_frac", "completion_frac")  # fmt: skip
    fills = [f for p in parts for f in p.fills]
    if fills:
        together = np.concatenate(fills)
        fills = [together[np.lexsort((together["slot"], together["episode"]))]]
    joined = {f: np.concatenate([getattr(p, f) for p in parts])[turn] for f in rows}
    return RouterResult(
        name=first.name, routes=first.routes, **joined, totals=sum(p.totals for p in parts),  # type: ignore[arg-type]
        marks=sum(p.marks for p in parts), fills=fills,  # type: ignore[arg-type]
    )  # fmt: skip


def paired_costs(
    market: Market, routers: Sequence[Router], n: int, seed: int, stream: str, *, fills_orders: int = 0
) -> dict[str, RouterResult]:
    """Every router on the same n episodes."""
    return {r.name: run_router(market, r, n, seed, stream, fills_orders=fills_orders) for r in routers}


__all__ = [
    "COMPONENTS", "FILL", "IN_SLOT", "ORDER_TYPES", "TIMING", "RouterResult", "fills_of", "paired_costs", "run_router",
]  # fmt: skip
