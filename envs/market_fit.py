"""From measured statistics to the parts of a market: one stock class, lit venues, pools, noise, impact.

What the statistics tell is written into the market; the rest is the base market's, and every field carries its
standing: measured, fitted or assumed. Parameters are solved for the averages that a market of this class produces
(volume-weighted spread and volatility over its own curves and noise), so that generated days show the targets.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..configs.chance import NoiseConfig
from ..configs.errors import UserError
from ..configs.market import ImpactConfig, MarketConfig
from ..configs.pool_knowledge import resolved_supply_frac
from ..configs.session import N_CURVE_BINS, SESSION_S
from ..configs.stock import StockConfig
from ..configs.venue import DarkPoolConfig, LitVenueConfig
from .alpha_fit import Alphas, fit_alphas, signal_r2
from .calibration import IMBALANCE_HORIZONS_S, MARKOUT_HORIZONS_S, CalibratedClass, Markout
from .class_averages import flow_weights, law_shape
from .day_slots import FloatArray
from .markout_law import MarkoutLaw, fit_markout_law
from .midpoint_share import mean_supply_frac
from .net_flow import kernel_slope_bps, transient_weights
from .venue_groups import LIT_VENUE
from .volume_noise import VolumeNoise

OUTSTANDING_OVER_ADV = 200.0  # shares outstanding over ADV: not in prices and quotes
_REFERENCE_TRADE_SHARES = 223.0  # mean contra order of a lit venue at size_scale 1 (market model, section 3)
_SIZE_SCALES = (0.16, 4.0)  # the reference classes lie in this range
_MAX_RUN_TILT = 1.0  # standard deviations of log contra flow in a slot
_MAX_KAPPA_SLOW = 1.0

MEASURED = "measured"
ASSUMED = "assumed: the base market's"


@dataclass(frozen=True)
class MarketFit:
    """A market's parts and, by field ("stock.price_usd", "noise.vol_log_sd", "lit_venues"), how each was found."""

    stock: StockConfig
    lit_venues: tuple[LitVenueConfig, ...]
    dark_pools: tuple[DarkPoolConfig, ...]
    noise: NoiseConfig
    impact: ImpactConfig
    standing: Mapping[str, str]

    def config(self, base: MarketConfig, name: str) -> MarketConfig:
        """The market on `base`.

        Raises:
            ValueError: the parts do not make a valid market on this base.
        """
        fields = {key: getattr(base, key) for key in type(base).model_fields}
        parts = {"name": name, "stocks": (self.stock,), "lit_venues": self.lit_venues, "dark_pools": self.dark_pools,
                 "noise": self.noise, "impact": self.impact, "replay": None}  # fmt: skip
        return MarketConfig(**(fields | parts))


def imbalance_r2(stock: StockConfig, horizon_s: float) -> float:
    """R2 of the next return over `horizon_s` on imbalance in a synthetic market (market model, section 1)."""
    unit = stock.daily_vol_bps / math.sqrt(SESSION_S)
    products = stock.signal_fast * stock.sigma_fast_bps / unit, stock.signal_slow * stock.sigma_slow_bps / unit
    return signal_r2(products, (stock.tau_fast_s, stock.tau_slow_s), horizon_s)


def post_pnl_bps(stock: StockConfig, venue: LitVenueConfig, noise: NoiseConfig, horizon_s: float) -> float:
    """P&L of a unit of flow that hits a resting order, averaged over volume; the inverse of the fit."""
    law = venue_law(stock, venue)
    weights = flow_weights(stock, noise)
    loss = law.loss_bps(horizon_s, law_shape(stock, noise))
    return weights.half_spread * stock.spread_bps / 2 - weights.vol_ratio * loss


def venue_law(stock: StockConfig, venue: LitVenueConfig) -> MarkoutLaw:
    """Run, fast and slow part of a lit venue as the generator derives them from its settings."""
    gamma_10 = stock.spread_bps / 2 * (1 - stock.post_pnl_hs.get(venue.name, venue.post_pnl_hs))
    run, slow = venue.run_share * gamma_10, venue.kappa_slow * stock.sigma_slow_bps
    return MarkoutLaw(run, max(0.0, gamma_10 - run + slow * math.expm1(-10 / stock.tau_slow_s)), slow)


def fit_market(c: CalibratedClass, base: MarketConfig) -> MarketFit:
    """Fit class, venues, noise and impact.

    Raises:
        UserError: the statistics do not make a valid class; names the field.
    """
    alphas = fit_alphas({fit.horizon_s: fit.r2 for fit in c.imbalance}, min(fit.n for fit in c.imbalance), len(c.dates))
    noise, noise_standing = _noise(c, base.noise)
    stock = _stock(c, alphas)
    lit, lit_standing = _lit_venues(c, stock, noise, base)
    pools, pool_standing = _pools(c, stock, noise, base)
    impact, impact_standing = _impact(c, stock, base.impact)
    standing = _stock_standing(alphas) | noise_standing
    standing |= {"lit_venues": lit_standing, "dark_pools": pool_standing, "impact.transient_weights": impact_standing}
    return MarketFit(stock, lit, pools, noise, impact, standing)


def _stock(c: CalibratedClass, alphas: Alphas) -> StockConfig:
    daily_vol_bps = round(c.daily_vol_bps, 1)
    unit = daily_vol_bps / math.sqrt(SESSION_S)
    size_scale = min(max(c.mean_trade_shares / _REFERENCE_TRADE_SHARES, _SIZE_SCALES[0]), _SIZE_SCALES[1])
    try:
        return StockConfig(
            name=c.name, price_usd=round(c.price_usd, 2), adv_shares=round(c.adv_shares),
            spread_bps=round(2 * c.half_spread_bps, 3), daily_vol_bps=daily_vol_bps,
            depth_shares=max(1.0, round(c.touch_depth_shares)), outstanding_over_adv=OUTSTANDING_OVER_ADV,
            sigma_fast_bps=_floored(alphas.sigma_fast * unit), tau_fast_s=alphas.tau_fast_s,
            sigma_slow_bps=_floored(alphas.sigma_slow * unit), tau_slow_s=alphas.tau_slow_s,
            vol_floor_frac=alphas.vol_floor_frac, signal_fast=round(alphas.signal_fast, 3),
            signal_slow=round(alphas.signal_slow, 3), size_scale=round(size_scale, 2),
            nbbo_moves_per_10s=round(c.nbbo_moves_per_10s, 2), volume_curve=rounded(c.volume_curve),
            spread_curve=rounded(c.spread_curve), vol_curve=rounded(c.vol_curve),
        )  # fmt: skip
    except ValueError as error:
        raise UserError(
            f"{c.name}: the days do not make a stock class ({error}). Are they whole sessions? Leave odd days out."
        ) from error


def _floored(value: float) -> float:
    return math.floor(value * 1e3) / 1e3  # never over the martingale bound


def _stock_standing(alphas: Alphas) -> dict[str, str]:
    measured = ("price_usd", "adv_shares", "spread_bps", "daily_vol_bps", "depth_shares", "nbbo_moves_per_10s",
                "volume_curve", "spread_curve", "vol_curve")  # fmt: skip
    signal = "fitted: R2 of imbalance at 1, 10 and 60 s; the alphas fill 90 % of the martingale bound at the floor"
    if alphas.scaled < 1:
        signal += f"; the signal is {alphas.scaled:.2f} of the best fit, which would break the bound"
    if not alphas.identified:
        signal = "assumed: imbalance tells nothing here; alphas of the reference classes, scaled by volatility"
    signal_fields = ("sigma_fast_bps", "tau_fast_s", "sigma_slow_bps", "tau_slow_s", "vol_floor_frac", "signal_fast",
                     "signal_slow")  # fmt: skip
    return (
        {f"stock.{name}": MEASURED for name in measured}
        | {"stock.size_scale": "measured: mean trade over the reference class's; scales the pools' largest orders"}
        | {f"stock.{name}": signal for name in signal_fields}
        | {"stock.outstanding_over_adv": "assumed: prices and quotes do not tell"}
    )


def _noise(c: CalibratedClass, base: NoiseConfig) -> tuple[NoiseConfig, dict[str, str]]:
    measured, standing = noise_changes(c.volume_noise, len(c.volume_curve))
    for name, noise in (("spread", c.spread_noise), ("vol", c.vol_noise)):
        if noise is not None:
            measured[f"{name}_log_sd"] = float(f"{noise.log_sd:.3g}")
            measured[f"{name}_persistence_300s"] = float(f"{noise.persistence_300s:.3g}")
    return base.model_copy(update=measured), standing | {f"noise.{name}": MEASURED for name in measured}


def noise_changes(noise: VolumeNoise, curve_steps: int) -> tuple[dict[str, float], dict[str, str]]:
    """Volume noise of a market with a curve of so many steps, and its standing; what is not known is left out."""
    concentration = noise.concentration if curve_steps == N_CURVE_BINS else noise.step_concentration
    known = {
        "volume_concentration": concentration or noise.concentration,
        "slot_volume_log_sd": noise.slot_log_sd,
        "day_volume_log_sd": noise.day_log_sd,
    }
    values = {name: float(f"{value:.3g}") for name, value in known.items() if value is not None}
    return values, {f"noise.{name}": MEASURED for name in values}


def _lit_venues(
    c: CalibratedClass, stock: StockConfig, noise: NoiseConfig, base: MarketConfig
) -> tuple[tuple[LitVenueConfig, ...], str]:
    """Flow, sizes and markouts of the measured groups on the base's lit venues of the same part."""
    part_of = {LIT_VENUE[group]: group for group in c.venue_groups}
    standing = "measured on a tape's exchanges in three groups by P&L (lowest, highest, middle)"
    if not part_of:
        part_of = {LIT_VENUE["lowest"]: "visible"}
        standing = "measured on visible executions of the one exchange; the other venues keep their archetype"
    rows = {(row.group, row.horizon_s): row for row in c.markouts}
    venues, fitted = [], False
    for venue in base.lit_venues:
        group = part_of.get(venue.name)
        changes: dict[str, float | int] = {}
        if c.exchange_sizes is not None:
            changes["size_beta"] = round(c.exchange_sizes.beta, 2)
            changes["size_max_lots"] = max(1, round(c.exchange_sizes.max_lots / stock.size_scale))
        if group is not None and c.group_volume_frac.get(group):
            changes["flow_frac"] = round(c.group_volume_frac[group] / 2, 4)  # half of the flow hits either side
        if group is not None and (law := _fit_law(group, rows, stock, noise)) is not None:
            fitted = True
            stated = law.run_bps + law.fast_bps + law.slow_bps * -math.expm1(-10 / stock.tau_slow_s)
            changes["post_pnl_hs"] = round(1 - stated / (stock.spread_bps / 2), 3)
            changes["run_share"] = round(min(1.0, law.run_bps / stated), 3) if stated > 0 else 0.0
            changes["kappa_slow"] = round(law.slow_bps / stock.sigma_slow_bps, 3) if stock.sigma_slow_bps > 0 else 0.0
        venues.append(venue.model_copy(update=changes))
    return tuple(venues), standing if fitted else ASSUMED


def _fit_law(
    group: str, rows: Mapping[tuple[str, int], Markout], stock: StockConfig, noise: NoiseConfig
) -> MarkoutLaw | None:
    """The loss law that gives the group's P&L at every horizon, in the market's own averages over volume."""
    known = [rows[group, h] for h in MARKOUT_HORIZONS_S if (group, h) in rows]
    known = [row for row in known if np.isfinite(row.passive_pnl_se_bps)]
    if len(known) < len(MARKOUT_HORIZONS_S):
        return None
    weights, shape = flow_weights(stock, noise), law_shape(stock, noise)
    half_bps = weights.half_spread * stock.spread_bps / 2
    return fit_markout_law(
        {row.horizon_s: (half_bps - row.passive_pnl_bps) / weights.vol_ratio for row in known},
        {row.horizon_s: row.passive_pnl_se_bps / weights.vol_ratio for row in known},
        shape, max_run_bps=_MAX_RUN_TILT * shape.eps_sd_bps / 2,
        max_slow_bps=_MAX_KAPPA_SLOW * stock.sigma_slow_bps,
    )  # fmt: skip


def _pools(
    c: CalibratedClass, stock: StockConfig, noise: NoiseConfig, base: MarketConfig
) -> tuple[tuple[DarkPoolConfig, ...], str]:
    """The base's pools, their supply scaled to the midpoint share of volume where the days show it."""
    try:
        supply = mean_supply_frac(base, stock)
    except ValueError as error:  # a pool described by what a class like this cannot have
        raise UserError(f"the base market's pools do not fit the measured class: {error}") from error
    if not c.midpoint.identified or supply <= 0:
        why = f"midpoint prints show at even spreads only, {c.midpoint.even_volume_frac:.1%} of volume here"
        return base.dark_pools, f"{ASSUMED} ({why})" if c.source == "taq" else ASSUMED
    scale = c.midpoint.even_spread_frac / (supply * flow_weights(stock, noise).supply)
    pools = tuple(
        p.model_copy(update={"supply_frac": round(resolved_supply_frac(p, stock, base) * scale, 5), "fill_rate": None})
        for p in base.dark_pools
    )
    kind = "off-exchange" if c.source == "taq" else "hidden"
    return pools, (
        f"supply_frac measured in sum: {kind} midpoint share of volume {c.midpoint.even_spread_frac:.4f}, "
        f"{scale:.2f} times the base's; everything else assumed"
    )


def _impact(c: CalibratedClass, stock: StockConfig, base: ImpactConfig) -> tuple[ImpactConfig, str]:
    if c.net_flow is None:
        return base, ASSUMED
    weights = transient_weights(c.net_flow.slope_bps, base, stock.daily_vol_bps, stock.outstanding_over_adv)
    rounded_weights = tuple(round(w, 2) for w in weights)
    return base.model_copy(update={"transient_weights": rounded_weights}), (
        "fitted: slope of 1-minute returns on net aggressive volume, in equal parts; half-lives assumed"
    )


def rounded(curve: Sequence[float] | FloatArray) -> tuple[float, ...]:
    """Four digits after the point; a relative curve may not be 0 in a half hour without any move."""
    return tuple(max(1e-4, round(float(x), 4)) for x in curve)


def law_statistics(market: MarketConfig, groups: Mapping[str, str]) -> dict[str, float]:
    """What a market with one class has by its own equations in the place of each statistic, by the fit table's names.

    `groups`: the fit table's venue group by lit venue.
    """
    stock, noise = market.stocks[0], market.noise
    law = {
        "price_usd": stock.price_usd, "adv_shares": float(stock.adv_shares), "half_spread_bps": stock.spread_bps / 2,
        "daily_vol_bps": stock.daily_vol_bps, "touch_depth_shares": stock.depth_shares,
        "nbbo_moves_per_10s": stock.nbbo_moves_per_10s,
        "net_flow_slope_bps": kernel_slope_bps(market.impact, stock.daily_vol_bps, stock.outstanding_over_adv),
        "midpoint_even_spread_share": mean_supply_frac(market, stock) * flow_weights(stock, noise).supply,
    }  # fmt: skip
    law |= {f"imbalance_r2@{h}s": imbalance_r2(stock, h) for h in IMBALANCE_HORIZONS_S}
    for venue in market.lit_venues:
        if venue.name in groups:
            for h in MARKOUT_HORIZONS_S:
                law[f"passive_pnl_bps:{groups[venue.name]}@{h}s"] = post_pnl_bps(stock, venue, noise, h)
    return law


__all__ = ["ASSUMED", "IMBALANCE_HORIZONS_S", "MEASURED", "MarketFit", "fit_market", "imbalance_r2", "law_statistics",
           "noise_changes", "post_pnl_bps", "rounded", "venue_law"]  # fmt: skip
