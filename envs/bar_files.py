"""Tables of bars and volumes as their files hold them: CSV and Parquet, with the line of every row.

A file that breaks a rule is refused with its name, row and field: of a CSV the line of the file, of a Parquet file the
record, from 1.
"""

from __future__ import annotations

import csv
import gzip
import io
import logging
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..configs.errors import UserError
from .day_slots import FloatArray

_DAY_MIN = 1_440
_SHOWN = 60  # characters of a bad row
_log = logging.getLogger(__name__)


def read_text(path: Path) -> tuple[pd.DataFrame, int]:
    """A CSV file as texts, its index the lines of the file, and the line of its header; empty lines are skipped."""
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
    first, header, rows = found[0][0], [name.strip() for name in found[0][1]], found[1:]
    if twice := next((name for name in header if header.count(name) > 1), None):
        raise UserError(f"{path} row {first}: column {twice!r} appears twice. Remove or rename one.")
    if wrong := [(line, cells) for line, cells in rows if len(cells) != len(header)]:
        line, cells = wrong[0]
        raise UserError(
            f"{path} row {line}: {len(cells)} fields where the header has {len(header)}, but the row is "
            f"{','.join(cells)[:_SHOWN]!r} ({len(wrong)} of {len(rows)} rows are wrong). Is the file cut short?"
        )
    if not rows:
        raise UserError(f"{path}: holds no row. Fetch it again.")
    if not text.endswith("\n"):
        _log.warning("%s: its last line has no line end; if the file was cut short, that row is too", path)
    return pd.DataFrame([cells for _, cells in rows], columns=header, index=[line for line, _ in rows]), first


def read_parquet(path: Path) -> tuple[pd.DataFrame, int]:
    """A Parquet file, its index the records counted from 1, and in place of the header's line the first."""
    try:
        table = pd.read_parquet(path)
    except Exception as error:  # pyarrow has many: all mean that this is no readable Parquet file
        raise UserError(f"{path}: cannot be read as Parquet ({error}). Check the file; fetch it again.") from None
    if table.empty:
        raise UserError(f"{path}: holds no row. Fetch it again.")
    return table.set_axis(np.arange(1, len(table) + 1), axis=0), 1


def numbers(path: Path, column: pd.Series[Any], name: str, *, may_miss: bool = False) -> FloatArray:
    empty = column.isna() | (column.astype(str).str.strip() == "")
    values = pd.to_numeric(column.where(~empty), errors="coerce").to_numpy(float, na_value=np.nan)
    broken = ~np.isfinite(values) & ~empty.to_numpy(bool)
    refuse(path, name, column, broken if may_miss else ~np.isfinite(values), "must be a number")
    return values


def minutes_of_day(path: Path, column: pd.Series[Any], name: str) -> NDArray[np.int64]:
    texts = column.astype(str).str.strip().str.upper()
    parts = texts.str.extract(r"^(\d{1,2}):(\d{2})(?::00)?\s*(AM|PM)?$")
    hours, minutes = pd.to_numeric(parts[0]), pd.to_numeric(parts[1])
    half = parts[2].fillna("")
    bad = hours.isna() | (minutes > 59) | (hours > 23) | ((half != "") & ((hours < 1) | (hours > 12)))
    refuse(path, name, column, bad.to_numpy(bool), "must be a time such as 09:30")
    by_clock = np.where(half == "", hours, hours % 12 + np.where(half == "PM", 12, 0))
    return np.asarray(by_clock * 60 + minutes.to_numpy()).astype(np.int64)


def minute_stamps(path: Path, column: pd.Series[Any], name: str) -> NDArray[np.int64]:
    """Minutes after midnight."""
    if name != "ms":
        return minutes_of_day(path, column, name)
    ms = numbers(path, column, name)
    refuse(path, name, column, ~((ms >= 0) & (ms < _DAY_MIN * 60_000) & (ms % 60_000 == 0)),
            "must be whole minutes of the day in milliseconds")  # fmt: skip
    return (ms // 60_000).astype(np.int64)


def clock(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"


def refuse(
    path: Path, field: str, values: pd.Series[Any], bad: NDArray[np.bool_], rule: str,
    advice: str = "Correct or drop the row.",
) -> None:  # fmt: skip
    if (rows := np.flatnonzero(bad)).size:
        raise UserError(
            f"{path} row {values.index[rows[0]]}: field {field!r} {rule}, but is "
            f"{values.iloc[rows[0]]!r} ({rows.size} of {len(values)} rows are wrong). {advice}"
        )
