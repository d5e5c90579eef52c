"""A market from bars: volume and volatility measured, everything else the nearest class's of the base market."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..configs.errors import UserError
from ..configs.market import MarketConfig
from ..configs.stock import StockConfig
from .bars import BarDays
from .day_slots import FloatArray
from .market_fit import ASSUMED, MEASURED, MarketFit, noise_changes, rounded
from .volume_noise import VolumeNoise, volume_noise

MIN_DAYS_FINE_CURVE = 20  # with fewer, a curve of 78 steps would hold the noise of single days


@dataclass(frozen=True, eq=False)
class BarStatistics:
    """What bars of one name tell, means over days."""

    name: str
    symbol: str
    dates: tuple[str, ...]
    bar_minutes: int
    price_usd: float  # volume-weighted
    adv_shares: float
    daily_vol_bps: float  # of bar returns inside the day, scaled to the session
    vol_curve: FloatArray  # (13,) root mean square bar return, root mean square 1
    volume_curve: FloatArray  # (13,) or (78,) shares of the day
    noise: VolumeNoise
    half_spread_bps: float | None  # where bars have quotes
    spread_curve: FloatArray | None  # (13,) mean 1


def measure_bars(bars: BarDays) -> BarStatistics:
    """Statistics of days of bars.

    Raises:
        UserError: prices never move on some day.
    """
    volume = bars.volume_shares
    mids = _mids(bars)
    returns = _returns_bps(bars, mids)
    per_half_hour = returns.shape[1] // 13
    variance = np.nanmean((returns**2).reshape(len(returns), 13, per_half_hour), axis=(0, 2))
    daily = np.sqrt(np.nansum(returns**2, axis=1))
    if not (daily > 0).all() or not (variance > 0).all():
        raise UserError(f"{bars.symbol}: prices never move on some day or in some half hour. Leave such days out.")
    half_bps = None
    if mids is not None and bars.ask_close_usd is not None and bars.bid_close_usd is not None:
        half_bps = (bars.ask_close_usd - bars.bid_close_usd) / mids / 2 * 1e4
        half_bps[half_bps <= 0] = np.nan  # locked and crossed closes have no weight, as in recorded days
    spread = None if half_bps is None else _mean_or_nan(half_bps.reshape(len(half_bps), 13, -1))
    return BarStatistics(
        name=f"{bars.symbol.lower()}_{bars.dates[0][:4]}", symbol=bars.symbol, dates=bars.dates,
        bar_minutes=bars.bar_minutes,
        price_usd=float(np.nansum(bars.typical_usd * volume) / volume.sum()),
        adv_shares=float(volume.sum(axis=1).mean()),
        daily_vol_bps=float(daily.mean()), vol_curve=np.sqrt(variance / variance.mean()),
        volume_curve=volume_curve(volume), noise=volume_noise(volume, 60.0 * bars.bar_minutes),
        half_spread_bps=None if spread is None else float(spread.mean()),
        spread_curve=None if spread is None else spread / spread.mean(),
    )  # fmt: skip


def _mean_or_nan(x: FloatArray) -> FloatArray:
    """(13,) means of (n_days, 13, bars) without what is missing; NaN where nothing is there."""
    seen = np.isfinite(x)
    counts = seen.sum(axis=(0, 2))
    mean: FloatArray = np.where(seen, x, 0.0).sum(axis=(0, 2)) / np.where(counts > 0, counts, np.nan)
    return mean


def volume_curve(volume_shares: FloatArray) -> FloatArray:
    """Mean shares of the day of (n_days, n_bins): 78 five-minute bins with 20 days or more, else 13 half hours.

    Bins wider than five minutes are cut into equal parts.
    """
    shares = (volume_shares / volume_shares.sum(axis=1, keepdims=True)).mean(axis=0)
    if len(volume_shares) < MIN_DAYS_FINE_CURVE:
        halves: FloatArray = shares.reshape(13, -1).sum(axis=1)
        return halves
    if shares.size > 78:
        return shares.reshape(78, -1).sum(axis=1)  # type: ignore[no-any-return]
    return np.repeat(shares / (78 // shares.size), 78 // shares.size)


def bar_fit(statistics: BarStatistics, base: MarketConfig) -> MarketFit:
    """The market of these bars: the base's class with the nearest ADV in dollars lends what bars cannot tell.

    Raises:
        UserError: the statistics do not make a valid class; names the field.
    """
    s = statistics
    value = math.log(s.adv_shares * s.price_usd)
    near = min(base.stocks, key=lambda stock: abs(math.log(stock.adv_shares * stock.price_usd) - value))
    assumed = f"assumed: class {near.name!r} of the base market, nearest in ADV x price"
    daily_vol_bps = round(s.daily_vol_bps, 1)
    scale = daily_vol_bps / near.daily_vol_bps
    changes: dict[str, object] = {
        "name": s.name, "probability": 1.0, "price_usd": round(s.price_usd, 2), "adv_shares": round(s.adv_shares),
        "daily_vol_bps": daily_vol_bps, "volume_curve": rounded(s.volume_curve), "vol_curve": rounded(s.vol_curve),
        "sigma_fast_bps": math.floor(near.sigma_fast_bps * scale * 1e3) / 1e3,
        "sigma_slow_bps": math.floor(near.sigma_slow_bps * scale * 1e3) / 1e3,
    }  # fmt: skip
    standing = {f"stock.{key}": assumed for key in StockConfig.model_fields}
    standing |= {
        f"stock.{key}": MEASURED for key in ("price_usd", "adv_shares", "daily_vol_bps", "volume_curve", "vol_curve")
    }
    standing |= {f"stock.sigma_{key}_bps": f"{assumed}, scaled by volatility" for key in ("fast", "slow")}
    if s.half_spread_bps is not None and s.spread_curve is not None:
        changes |= {"spread_bps": round(2 * s.half_spread_bps, 3), "spread_curve": rounded(s.spread_curve)}
        standing |= {
            "stock.spread_bps": "measured: quotes at the bars' ends",
            "stock.spread_curve": "measured: quotes at the bars' ends",
        }
    for key in ("name", "symbol", "probability", "tick_usd", "post_pnl_hs"):
        standing.pop(f"stock.{key}")
    try:
        stock = StockConfig.model_validate(near.model_dump() | changes)
    except ValueError as error:
        raise UserError(f"{s.name}: the bars do not make a stock class ({error}). Leave odd days out.") from error
    noise, noise_standing = noise_changes(s.noise, len(s.volume_curve))
    return MarketFit(
        stock, base.lit_venues, base.dark_pools, base.noise.model_copy(update=noise), base.impact,
        standing | noise_standing | {"lit_venues": ASSUMED, "dark_pools": ASSUMED, "impact.transient_weights": ASSUMED},
    )  # fmt: skip


def _mids(bars: BarDays) -> FloatArray | None:
    """Mids of the bars' ends; NaN where the close is crossed, whose mid is no price."""
    if bars.bid_close_usd is None or bars.ask_close_usd is None:
        return None
    crossed = bars.bid_close_usd > bars.ask_close_usd
    return np.where(crossed, np.nan, (bars.bid_close_usd + bars.ask_close_usd) / 2)


def _returns_bps(bars: BarDays, mids: FloatArray | None) -> FloatArray:
    """(n_days, n_bars) log returns from the last known close; the first bar's from its open. NaN without a trade.

    Volatility of closes holds the bounce between bid and ask; bars with quotes use mids.
    """
    close = bars.close_usd if mids is None else mids
    out = np.full(close.shape, np.nan)
    for day in range(close.shape[0]):
        known = np.flatnonzero(np.isfinite(close[day]))
        first = bars.open_usd[day, known[0]] if mids is None else close[day, known[0]]
        before = np.append(first, close[day, known[:-1]])
        out[day, known] = np.log(close[day, known] / before) * 1e4
    return out
