"""Venues, routes, and the market's parameters as the flat arrays that compiled code reads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..configs.chance import RandomisationConfig
from ..configs.errors import UserError
from ..configs.market import MarketConfig
from ..configs.pool_knowledge import resolved_kappas, resolved_supply_frac
from ..configs.session import N_CURVE_BINS, curves
from ..configs.stock import StockConfig
from ..configs.venue import DarkPoolConfig, LitVenueConfig
from .counter_rng import key_of
from .settings import SETTINGS, settings_of
from .state import ORDER_TYPES

UNLIMITED_SHARES = 1 << 50
MAX_LOTS = 1024  # longest table of contra sizes
GUIDE = 256  # places at which a draw of a size may begin to look
BETA_STEPS = 13  # values of a pool's size exponent in randomised episodes, evenly spaced over the jitter

# fmt: off
STOCK = np.dtype([
    ("cum_prob", "f8"), ("price_usd", "f8"), ("tick_usd", "f8"), ("adv_shares", "i8"), ("half_spread_bps", "f8"),
    ("daily_vol_bps", "f8"), ("depth_shares", "f8"), ("outstanding_over_adv", "f8"),
    ("sigma_fast_bps", "f8"), ("tau_fast_s", "f8"), ("sigma_slow_bps", "f8"), ("tau_slow_s", "f8"),
    ("vol_floor_frac", "f8"), ("signal_fast", "f8"), ("signal_slow", "f8"), ("size_scale", "f8"),
    ("nbbo_moves_per_10s", "f8"), ("n_sub", "i8"), ("fast_in_slot", "i8"), ("fee_cap_mils", "f8"),
    ("volume_curve", "f8", N_CURVE_BINS), ("spread_curve", "f8", N_CURVE_BINS), ("vol_curve", "f8", N_CURVE_BINS),
    ("log_spread_curve", "f8", N_CURVE_BINS), ("log_vol_curve", "f8", N_CURVE_BINS),
])
ARCHETYPE = np.dtype([  # what hangs on the class stands in Rules: a post's P&L, a pool's supply and toxicity
    ("post_flow_frac", "f8"), ("life_s", "f8"), ("kappa_slow", "f8"), ("run_share", "f8"), ("informed_frac", "f8"),
    ("size_beta", "f8"), ("min_quantity_lots", "i8"), ("take_fee_mils", "f8"),
    ("post_fee_mils", "f8"), ("leak_weight", "f8"), ("zero_prob", "f8"), ("adverse_charge_bps", "f8"),
])
# Contra sizes: Pr[S <= k lots] for k = 1..n_lots; n_lots 0 means unlimited. guide[g]: first k - 1 whose probability
# reaches g / GUIDE, where a draw begins to look (guide table: Chen and Asau, AIIE Transactions 6(2), 1974).
SIZE_LAW = np.dtype([("n_lots", "i8"), ("mean_shares", "f8"), ("guide", "i2", GUIDE), ("cdf", "f8", MAX_LOTS)])
# fmt: on


@dataclass(frozen=True, slots=True)
class Route:
    """A venue and an order type."""

    venue: str
    order_type: str

    @property
    def name(self) -> str:
        return f"{self.venue}:{self.order_type}"


class Rules(NamedTuple):
    """Market parameters for compiled code; built once from a MarketConfig.

    Scalars stand in `settings`: compiled code reads `rules.settings[0].eta`, Python `rules.eta`.
    """

    settings: NDArray[np.void]  # (1,) SETTINGS
    stock: NDArray[np.void]  # (S,) STOCK
    lit: NDArray[np.void]  # (L,) ARCHETYPE
    post_pnl_hs: NDArray[np.float64]  # (S, L)
    dark: NDArray[np.void]  # (A,) ARCHETYPE
    dark_kappa: NDArray[np.float64]  # (S, A, 2) fast and slow toxicity
    dark_supply_frac: NDArray[np.float64]  # (S, A) contra supply over volume
    size_law: NDArray[np.void]  # SIZE_LAW, shared by all episodes
    lit_law: NDArray[np.int64]  # (S, L) row of size_law
    dark_law: NDArray[np.int64]  # (S, A) row of the lowest size exponent; BETA_STEPS rows where episodes draw it
    informed_law: NDArray[np.int64]  # (S, A)
    venue_key: NDArray[np.uint64]  # (V,)
    outage_venue: NDArray[np.bool_]  # (V,) whether it may go down
    route_venue: NDArray[np.int64]  # (R,)
    route_type: NDArray[np.int64]  # (R,) TAKE, POST, PING, REST
    route_cap: NDArray[np.int64]  # (R,) shares
    horizon_s: NDArray[np.float64]
    horizon_cum: NDArray[np.float64]
    min_quantity_lots: NDArray[np.int64]
    slot_volumes: NDArray[np.float64]

    def __getattr__(self, name: str) -> Any:
        """A scalar of `settings`, or a tuple where it holds several."""
        if name not in (SETTINGS.names or ()):
            raise AttributeError(name)
        value = self.settings[name][0].tolist()
        return tuple(value) if isinstance(value, list) else value

    def with_settings(self, **changes: Any) -> Rules:
        """The same rules with other scalars, on a record of their own."""
        record = self.settings.copy()
        for name, value in changes.items():
            record[name] = value
        return self._replace(settings=record)


def venue_names(config: MarketConfig) -> list[str]:
    """Lit venues then dark pools, each in MIC order."""
    dark = list(config.dark_slots) or [p.name for p in config.dark_pools]
    return sorted(v.name for v in config.lit_venues) + sorted(dark)


def routes_of(config: MarketConfig) -> list[Route]:
    """Routes in the house order: take, post, ping, rest, then MIC."""
    lit = {v.name: v.order_types for v in config.lit_venues}
    dark_types = {t for p in config.dark_pools for t in p.order_types}
    dark = list(config.dark_slots) or [p.name for p in config.dark_pools]
    pool_types = (
        {n: dark_types for n in dark} if config.dark_slots else {p.name: p.order_types for p in config.dark_pools}
    )
    routes = []
    for order_type in ORDER_TYPES:
        routes += [Route(n, order_type) for n in sorted(lit) if order_type in lit[n]]
        routes += [Route(n, order_type) for n in sorted(dark) if order_type in pool_types[n]]
    return routes


def _stock_table(config: MarketConfig) -> NDArray[np.void]:
    table = np.zeros(len(config.stocks), STOCK)
    for row, s in zip(table, config.stocks, strict=True):
        for field in ("price_usd", "adv_shares", "daily_vol_bps", "depth_shares", "outstanding_over_adv",
                      "sigma_fast_bps", "tau_fast_s", "sigma_slow_bps", "tau_slow_s", "vol_floor_frac", "signal_fast",
                      "signal_slow", "size_scale", "nbbo_moves_per_10s"):  # fmt: skip
            row[field] = getattr(s, field)
        row["half_spread_bps"] = s.spread_bps / 2
        row["tick_usd"], row["fee_cap_mils"] = config.tick_usd(s), config.fee_cap_mils(s)
        row["n_sub"], row["fast_in_slot"] = _sub_steps_here(config, s)
        row["volume_curve"], row["spread_curve"], row["vol_curve"] = curves(s)
        row["log_spread_curve"], row["log_vol_curve"] = np.log(row["spread_curve"]), np.log(row["vol_curve"])
    table["cum_prob"] = np.cumsum([s.probability for s in config.stocks])
    return table


def _archetypes(venues: Sequence[LitVenueConfig | DarkPoolConfig]) -> NDArray[np.void]:
    table = np.zeros(len(venues), ARCHETYPE)
    for row, v in zip(table, venues, strict=True):
        row["size_beta"] = v.size_beta
        if isinstance(v, LitVenueConfig):
            row["post_flow_frac"], row["take_fee_mils"] = v.flow_frac * v.queue_place, v.take_fee_mils
            fields: tuple[str, ...] = ("kappa_slow", "run_share", "post_fee_mils")
        else:
            row["take_fee_mils"], row["informed_frac"] = v.fee_mils, v.informed_frac or 0.0
            fields = ("life_s", "min_quantity_lots", "leak_weight", "zero_prob", "adverse_charge_bps")
        for field in fields:
            row[field] = getattr(v, field)
    return table


class _SizeLaws:
    """Collects tables of contra sizes, Pr[S = k lots] ~ k^-beta for k = 1..n; a block of exponents each once."""

    def __init__(self, lot_shares: int) -> None:
        self._lot_shares = lot_shares
        self._first_row: dict[tuple[int, tuple[float, ...]], int] = {}
        self._laws: list[NDArray[np.void]] = []

    def rows(self, size_max_lots: int | None, size_scale: float, betas: Sequence[float]) -> int:
        """First of the consecutive rows that hold the laws of `betas`."""
        n_lots = 0 if size_max_lots is None else max(1, round(size_max_lots * size_scale))
        if n_lots > MAX_LOTS:
            raise UserError(
                f"size_max_lots {size_max_lots} times size_scale {size_scale:g} is {n_lots} lots; at most {MAX_LOTS} "
                "are tabulated. Lower one of them."
            )
        key = (n_lots, tuple(betas))
        if key not in self._first_row:
            self._first_row[key] = len(self._laws)
            self._laws += [self._law(n_lots, beta) for beta in betas]
        return self._first_row[key]

    def _law(self, n_lots: int, beta: float) -> NDArray[np.void]:
        law = np.zeros(1, SIZE_LAW)
        law["n_lots"], law["mean_shares"] = n_lots, float(UNLIMITED_SHARES)
        if n_lots:
            lots = np.arange(1.0, n_lots + 1.0)
            weights = lots**-beta
            law["cdf"][0, :n_lots] = np.cumsum(weights) / weights.sum()
            law["cdf"][0, n_lots - 1 :] = 1.0
            law["guide"] = np.searchsorted(law["cdf"][0], np.arange(GUIDE) / GUIDE)
            law["mean_shares"] = self._lot_shares * (lots * weights).sum() / weights.sum()
        return law

    def table(self) -> NDArray[np.void]:
        return np.concatenate(self._laws)


def _size_rows(
    config: MarketConfig, lit: Sequence[LitVenueConfig], dark: Sequence[DarkPoolConfig], lot_shares: int
) -> tuple[NDArray[np.void], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """All size laws, and for every stock class the rows of its venues; a pool's BETA_STEPS rows follow each other."""
    laws = _SizeLaws(lot_shares)
    jitter = config.randomisation.size_beta_jitter if config.randomisation is not None else 0.0
    shifts = np.linspace(-jitter, jitter, BETA_STEPS) if config.randomisation is not None else np.zeros(1)
    lit_rows = np.zeros((len(config.stocks), len(lit)), np.int64)
    dark_rows = np.zeros((len(config.stocks), len(dark)), np.int64)
    informed_rows = np.zeros((len(config.stocks), len(dark)), np.int64)
    for s, stock in enumerate(config.stocks):
        for i, venue in enumerate(lit):
            lit_rows[s, i] = laws.rows(venue.size_max_lots, stock.size_scale, [venue.size_beta])
        for i, pool in enumerate(dark):
            betas = [float(pool.size_beta + x) for x in shifts]
            dark_rows[s, i] = laws.rows(pool.size_max_lots, stock.size_scale, betas)
            informed_rows[s, i] = laws.rows(pool.size_max_lots, stock.size_scale, [pool.informed_size_beta])
    return laws.table(), lit_rows, dark_rows, informed_rows


def sub_steps(stock: StockConfig, interval_s: float) -> tuple[int, bool]:
    """(K, fast alpha inside the sub-step) of a slot: market model, section 1.

    The fast alpha is spent inside the slot where that is at least 5 tau_fast long; then K = ceil(2 Delta/tau_slow), so
    that a long rest meets several slow alphas, as far as sub-steps stay 5 tau_fast long. Else both alphas live at
    K = ceil(Delta/tau_fast) nodes.
    """
    if stock.sigma_fast_bps > 0 and interval_s < 5 * stock.tau_fast_s:
        return max(1, math.ceil(interval_s / stock.tau_fast_s - 1e-9)), False
    if stock.sigma_slow_bps == 0:
        return 1, True
    k = math.ceil(2 * interval_s / stock.tau_slow_s - 1e-9)
    if stock.sigma_fast_bps > 0:
        k = min(k, int(interval_s / (5 * stock.tau_fast_s) + 1e-9))
    return max(1, k), True


def build_rules(config: MarketConfig) -> Rules:
    """MarketConfig -> Rules."""
    lit = sorted(config.lit_venues, key=lambda v: v.name)
    dark = list(config.dark_pools) if config.dark_slots else sorted(config.dark_pools, key=lambda p: p.name)
    names, routes = venue_names(config), routes_of(config)
    controls, orders, events = config.controls, config.orders, config.events
    known = {r.name for r in routes}
    if unknown := [n for n in controls.route_caps_shares if n not in known]:
        raise UserError(f"controls.route_caps_shares names route {unknown[0]!r}; the routes are {sorted(known)}")
    drawn = config.randomisation or RandomisationConfig()
    size_law, lit_law, dark_law, informed_law = _size_rows(config, lit, dark, config.lots_of_shares)
    kappas = np.array([[resolved_kappas(p, s) for p in dark] for s in config.stocks], float)
    supplies = np.array([[resolved_supply_frac(p, s, config) for p in dark] for s in config.stocks], float)
    minutes = sorted(orders.horizon_minutes)
    return Rules(
        settings=settings_of(config, len(lit), len(names), max(_sub_steps_here(config, s)[0] for s in config.stocks)),
        stock=_stock_table(config),
        lit=_archetypes(lit),
        post_pnl_hs=np.array([[s.post_pnl_hs.get(v.name, v.post_pnl_hs) for v in lit] for s in config.stocks], float),
        dark=_archetypes(dark),
        dark_kappa=kappas.reshape(len(config.stocks), len(dark), 2),
        dark_supply_frac=supplies.reshape(len(config.stocks), len(dark)),
        size_law=size_law,
        lit_law=lit_law,
        dark_law=dark_law,
        informed_law=informed_law,
        venue_key=np.array([key_of(n) for n in names], np.uint64),
        outage_venue=np.array([not events.outage_venues or n in events.outage_venues for n in names], np.bool_),
        route_venue=np.array([names.index(r.venue) for r in routes], np.int64),
        route_type=np.array([ORDER_TYPES.index(r.order_type) for r in routes], np.int64),
        route_cap=np.array(
            [controls.route_caps_shares.get(r.name, controls.max_child_shares) for r in routes], np.int64
        ),
        horizon_s=np.array(minutes) * 60.0,
        horizon_cum=np.cumsum([orders.horizon_minutes[k] for k in minutes]),
        min_quantity_lots=np.array(drawn.min_quantity_lots, np.int64),
        slot_volumes=np.array(config.oracle.slot_volumes, float),
    )


def _sub_steps_here(config: MarketConfig, stock: StockConfig) -> tuple[int, bool]:
    """Replayed tapes and one-shot problems have one node a slot."""
    if config.replay is not None or config.oracle.one_shot_arrivals:
        return 1, True
    return sub_steps(stock, config.interval_s)


def max_slots(config: MarketConfig) -> int:
    """Longest horizon in slots."""
    if config.oracle.slot_volumes:
        return len(config.oracle.slot_volumes)
    return int(round(max(config.orders.horizon_minutes) * 60 / config.interval_s))


__all__ = [
    "Route", "Rules", "UNLIMITED_SHARES", "build_rules", "max_slots", "routes_of",
    "venue_names",
]  # fmt: skip
