"""Price and volume bars of 1, 5 or 15 minutes, and volume-by-bin tables, read from CSV or Parquet.

Bars: columns symbol, date, one of `time_et` (start), `time_et_end` (end) or `ms` (start, milliseconds after midnight
ET), open, high, low, close, volume, and optionally bid_close and ask_close. Other columns are passed over. A bar
outside 09:30 to 16:00 is left out, and so, with a log warning, is a day without a bar in some half hour (a half day,
a file cut short). A file that breaks a rule is refused with its name, row and field: of a CSV the line of the file, of
a Parquet file the record, from 1.
"""

from __future__ import annotations

import csv
import gzip
import io
import logging
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..configs.errors import UserError
from .day_slots import FloatArray

BAR_MINUTES = (1, 5, 15)
SUFFIXES = (".csv", ".csv.gz", ".parquet")
_OPEN_MIN, _CLOSE_MIN, _DAY_MIN = 570, 960, 1_440
_TIMES = ("time_et", "time_et_end", "ms")
_PRICES = ("open", "high", "low", "close")
_QUOTES = ("bid_close", "ask_close")
_MAX_SHARES = 10**10
_SHOWN = 60  # characters of a bad row
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
    table = _read_text(path)
    if table.columns[0] != "bin_start" or table.shape[1] < 2:
        raise UserError(
            f"{path} row 1: the header starts with {table.columns[0]!r}, but a volume table has bin_start and "
            "a column a day. Name the columns so."
        )
    starts = _minutes_of_day(path, table["bin_start"], "bin_start")
    n_bins = len(table)
    if n_bins not in _TABLE_BINS:
        raise UserError(f"{path}: {n_bins} bins, but the session has 13, 26, 78 or 390 equal ones. Complete it.")
    expected = _OPEN_MIN + np.arange(n_bins) * (390 // n_bins)
    _refuse(path, "bin_start", table["bin_start"], starts != expected, f"must follow each other every {390 // n_bins} "
            "minutes from 09:30")  # fmt: skip
    columns = []
    for label in table.columns[1:]:
        volume = _numbers(path, table[label], label)
        _refuse(path, label, table[label], ~(volume >= 0) | (volume > _MAX_SHARES), "must be a volume of 0 or more")
        if not volume.sum() > 0:
            raise UserError(f"{path}: column {label!r} has no volume at all. Drop it.")
        columns.append(volume)
    return tuple(map(str, table.columns[1:])), np.array(columns)


def _read_table(path: Path) -> pd.DataFrame:
    """Checked columns: symbol, date, minute (start, of the day), prices, volume, quotes; rows of the session only."""
    raw = _read_parquet(path) if path.name.endswith(".parquet") else _read_text(path)
    times = [name for name in _TIMES if name in raw.columns]
    needed = ("symbol", "date", *_PRICES, "volume")
    if missing := [name for name in needed if name not in raw.columns]:
        raise UserError(f"{path} row 1: column {missing[0]!r} is missing. Bars need {', '.join(needed)} and a time.")
    if len(times) != 1:
        raise UserError(
            f"{path} row 1: columns {times or 'none'} give the time, but just one of {', '.join(_TIMES)} must. "
            "Name the column of bar starts time_et, of bar ends time_et_end, of milliseconds ms."
        )
    out = pd.DataFrame({"symbol": raw["symbol"].astype(str).str.strip().str.upper(), "date": raw["date"].astype(str)})
    _refuse(path, "symbol", raw["symbol"], (out["symbol"] == "").to_numpy(), "must be a name")
    day = pd.to_datetime(out["date"], format="%Y-%m-%d", errors="coerce")
    _refuse(path, "date", raw["date"], day.isna().to_numpy(), "must be a date, YYYY-MM-DD")
    out["stamp"], out["ends"] = _stamps(path, raw[times[0]], times[0]), times[0] == "time_et_end"
    prices = {name: _numbers(path, raw[name], name, may_miss=True) for name in _PRICES}
    volume = _numbers(path, raw["volume"], "volume", may_miss=True)
    traded = np.isfinite(volume) & (volume > 0)
    _refuse(path, "volume", raw["volume"], ~(np.isnan(volume) | ((volume >= 0) & (volume <= _MAX_SHARES))),
            "must be a number of shares, or empty without a trade")  # fmt: skip
    for name, price in prices.items():
        _refuse(path, name, raw[name], traded & ~(price > 0), "must be a positive price in a bar with volume")
    low, high = prices["low"], prices["high"]
    for name in ("open", "close"):
        outside = traded & ((prices[name] < low * (1 - 1e-9)) | (prices[name] > high * (1 + 1e-9)))
        _refuse(path, name, raw[name], outside, "must lie between the bar's low and high")
    _refuse(path, "high", raw["high"], traded & (high < low), "must not be below the low")
    for name, price in prices.items():
        out[name] = np.where(traded, price, np.nan)
    out["volume"] = np.where(traded, volume, 0.0)
    if all(name in raw.columns for name in _QUOTES):
        for name in _QUOTES:
            quote = _numbers(path, raw[name], name, may_miss=True)
            _refuse(path, name, raw[name], np.isfinite(quote) & ~(quote > 0), "must be a positive price, or empty")
            out[name] = quote
    out["row"], out["file"] = out.index, str(path)
    days = (day - day.min()).dt.days
    backwards = (_DAY_MIN * days + out["stamp"]).groupby(out["symbol"]).diff().to_numpy() < 0
    _refuse(path, times[0], raw[times[0]], backwards, "must not go backwards. Sort the file by date and time")
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
                f"{_clock(int(row['start']))}) {rule} ({int(bad.sum())} of {len(table)} rows are wrong). "
                "Correct or drop the row."
            )
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


def _stamps(path: Path, column: pd.Series[Any], name: str) -> NDArray[np.int64]:
    """Minutes after midnight."""
    if name != "ms":
        return _minutes_of_day(path, column, name)
    ms = _numbers(path, column, name)
    _refuse(path, name, column, ~((ms >= 0) & (ms < _DAY_MIN * 60_000) & (ms % 60_000 == 0)),
            "must be whole minutes of the day in milliseconds")  # fmt: skip
    return (ms // 60_000).astype(np.int64)


def _minutes_of_day(path: Path, column: pd.Series[Any], name: str) -> NDArray[np.int64]:
    texts = column.astype(str).str.strip().str.upper()
    parts = texts.str.extract(r"^(\d{1,2}):(\d{2})(?::00)?\s*(AM|PM)?$")
    hours, minutes = pd.to_numeric(parts[0]), pd.to_numeric(parts[1])
    half = parts[2].fillna("")
    bad = hours.isna() | (minutes > 59) | (hours > 23) | ((half != "") & ((hours < 1) | (hours > 12)))
    _refuse(path, name, column, bad.to_numpy(bool), "must be a time such as 09:30")
    by_clock = np.where(half == "", hours, hours % 12 + np.where(half == "PM", 12, 0))
    return np.asarray(by_clock * 60 + minutes.to_numpy()).astype(np.int64)


def _numbers(path: Path, column: pd.Series[Any], name: str, *, may_miss: bool = False) -> FloatArray:
    empty = column.isna() | (column.astype(str).str.strip() == "")
    values = pd.to_numeric(column.where(~empty), errors="coerce").to_numpy(float, na_value=np.nan)
    broken = ~np.isfinite(values) & ~empty.to_numpy(bool)
    _refuse(path, name, column, broken if may_miss else ~np.isfinite(values), "must be a number")
    return values


def _read_text(path: Path) -> pd.DataFrame:
    """A CSV file as texts, its index the lines of the file (the header is line 1); empty lines are skipped."""
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        text = raw.decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as CSV ({error}). Check the file; fetch it again.") from None
    lone = re.search("\r(?!\n)", text)
    if lone is not None:
        line = text.count("\n", 0, lone.start()) + 1
        raise UserError(f"{path} row {line}: holds a lone carriage return. End lines with LF or CRLF.")
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        found = [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except csv.Error as error:
        raise UserError(f"{path} row {reader.line_num}: cannot be read as CSV ({error}). Correct the row.") from None
    if not found:
        raise UserError(f"{path}: cannot be read as CSV (it is empty). Fetch it again.")
    header, rows = [name.strip() for name in found[0][1]], found[1:]
    if twice := next((name for name in header if header.count(name) > 1), None):
        raise UserError(f"{path} row 1: column {twice!r} appears twice. Remove or rename one.")
    if wrong := [(line, cells) for line, cells in rows if len(cells) != len(header)]:
        line, cells = wrong[0]
        raise UserError(
            f"{path} row {line}: {len(cells)} fields where the header has {len(header)}, but the row is "
            f"{','.join(cells)[:_SHOWN]!r} ({len(wrong)} of {len(rows)} rows are wrong). Is the file cut short?"
        )
    if not rows:
        raise UserError(f"{path}: holds no row. Fetch it again.")
    return pd.DataFrame([cells for _, cells in rows], columns=header, index=[line for line, _ in rows])


def _read_parquet(path: Path) -> pd.DataFrame:
    """A Parquet file, its index the records counted from 1."""
    try:
        table = pd.read_parquet(path)
    except Exception as error:  # pyarrow has many: all mean that this is no readable Parquet file
        raise UserError(f"{path}: cannot be read as Parquet ({error}). Check the file; fetch it again.") from None
    if table.empty:
        raise UserError(f"{path}: holds no row. Fetch it again.")
    return table.set_axis(np.arange(1, len(table) + 1), axis=0)


def _clock(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"


def _refuse(path: Path, field: str, values: pd.Series[Any], bad: NDArray[np.bool_], rule: str) -> None:
    if (rows := np.flatnonzero(bad)).size:
        raise UserError(
            f"{path} row {values.index[rows[0]]}: field {field!r} {rule}, but is "
            f"{values.iloc[rows[0]]!r} ({rows.size} of {len(values)} rows are wrong). Correct or drop the row."
        )
