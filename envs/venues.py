"""Venues, routes, and the market's parameters as the flat arrays that compiled code reads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..configs.errors import UserError
from ..configs.market import N_CURVE_BINS, SESSION_S, DarkPoolConfig, LitVenueConfig, MarketConfig, StockConfig
from ..configs.pool_knowledge import resolved_kappas
from .counter_rng import key_of
from .state import ORDER_TYPES

UNLIMITED_SHARES = 1 << 50
MAX_LOTS = 1024  # longest table of contra sizes
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
ARCHETYPE = np.dtype([
    ("supply_frac", "f8"), ("life_s", "f8"), ("kappa_slow", "f8"), ("run_share", "f8"), ("informed_frac", "f8"),
    ("size_beta", "f8"), ("min_quantity_lots", "i8"), ("take_fee_mils", "f8"),
    ("post_fee_mils", "f8"), ("leak_weight", "f8"), ("zero_prob", "f8"), ("adverse_charge_bps", "f8"),
])
# Contra sizes: Pr[S <= k lots] for k = 1..n_lots; n_lots 0 means unlimited.
SIZE_LAW = np.dtype([("n_lots", "i8"), ("mean_shares", "f8"), ("cdf", "f8", MAX_LOTS)])
# The settings that a step reads, as one record: compiled functions take it by reference.
SETTINGS = np.dtype([
    ("interval_s", "f8"), ("lot_shares", "f8"), ("n_lit", "i8"), ("n_venues", "i8"), ("n_sub", "i8"),
    ("markout_lag", "i8"), ("regime_slots", "i8"), ("regime_stay", "f8"), ("calm_factor", "f8"), ("toxic_factor", "f8"),
    ("toxicity_vol_exponent", "f8"), ("supply_spread_exponent", "f8"), ("supply_vol_exponent", "f8"),
    ("eta", "f8"), ("exponent", "f8"), ("weight_1", "f8"), ("weight_2", "f8"), ("decay_1", "f8"), ("decay_2", "f8"),
    ("dark_weight", "f8"), ("display_leak_frac", "f8"), ("display_decay", "f8"), ("ping_fallback", "i8"),
    ("max_dark_frac", "f8"), ("toxicity_limit_hs", "f8"), ("toxicity_min_fills", "i8"), ("toxicity_min_attempts", "i8"),
    ("one_shot", "i8"), ("probit_correlation", "f8"), ("fill_copula", "f8"), ("queue_shares", "f8"),
    ("outflow_mean_shares", "f8"), ("expected_accounting", "i8"), ("leftover_charged", "i8"),
    ("leftover_linear_bps", "f8"), ("leftover_quadratic_bps", "f8"), ("tracking_bps", "f8"), ("track_to_zero", "i8"),
    ("fixed_volumes", "i8"),
])
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
    """Market parameters for compiled code; built once from a MarketConfig."""

    settings: NDArray[np.void]  # (1,) SETTINGS
    interval_s: float
    lot_shares: int
    n_lit: int
    n_venues: int
    n_sub: int  # K, the most sub-steps of a slot over the stock classes
    n_after: int  # tape slots beyond the horizon
    markout_lag: int  # slots until the 10 s markout of a node fill is known
    stock: NDArray[np.void]  # (S,) STOCK
    lit: NDArray[np.void]  # (L,) ARCHETYPE
    post_pnl_hs: NDArray[np.float64]  # (S, L)
    dark: NDArray[np.void]  # (A,) ARCHETYPE
    dark_kappa: NDArray[np.float64]  # (S, A, 2) fast and slow toxicity
    size_law: NDArray[np.void]  # SIZE_LAW, shared by all episodes
    lit_law: NDArray[np.int64]  # (S, L) row of size_law
    dark_law: NDArray[np.int64]  # (S, A) row of the lowest size exponent; BETA_STEPS rows where episodes draw it
    informed_law: NDArray[np.int64]  # (S, A)
    permute: bool
    venue_key: NDArray[np.uint64]  # (V,)
    route_venue: NDArray[np.int64]  # (R,)
    route_type: NDArray[np.int64]  # (R,) TAKE, POST, PING, REST
    route_cap: NDArray[np.int64]  # (R,) shares
    # orders
    side: int  # 0 both, else +1 or -1
    horizon_s: NDArray[np.float64]
    horizon_cum: NDArray[np.float64]
    participation: tuple[float, float]
    fixed_shares: int  # 0: by participation
    fixed_start_s: float  # negative: uniform
    max_participation: float
    band_frac: float
    follow_volume: bool
    vwap_benchmark: bool
    # impact
    eta: float
    exponent: float
    weight_1: float
    weight_2: float
    decay_1: float  # e^(-rho Delta)
    decay_2: float
    gamma: float
    dark_weight: float
    display_leak_frac: float
    display_decay: float
    # noise
    volume_concentration: float
    slot_volume_log_sd: float
    day_volume_log_sd: float
    spread_noise: tuple[float, float]  # sd, coefficient a slot
    vol_noise: tuple[float, float]
    supply_noise: tuple[float, float]
    supply_volume_load: float
    toxicity_vol_exponent: float
    supply_spread_exponent: float
    supply_vol_exponent: float
    regime_stay: float
    regime_factors: tuple[float, float]
    # randomisation
    randomise: bool
    spread_log_sd: float
    vol_log_sd: float
    supply_range: tuple[float, float]
    flow_range: tuple[float, float]
    independent_prob: float
    kappa_fast_range: tuple[float, float]
    kappa_slow_range: tuple[float, float]
    toxicity_jitter: float
    pnl_jitter_hs: float
    leak_zero_prob: float
    leak_range: tuple[float, float]
    beta_jitter: float
    min_quantity_lots: NDArray[np.int64]
    fee_jitter_mils: float
    regime_prob: float
    card_empty_prob: float
    card_fills_range: tuple[float, float]
    # controls
    max_routes: int
    weight_cut: float
    max_child_shares: int
    max_dark_frac: float
    toxicity_limit_hs: float
    toxicity_min_fills: int
    toxicity_min_attempts: int
    # problems with a known optimum
    one_shot: bool
    expected_accounting: bool
    leftover_charged: bool
    leftover_linear_bps: float
    leftover_quadratic_bps: float
    tracking_bps: float
    track_to_zero: bool
    slot_volumes: NDArray[np.float64]
    full_band: bool
    # what happens to quotes and venues
    outage_prob: float
    outage_s: tuple[float, float]
    outage_venue: NDArray[np.bool_]  # (V,) whether it may go down
    halt_prob: float
    halt_s: tuple[float, float]
    locked_prob: float
    crossed_prob: float
    shock_prob: float
    shock_move_bps: float
    shock_factors: tuple[float, float, float]  # volatility, spread, volume at the shock
    shock_half_life_s: float


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


def _bins(curve: tuple[float, ...]) -> NDArray[np.float64]:
    return np.repeat(np.asarray(curve, float), N_CURVE_BINS // len(curve))


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
        volume, spread, vol = _bins(s.volume_curve), _bins(s.spread_curve), _bins(s.vol_curve)
        row["volume_curve"] = volume / volume.sum()
        row["spread_curve"] = spread / spread.mean()
        row["vol_curve"] = vol / np.sqrt((vol**2).mean())
        row["log_spread_curve"], row["log_vol_curve"] = np.log(row["spread_curve"]), np.log(row["vol_curve"])
    table["cum_prob"] = np.cumsum([s.probability for s in config.stocks])
    return table


def _archetypes(venues: Sequence[LitVenueConfig | DarkPoolConfig]) -> NDArray[np.void]:
    table = np.zeros(len(venues), ARCHETYPE)
    for row, v in zip(table, venues, strict=True):
        row["size_beta"] = v.size_beta
        if isinstance(v, LitVenueConfig):
            row["supply_frac"], row["take_fee_mils"] = v.flow_frac * v.queue_place, v.take_fee_mils
            fields: tuple[str, ...] = ("kappa_slow", "run_share", "post_fee_mils")
        else:
            row["take_fee_mils"], row["informed_frac"] = v.fee_mils, v.informed_frac or 0.0
            fields = ("supply_frac", "life_s", "min_quantity_lots", "leak_weight", "zero_prob", "adverse_charge_bps")
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
    dt = config.interval_s
    impact, noise, controls, oracle, orders = config.impact, config.noise, config.controls, config.oracle, config.orders
    draw = config.randomisation
    ranges = draw if draw is not None else type(config).model_fields["randomisation"].default
    known = {r.name for r in routes}
    if unknown := [n for n in controls.route_caps_shares if n not in known]:
        raise UserError(f"controls.route_caps_shares names route {unknown[0]!r}; the routes are {sorted(known)}")
    slot_sd = float(np.sqrt(np.log1p(np.expm1(noise.slot_volume_log_sd**2) * 10 / dt)))
    events = config.events
    lot_shares = config.lots_of_shares
    size_law, lit_law, dark_law, informed_law = _size_rows(config, lit, dark, lot_shares)
    n_sub = max(_sub_steps_here(config, stock)[0] for stock in config.stocks)
    rules = Rules(
        settings=np.zeros(1, SETTINGS),
        interval_s=dt,
        lot_shares=lot_shares,
        n_lit=len(lit),
        n_venues=len(names),
        n_sub=n_sub,
        n_after=int(np.ceil(300 / dt)) + 2,
        markout_lag=max(1, round(10 / dt)),
        stock=_stock_table(config),
        lit=_archetypes(lit),
        post_pnl_hs=np.array([[s.post_pnl_hs.get(v.name, v.post_pnl_hs) for v in lit] for s in config.stocks], float),
        dark=_archetypes(dark),
        dark_kappa=np.array([[resolved_kappas(p, s) for p in dark] for s in config.stocks], float).reshape(
            len(config.stocks), len(dark), 2
        ),
        size_law=size_law,
        lit_law=lit_law,
        dark_law=dark_law,
        informed_law=informed_law,
        permute=bool(config.dark_slots),
        venue_key=np.array([key_of(n) for n in names], np.uint64),
        route_venue=np.array([names.index(r.venue) for r in routes], np.int64),
        route_type=np.array([ORDER_TYPES.index(r.order_type) for r in routes], np.int64),
        route_cap=np.array(
            [controls.route_caps_shares.get(r.name, controls.max_child_shares) for r in routes], np.int64
        ),
        side={"both": 0, "buy": 1, "sell": -1}[orders.side],
        horizon_s=np.array(sorted(orders.horizon_minutes)) * 60.0,
        horizon_cum=np.cumsum([orders.horizon_minutes[k] for k in sorted(orders.horizon_minutes)]),
        participation=orders.participation_frac,
        fixed_shares=orders.shares or 0,
        fixed_start_s=-1.0 if orders.start_s is None else orders.start_s,
        max_participation=orders.max_participation_frac,
        band_frac=config.schedule.band_frac,
        follow_volume=config.schedule.follow_volume,
        vwap_benchmark=config.benchmark == "vwap",
        eta=impact.eta * (1.0 if oracle.slot_volumes else _mean_over_volume_noise(impact.exponent, slot_sd)),
        exponent=impact.exponent,
        weight_1=impact.transient_weights[0],
        weight_2=impact.transient_weights[1],
        decay_1=float(0.5 ** (dt / impact.transient_half_lives_s[0])),
        decay_2=float(0.5 ** (dt / impact.transient_half_lives_s[1])),
        gamma=impact.gamma,
        dark_weight=impact.dark_weight,
        display_leak_frac=impact.display_leak_frac,
        display_decay=float(np.exp(-dt / impact.display_decay_s)),
        volume_concentration=noise.volume_concentration,
        slot_volume_log_sd=slot_sd,
        day_volume_log_sd=noise.day_volume_log_sd,
        spread_noise=(noise.spread_log_sd, noise.spread_persistence_300s ** (dt / 300)),
        vol_noise=(noise.vol_log_sd, noise.vol_persistence_300s ** (dt / 300)),
        supply_noise=(noise.supply_log_sd, noise.supply_persistence_300s ** (dt / 300)),
        supply_volume_load=noise.supply_volume_load,
        toxicity_vol_exponent=noise.toxicity_vol_exponent,
        supply_spread_exponent=noise.supply_spread_exponent,
        supply_vol_exponent=noise.supply_vol_exponent,
        regime_stay=noise.regime_stay_prob_300s,
        regime_factors=noise.regime_factors,
        randomise=draw is not None,
        spread_log_sd=ranges.spread_log_sd,
        vol_log_sd=ranges.vol_log_sd,
        supply_range=ranges.supply_factor,
        flow_range=ranges.flow_factor,
        independent_prob=ranges.independent_toxicity_prob,
        kappa_fast_range=ranges.kappa_fast,
        kappa_slow_range=ranges.kappa_slow,
        toxicity_jitter=ranges.toxicity_jitter_frac,
        pnl_jitter_hs=ranges.post_pnl_jitter_hs,
        leak_zero_prob=ranges.leak_zero_prob,
        leak_range=ranges.leak_weight,
        beta_jitter=ranges.size_beta_jitter,
        min_quantity_lots=np.array(ranges.min_quantity_lots, np.int64),
        fee_jitter_mils=ranges.fee_jitter_mils,
        regime_prob=ranges.regime_prob,
        card_empty_prob=ranges.scorecard_empty_prob,
        card_fills_range=ranges.scorecard_fills,
        max_routes=controls.max_routes,
        weight_cut=controls.weight_cut,
        max_child_shares=controls.max_child_shares,
        max_dark_frac=controls.max_dark_frac,
        toxicity_limit_hs=controls.toxicity_limit_hs,
        toxicity_min_fills=controls.toxicity_min_fills,
        toxicity_min_attempts=controls.toxicity_min_attempts,
        one_shot=oracle.one_shot_arrivals,
        expected_accounting=oracle.expected_accounting,
        leftover_charged=oracle.leftover_linear_bps is not None,
        leftover_linear_bps=oracle.leftover_linear_bps or 0.0,
        leftover_quadratic_bps=oracle.leftover_quadratic_bps,
        tracking_bps=oracle.tracking_bps,
        track_to_zero=oracle.track_to_zero,
        slot_volumes=np.array(oracle.slot_volumes, float),
        full_band=oracle.full_band,
        outage_prob=events.outage_prob,
        outage_s=(60.0 * events.outage_minutes[0], 60.0 * events.outage_minutes[1]),
        outage_venue=np.array([not events.outage_venues or n in events.outage_venues for n in names], np.bool_),
        halt_prob=events.halt_prob,
        halt_s=(60.0 * events.halt_minutes[0], 60.0 * events.halt_minutes[1]),
        locked_prob=events.locked_prob,
        crossed_prob=events.crossed_prob,
        shock_prob=events.shock_prob,
        shock_move_bps=events.shock_move_bps,
        shock_factors=(events.shock_vol_factor, events.shock_spread_factor, events.shock_volume_factor),
        shock_half_life_s=events.shock_half_life_s,
    )
    _write_settings(rules, config)
    return rules


def _mean_over_volume_noise(exponent: float, log_sd: float) -> float:
    """1 / E[(V/EV)^-b] of log-normal slot volume, so that a participation costs the same at any slot length."""
    return math.exp(-0.5 * exponent * (1.0 + exponent) * log_sd**2)


def _sub_steps_here(config: MarketConfig, stock: StockConfig) -> tuple[int, bool]:
    """Replayed tapes and one-shot problems have one node a slot."""
    if config.replay is not None or config.oracle.one_shot_arrivals:
        return 1, True
    return sub_steps(stock, config.interval_s)


def _write_settings(rules: Rules, config: MarketConfig) -> None:
    """The record of what a step reads; most of it is in the rules under the same name."""
    record, oracle = rules.settings[0], config.oracle
    own = {
        "regime_slots": max(1, round(300.0 / rules.interval_s)),
        "calm_factor": rules.regime_factors[0],
        "toxic_factor": rules.regime_factors[1],
        "ping_fallback": config.ping_fallback == "take",
        "probit_correlation": oracle.probit_correlation,
        "fill_copula": oracle.fill_copula,
        "queue_shares": oracle.queue_shares,
        "outflow_mean_shares": oracle.outflow_mean_shares,
        "fixed_volumes": bool(oracle.slot_volumes),
    }
    for name in SETTINGS.names or ():
        record[name] = own[name] if name in own else getattr(rules, name)


def with_settings(rules: Rules, **changes: Any) -> Rules:
    """The same rules with other values; never a setting that a step reads."""
    assert not set(changes) & set(SETTINGS.names or ())
    return rules._replace(**changes)


def max_slots(config: MarketConfig) -> int:
    """Longest horizon in slots."""
    if config.oracle.slot_volumes:
        return len(config.oracle.slot_volumes)
    return int(round(max(config.orders.horizon_minutes) * 60 / config.interval_s))


__all__ = [
    "Route", "Rules", "UNLIMITED_SHARES", "SESSION_S", "build_rules", "max_slots", "routes_of",
    "venue_names",
]  # fmt: skip
