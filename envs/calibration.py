"""Statistics of real days that become the parameters of a stock class, with what they were measured on.

Several days of one name are averaged with equal weight; markouts pool the prints of all days. Prices, spreads and
markouts are in bps of the mid in force at the time; a markout is given as impact (positive: the mid followed the
aggressor) and as the P&L of the resting side (positive: it gained), before fees.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..configs.errors import UserError
from .day_slots import (
    QUOTE_NORMAL,
    FloatArray,
    QuotePath,
    day_volume,
    day_vwap,
    mid_change_times_ns,
    quote_path,
    slot_grid,
    time_weighted_spread_bps,
)
from .market_data import OFF_EXCHANGE_VENUE, SESSION_CLOSE_NS, SESSION_OPEN_NS, IntArray, MarketDay
from .midpoint_share import MidpointShare, midpoint_share
from .net_flow import NetFlowImpact, net_flow_impact
from .quote_noise import LogNoise, spread_noise, vol_noise
from .trade_sizes import TradeSizes, trade_sizes
from .venue_groups import venue_groups
from .volume_noise import VolumeNoise, volume_noise

N_HALF_HOURS = 13
IMBALANCE_HORIZONS_S = (1, 10, 60)
MARKOUT_HORIZONS_S = (1, 10, 60, 300)
PASSIVE_HORIZON_S = 10  # the horizon of the venue scorecard
_NS = 10**9
_MINUTES = 390
_EDGE_NS = 300 * _NS  # the first and last five minutes are left out of the imbalance regression


@dataclass(frozen=True)
class ImbalanceFit:
    """Least squares, with intercept, of the next h-second mid return on touch imbalance, every second 09:35-15:55."""

    horizon_s: int
    slope_bps: float  # return in bps for an imbalance of +1; mean over days, NaN where imbalance never varies
    r2: float
    n: int  # seconds, all days


@dataclass(frozen=True)
class Markout:
    """What the mid did after the signed executions of one group, weighted by shares unless said otherwise.

    `group`: "all", "visible", "hidden" (LOBSTER type 5; off-exchange prints of a tape), a venue code, or "lowest",
    "middle", "highest": a tape's exchanges in three groups by P&L at 10 s. With aggressor
    sign s, print p, mid m just before and m_h at h: impact = s (m_h - m)/m, effective half spread = s (p - m)/m, and
    the resting side's P&L = s (p - m_h)/m, their difference. Prints at the mid of a tape have no sign and are left out.
    """

    group: str
    horizon_s: int
    n: int  # executions
    impact_bps: float
    impact_se_bps: float  # clustered by minute
    impact_per_execution_bps: float  # each execution counts once, whatever its size
    effective_half_spread_bps: float
    passive_pnl_bps: float
    passive_pnl_se_bps: float  # clustered by minute
    passive_pnl_hs: float  # in effective half spreads of the same executions; NaN where those are not positive


@dataclass(frozen=True, eq=False)
class CalibratedClass:
    """Class parameters measured on real days of one name."""

    name: str  # such as "ibm_2013"
    symbol: str
    source: str
    dates: tuple[str, ...]
    price_usd: float  # volume-weighted average price
    adv_shares: float  # continuous volume a day, as far as the source sees it (LOBSTER: one exchange)
    half_spread_bps: float  # time-weighted mean
    daily_vol_bps: float  # standard deviation of 1-minute mid returns x sqrt(390)
    touch_depth_shares: float  # time-weighted median of (bid size + ask size) / 2
    touch_depth_mean_shares: float
    volume_curve: FloatArray  # (13,) shares of the day's volume by half hour; sums to 1
    spread_curve: FloatArray  # (13,) half spread by half hour, mean 1
    vol_curve: FloatArray  # (13,) root mean square 1-minute return by half hour, root mean square 1
    nbbo_moves_per_10s: float  # changes of the mid
    imbalance: tuple[ImbalanceFit, ...]
    mean_trade_shares: float
    n_trades: int  # all days
    off_exchange_share: float  # of volume: off-exchange prints of a tape, hidden executions of a LOBSTER file
    markouts: tuple[Markout, ...]
    late_vol_bps: float  # standard deviation of 1-minute mid returns after 10:00, times sqrt(390)
    volume_noise: VolumeNoise
    spread_noise: LogNoise | None
    vol_noise: LogNoise | None
    sizes: TradeSizes  # of all trades; of exchanges' trades in `exchange_sizes`
    exchange_sizes: TradeSizes | None
    net_flow: NetFlowImpact | None
    midpoint: MidpointShare
    venue_groups: Mapping[str, tuple[str, ...]]  # exchanges by P&L group; empty for one exchange
    group_volume_frac: Mapping[str, float]  # share of all volume by group, and of "visible"

    def passive_pnl_hs(self, horizon_s: int = PASSIVE_HORIZON_S) -> dict[str, float]:
        """P&L of the resting side by group, in effective half spreads: positive is a gain."""
        return {row.group: row.passive_pnl_hs for row in self.markouts if row.horizon_s == horizon_s}


def calibrate(days: Sequence[MarketDay], groups: Mapping[str, tuple[str, ...]] | None = None) -> CalibratedClass:
    """Measure the parameters of a stock class on days of one name from one source.

    `groups`: exchanges by group, such as those found on other days; by default they are found on these.

    Raises:
        UserError: no day, days of several names or sources, a day twice, a day without trades, or a half hour without
            a two-sided quote or without any move of the mid in the whole day.
    """
    _check_one_name(days)
    paths = [quote_path(day) for day in days]
    half_hours = [slot_grid(day, 1_800) for day in days]
    volume_curve = np.mean([slots.volume_shares / slots.volume_shares.sum() for slots in half_hours], axis=0)
    for day, slots in zip(days, half_hours, strict=True):
        if (empty := np.flatnonzero(~np.isfinite(slots.mean_half_spread_bps))).size:
            raise UserError(
                f"{day.symbol} {day.date}: half hour {empty[0] + 1} of 13 has no normal quote (two sides, not locked, "
                "not crossed); the intraday curves need the whole session. Leave that day out."
            )
    spread_curve = np.mean([slots.mean_half_spread_bps for slots in half_hours], axis=0)
    returns_bps = [_minute_returns_bps(path) for path in paths]
    if not all(np.nanstd(row) > 0 for row in returns_bps):
        raise UserError(
            f"{days[0].symbol}: the mid never moves on some day, so it has no volatility. Leave that day out."
        )
    vol_curve = np.sqrt(np.nanmean(np.square(returns_bps).reshape(len(days), N_HALF_HOURS, -1), axis=(0, 2)))
    n_trades = [day.trade_shares.size for day in days]
    minutes = [slot_grid(day, 60).volume_shares.astype(float) for day in days]
    slots_10s = [slot_grid(day, 10).mid_usd for day in days]
    groups, group_frac = _venue_groups(days, paths, groups)
    sizes = trade_sizes(days)
    assert sizes is not None  # every day has a trade
    return CalibratedClass(
        name=f"{days[0].symbol.lower()}_{days[0].date[:4]}",
        symbol=days[0].symbol,
        source=days[0].source,
        dates=tuple(sorted(day.date for day in days)),
        price_usd=float(np.mean([day_vwap(day) for day in days])),
        adv_shares=float(np.mean([day_volume(day) for day in days])),
        half_spread_bps=float(np.mean([time_weighted_spread_bps(day) / 2 for day in days])),
        daily_vol_bps=float(np.mean([np.nanstd(row) for row in returns_bps])) * _MINUTES**0.5,
        touch_depth_shares=float(np.mean([_depth_shares(path)[0] for path in paths])),
        touch_depth_mean_shares=float(np.mean([_depth_shares(path)[1] for path in paths])),
        volume_curve=volume_curve,
        spread_curve=spread_curve / spread_curve.mean(),
        vol_curve=vol_curve / np.sqrt(np.mean(vol_curve**2)),
        nbbo_moves_per_10s=float(np.mean([mid_change_times_ns(path).size for path in paths])) / (_MINUTES * 6),
        imbalance=tuple(_imbalance_fit(paths, horizon_s) for horizon_s in IMBALANCE_HORIZONS_S),
        mean_trade_shares=float(np.mean([day_volume(day) / n for day, n in zip(days, n_trades, strict=True)])),
        n_trades=sum(n_trades),
        off_exchange_share=float(
            np.mean([day.trade_shares[day.trade_hidden].sum() / day_volume(day) for day in days])
        ),
        markouts=tuple(_markouts(days, paths, groups)),
        late_vol_bps=float(np.mean([np.nanstd(row[30:]) for row in returns_bps])) * _MINUTES**0.5,
        volume_noise=volume_noise(np.array(minutes), 60.0),
        spread_noise=spread_noise(np.array([slot_grid(day, 300).mean_half_spread_bps for day in days])),
        vol_noise=vol_noise(np.array([np.diff(np.log(mid_usd)) * 1e4 for mid_usd in slots_10s])),
        sizes=sizes,
        exchange_sizes=trade_sizes(days, on_exchange=True),
        net_flow=net_flow_impact(
            returns_bps, [_net_minute_shares(day) for day in days], [float(row.mean()) for row in minutes]
        ),
        midpoint=midpoint_share(days),
        venue_groups=groups,
        group_volume_frac=group_frac,
    )  # fmt: skip


def _check_one_name(days: Sequence[MarketDay]) -> None:
    if not days:
        raise UserError("calibrate needs at least one day, but the list is empty. Name the files of one or more days.")
    if len(names := sorted({f"{day.symbol} ({day.source})" for day in days})) > 1:
        raise UserError(f"calibrate averages days of one name, but got {', '.join(names)}. Call it once for each.")
    dates = [day.date for day in days]
    if len(twice := sorted({date for date in dates if dates.count(date) > 1})):
        raise UserError(f"{days[0].symbol} {twice[0]} is in the list twice, which would count it double. Pass it once.")
    for day in days:
        if day.trade_shares.size == 0:
            raise UserError(
                f"{day.symbol} {day.date}: no trade from 09:30 to 16:00 after the filters. Leave that day out."
            )


def _minute_returns_bps(path: QuotePath) -> FloatArray:
    """(390,) mid returns of the minutes of the session, NaN before the first quote."""
    mid_usd = path.mid_at(np.arange(SESSION_OPEN_NS, SESSION_CLOSE_NS + 1, 60 * _NS))
    return np.diff(np.log(mid_usd)) * 1e4


def _depth_shares(path: QuotePath) -> tuple[float, float]:
    """Time-weighted median and mean of (bid size + ask size) / 2 over normal quotes."""
    normal = path.state == QUOTE_NORMAL
    depth, weight = ((path.bid_shares + path.ask_shares) / 2)[normal], path.duration_ns[normal].astype(float)
    order = np.argsort(depth, kind="stable")
    reached = np.cumsum(weight[order])
    return float(depth[order][np.searchsorted(reached, reached[-1] / 2)]), float(np.average(depth, weights=weight))


def _imbalance_fit(paths: Sequence[QuotePath], horizon_s: int) -> ImbalanceFit:
    at_ns = np.arange(SESSION_OPEN_NS + _EDGE_NS, SESSION_CLOSE_NS - _EDGE_NS + 1, _NS)
    slopes, r2s, n = [], [], 0
    for path in paths:
        step = path.step_at(at_ns)
        normal = (step >= 0) & (path.state[step] == QUOTE_NORMAL)
        bid, ask, mid_usd = (column[step[normal]] for column in (path.bid_shares, path.ask_shares, path.mid_usd))
        imbalance = (bid - ask) / (bid + ask)
        return_bps = (path.mid_at(at_ns[normal] + horizon_s * _NS) - mid_usd) / mid_usd * 1e4
        n += imbalance.size
        if imbalance.size < 3 or np.ptp(imbalance) == 0 or np.ptp(return_bps) == 0:
            slopes.append(np.nan)
            r2s.append(np.nan)
            continue
        (var_x, cov), (_, var_y) = np.cov(imbalance, return_bps)
        slopes.append(cov / var_x)
        r2s.append(cov**2 / (var_x * var_y))
    return ImbalanceFit(horizon_s=horizon_s, slope_bps=float(np.mean(slopes)), r2=float(np.mean(r2s)), n=n)


def _net_minute_shares(day: MarketDay) -> FloatArray:
    """(390,) shares bought less shares sold by aggressors; prints at the mid of a tape have no side."""
    minute = (day.trade_time_ns - SESSION_OPEN_NS) // (60 * _NS)
    signed = day.trade_shares * day.trade_side.astype(float)
    return np.bincount(minute, weights=signed, minlength=_MINUTES).astype(np.float64)


def _venue_groups(
    days: Sequence[MarketDay], paths: Sequence[QuotePath], groups: Mapping[str, tuple[str, ...]] | None
) -> tuple[Mapping[str, tuple[str, ...]], dict[str, float]]:
    """Exchanges by P&L group, and shares of volume of the groups and of all visible trades; means over days."""
    frac: dict[str, float] = {}
    for day in days:
        codes, at = np.unique(day.trade_venue, return_inverse=True)
        for code, shares in zip(codes, np.bincount(at, day.trade_shares), strict=True):
            frac[str(code)] = frac.get(str(code), 0.0) + float(shares) / day_volume(day) / len(days)
    if groups is None:
        rows = _markouts(days, paths, {}, (PASSIVE_HORIZON_S,))
        exchanges = [row for row in rows if len(row.group) == 1 and row.group != OFF_EXCHANGE_VENUE]
        groups = venue_groups({row.group: row.passive_pnl_bps for row in exchanges}, frac)
    shares = {group: sum(frac.get(code, 0.0) for code in codes) for group, codes in groups.items()}
    visible = np.mean([day.trade_shares[~day.trade_hidden].sum() / day_volume(day) for day in days])
    return groups, shares | {"visible": float(visible)}


def _markouts(
    days: Sequence[MarketDay], paths: Sequence[QuotePath], venue_groups: Mapping[str, tuple[str, ...]],
    horizons_s: Sequence[int] = MARKOUT_HORIZONS_S,
) -> list[Markout]:  # fmt: skip
    """Every group at every horizon that has at least one signed execution."""
    parts = [_signed_executions(day) for day in days]
    shares, side, price_e4, mid_e4 = (np.concatenate([part[i] for part in parts]) for i in range(4))
    minute = np.concatenate([part[4] + k * _MINUTES for k, part in enumerate(parts)])
    venue = np.concatenate([day.trade_venue[part[5]] for day, part in zip(days, parts, strict=True)])
    hidden = np.concatenate([day.trade_hidden[part[5]] for day, part in zip(days, parts, strict=True)])
    groups: dict[str, NDArray[np.bool_]] = {
        "all": np.ones(venue.size, dtype=bool),
        "visible": ~hidden,
        "hidden": hidden,
    }
    groups |= {str(code): venue == code for code in np.unique(venue)}
    groups |= {group: np.isin(venue, codes) for group, codes in venue_groups.items()}
    rows = []
    for horizon_s in horizons_s:
        later_e4 = np.concatenate(
            [_mid_later_e4(day, path, part[5], horizon_s) for day, path, part in zip(days, paths, parts, strict=True)]
        )
        impact_bps = side * (later_e4 - mid_e4) / mid_e4 * 1e4
        effective_bps = side * (price_e4 - mid_e4) / mid_e4 * 1e4
        for group, member in groups.items():
            if (used := member & np.isfinite(impact_bps)).any():
                columns = (shares[used].astype(float), impact_bps[used], effective_bps[used], minute[used])
                rows.append(_markout(group, horizon_s, *columns))
    return rows


def _signed_executions(day: MarketDay) -> tuple[IntArray, IntArray, IntArray, FloatArray, IntArray, NDArray[np.intp]]:
    """(shares, side, price_e4, mid_e4 just before, minute of the session, row) of trades with a known aggressor."""
    row = day.trade_quote_row
    before = np.where(row >= 0, row, 0)
    two_sided = (row >= 0) & (day.bid_e4[before] > 0) & (day.ask_e4[before] > 0)
    kept = np.flatnonzero(two_sided & (day.trade_side != 0))
    mid_e4 = (day.bid_e4[before[kept]] + day.ask_e4[before[kept]]) / 2
    minute = (day.trade_time_ns[kept] - SESSION_OPEN_NS) // (60 * _NS)
    return day.trade_shares[kept], day.trade_side[kept].astype(np.int64), day.trade_price_e4[kept], mid_e4, minute, kept


def _mid_later_e4(day: MarketDay, path: QuotePath, rows: NDArray[np.intp], horizon_s: int) -> FloatArray:
    later_ns = day.trade_time_ns[rows] + horizon_s * _NS
    return np.where(later_ns < SESSION_CLOSE_NS, path.mid_at(later_ns) * 1e4, np.nan)


def _markout(
    group: str, horizon_s: int, shares: FloatArray, impact_bps: FloatArray, effective_bps: FloatArray, minute: IntArray
) -> Markout:
    impact, effective = (float(np.average(column, weights=shares)) for column in (impact_bps, effective_bps))
    pnl_bps = effective_bps - impact_bps
    return Markout(
        group=group,
        horizon_s=horizon_s,
        n=shares.size,
        impact_bps=impact,
        impact_se_bps=_clustered_se(impact_bps, shares, minute),
        impact_per_execution_bps=float(impact_bps.mean()),
        effective_half_spread_bps=effective,
        passive_pnl_bps=effective - impact,
        passive_pnl_se_bps=_clustered_se(pnl_bps, shares, minute),
        passive_pnl_hs=(effective - impact) / effective if effective > 0 else float("nan"),
    )


def _clustered_se(values: FloatArray, shares: FloatArray, minute: IntArray) -> float:
    """Standard error of the share-weighted mean, executions of a minute being one observation."""
    scores = np.bincount(minute, weights=shares * (values - np.average(values, weights=shares)))
    n_clusters = np.unique(minute).size
    small_sample = n_clusters / (n_clusters - 1) if n_clusters > 1 else np.nan
    return float(np.sqrt(np.sum(scores**2) * small_sample) / shares.sum())
