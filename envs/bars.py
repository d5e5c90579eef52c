"""Price and volume bars of 1, 5 or 15 minutes, and volume-by-bin tables, read from CSV or Parquet.

Bars: columns symbol, date, one of `time_et` (start), `time_et_end` (end) or `ms` (start, milliseconds after midnight
ET), open, high, low, close, volume, and optionally bid_close and ask_close. Other columns are passed over. A bar
outside 09:30 to 16:00 is left out, and so, with a log warning, is a day without a bar in some half hour (a half day,
a file cut short). A file that breaks a rule is refused with its name, row and field: of a CSV the line of the file, of
a Parquet file the record, from 1.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ..configs.errors import UserError
from .bar_files import clock, minute_stamps, minutes_of_day, numbers, read_parquet, read_text, refuse
from .day_slots import FloatArray

BAR_MINUTES = (1, 5, 15)
SUFFIXES = (".csv", ".csv.gz", ".parquet")
_OPEN_MIN, _CLOSE_MIN, _DAY_MIN = 570, 960, 1_440
_TIMES = ("time_et", "time_et_end", "ms")
_PRICES = ("open", "high", "low", "close")
_QUOTES = ("bid_close", "ask_close")
_MAX_SHARES = 10**10
_TABLE_BINS = (13, 26, 78, 390)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class BarDays:
    """Days of one name on a grid of `bar_minutes`, (n_days, n_bars); a bar without a trade: volume 0, price NaN."""

    symbol: str
    dates: tuple[str, ...]
    bar_minutes: int
    open_usd: FloatArray
    close_usd: FloatArray
    typical_usd: FloatArray  # mean of high, low and close
    volume_shares: FloatArray
    bid_close_usd: FloatArray | None
    ask_close_usd: FloatArray | None


def is_bar_file(path: Path) -> bool:
    """Whether the file is bars by its name: CSV or Parquet that is neither a LOBSTER nor a TAQ file is asked for."""
    return path.name.endswith(SUFFIXES)


def read_bars(paths: Sequence[Path | str], symbol: str | None = None) -> BarDays:
    """Read the days of one name.

    Raises:
        UserError: an unreadable file, a missing or broken field, files of different bar length, a bar twice, several
            names without `symbol`, or no whole day.
    """
    tables = [_read_table(Path(path)) for path in paths]
    names = sorted({name for table in tables for name in table["symbol"].unique()})
    if symbol is None and len(names) > 1:
        raise UserError(
            f"{Path(paths[0]).name} holds {len(names)} names ({', '.join(names[:8])}{', ...' if names[8:] else ''}), "
            "and a calibration is of one. Choose one with --symbol."
        )
    symbol = (symbol or names[0]).upper()
    if symbol not in names:
        raise UserError(
            f"no bar of {symbol} in {Path(paths[0]).name}; it holds {', '.join(names[:20])}. Check --symbol."
        )
    table = pd.concat([table[table["symbol"] == symbol] for table in tables], ignore_index=True)
    minutes = _bar_minutes(table, symbol)
    return _on_grid(table, symbol, minutes)


def read_volume_table(path: Path | str) -> tuple[tuple[str, ...], FloatArray]:
    """Volumes by bin of the session: labels of the columns and (n_columns, n_bins).

    CSV with the header `bin_start`, then a column a day (or one column of shares of the day); 13, 26, 78 or 390 equal
    bins from 09:30, `09:30` or `09:30 AM`.

    Raises:
        UserError: a bin off the grid, a value that is no volume, a day without volume; names file, row and field.
    """
    path = Path(path)
    table, header = read_text(path)
    if table.columns[0] != "bin_start" or table.shape[1] < 2:
        raise UserError(
            f"{path} row {header}: the header starts with {table.columns[0]!r}, but a volume table has bin_start and "
            "a column a day. Name the columns so."
        )
    starts = minutes_of_day(path, table["bin_start"], "bin_start")
    n_bins = len(table)
    if n_bins not in _TABLE_BINS:
        raise UserError(f"{path}: {n_bins} bins, but the session has 13, 26, 78 or 390 equal ones. Complete it.")
    expected = _OPEN_MIN + np.arange(n_bins) * (390 // n_bins)
    refuse(path, "bin_start", table["bin_start"], starts != expected, f"must follow each other every {390 // n_bins} "
            "minutes from 09:30")  # fmt: skip
    columns = []
    for label in table.columns[1:]:
        volume = numbers(path, table[label], label)
        refuse(path, label, table[label], ~(volume >= 0) | (volume > _MAX_SHARES), "must be a volume of 0 or more")
        if not volume.sum() > 0:
            raise UserError(f"{path}: column {label!r} has no volume at all. Drop it.")
        columns.append(volume)
    return tuple(map(str, table.columns[1:])), np.array(columns)


def _read_table(path: Path) -> pd.DataFrame:
    """Checked columns: symbol, date, minute (start, of the day), prices, volume, quotes; rows of the session only."""
    raw, header = read_parquet(path) if path.name.endswith(".parquet") else read_text(path)
    times = [name for name in _TIMES if name in raw.columns]
    needed = ("symbol", "date", *_PRICES, "volume")
    if missing := [name for name in needed if name not in raw.columns]:
        raise UserError(
            f"{path} row {header}: column {missing[0]!r} is missing. Bars need {', '.join(needed)} and a time."
        )
    if len(times) != 1:
        raise UserError(
            f"{path} row {header}: columns {times or 'none'} give the time, but just one of {', '.join(_TIMES)} must. "
            "Name the column of bar starts time_et, of bar ends time_et_end, of milliseconds ms."
        )
    symbols = raw["symbol"].astype(str).str.strip().str.upper().mask(raw["symbol"].isna(), "")
    out = pd.DataFrame({"symbol": symbols, "date": raw["date"].astype(str)})
    refuse(path, "symbol", raw["symbol"], (out["symbol"] == "").to_numpy(), "must be a name")
    day = pd.to_datetime(out["date"], format="%Y-%m-%d", errors="coerce")
    refuse(path, "date", raw["date"], day.isna().to_numpy(), "must be a date, YYYY-MM-DD")
    out["stamp"], out["ends"] = minute_stamps(path, raw[times[0]], times[0]), times[0] == "time_et_end"
    prices = {name: numbers(path, raw[name], name, may_miss=True) for name in _PRICES}
    volume = numbers(path, raw["volume"], "volume", may_miss=True)
    traded = np.isfinite(volume) & (volume > 0)
    refuse(path, "volume", raw["volume"], ~(np.isnan(volume) | ((volume >= 0) & (volume <= _MAX_SHARES))),
            "must be a number of shares, or empty without a trade")  # fmt: skip
    for name, price in prices.items():
        refuse(path, name, raw[name], traded & ~(price > 0), "must be a positive price in a bar with volume")
    low, high = prices["low"], prices["high"]
    for name in ("open", "close"):
        outside = traded & ((prices[name] < low * (1 - 1e-9)) | (prices[name] > high * (1 + 1e-9)))
        refuse(path, name, raw[name], outside, "must lie between the bar's low and high")
    refuse(path, "high", raw["high"], traded & (high < low), "must not be below the low")
    for name, price in prices.items():
        out[name] = np.where(traded, price, np.nan)
    out["volume"] = np.where(traded, volume, 0.0)
    if lone := [name for name in _QUOTES if name in raw.columns]:
        if len(lone) < len(_QUOTES):
            raise UserError(
                f"{path} row {header}: column {lone[0]!r} stands without its other side. Quotes need "
                f"{' and '.join(_QUOTES)}; complete the pair, or drop the column."
            )
        for name in _QUOTES:
            quote = numbers(path, raw[name], name, may_miss=True)
            refuse(path, name, raw[name], np.isfinite(quote) & ~(quote > 0), "must be a positive price, or empty")
            out[name] = quote
    out["row"], out["file"] = out.index, str(path)
    days = (day - day.min()).dt.days
    backwards = (_DAY_MIN * days + out["stamp"]).groupby(out["symbol"]).diff().to_numpy() < 0
    refuse(path, times[0], raw[times[0]], backwards, "must not go backwards", "Sort the file by date and time.")
    return out


def _bar_minutes(table: pd.DataFrame, symbol: str) -> int:
    """Bar length from the gaps between bars, the same in all files; times become the starts of bars."""
    stamps = table.groupby(["file", "date"])["stamp"]
    gaps = stamps.transform(lambda s: s.sort_values().diff().reindex(s.index))
    least = gaps[gaps > 0].groupby(table["file"]).min()
    lengths = sorted({int(x) for x in least})
    if len(lengths) != 1 or lengths[0] not in BAR_MINUTES:
        raise UserError(
            f"{symbol}: bars are {' and '.join(map(str, lengths)) or 'unknown'} minutes long, but all must "
            f"be {', '.join(map(str, BAR_MINUTES))}. Pass files of one length."
        )
    table["start"] = table["stamp"] - np.where(table["ends"], lengths[0], 0)
    return lengths[0]


def _on_grid(table: pd.DataFrame, symbol: str, minutes: int) -> BarDays:
    table = table[(table["start"] >= _OPEN_MIN) & (table["start"] < _CLOSE_MIN)]
    off = (table["start"] - _OPEN_MIN) % minutes != 0
    twice = table.duplicated(["date", "start"])
    for bad, field, rule in ((off, "time", f"is off the grid of {minutes} minutes from 09:30"),
                             (twice, "time", "is the second bar of that date and time")):  # fmt: skip
        if bad.any():
            row = table[bad].iloc[0]
            raise UserError(
                f"{row['file']} row {row['row']}: field {field!r} ({symbol} {row['date']} "
                f"{clock(int(row['start']))}) {rule} ({int(bad.sum())} of {len(table)} rows are wrong). "
                "Correct or drop the row."
            )
    _refuse_without_spread(table, symbol)
    n_bars = 390 // minutes
    days = []
    for date, day in table.groupby("date", sort=True):
        traded = day[day["volume"] > 0]
        if len(set((traded["start"] - _OPEN_MIN) // 30)) < 13:
            _log.warning("%s %s is left out: some half hour of the session has no bar with volume", symbol, date)
            continue
        days.append((str(date), day.set_index("start").reindex(_OPEN_MIN + np.arange(n_bars) * minutes)))
    if not days:
        raise UserError(
            f"{symbol}: no day has a bar with volume in every half hour from 09:30 to 16:00. Pass whole days."
        )

    def grid(name: str) -> FloatArray:
        return np.array([day[name].to_numpy(float) for _, day in days])

    quoted = all(name in table.columns for name in _QUOTES)
    return BarDays(
        symbol=symbol, dates=tuple(date for date, _ in days), bar_minutes=minutes, open_usd=grid("open"),
        close_usd=grid("close"), typical_usd=(grid("high") + grid("low") + grid("close")) / 3,
        volume_shares=np.nan_to_num(grid("volume")), bid_close_usd=grid("bid_close") if quoted else None,
        ask_close_usd=grid("ask_close") if quoted else None,
    )  # fmt: skip


def _refuse_without_spread(table: pd.DataFrame, symbol: str) -> None:
    """Quotes, where there are any, must hold a spread in every half hour of the session, and a mid on every day."""
    if not all(name in table.columns for name in _QUOTES):
        return
    bid, ask = table["bid_close"], table["ask_close"]
    half_hour = (table["start"] - _OPEN_MIN) // 30
    for by, ok, what in (
        (table["date"], bid <= ask, "at or below"),
        (half_hour, bid < ask, "below"),
    ):
        good = ok.groupby(by).any()
        if good.all():
            continue
        bad = table[(by == good.index[~good][0]).to_numpy()]
        row = bad.iloc[0]
        where = f"on {row['date']}" if by is not half_hour else f"in the half hour from {clock(int(row['start']))}"
        raise UserError(
            f"{row['file']} row {row['row']}: field 'bid_close' ({symbol}) must be {what} ask_close at some time "
            f"{where}, but is in none of {len(bad)} rows. Correct these columns, or leave them out."
        )
