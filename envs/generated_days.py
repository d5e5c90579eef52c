"""Days generated from a market, measured as calibration measures recorded ones.

Tape statistics come from whole generated days. The P&L of resting orders comes from a post of everything in every slot
(more than the flow can fill, so that every unit of flow counts once), the impact of net flow from a router that takes
a random volume every minute. Draws of `randomisation` are off: a calibrated market describes one class.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..configs.market import MarketConfig
from ..configs.session import SESSION_S
from .calibration import IMBALANCE_HORIZONS_S, MARKOUT_HORIZONS_S
from .day_slots import FloatArray
from .market import Market, step_proposals, stream_key
from .market_fit import imbalance_r2, post_pnl_bps
from .state import IN_SLOT, Batch
from .trade_sizes import PERCENTILES
from .volume_noise import volume_noise

_MINUTES, _HALF_HOURS = 390, 13
_CHUNK_DAYS = 64
_UNLIMITED_CHILD = 2**40
_EDGE_S = 300  # left out of the imbalance regression at both ends, as on recorded days
_NOISE_S = 60  # slots must divide a minute


def generated_statistics(config: MarketConfig, *, n_days: int = 256, seed: int = 0) -> dict[str, float]:
    """Statistics of `n_days` generated days by the names of the fit table, for a market of one class.

    Horizons shorter than the slot are not on the tape; there the market's own law stands in, under the same name.

    Raises:
        ValueError: more than one class, or a slot that does not divide a minute.
    """
    if len(config.stocks) != 1 or _NOISE_S % config.interval_s:
        raise ValueError("generated statistics are for one class, in slots that divide a minute")
    market = Market(_whole_days(config))
    parts = [_chunk(market, first, min(_CHUNK_DAYS, n_days - first), seed) for first in range(0, n_days, _CHUNK_DAYS)]
    columns = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    return _summary(config, columns)


def _whole_days(config: MarketConfig) -> MarketConfig:
    """The market with full-day orders that no control holds back, and without replay or randomisation."""
    data: dict[str, Any] = config.model_dump() | {"replay": None, "randomisation": None}
    data["orders"] |= {"horizon_minutes": {SESSION_S / 60: 1.0}, "max_participation_frac": 1.0, "start_s": 0.0,
                       "shares": round(0.9 * config.stocks[0].adv_shares), "side": "both"}  # fmt: skip
    data["controls"] |= {"max_child_shares": _UNLIMITED_CHILD, "route_caps_shares": {}}
    return MarketConfig.model_validate(data)


def _chunk(market: Market, first: int, n: int, seed: int) -> dict[str, FloatArray]:
    """Per day: arrays (n, ...) of what the summary needs."""
    key = stream_key(seed, "test")
    batch, obs = market.batch(n)
    numbers = np.arange(first, first + n)

    def restart() -> None:
        market.reset(key, np.arange(n), numbers, batch, obs)

    restart()
    tape, slots = batch.tape, market.n_slots
    out: dict[str, FloatArray] = {
        "mid_bps": tape["mid_bps"][:, : slots + 1].copy(), "half_bps": tape["half_spread_bps"][:, :slots].copy(),
        "volume": tape["volume_shares"][:, :slots].copy(),
        "imbalance": (tape["imbalance"] * batch.episode["side"][:, None])[:, :slots],
        "midpoint_frac": _midpoint_frac(market, batch), "sizes": _size_law(market, batch),
        "size_mean": batch.venue["mean_size_shares"][:, 0].copy(),
    }  # fmt: skip
    for route, name in enumerate(market.routes):
        if name.order_type == "post":
            restart()
            out |= _posts(market, batch, obs, route, name.venue)
    restart()
    return out | _takes(market, batch, obs, seed + first)


def _size_law(market: Market, b: Batch) -> FloatArray:
    """(n, lots) cumulative law of the contra orders of the first lit venue."""
    law = market.rules.size_law[b.venue["size_law"][:, 0]]
    return np.asarray(law["cdf"][:, : int(law["n_lots"][0])])


def _midpoint_frac(market: Market, b: Batch) -> FloatArray:
    """(n,) contra supply of all pools over volume: equation (2) without its tilts, whose mean is 1."""
    rules = market.rules
    rows = b.tape[:, : market.n_slots]
    weighted = rows["dark_flow_shares"].sum(axis=1) / rows["volume_shares"].sum(axis=1)
    supply: FloatArray = b.venue["supply_frac"][:, rules.n_lit :].sum(axis=1) * weighted
    return supply


def _posts(market: Market, b: Batch, obs: FloatArray, route: int, venue: str) -> dict[str, FloatArray]:
    """Filled shares (n,) and P&L times shares (n, horizons) of a post of everything in every slot.

    Past the slot of the fill the mid is taken at its expectation given the alphas then: the same mean as the path's,
    without the noise of up to 300 s of it.
    """
    n, dt = b.order.shape[0], market.config.interval_s
    side = b.episode["side"]
    pnl, filled = np.zeros((n, len(MARKOUT_HORIZONS_S))), np.zeros(n)
    mid = b.tape["mid_bps"]
    for slot in range(market.n_slots - 1):  # the last slot completes by a take
        weights = np.zeros((n, len(market.routes)))
        weights[:, route] = 1.0
        step_proposals(market.rules, b, np.full(n, float(_UNLIMITED_CHILD)), weights, obs)
        shares = b.fill_shares[:, route, IN_SLOT].astype(float)
        price = b.fill_mid_bps[:, route, IN_SLOT]
        filled += shares
        for i, horizon_s in enumerate(MARKOUT_HORIZONS_S):
            after = round(horizon_s / dt)
            if after == 0:
                continue
            # A fill comes at a uniform time of its slot: on average halfway between these two nodes less the horizon.
            later = mid[:, slot + 1] + 0.5 * (_drift(b, slot + 1, (after - 1) * dt) + _drift(b, slot + 1, after * dt))
            pnl[:, i] += shares * (b.tape["half_spread_bps"][:, slot] + side * (later - price))
    return {f"post_shares:{venue}": filled, f"post_pnl:{venue}": pnl}


def _drift(b: Batch, node: int, seconds: float) -> FloatArray:
    """(n,) expected move of the mid in the `seconds` after a node, bps, from both alphas (market model, equation 1)."""
    ep, row = b.episode, b.tape[:, node]
    fast = ep["sigma_fast_bps"] * row["fast_z"] * -np.expm1(-seconds / ep["tau_fast_s"])
    slow = ep["sigma_slow_bps"] * row["slow_z"] * -np.expm1(-seconds / ep["tau_slow_s"])
    drift: FloatArray = fast + slow
    return drift


def _takes(market: Market, b: Batch, obs: FloatArray, seed: int) -> dict[str, FloatArray]:
    """(n, minutes) own displacement of the mid over each minute, bps, and own shares taken in it."""
    n, per_minute = b.order.shape[0], round(60 / market.config.interval_s)
    rng = np.random.default_rng(seed)
    route = next(i for i, r in enumerate(market.routes) if r.order_type == "take")
    mean_slot = 0.3 * market.config.stocks[0].adv_shares / market.n_slots
    weights = np.zeros((n, len(market.routes)))
    before = np.zeros(n)
    moves, taken = [], []
    for _ in range(_MINUTES - 1):
        shares = np.zeros(n)
        per_slot = np.maximum(rng.exponential(mean_slot, n), market.rules.lot_shares)
        for _ in range(per_minute):
            weights[:] = 0.0
            weights[:, route] = 1.0
            step_proposals(market.rules, b, per_slot, weights, obs)
            shares += b.fill_shares[:, route].sum(axis=1)
        own = b.order["transient_1"] + b.order["transient_2"] + b.episode["permanent_coef"] * b.order["executed_adv"]
        moves.append(own - before)
        taken.append(shares)
        before = own
    return {"own_moves": np.array(moves).T, "own_shares": np.array(taken).T}


def _summary(config: MarketConfig, c: dict[str, FloatArray]) -> dict[str, float]:
    stock, dt = config.stocks[0], config.interval_s
    n_days, per_minute = c["volume"].shape[0], round(60 / dt)
    minutes = c["volume"].reshape(n_days, _MINUTES, per_minute).sum(axis=2)
    returns = np.diff(c["mid_bps"][:, ::per_minute], axis=1)
    half_hours = minutes.reshape(n_days, _HALF_HOURS, -1).sum(axis=2)
    shares = (half_hours / half_hours.sum(axis=1, keepdims=True)).mean(axis=0)
    spread = c["half_bps"].reshape(n_days, _HALF_HOURS, -1).mean(axis=(0, 2))
    vol = np.sqrt((returns**2).reshape(n_days, _HALF_HOURS, -1).mean(axis=(0, 2)))
    noise = volume_noise(minutes, 60.0)
    out = {
        "half_spread_bps": float(spread.mean()), "daily_vol_bps": float(returns.std(axis=1).mean() * _MINUTES**0.5),
        "late_vol_bps": float(returns[:, 30:].std(axis=1).mean() * _MINUTES**0.5),
        "adv_shares": float(minutes.sum(axis=1).mean()), "midpoint_share": float(c["midpoint_frac"].mean()),
        "flow_mean_shares": float(c["size_mean"].mean()),
        "net_flow_slope_bps": _slope(c["own_shares"] / (stock.adv_shares / _MINUTES), c["own_moves"]),
    }  # fmt: skip
    law = c["sizes"].mean(axis=0)
    out |= {
        f"flow_shares_p{p}": float(config.lots_of_shares * (1 + np.searchsorted(law, p / 100 - 1e-12)))
        for p in PERCENTILES
    }
    for name, value in (("volume_concentration", noise.concentration), ("step_concentration", noise.step_concentration),
                        ("slot_volume_log_sd", noise.slot_log_sd),
                        ("minute_volume_log_sd", noise.minute_log_sd),
                        ("minute_volume_log_acf1", noise.minute_log_acf1)):  # fmt: skip
        out[name] = float("nan") if value is None else value
    for name, curve in (("volume_curve", shares), ("spread_curve", spread / spread.mean()),
                        ("vol_curve", vol / np.sqrt((vol**2).mean()))):  # fmt: skip
        out |= {f"{name}[{k}]": float(x) for k, x in enumerate(curve)}
    for horizon_s in IMBALANCE_HORIZONS_S:
        lag = round(horizon_s / dt)
        out[f"imbalance_r2@{horizon_s}s"] = _r2(c, lag, round(_EDGE_S / dt)) if lag else imbalance_r2(stock, horizon_s)
    for venue in config.lit_venues:
        if f"post_shares:{venue.name}" not in c:
            continue
        total, pnl = c[f"post_shares:{venue.name}"].sum(), c[f"post_pnl:{venue.name}"].sum(axis=0)
        for i, horizon_s in enumerate(MARKOUT_HORIZONS_S):
            by_law = post_pnl_bps(stock, venue, config.noise, horizon_s)
            measured = float(pnl[i] / total) if total > 0 and round(horizon_s / dt) else by_law
            out[f"passive_pnl_bps:{venue.name}@{horizon_s}s"] = measured
    return out


def _slope(x: FloatArray, y: FloatArray) -> float:
    x = x - x.mean(axis=1, keepdims=True)
    return float((x * y).sum() / (x * x).sum())


def _r2(c: dict[str, FloatArray], lag: int, edge: int) -> float:
    """Squared correlation of imbalance with the next return, each day for itself, then the mean."""
    seen = c["imbalance"][:, edge:-edge]
    at: NDArray[np.intp] = np.arange(edge, edge + seen.shape[1])
    after = np.minimum(at + lag, c["mid_bps"].shape[1] - 1)
    moved = c["mid_bps"][:, after] - c["mid_bps"][:, at]
    return float(np.mean([np.corrcoef(a, b)[0, 1] ** 2 for a, b in zip(seen, moved, strict=True)]))


__all__ = ["generated_statistics"]
