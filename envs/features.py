"""The one feature table. Environment, baselines, runtime, explanations and docs read it and the same compiled formulas.

Every feature is clipped to its range. Signs are normalised by the parent's side, so a buy and the mirrored sell see the
same numbers. A router sees only what a real one could: no latent alpha, no volume of the slot to come.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np

from .compiled import compiled, leaf, prefetch
from .controls import mask_of
from .scorecard import CARD_OF, show
from .state import POST, TAKE, Batch
from .venues import Route, Rules

Factor = Literal["size", "liquidity", "volatility", "venue", "schedule", "signal"]


@dataclass(frozen=True, slots=True)
class Feature:
    """One column of the observation: name, unit, range, and the decision factor that it belongs to."""

    name: str
    unit: str
    low: float
    high: float
    factor: Factor
    formula: str
    monotone: int = 0  # of a route's score in this feature: +1 never falls, -1 never rises (dark and post routes)


# fmt: off
GLOBAL_FEATURES: tuple[Feature, ...] = (
    Feature("time_left_frac", "fraction of the horizon", 0.0, 1.0, "schedule", "slots left / slots of the order"),
    Feature("remaining_frac", "fraction of the order", 0.0, 1.0, "schedule", "shares left / ordered shares"),
    Feature("gap_frac", "fraction of the order", -0.1, 0.1, "schedule", "shares left / ordered - schedule; + = behind"),
    Feature("log_due_slices", "signed log2 of slices", -4.0, 7.0, "schedule",
            "sign(d) log2(1 + |d|), d = (shares left - target after this slot) / shares scheduled for this slot"),
    Feature("log_pct_adv", "log10 of % of ADV", -2.0, 1.5, "size", "log10(100 x ordered shares / ADV)"),
    Feature("log_participation_pct", "log10 of %", 0.0, 1.3, "size",
            "log10(100 x ordered shares / volume expected in the horizon)"),
    Feature("log_slice_lots", "log10 of lots", -2.0, 1.5, "size", "log10(shares scheduled for this slot / round lot)"),
    Feature("log_spread_bps", "log10 of bps", 0.0, 2.0, "liquidity", "log10(quoted spread in bps of the mid)"),
    Feature("log_spread_ratio", "log2 of a ratio", -1.5, 1.5, "liquidity",
            "log2(half spread / its usual level for the stock)"),
    Feature("log_adv_shares", "log10 of shares", 5.0, 8.0, "liquidity", "log10(ADV)"),
    Feature("log_vol_ratio", "log2 of a ratio", -2.0, 2.0, "volatility",
            "log2(volatility of the last 300 s / usual for the clock)"),
    Feature("log_move_per_spread", "log2 of half spreads", -2.0, 4.0, "volatility",
            "log2(usual mid move in 10 s / half spread)"),
    Feature("imbalance_signed", "fraction", -1.0, 1.0, "signal",
            "touch imbalance x side; + = the price is about to move against us"),
)
ROUTE_FEATURES: tuple[Feature, ...] = (
    Feature("log_fill_rate", "log10 of a fraction", -3.0, 0.0, "venue",
            "log10 of the scorecard's fill rate, shrunk by attempts; 0 for a take", +1),
    Feature("markout_hs", "half spreads", -2.5, 1.0, "venue",
            "scorecard's 10 s markout, shrunk by fills; - = adverse; 0 for a take", +1),
    Feature("fee_hs", "half spreads", -0.6, 0.6, "venue", "fee of the route / half spread; - = rebate", -1),
    Feature("log_evidence", "log10 of fills", 0.0, 4.5, "venue", "log10(1 + fills behind the markout)"),
    Feature("visit_age", "fraction", 0.0, 1.0, "venue", "1 - exp(-seconds since the own last visit / 30)"),
    Feature("last_filled_frac", "fraction", 0.0, 1.0, "venue", "filled share of the last child sent to the pool"),
)
# fmt: on
N_GLOBAL, N_ROUTE = len(GLOBAL_FEATURES), len(ROUTE_FEATURES)
FEATURES: tuple[Feature, ...] = GLOBAL_FEATURES + ROUTE_FEATURES
_LOW = np.array([f.low for f in FEATURES])
_HIGH = np.array([f.high for f in FEATURES])


def observation_names(routes: list[Route]) -> list[str]:
    """Column names of the flat observation: globals, then route by route."""
    return [f.name for f in GLOBAL_FEATURES] + [f"{r.name}.{f.name}" for r in routes for f in ROUTE_FEATURES]


def observation_bounds(n_routes: int) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper bounds of the flat observation, each (N_GLOBAL + n_routes N_ROUTE,)."""
    low = np.concatenate([_LOW[:N_GLOBAL], np.tile(_LOW[N_GLOBAL:], n_routes)])
    high = np.concatenate([_HIGH[:N_GLOBAL], np.tile(_HIGH[N_GLOBAL:], n_routes)])
    return low, high


def schema_sha256() -> str:
    """Hash of the table; bundles refuse to run on another one."""
    text = json.dumps([asdict(f) for f in FEATURES], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


@leaf
def _clipped(clip: bool, column: int, value: float) -> float:
    return min(max(value, _LOW[column]), _HIGH[column]) if clip else value


@compiled
def _write_rows(
    rules: Rules, b: Batch, first: int, last: int, out: np.ndarray, out_first: int, clip: bool
) -> None:  # fmt: skip
    settings, route_venue, route_type = rules.settings[0], rules.route_venue, rules.route_type
    episode, orders, tape, venue, venue_state = b.episode, b.order, b.tape, b.venue, b.venue_state
    cards, masked = b.card, b.masked
    lot, n_routes = settings.lot_shares, route_type.shape[0]
    for e in range(first, last):
        soon = min(e + 2, last - 1)
        if orders[soon].active == 1:
            prefetch(tape[soon, orders[soon].slot], 3)
            prefetch(cards[soon, 0, 0], 21)  # of seven venues, side by side
            prefetch(venue[soon, 0], 26)
        order = orders[e]
        if order.active == 0:
            continue
        ep, row, to = episode[e], tape[e, order.slot], e - out_first
        shares = float(ep.shares)
        half, usual = max(row.half_spread_bps, 1e-9), max(ep.half_spread_bps, 1e-9)
        slice_shares = max(shares * (row.schedule_now - row.schedule_next), 1e-9)
        remaining = order.remaining_shares / shares
        due = (order.remaining_shares - shares * row.schedule_next) / slice_shares
        out[to, 0] = _clipped(clip, 0, (ep.n_slots - order.slot) / ep.n_slots)
        out[to, 1] = _clipped(clip, 1, remaining)
        out[to, 2] = _clipped(clip, 2, remaining - row.schedule_now)
        out[to, 3] = _clipped(clip, 3, math.copysign(math.log2(1.0 + abs(due)), due))
        out[to, 4] = _clipped(clip, 4, math.log10(100.0 * shares / ep.adv_shares))
        out[to, 5] = _clipped(clip, 5, math.log10(100.0 * shares / max(ep.expected_volume, 1e-9)))
        out[to, 6] = _clipped(clip, 6, math.log10(slice_shares / lot))
        out[to, 7] = _clipped(clip, 7, math.log10(2.0 * half))
        out[to, 8] = _clipped(clip, 8, math.log2(half / usual))
        out[to, 9] = _clipped(clip, 9, math.log10(float(ep.adv_shares)))
        out[to, 10] = _clipped(clip, 10, math.log2(max(row.vol_ratio, 1e-3)))
        out[to, 11] = _clipped(clip, 11, math.log2(max(ep.vol_bps * math.sqrt(10.0), 1e-9) / half))
        out[to, 12] = _clipped(clip, 12, row.imbalance * ep.side)
        for r in range(n_routes):
            v, kind, at = route_venue[r], route_type[r], N_GLOBAL + r * N_ROUTE
            ven, state, which = venue[e, v], venue_state[e, v], CARD_OF[kind]
            card = cards[e, v, max(0, which)]
            masked[e, r] = mask_of(settings, ep, order, row, ven, card, kind) != 0
            log_rate, markout, evidence = 0.0, 0.0, 0.0
            if kind != TAKE:
                show(card, which)
                log_rate, markout, evidence = card.log_fill_rate, card.shrunk_markout_hs, card.log_evidence
            fee = ven.post_fee_bps if kind == POST else ven.take_fee_bps
            age = 1.0
            if state.last_visit_s > -math.inf:
                age = 1.0 - math.exp((state.last_visit_s - order.slot * settings.interval_s) / 30.0)
            out[to, at] = _clipped(clip, N_GLOBAL, log_rate)
            out[to, at + 1] = _clipped(clip, N_GLOBAL + 1, markout)
            out[to, at + 2] = _clipped(clip, N_GLOBAL + 2, fee / half)
            out[to, at + 3] = _clipped(clip, N_GLOBAL + 3, evidence)
            out[to, at + 4] = _clipped(clip, N_GLOBAL + 4, age)
            out[to, at + 5] = _clipped(clip, N_GLOBAL + 5, state.last_filled_frac)


@compiled
def observe(rules: Rules, b: Batch, e: int, out: np.ndarray) -> None:
    """Write the flat observation of row `e` to `out` (float64) and refresh `b.masked[e]`."""
    observe_rows(rules, b, e, e + 1, out.reshape(1, out.shape[0]), e)


@compiled
def observe_rows(rules: Rules, b: Batch, first: int, last: int, out: np.ndarray, out_first: int) -> None:
    """Observations of the active rows first..last-1 to out[row - out_first], float64; refresh `b.masked`."""
    _write_rows(rules, b, first, last, out, out_first, True)


@compiled
def measure_rows(rules: Rules, b: Batch, first: int, last: int, out: np.ndarray, out_first: int) -> None:
    """As `observe_rows`, before the clip to each feature's range: what a value outside it really was."""
    _write_rows(rules, b, first, last, out, out_first, False)
