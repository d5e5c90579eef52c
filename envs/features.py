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

from .compiled import compiled
from .controls import mask_code
from .scorecard import CARD_OF, shrunk_fill_rate, shrunk_markout_hs
from .state import TAKE, Batch
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


@compiled
def _put(out: np.ndarray, at: int, column: int, value: float) -> None:
    out[at] = min(max(value, _LOW[column]), _HIGH[column])


@compiled
def observe(rules: Rules, b: Batch, e: int, out: np.ndarray) -> None:
    """Write the flat observation of row `e` to `out` (float64) and refresh `b.masked[e]`."""
    ep, order = b.episode[e], b.order[e]
    row = b.tape[e, order.slot]
    shares, lot = float(ep.shares), float(rules.lot_shares)
    half = max(row.half_spread_bps, 1e-9)
    usual = max(ep.half_spread_bps, 1e-9)
    slice_shares = max(shares * (row.schedule_now - row.schedule_next), 1e-9)
    remaining = order.remaining_shares / shares
    _put(out, 0, 0, (ep.n_slots - order.slot) / ep.n_slots)
    _put(out, 1, 1, remaining)
    _put(out, 2, 2, remaining - row.schedule_now)
    due = (order.remaining_shares - shares * row.schedule_next) / slice_shares
    _put(out, 3, 3, math.copysign(math.log2(1.0 + abs(due)), due))
    _put(out, 4, 4, math.log10(100.0 * shares / ep.adv_shares))
    _put(out, 5, 5, math.log10(100.0 * shares / max(ep.expected_volume, 1e-9)))
    _put(out, 6, 6, math.log10(slice_shares / lot))
    _put(out, 7, 7, math.log10(2.0 * half))
    _put(out, 8, 8, math.log2(half / usual))
    _put(out, 9, 9, math.log10(float(ep.adv_shares)))
    _put(out, 10, 10, math.log2(max(row.vol_ratio, 1e-3)))
    _put(out, 11, 11, math.log2(max(ep.vol_bps * math.sqrt(10.0), 1e-9) / half))
    _put(out, 12, 12, row.imbalance * ep.side)
    for r in range(rules.route_venue.shape[0]):
        b.masked[e, r] = mask_code(rules, b, e, r) != 0
        _observe_route(rules, b, e, r, half, out[N_GLOBAL + r * N_ROUTE : N_GLOBAL + (r + 1) * N_ROUTE])


@compiled
def _observe_route(rules: Rules, b: Batch, e: int, r: int, half: float, out: np.ndarray) -> None:
    v, kind = rules.route_venue[r], rules.route_type[r]
    ven, state = b.venue[e, v], b.venue_state[e, v]
    fee = ven.post_fee_bps if kind == 1 else ven.take_fee_bps
    log_rate, markout, evidence = 0.0, 0.0, 0.0
    if kind != TAKE:
        card = b.card[e, v, CARD_OF[kind]]
        log_rate = math.log10(shrunk_fill_rate(card, CARD_OF[kind]))
        markout = shrunk_markout_hs(card)
        evidence = math.log10(1.0 + card.markouts)
    age_s = b.order[e].slot * rules.interval_s - state.last_visit_s
    _put(out, 0, N_GLOBAL + 0, log_rate)
    _put(out, 1, N_GLOBAL + 1, markout)
    _put(out, 2, N_GLOBAL + 2, fee / half)
    _put(out, 3, N_GLOBAL + 3, evidence)
    _put(out, 4, N_GLOBAL + 4, 1.0 - math.exp(-age_s / 30.0))
    _put(out, 5, N_GLOBAL + 5, state.last_filled_frac)
