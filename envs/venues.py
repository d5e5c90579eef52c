"""Venues, routes, and the market's parameters as the flat arrays that compiled code reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..configs.errors import UserError
from ..configs.market import N_CURVE_BINS, SESSION_S, MarketConfig
from .counter_rng import key_of
from .state import ORDER_TYPES

UNLIMITED_SHARES = 1 << 50

# fmt: off
STOCK = np.dtype([
    ("cum_prob", "f8"), ("price_usd", "f8"), ("tick_usd", "f8"), ("adv_shares", "i8"), ("half_spread_bps", "f8"),
    ("daily_vol_bps", "f8"), ("depth_shares", "f8"), ("outstanding_over_adv", "f8"),
    ("sigma_fast_bps", "f8"), ("tau_fast_s", "f8"), ("sigma_slow_bps", "f8"), ("tau_slow_s", "f8"),
    ("vol_floor_frac", "f8"), ("signal_fast", "f8"), ("signal_slow", "f8"), ("size_scale", "f8"),
    ("nbbo_moves_per_10s", "f8"), ("volume_curve", "f8", N_CURVE_BINS), ("spread_curve", "f8", N_CURVE_BINS),
    ("vol_curve", "f8", N_CURVE_BINS),
])
ARCHETYPE = np.dtype([
    ("supply_frac", "f8"), ("life_s", "f8"), ("kappa_fast", "f8"), ("kappa_slow", "f8"), ("run_share", "f8"),
    ("size_beta", "f8"), ("size_max_lots", "i8"), ("min_quantity_lots", "i8"), ("take_fee_mils", "f8"),
    ("post_fee_mils", "f8"), ("leak_weight", "f8"), ("zero_prob", "f8"), ("adverse_charge_bps", "f8"),
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

    interval_s: float
    lot_shares: int
    n_lit: int
    n_venues: int
    n_after: int  # tape slots beyond the horizon
    markout_lag: int  # slots until the 10 s markout of a node fill is known
    stock: NDArray[np.void]  # (S,) STOCK
    lit: NDArray[np.void]  # (L,) ARCHETYPE
    post_pnl_hs: NDArray[np.float64]  # (S, L)
    dark: NDArray[np.void]  # (A,) ARCHETYPE
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
        for field in ("price_usd", "tick_usd", "adv_shares", "daily_vol_bps", "depth_shares", "outstanding_over_adv",
                      "sigma_fast_bps", "tau_fast_s", "sigma_slow_bps", "tau_slow_s", "vol_floor_frac", "signal_fast",
                      "signal_slow", "size_scale", "nbbo_moves_per_10s"):  # fmt: skip
            row[field] = getattr(s, field)
        row["half_spread_bps"] = s.spread_bps / 2
        volume, spread, vol = _bins(s.volume_curve), _bins(s.spread_curve), _bins(s.vol_curve)
        row["volume_curve"] = volume / volume.sum()
        row["spread_curve"] = spread / spread.mean()
        row["vol_curve"] = vol / np.sqrt((vol**2).mean())
    table["cum_prob"] = np.cumsum([s.probability for s in config.stocks])
    return table


def _archetypes(venues: list) -> NDArray[np.void]:  # type: ignore[type-arg]
    table = np.zeros(len(venues), ARCHETYPE)
    for row, v in zip(table, venues, strict=True):
        lit = hasattr(v, "flow_frac")
        row["supply_frac"] = v.flow_frac * v.queue_place if lit else v.supply_frac
        row["kappa_slow"], row["size_beta"] = v.kappa_slow, v.size_beta
        row["size_max_lots"] = v.size_max_lots or 0
        row["take_fee_mils"] = v.take_fee_mils if lit else v.fee_mils
        if lit:
            row["run_share"], row["post_fee_mils"] = v.run_share, v.post_fee_mils
        else:
            for field in (
                "life_s", "kappa_fast", "min_quantity_lots", "leak_weight", "zero_prob", "adverse_charge_bps",
            ):  # fmt: skip
                row[field] = getattr(v, field)
    return table


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
    slot_sd = noise.slot_volume_log_sd
    return Rules(
        interval_s=dt,
        lot_shares=config.lot_shares,
        n_lit=len(lit),
        n_venues=len(names),
        n_after=int(np.ceil(300 / dt)) + 2,
        markout_lag=max(1, round(10 / dt)),
        stock=_stock_table(config),
        lit=_archetypes(lit),
        post_pnl_hs=np.array([[s.post_pnl_hs.get(v.name, v.post_pnl_hs) for v in lit] for s in config.stocks], float),
        dark=_archetypes(dark),
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
        eta=impact.eta,
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
        slot_volume_log_sd=float(np.sqrt(np.log1p(np.expm1(slot_sd**2) * 10 / dt))),
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
    )


def max_slots(config: MarketConfig) -> int:
    """Longest horizon in slots."""
    if config.oracle.slot_volumes:
        return len(config.oracle.slot_volumes)
    return int(round(max(config.orders.horizon_minutes) * 60 / config.interval_s))


def max_lots(config: MarketConfig) -> int:
    """Longest contra-size table over all stocks and venues, in lots."""
    sizes = [v.size_max_lots for v in config.lit_venues] + [v.size_max_lots or 1 for v in config.dark_pools]
    return max(1, round(max(sizes) * max(s.size_scale for s in config.stocks)))


__all__ = [
    "Route", "Rules", "UNLIMITED_SHARES", "SESSION_S", "build_rules", "max_lots", "max_slots", "routes_of",
    "venue_names",
]  # fmt: skip
