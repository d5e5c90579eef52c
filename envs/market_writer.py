"""From measured statistics to a market in YAML: one stock class, on the venues of a base market.

Measured: price, volume, spread, volatility, depth, moves of the mid, the three intraday curves, and the P&L of resting
orders. Assumed, because statistics of prices and quotes cannot tell them apart: the two alphas, shares outstanding, and
everything about dark pools. The alphas are those of the reference market's two fitted names (market model, section 4),
scaled by volatility, so that the mid stays a martingale for every name alike.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..configs.errors import UserError
from ..configs.loading import find_config, market_data
from ..configs.market import SESSION_S, LitVenueConfig, MarketConfig, StockConfig
from .calibration import IMBALANCE_HORIZONS_S, PASSIVE_HORIZON_S, CalibratedClass, calibrate, fit_rows
from .data_report import data_report
from .market_data import OFF_EXCHANGE_VENUE, read_day

FitRow = dict[str, str | float | int]

_LOT_SHARES = 100
_REFERENCE_TRADE_SHARES = 223.0  # mean contra order of a lit venue at size_scale 1 (market model, section 3)
_SIZE_SCALES = (0.16, 4.0)  # the reference classes lie in this range
_SIGNAL_MAX = 0.7  # loading of the clearest signal among the reference names
_MIN_VENUE_SHARE = 0.05  # of the visible executions: a venue with fewer says little about posting


@dataclass(frozen=True)
class Alphas:
    """Alphas of a reference name, in units of its volatility (bps per sqrt(s)), and what goes with them."""

    source: str
    sigma_fast: float
    tau_fast_s: float
    sigma_slow: float
    tau_slow_s: float
    vol_floor_frac: float
    signal_slow: float  # where the statistics cannot tell
    outstanding_over_adv: float


FAST_SIGNAL = Alphas("IBM 2013", 0.28 / 0.569, 1.0, 1.3 / 0.569, 120.0, 0.4, 0.1, 250.0)
# There tau_fast is 3 s; 2 s here, at the same share of the variance, so that it is spent within a slot of 10 s.
SLOW_SIGNAL = Alphas("BAC 2013", 0.55 / 0.736 * math.sqrt(2 / 3), 2.0, 3.0 / 0.736, 60.0, 0.5, 0.7, 140.0)


def alphas_of(calibrated: CalibratedClass) -> Alphas:
    """Which reference name's alphas to take: the slow ones where imbalance tells more of 60 s than of 1 s."""
    r2 = {fit.horizon_s: fit.r2 for fit in calibrated.imbalance}
    return SLOW_SIGNAL if _known_60s(calibrated) and r2[60] > r2[1] else FAST_SIGNAL


def _known_60s(calibrated: CalibratedClass) -> bool:
    """Whether the R2 at 60 s is above that of a signal without content, at most 2 x 60 s / n s in the mean."""
    fit = next(fit for fit in calibrated.imbalance if fit.horizon_s == 60)
    return bool(fit.r2 > 120.0 / fit.n)


def imbalance_r2(stock: StockConfig, horizon_s: float) -> float:
    """R2 of the next return over `horizon_s` on imbalance in a synthetic market (market model, section 1)."""
    variance = stock.daily_vol_bps**2 / SESSION_S * horizon_s
    fast = stock.signal_fast * stock.sigma_fast_bps * -math.expm1(-horizon_s / stock.tau_fast_s)
    slow = stock.signal_slow * stock.sigma_slow_bps * -math.expm1(-horizon_s / stock.tau_slow_s)
    return (fast**2 + slow**2) / variance


def _signals(calibrated: CalibratedClass, alphas: Alphas) -> tuple[float, float]:
    """Loadings of imbalance on the fast and slow alpha: the R2 at 60 s gives the slow, then that at 1 s the fast."""
    r2 = {fit.horizon_s: fit.r2 for fit in calibrated.imbalance}
    slow = alphas.signal_slow
    if _known_60s(calibrated):
        slow = min(_SIGNAL_MAX, math.sqrt(r2[60] * 60.0) / (alphas.sigma_slow * -math.expm1(-60.0 / alphas.tau_slow_s)))
    by_slow = (slow * alphas.sigma_slow * -math.expm1(-1.0 / alphas.tau_slow_s)) ** 2
    left = r2[1] - by_slow if np.isfinite(r2[1]) else 0.0
    fast = math.sqrt(max(0.0, left)) / (alphas.sigma_fast * -math.expm1(-1.0 / alphas.tau_fast_s))
    return min(_SIGNAL_MAX, fast), slow


def post_pnl_hs(calibrated: CalibratedClass) -> dict[str, float]:
    """P&L of resting orders at 10 s in half spreads, for the lit archetypes of the base market; positive is a gain.

    Among exchanges with at least 5 % of the visible executions: the lowest stands for the most quoted venue (XQLA; long
    queues are picked off most), the highest for the inverted one (XQLB), the median for the flat-fee one
    (XQLC). With fewer than three, visible executions stand for XQLA, and the other two keep their archetype.
    """
    rows = {row.group: row for row in calibrated.markouts if row.horizon_s == PASSIVE_HORIZON_S}
    if "visible" not in rows:
        return {}
    least = _MIN_VENUE_SHARE * rows["visible"].n
    exchanges = [row for group, row in rows.items() if len(group) == 1 and group != OFF_EXCHANGE_VENUE]
    pnl = sorted(row.passive_pnl_hs for row in exchanges if row.n >= least and np.isfinite(row.passive_pnl_hs))
    if len(pnl) < 3:
        value = rows["visible"].passive_pnl_hs
        return {"XQLA": round(value, 2)} if np.isfinite(value) else {}
    return {"XQLA": round(pnl[0], 2), "XQLB": round(pnl[-1], 2), "XQLC": round(float(np.median(pnl)), 2)}


def stock_class(calibrated: CalibratedClass) -> StockConfig:
    """The calibrated class as a stock of a market, statistics only.

    Raises:
        UserError: the statistics do not make a valid class; names the field.
    """
    c, alphas = calibrated, alphas_of(calibrated)
    daily_vol_bps = round(c.daily_vol_bps, 1)
    unit = daily_vol_bps / math.sqrt(SESSION_S)
    fast, slow = _signals(c, alphas)
    size_scale = min(max(c.mean_trade_shares / _REFERENCE_TRADE_SHARES, _SIZE_SCALES[0]), _SIZE_SCALES[1])
    try:
        return StockConfig(
            name=c.name, price_usd=round(c.price_usd, 2), adv_shares=round(c.adv_shares),
            spread_bps=round(2 * c.half_spread_bps, 3), daily_vol_bps=daily_vol_bps,
            depth_shares=max(1.0, round(c.touch_depth_shares)), outstanding_over_adv=alphas.outstanding_over_adv,
            sigma_fast_bps=round(alphas.sigma_fast * unit, 3), tau_fast_s=alphas.tau_fast_s,
            sigma_slow_bps=round(alphas.sigma_slow * unit, 3), tau_slow_s=alphas.tau_slow_s,
            vol_floor_frac=alphas.vol_floor_frac, signal_fast=round(fast, 2), signal_slow=round(slow, 2),
            size_scale=round(size_scale, 2), nbbo_moves_per_10s=round(c.nbbo_moves_per_10s, 2),
            volume_curve=_rounded(c.volume_curve), spread_curve=_rounded(c.spread_curve),
            vol_curve=_rounded(c.vol_curve), post_pnl_hs=post_pnl_hs(c),
        )  # fmt: skip
    except ValueError as error:
        raise UserError(
            f"{c.name}: the days do not make a stock class ({error}). Are they whole sessions? Leave odd days out."
        ) from error


def mean_contra_shares(size_scale: float) -> float:
    """Mean of the lit contra orders, k^-beta lots up to the archetype's largest times `size_scale`, in shares.

    It hardly follows the scale, which is there for the large orders: 212 shares at 0.67, 223 at 1.
    """
    archetype = LitVenueConfig(name="archetype")
    lots = np.arange(1, max(1, round(archetype.size_max_lots * size_scale)) + 1, dtype=float)
    weights = lots**-archetype.size_beta
    return _LOT_SHARES * float((lots * weights).sum() / weights.sum())


def model_statistics(stock: StockConfig) -> dict[str, float]:
    """What a market with this class has in the place of each statistic, by the names of `fit_rows`."""
    model = {
        "price_usd": stock.price_usd, "adv_shares": float(stock.adv_shares), "half_spread_bps": stock.spread_bps / 2,
        "daily_vol_bps": stock.daily_vol_bps, "touch_depth_shares": stock.depth_shares,
        "nbbo_moves_per_10s": stock.nbbo_moves_per_10s,
        "mean_trade_shares": mean_contra_shares(stock.size_scale),
    }  # fmt: skip
    for curve in ("volume_curve", "spread_curve", "vol_curve"):
        model |= {f"{curve}[{k}]": float(x) for k, x in enumerate(getattr(stock, curve))}
    return model | {f"imbalance_r2@{h}s": imbalance_r2(stock, h) for h in IMBALANCE_HORIZONS_S}


def write_market(calibrated: CalibratedClass, *, base: str = "base", name: str | None = None) -> str:
    """YAML of a market with this one class on the venues of `base`; comments say what is measured and what assumed.

    Raises:
        UserError: the class, or the market it makes on `base`, is not valid.
    """
    stock, alphas = stock_class(calibrated), alphas_of(calibrated)
    name = name or calibrated.name
    data = market_data(find_config(base, "markets"))
    try:
        MarketConfig.model_validate({**data, "name": name, "stocks": [stock]})
    except ValueError as error:
        raise UserError(f"{name}: the class does not fit market {base!r} ({error}). Choose another base.") from error
    lines = [*_header(calibrated), f"base: {base}", f"name: {name}", *_stock_lines(stock, calibrated, alphas)]
    return "\n".join(lines) + "\n"


def calibrate_files(
    paths: Sequence[Path | str], out: Path | str, *, base: str = "base"
) -> tuple[list[FitRow], list[dict[str, str | float]]]:
    """Calibrate days of one name and write the market to `out`, all at once or not at all.

    Returns the fit-error table and what the days are made of (`data_report`).

    Raises:
        UserError: files that cannot be read, do not fit together, or a folder that cannot be written.
    """
    days = read_day(paths)
    calibrated = calibrate(days)
    out = Path(out)
    text = write_market(calibrated, base=base)
    part = out.with_name(f".{out.name}.part")
    try:
        part.write_text(text, encoding="utf-8")
        os.replace(part, out)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise UserError(
            f"{out}: cannot be written ({error.strerror}). Check the folder and its permissions."
        ) from error
    return fit_rows(calibrated, model_statistics(stock_class(calibrated))), data_report(days)


def _rounded(curve: Sequence[float] | np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> tuple[float, ...]:
    """Four digits after the point; a relative curve may not be 0 in a half hour without any move."""
    return tuple(max(1e-4, round(float(x), 4)) for x in curve)


def _header(c: CalibratedClass) -> list[str]:
    source = {"taq": "trade-and-quote tape", "lobster": "LOBSTER event files"}[c.source]
    lines = [
        f"# {c.symbol}, {', '.join(c.dates)}, {source}.",
        "# Statistics only, no market data. Written by `glasspool calibrate`.",
        "# Venues and their archetypes are the base market's; nothing here describes a real venue.",
    ]
    if c.source == "lobster":
        lines.append(
            "# A LOBSTER file sees one exchange: ADV is that exchange's continuous volume, a part of the whole."
        )
    return lines + ["#", "# Measured against what this market has in its place:", *_fit_comments(c)]


def _fit_comments(c: CalibratedClass) -> list[str]:
    table = fit_rows(c, model_statistics(stock_class(c)))
    fitted = [row for row in table if "reference" in row]
    lines = [f"#   {'statistic':<22} {'measured':>14} {'market':>14} {'market/measured - 1':>20}"]
    curves: dict[str, float] = {}
    for row in fitted:
        statistic, value, model = str(row["statistic"]), float(row["value"]), float(row["reference"])
        if "curve[" in statistic:
            curve = statistic.split("[")[0]
            curves[curve] = max(curves.get(curve, 0.0), abs(model - value))
            continue
        error = f"{model / value - 1:>+20.2%}" if value else f"{'':>20}"
        lines.append(f"#   {statistic:<22} {_number(value):>14} {_number(model):>14} {error}")
    return lines + [f"#   {curve:<22} largest difference of 13 half hours {gap:.5f}" for curve, gap in curves.items()]


def _number(value: float) -> str:
    return f"{value:.6g}" if abs(value) < 1e6 else f"{value:.0f}"


def _curve(values: Sequence[float]) -> str:
    return f"[{', '.join(f'{x:.4f}' for x in values)}]"


def _stock_lines(stock: StockConfig, c: CalibratedClass, alphas: Alphas) -> list[str]:
    fields: Mapping[str, object] = stock.model_dump()

    def line(*names: str) -> str:
        return "    " + "\n    ".join(f"{name}: {fields[name]}" for name in names)

    slow = "from the R2 of imbalance at 60 s" if _known_60s(c) else "assumed: the R2 at 60 s is within its noise"
    pnl = "assumed: the base archetypes"
    if len(stock.post_pnl_hs) == 3:
        pnl = "measured: lowest, highest and median exchange"
    elif stock.post_pnl_hs:
        pnl = "measured on visible executions; the others keep their archetype"
    entries = ", ".join(f"{venue}: {value}" for venue, value in stock.post_pnl_hs.items())
    return [
        "stocks:",
        f"  - name: {stock.name}",
        "    # measured",
        line("price_usd", "adv_shares", "spread_bps", "daily_vol_bps", "depth_shares", "nbbo_moves_per_10s"),
        f"    volume_curve: {_curve(stock.volume_curve)}",
        f"    spread_curve: {_curve(stock.spread_curve)}",
        f"    vol_curve: {_curve(stock.vol_curve)}",
        f"    # scale of the largest contra orders: mean trade over {_REFERENCE_TRADE_SHARES:g} shares, kept within "
        f"{_SIZE_SCALES[0]:g} to {_SIZE_SCALES[1]:g}",
        line("size_scale"),
        f"    # P&L of a resting order at 10 s, half spreads; {pnl}",
        f"    post_pnl_hs: {{{entries}}}",
        f"    # assumed: the alphas of {alphas.source} in the market model, scaled by volatility; shares outstanding",
        line("sigma_fast_bps", "tau_fast_s", "sigma_slow_bps", "tau_slow_s", "vol_floor_frac", "outstanding_over_adv"),
        f"    # fitted, given the alphas: fast from the R2 of imbalance at 1 s; slow {slow}",
        line("signal_fast", "signal_slow"),
    ]


__all__ = ["FitRow", "alphas_of", "calibrate_files", "imbalance_r2", "mean_contra_shares", "model_statistics",
           "post_pnl_hs", "stock_class", "write_market"]  # fmt: skip
