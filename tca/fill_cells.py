"""What a cell of `fills.csv` may hold, and the careful pass that names the first cell that breaks a rule."""

from __future__ import annotations

import csv
import difflib
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..configs.errors import UserError

SIDES = {"buy": 1, "sell": -1, "sell_short": -1}
LIQUIDITIES = ("added", "removed", "auction", "routed_out")
HORIZONS_S = {"mid_50ms": 0.05, "mid_1s": 1.0, "mid_10s": 10.0, "mid_15s": 15.0, "mid_1m": 60.0, "mid_5m": 300.0}
MAX_CELL = 256
_SHOWN = 40

COLUMNS = {
    "ts": "time", "child_id": "id", "side": "side", "shares": "count", "price": "price", "bid": "quote", "ask": "quote",
    "venue": "name", "venue_type": "type", "parent_id": "id", "symbol": "id", "fill_id": "id",
    "routed_shares": "size", "tif": "id", "liquidity": "liquidity", "fee_per_share": "fee", "recv_ts": "time",
    "recv_bid": "quote", "recv_ask": "quote", **{name: "quote" for name in HORIZONS_S},
}  # fmt: skip
REQUIRED = ("ts", "child_id", "side", "shares", "price", "bid", "ask", "venue", "venue_type")
BLANK = ("price", "bid", "ask")  # required as columns, blank as cells where the contract says so
PRICE_COLUMNS = ("price", "bid", "ask", "fee_per_share", "recv_bid", "recv_ask", *HORIZONS_S)
_MONEY = r"[0-9]{1,12}(\.[0-9]{0,6})?"
_TIME = r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z|[+-][0-9]{2}(:?[0-9]{2})?)"
# re2 (pyarrow) and Python's re agree on these
CELLS = {
    "time": re.compile(rf"^{_TIME}$"),
    "id": re.compile(r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,63}$"),
    "side": re.compile(r"(?i)^(buy|sell|sell_short)$"),
    "count": re.compile(r"^[0-9]{1,15}(\.0*)?$"),
    "size": re.compile(r"^0*[1-9][0-9]{0,14}(\.0*)?$"),
    "price": re.compile(rf"^{_MONEY}$"),
    "quote": re.compile(rf"^{_MONEY}$"),
    "fee": re.compile(rf"^[+-]?{_MONEY}$"),
    "name": re.compile(r"^[A-Za-z0-9 ._()&/-]{1,40}$"),
    "type": re.compile(r"(?i)^(lit|dark)$"),
    "liquidity": re.compile(r"(?i)^(added|removed|auction|routed_out)$"),
}
_RULES = {
    "time": ("must be ISO 8601 with date and offset or Z, up to 9 decimals", "Write 2026-03-02T14:35:10.152Z"),
    "id": ("must be letters, digits and ._:/- , up to 64, first a letter or digit", "Rename it"),
    "side": ("must be buy, sell or sell_short", "Write one of them"),
    "count": ("must be a whole number of shares, 0 or more", "Write plain digits"),
    "size": ("must be a whole number of shares, 1 or more", "Write plain digits"),
    "price": ("must be a plain decimal above 0 with at most 6 decimals", "Write 100.015"),
    "quote": ("must be a plain decimal, not negative, with at most 6 decimals", "Blank it where there was no quote"),
    "fee": ("must be a plain decimal with at most 6 decimals, + = fee paid", "Write 0.003"),
    "name": ("must be up to 40 letters, digits, spaces or ._()&/-", "Rename the venue"),
    "type": ("must be lit or dark", "Write one of them"),
    "liquidity": (f"must be one of {', '.join(LIQUIDITIES)}", "Write one of them, or blank it"),
}


def refusal(path: Path, row: int, column: str, value: str, rule: str, mend: str, n_bad: int = 1) -> UserError:
    """The one form of an error: file, row, column, value, rule, mend."""
    shown = value if len(value) <= _SHOWN else value[:_SHOWN] + "..."
    where = f", column {column}" if column else ""
    what = f": {shown!r}" if value or column else ""
    more = f" ({n_bad} rows are wrong)" if n_bad > 1 else ""
    return UserError(f"{path}: row {row}{where}{what}: {rule}{more}. {mend}.")


def check_header(path: Path) -> list[str]:
    """The header's cells. Refuses what is not such a file at all."""
    with path.open("rb") as file:
        start = file.read(1 << 16)
    if not start.strip(b"\xef\xbb\xbf \r\n"):
        raise refusal(path, 1, "", "", "the file is empty", "Write a header row and a row for each fill")
    if start[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise refusal(path, 1, "", "", "the file is UTF-16", "Save it as UTF-8")
    if b"\0" in start:
        raise refusal(path, 1, "", "", "the file holds a NUL byte, so it is not text", "Save it as UTF-8 CSV")
    line = start.split(b"\n", 1)[0].decode("utf-8-sig", errors="replace").rstrip("\r")
    header = next(csv.reader([line]), [])
    names = [name.strip().lower() for name in header]
    if len(names) == 1 and (other := next((d for d in ";\t|" if d in line), None)):
        raise refusal(path, 1, "", line, f"columns are separated by {other!r}, not by commas", "Save it with commas")
    if twice := [name for name in names if names.count(name) > 1]:
        raise refusal(path, 1, twice[0], twice[0], "the column appears twice", "Remove or rename one")
    unknown = [name for name in names if name not in COLUMNS]
    for name in REQUIRED:
        if name not in names:
            near = difflib.get_close_matches(name, unknown, n=1, cutoff=0.0)
            hint = f"Rename {near[0]!r}, if that is it" if near else "Add it"
            raise refusal(path, 1, name, "", "the column is missing", hint)
    return header


def first_bad_cell(path: Path, column: str | None = None) -> UserError | None:
    """The first row that cannot be read, or cell of `column` (None: of any known column) that breaks its rule."""
    header: list[str] = []
    try:
        for row, cells in _records(path):
            if not header:
                header = [name.strip().lower() for name in cells]
                continue
            if not any(cell.strip() for cell in cells) and len(cells) <= 1:
                continue
            if len(cells) != len(header):
                return refusal(path, row, "", ",".join(cells), f"has {len(cells)} cells, the header {len(header)}",
                               "Quote cells that hold commas, or complete the row")  # fmt: skip
            for name, cell in zip(header, cells, strict=True):
                if (error := _cell_error(path, row, name, cell, column)) is not None:
                    return error
    except _BadText as error:
        return refusal(path, error.row, "", "", error.rule, error.mend)
    return None


def _cell_error(path: Path, row: int, name: str, cell: str, column: str | None) -> UserError | None:
    if len(cell) > MAX_CELL:
        return refusal(path, row, name, cell, f"is longer than {MAX_CELL} characters", "Shorten it")
    if "\n" in cell or "\r" in cell:
        return refusal(path, row, name, cell, "holds a line break", "Write a cell on one line")
    if name not in COLUMNS or column not in (None, name):
        return None
    value, kind = cell.strip(), COLUMNS[name]
    if value == "" and (name not in REQUIRED or name in BLANK):
        return None
    if not CELLS[kind].match(value) or (kind == "time" and not _is_time(value)):
        return refusal(path, row, name, value, *_RULES[kind])
    return None


def _is_time(value: str) -> bool:
    try:
        datetime.fromisoformat(value[:19])
    except ValueError:
        return False
    return 1678 <= int(value[:4]) <= 2261  # nanoseconds in 64 bits


class _BadText(Exception):
    def __init__(self, row: int, rule: str, mend: str) -> None:
        self.row, self.rule, self.mend = row, rule, mend


def _records(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(row, cells): row is the line in the file at which the record begins."""
    with path.open("rb") as file:
        pending, began = b"", 0
        for row, raw in enumerate(file, start=1):
            if b"\0" in raw:
                raise _BadText(row, "holds a NUL byte", "Save the file as UTF-8 CSV")
            pending, began = (pending + raw, began) if pending else (raw, row)
            if pending.count(b'"') % 2:
                if len(pending) > 1 << 20:
                    break
                continue
            try:
                text = pending.decode("utf-8-sig" if began == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise _BadText(began, "is not UTF-8 text", "Save the file as UTF-8") from error
            yield began, next(csv.reader([text.rstrip("\r\n")]), [""])
            pending = b""
        if pending:
            raise _BadText(began, "a quote opens and never closes", 'Close it, or remove the "')


def rows_of(path: Path, n: int) -> NDArray[np.int64]:
    """Line of each data row: the header is 1, blank lines count."""
    text = path.read_bytes()
    lines = np.frombuffer(text, np.uint8)
    ends = np.flatnonzero(lines == 10)
    starts = np.concatenate([[0], ends + 1])
    starts = starts[starts < len(text)]
    filled = (lines[starts] != 10) & (lines[starts] != 13)
    rows = np.flatnonzero(filled)[1:] + 1
    return rows[:n] if len(rows) >= n else np.arange(2, n + 2)


__all__ = [
    "BLANK", "CELLS", "COLUMNS", "HORIZONS_S", "LIQUIDITIES", "PRICE_COLUMNS", "REQUIRED", "SIDES", "check_header",
    "first_bad_cell", "refusal", "rows_of",
]  # fmt: skip
