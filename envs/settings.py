"""The scalar parameters of a market, as one record: compiled code takes it by reference, whatever its length.

A call from Python unpacks every member of a tuple anew, 80 scalars in some 6 us, as much as a step of 30 orders.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..configs.chance import RandomisationConfig
from ..configs.market import MarketConfig

# fmt: off
SETTINGS = np.dtype([
    # what a step reads, on neighbouring cache lines
    ("interval_s", "f8"), ("lot_shares", "i8"), ("n_lit", "i8"), ("n_venues", "i8"),
    ("n_sub", "i8"),               # K, the most sub-steps of a slot over the stock classes
    ("markout_lag", "i8"),         # slots until the 10 s markout of a node fill is known
    ("regime_slots", "i8"), ("regime_stay", "f8"), ("calm_factor", "f8"), ("toxic_factor", "f8"),
    ("toxicity_vol_exponent", "f8"), ("supply_spread_exponent", "f8"), ("supply_vol_exponent", "f8"),
    ("eta", "f8"), ("exponent", "f8"), ("weight_1", "f8"), ("weight_2", "f8"),
    ("decay_1", "f8"), ("decay_2", "f8"),                          # e^(-rho Delta)
    ("dark_weight", "f8"), ("display_leak_frac", "f8"), ("display_decay", "f8"),
    ("max_dark_frac", "f8"), ("toxicity_limit_hs", "f8"), ("toxicity_min_fills", "i8"), ("toxicity_min_attempts", "i8"),
    ("max_routes", "i8"), ("weight_cut", "f8"), ("max_child_shares", "i8"), ("band_frac", "f8"),
    # problems with a known optimum
    ("probit_correlation", "f8"), ("fill_copula", "f8"), ("queue_shares", "f8"), ("outflow_mean_shares", "f8"),
    ("leftover_linear_bps", "f8"), ("leftover_quadratic_bps", "f8"), ("tracking_bps", "f8"),
    # orders and schedule
    ("side", "i8"),                # 0 both, else +1 or -1
    ("participation", "f8", 2), ("max_participation", "f8"),
    ("fixed_shares", "i8"),        # 0: by participation
    ("fixed_start_s", "f8"),       # negative: uniform
    ("n_after", "i8"),             # tape slots beyond the horizon
    # noise of the tape: standard deviation, coefficient a slot
    ("gamma", "f8"), ("volume_concentration", "f8"), ("slot_volume_log_sd", "f8"), ("day_volume_log_sd", "f8"),
    ("spread_noise", "f8", 2), ("vol_noise", "f8", 2), ("supply_noise", "f8", 2), ("supply_volume_load", "f8"),
    # randomised episodes
    ("spread_log_sd", "f8"), ("vol_log_sd", "f8"), ("supply_range", "f8", 2), ("flow_range", "f8", 2),
    ("independent_prob", "f8"), ("kappa_fast_range", "f8", 2),
    ("kappa_slow_range", "f8", 2), ("toxicity_jitter", "f8"), ("pnl_jitter_hs", "f8"), ("leak_zero_prob", "f8"),
    ("leak_range", "f8", 2), ("beta_jitter", "f8"), ("fee_jitter_mils", "f8"), ("regime_prob", "f8"),
    ("card_empty_prob", "f8"), ("card_fills_range", "f8", 2), ("card_bias_hs", "f8"),
    ("card_fill_factor", "f8"),
    # what happens to quotes and venues
    ("outage_prob", "f8"), ("outage_s", "f8", 2), ("halt_prob", "f8"), ("halt_s", "f8", 2), ("locked_prob", "f8"),
    ("crossed_prob", "f8"), ("shock_prob", "f8"), ("shock_move_bps", "f8"),
    ("shock_factors", "f8", 3),    # volatility, spread, volume at the shock
    ("shock_half_life_s", "f8"),
    # switches
    ("ping_fallback", "?"), ("one_shot", "?"), ("expected_accounting", "?"), ("leftover_charged", "?"),
    ("track_to_zero", "?"), ("fixed_volumes", "?"), ("full_band", "?"), ("follow_volume", "?"), ("vwap_benchmark", "?"),
    ("randomise", "?"), ("permute", "?"),
])
# fmt: on


def settings_of(config: MarketConfig, n_lit: int, n_venues: int, n_sub: int) -> NDArray[np.void]:
    """The record, (1,) SETTINGS."""
    values = {
        "n_lit": n_lit, "n_venues": n_venues, "n_sub": n_sub,
        **_steps(config), **_controls(config), **_problems(config), **_orders(config), **_noise(config),
        **_randomisation(config), **_events(config),
    }  # fmt: skip
    assert set(values) == set(SETTINGS.names or ())
    record = np.zeros(1, SETTINGS)
    for name, value in values.items():
        record[name] = value
    return record


def _steps(config: MarketConfig) -> dict[str, Any]:
    dt, impact, noise = config.interval_s, config.impact, config.noise
    half_lives = impact.transient_half_lives_s
    fixed = bool(config.oracle.slot_volumes)
    return {
        "interval_s": dt,
        "lot_shares": config.lots_of_shares,
        "markout_lag": max(1, round(10 / dt)),
        "n_after": math.ceil(300 / dt) + 2,
        "regime_slots": max(1, round(300.0 / dt)),
        "regime_stay": noise.regime_stay_prob_300s,
        "calm_factor": noise.regime_factors[0],
        "toxic_factor": noise.regime_factors[1],
        "toxicity_vol_exponent": noise.toxicity_vol_exponent,
        "supply_spread_exponent": noise.supply_spread_exponent,
        "supply_vol_exponent": noise.supply_vol_exponent,
        "eta": impact.eta * (1.0 if fixed else _mean_over_volume_noise(impact.exponent, _slot_volume_log_sd(config))),
        "exponent": impact.exponent,
        "weight_1": impact.transient_weights[0],
        "weight_2": impact.transient_weights[1],
        "decay_1": 0.5 ** (dt / half_lives[0]),
        "decay_2": 0.5 ** (dt / half_lives[1]),
        "gamma": impact.gamma,
        "dark_weight": impact.dark_weight,
        "display_leak_frac": impact.display_leak_frac,
        "display_decay": math.exp(-dt / impact.display_decay_s),
        "ping_fallback": config.ping_fallback == "take",
    }


def _controls(config: MarketConfig) -> dict[str, Any]:
    controls = config.controls
    names = ("max_routes", "weight_cut", "max_child_shares", "max_dark_frac", "toxicity_limit_hs",
             "toxicity_min_fills", "toxicity_min_attempts")  # fmt: skip
    return {name: getattr(controls, name) for name in names} | {"band_frac": config.schedule.band_frac}


def _problems(config: MarketConfig) -> dict[str, Any]:
    oracle = config.oracle
    names = ("probit_correlation", "fill_copula", "queue_shares", "outflow_mean_shares", "expected_accounting",
             "leftover_quadratic_bps", "tracking_bps", "track_to_zero", "full_band")  # fmt: skip
    return {name: getattr(oracle, name) for name in names} | {
        "one_shot": oracle.one_shot_arrivals,
        "leftover_charged": oracle.leftover_linear_bps is not None,
        "leftover_linear_bps": oracle.leftover_linear_bps or 0.0,
        "fixed_volumes": bool(oracle.slot_volumes),
    }


def _orders(config: MarketConfig) -> dict[str, Any]:
    orders = config.orders
    return {
        "side": {"both": 0, "buy": 1, "sell": -1}[orders.side],
        "participation": orders.participation_frac,
        "max_participation": orders.max_participation_frac,
        "fixed_shares": orders.shares or 0,
        "fixed_start_s": -1.0 if orders.start_s is None else orders.start_s,
        "follow_volume": config.schedule.follow_volume,
        "vwap_benchmark": config.benchmark == "vwap",
    }


def _noise(config: MarketConfig) -> dict[str, Any]:
    noise, slots = config.noise, config.interval_s / 300
    return {
        "volume_concentration": noise.volume_concentration,
        "slot_volume_log_sd": _slot_volume_log_sd(config),
        "day_volume_log_sd": noise.day_volume_log_sd,
        "spread_noise": (noise.spread_log_sd, noise.spread_persistence_300s**slots),
        "vol_noise": (noise.vol_log_sd, noise.vol_persistence_300s**slots),
        "supply_noise": (noise.supply_log_sd, noise.supply_persistence_300s**slots),
        "supply_volume_load": noise.supply_volume_load,
    }


def _randomisation(config: MarketConfig) -> dict[str, Any]:
    drawn: RandomisationConfig = config.randomisation or RandomisationConfig()
    return {
        "randomise": config.randomisation is not None,
        "permute": bool(config.dark_slots),
        "spread_log_sd": drawn.spread_log_sd,
        "vol_log_sd": drawn.vol_log_sd,
        "supply_range": drawn.supply_factor,
        "flow_range": drawn.flow_factor,
        "independent_prob": drawn.independent_toxicity_prob,
        "kappa_fast_range": drawn.kappa_fast,
        "kappa_slow_range": drawn.kappa_slow,
        "toxicity_jitter": drawn.toxicity_jitter_frac,
        "pnl_jitter_hs": drawn.post_pnl_jitter_hs,
        "leak_zero_prob": drawn.leak_zero_prob,
        "leak_range": drawn.leak_weight,
        "beta_jitter": drawn.size_beta_jitter,
        "fee_jitter_mils": drawn.fee_jitter_mils,
        "regime_prob": drawn.regime_prob,
        "card_empty_prob": drawn.scorecard_empty_prob,
        "card_fills_range": drawn.scorecard_fills,
        "card_bias_hs": drawn.scorecard_markout_bias_hs,
        "card_fill_factor": drawn.scorecard_fill_factor,
    }


def _events(config: MarketConfig) -> dict[str, Any]:
    events = config.events
    names = ("outage_prob", "halt_prob", "locked_prob", "crossed_prob", "shock_prob", "shock_move_bps",
             "shock_half_life_s")  # fmt: skip
    return {name: getattr(events, name) for name in names} | {
        "outage_s": [60.0 * minutes for minutes in events.outage_minutes],
        "halt_s": [60.0 * minutes for minutes in events.halt_minutes],
        "shock_factors": (events.shock_vol_factor, events.shock_spread_factor, events.shock_volume_factor),
    }


def _slot_volume_log_sd(config: MarketConfig) -> float:
    """The config's is of 10 s slots; the variance of the sum of independent ones falls with their number."""
    return math.sqrt(math.log1p(math.expm1(config.noise.slot_volume_log_sd**2) * 10 / config.interval_s))


def _mean_over_volume_noise(exponent: float, log_sd: float) -> float:
    """1 / E[(V/EV)^-b] of log-normal slot volume, so that a participation costs the same at any slot length."""
    return math.exp(-0.5 * exponent * (1.0 + exponent) * log_sd**2)


__all__ = ["SETTINGS", "settings_of"]
