"""`glasspool calibrate`: files in; a market, its table of targets and a page of plots out."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

from ..configs.errors import UserError
from ..configs.loading import base_key, find_config, load_market
from ..configs.market import MarketConfig
from ..configs.rule_table import access_fee_cap_mils, round_lot_shares
from .bar_fit import BarStatistics, bar_fit, measure_bars, volume_curve
from .bars import is_bar_file, read_bars, read_volume_table
from .calibration import CalibratedClass, calibrate
from .data_report import bar_report, data_report
from .day_slots import FloatArray
from .fee_schedule import with_fees
from .fit_page import fit_page
from .fit_table import fit_rows
from .fit_targets import TargetRow, bar_target_rows, target_rows, unmet
from .market_data import is_market_data, read_day
from .market_fit import MarketFit, fit_market, law_statistics
from .market_writer import market_yaml
from .venue_groups import LIT_VENUE
from .volume_noise import VolumeNoise, volume_noise

GENERATED_DAYS = 256
_VOLUME_FIELDS = ("noise.volume_concentration", "noise.day_volume_log_sd", "stock.volume_curve")


@dataclass(frozen=True)
class Calibration:
    """What a calibration made."""

    rows: list[TargetRow]  # empty without a check
    measured: list[dict[str, str | float | int]]
    market: MarketConfig
    files: tuple[Path, ...]
    findings: list[dict[str, str | float]]  # what the days are made of (`data_report`)

    @property
    def missed(self) -> list[TargetRow]:
        return unmet(self.rows)


def calibrate_files(
    paths: Sequence[Path | str], out: Path | str, *, base: str = "base", symbol: str | None = None,
    volume_table: Path | str | None = None, fees: Sequence[Path | str] = (), check: bool = True,
) -> Calibration:  # fmt: skip
    """Calibrate a market on recorded days or bars of one name and write it.

    Writes `out`, and beside it `<stem>_fit.csv` and `<stem>_fit.html`, each whole or not at all.

    Args:
        paths: LOBSTER or TAQ files and folders, or bar files.
        out: market YAML; the market is named as its file.
        base: market that lends what the files cannot tell.
        symbol: the name, where files hold several.
        volume_table: volumes by bin that replace the volume curve and its noise.
        fees: fee schedules for the base's venues.
        check: generate days from the market and compare them with the targets.

    Raises:
        UserError: files that cannot be read or do not fit together, a market that is not valid, or a place that cannot
            be written to.
    """
    out = Path(out)
    _check_place(out)
    key = base_key(base, out)
    original = load_market(find_config(base, "markets"))
    measured, findings = _measure(paths, symbol)
    lent = with_fees(_dated(original, measured), fees)
    table = None if volume_table is None else read_volume_table(volume_table)
    if table is not None:
        measured = _with_volume(measured, table[1])
    fit = fit_market(measured, lent) if isinstance(measured, CalibratedClass) else bar_fit(measured, lent)
    fit = _standing(fit, measured, volume_table, fees)
    try:
        market = fit.config(lent, out.stem)
    except ValueError as error:
        raise UserError(
            f"{measured.name}: the class does not fit market {base!r} ({error}). Choose another base."
        ) from error
    groups = _groups(measured)
    header = _header(measured, law_statistics(market, groups))
    text = market_yaml(fit, base=key, name=out.stem, trade_date=market.trade_date, header=header,
                       market=original)  # fmt: skip

    achieved: dict[str, float] = {}
    rows: list[TargetRow] = []
    if check:
        from .generated_days import generated_statistics  # compiles the market, so only when asked for

        achieved = generated_statistics(market, n_days=GENERATED_DAYS)
        rows = _target_rows(measured, achieved)
    table_rows = (
        fit_rows(measured, law_statistics(market, groups))
        if isinstance(measured, CalibratedClass)
        else _bar_rows(measured)
    )
    title = f"{measured.symbol}, {_days(measured.dates)}"
    page = fit_page(
        title, _curves(measured), rows, achieved, measured if isinstance(measured, CalibratedClass) else None
    )
    files = (out, out.with_name(f"{out.stem}_fit.csv"), out.with_name(f"{out.stem}_fit.html"))
    write_whole(dict(zip(files, (text, _csv(rows, table_rows), page), strict=True)))
    return Calibration(rows, table_rows, market, files, findings)


def _dated(base: MarketConfig, measured: CalibratedClass | BarStatistics) -> MarketConfig:
    """The base under the rules of the last recorded day; its own date where the rule table does not go so far back."""
    day = date.fromisoformat(max(measured.dates))
    try:
        access_fee_cap_mils(day, measured.price_usd), round_lot_shares(day, measured.price_usd)
    except LookupError:
        return base
    return base.model_copy(update={"trade_date": day})


def _measure(
    paths: Sequence[Path | str], symbol: str | None
) -> tuple[CalibratedClass | BarStatistics, list[dict[str, str | float]]]:
    files = [Path(path) for path in paths]
    bars = [path for path in files if path.is_file() and is_bar_file(path) and not is_market_data(path)]
    if bars and len(bars) < len(files):
        other = next(path for path in files if path not in bars)
        raise UserError(f"{bars[0].name} holds bars and {other.name} does not. Calibrate on one kind at a time.")
    if bars:
        days_of_bars = read_bars(bars, symbol)
        return measure_bars(days_of_bars), bar_report(days_of_bars)
    days = read_day(files)
    if symbol is not None:
        names = sorted({day.symbol for day in days})
        days = [day for day in days if day.symbol == symbol.upper()]
        if not days:
            raise UserError(
                f"no day of {symbol.upper()} among the files; they hold {', '.join(names)}. Check --symbol."
            )
    return calibrate(days), data_report(days)


def _with_volume(
    measured: CalibratedClass | BarStatistics, volume_shares: FloatArray
) -> CalibratedClass | BarStatistics:
    """Curve from the table; noise too where it has several days. What only finer bins tell stays."""
    curve = volume_curve(volume_shares)
    table = volume_noise(volume_shares, 23_400 / volume_shares.shape[1])
    own = measured.volume_noise if isinstance(measured, CalibratedClass) else measured.noise
    noise = VolumeNoise(
        n_days=table.n_days, concentration=table.concentration, step_concentration=table.step_concentration,
        slot_log_sd=own.slot_log_sd, day_log_sd=table.day_log_sd, minute_log_sd=None, minute_log_acf1=None,
    )  # fmt: skip
    if isinstance(measured, CalibratedClass):
        return replace(measured, volume_curve=curve, volume_noise=noise)
    return replace(measured, volume_curve=curve, noise=noise)


def _standing(
    fit: MarketFit,
    measured: CalibratedClass | BarStatistics,
    volume_table: Path | str | None,
    fees: Sequence[Path | str],
) -> MarketFit:
    standing = dict(fit.standing)
    if volume_table is not None:
        for field in _VOLUME_FIELDS:
            if field in standing:
                standing[field] = f"measured: {Path(volume_table).name}"
    if fees:
        own = f"; fees from {', '.join(Path(path).name for path in fees)}"
        standing |= {key: standing[key] + own for key in ("lit_venues", "dark_pools")}
    return replace(fit, standing=standing)


def _groups(measured: CalibratedClass | BarStatistics) -> dict[str, str]:
    if isinstance(measured, BarStatistics):
        return {}
    if measured.venue_groups:
        return {venue: group for group, venue in LIT_VENUE.items()}
    return {LIT_VENUE["lowest"]: "visible"} if measured.markouts else {}


def _target_rows(measured: CalibratedClass | BarStatistics, achieved: Mapping[str, float]) -> list[TargetRow]:
    if isinstance(measured, BarStatistics):
        return bar_target_rows(measured, achieved)
    return target_rows(measured, achieved)


def _bar_rows(s: BarStatistics) -> list[dict[str, str | float | int]]:
    values: list[tuple[str, float | None, str]] = [
        ("price_usd", s.price_usd, "USD"),
        ("adv_shares", s.adv_shares, "shares"), ("daily_vol_bps", s.daily_vol_bps, "bps"),
        ("half_spread_bps", s.half_spread_bps, "bps"), ("volume_concentration", s.noise.concentration, "1"),
        ("step_concentration", s.noise.step_concentration, "1"), ("slot_volume_log_sd", s.noise.slot_log_sd, "1"),
        ("day_volume_log_sd", s.noise.day_log_sd, "1"), ("minute_volume_log_sd", s.noise.minute_log_sd, "1"),
    ]  # fmt: skip
    return [
        {"statistic": name, "value": value, "unit": unit, "n": len(s.dates)}
        for name, value, unit in values
        if value is not None
    ]


def _curves(measured: CalibratedClass | BarStatistics) -> dict[str, list[float]]:
    out = {}
    for name in ("volume_curve", "spread_curve", "vol_curve"):
        curve = getattr(measured, name)
        if curve is not None:
            out[name] = [float(x) for x in (curve.reshape(13, -1).sum(axis=1) if len(curve) == 78 else curve)]
    return out


def _days(dates: Sequence[str]) -> str:
    return ", ".join(dates) if len(dates) <= 5 else f"{len(dates)} days from {dates[0]} to {dates[-1]}"


def _header(measured: CalibratedClass | BarStatistics, law: Mapping[str, float]) -> list[str]:
    if isinstance(measured, BarStatistics):
        return [f"{measured.symbol}, {_days(measured.dates)}, bars of {measured.bar_minutes} minutes.",
                "Statistics only, no market data. Written by `glasspool calibrate`.",
                "Venues and their archetypes are the base market's; nothing here describes a real venue."]  # fmt: skip
    source = {"taq": "trade-and-quote tape", "lobster": "LOBSTER event files"}[measured.source]
    lines = [f"{measured.symbol}, {_days(measured.dates)}, {source}.",
             "Statistics only, no market data. Written by `glasspool calibrate`.",
             "Venues are the base market's, fictional; measured groups of exchanges lend them averages."]  # fmt: skip
    if measured.source == "lobster":
        lines.append("A LOBSTER file sees one exchange: ADV is that exchange's continuous volume, a part of the whole.")
    lines += ["", "Measured against what this market has by its equations:"]
    lines.append(f"  {'statistic':<30} {'measured':>12} {'market':>12}")
    for row in fit_rows(measured, law):
        if "reference" in row:
            lines.append(f"  {row['statistic']:<30} {_number(row['value']):>12} {_number(row['reference']):>12}")
    return lines


def _number(value: str | float) -> str:
    return f"{float(value):.5g}" if abs(float(value)) < 1e5 else f"{float(value):.0f}"


def _csv(rows: Sequence[TargetRow], measured: Sequence[Mapping[str, str | float | int]]) -> str:
    """Targets first, then every other statistic as measured."""
    text = io.StringIO()
    columns = ("statistic", "target", "tolerance", "achieved", "error", "holds", "standing")
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(row.as_row() for row in rows)
    named = {row.statistic for row in rows}
    for row in measured:
        if row["statistic"] not in named:
            writer.writerow({"statistic": row["statistic"], "target": row["value"], "standing": "measured, no target"})
    return text.getvalue()


def _check_place(out: Path) -> None:
    if not out.parent.is_dir():
        raise UserError(f"{out}: cannot be written: the folder {out.parent} does not exist. Make it first.")
    if out.is_dir():
        raise UserError(f"{out}: cannot be written: it is a folder. Name a file.")


def write_whole(texts: Mapping[Path, str]) -> None:
    """All files are written under other names first, then renamed; the market last."""
    parts = {path: path.with_name(f".{path.name}.part") for path in texts}
    try:
        for path, text in texts.items():
            parts[path].write_text(text, encoding="utf-8")
        for path in reversed(list(texts)):
            os.replace(parts[path], path)
    except OSError as error:
        for part in parts.values():
            part.unlink(missing_ok=True)
        raise UserError(
            f"{error.filename}: cannot be written ({error.strerror}). Check the folder and its permissions."
        ) from error


__all__ = ["Calibration", "calibrate_files", "write_whole"]
