"""`fills.csv` as text: what a cell may hold, the file in blocks of cells, and the row of what cannot be read.

pyarrow parses blocks of whole lines. Only where a block cannot be read does a careful pass over its text, line by line,
find the row to name.
"""

from __future__ import annotations

import csv
import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
from numpy.typing import NDArray

from ..configs.errors import UserError

IntArray = NDArray[np.int64]
SIDES = {"buy": 1, "sell": -1, "sell_short": -1}
LIQUIDITIES = ("added", "removed", "auction", "routed_out")
HORIZONS_S = {"mid_50ms": 0.05, "mid_1s": 1.0, "mid_10s": 10.0, "mid_15s": 15.0, "mid_1m": 60.0, "mid_5m": 300.0}
MAX_CELL = 256
BLOCK_BYTES = 1 << 24
MAX_LINE = 1 << 20  # bytes; no row of such cells is near it
_END = "\0"  # no line holds it: NUL is refused
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
# for re2 (pyarrow)
CELLS = {
    "time": rf"^{_TIME}$",
    "id": r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,63}$",
    "side": r"(?i)^(buy|sell|sell_short)$",
    "count": r"^[0-9]{1,15}(\.0*)?$",
    "size": r"^0*[1-9][0-9]{0,14}(\.0*)?$",
    "price": rf"^{_MONEY}$",
    "quote": rf"^{_MONEY}$",
    "fee": rf"^[+-]?{_MONEY}$",
    "name": r"^[A-Za-z0-9 ._()&/-]{1,40}$",
    "type": r"(?i)^(lit|dark)$",
    "liquidity": r"(?i)^(added|removed|auction|routed_out)$",
}
RULES = {
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
    """The one form of an error: file, row, column, value, rule, how many more, mend."""
    shown = value if len(value) <= _SHOWN else value[:_SHOWN] + "..."
    where = f", column {column}" if column else ""
    what = f": {shown!r}" if value or column else ""
    more = f" (and {n_bad - 1:,} more)" if n_bad > 1 else ""
    return UserError(f"{path}: row {row}{where}{what}: {rule}{more}. {mend}.")


class Faults:
    """Broken rules of a file: the first bad row of each, and how many rows break it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._found: dict[tuple[str, str], tuple[int, str, str, int]] = {}

    def add(self, column: str, rule: str, mend: str, row: int, value: str, n_bad: int) -> None:
        """Note that `n_bad` rows, of which `row` is the first, break `rule`; calls come in the order of rows."""
        old = self._found.get((column, rule))
        self._found[column, rule] = (*old[:3], old[3] + n_bad) if old else (row, value, mend, n_bad)

    def refuse(self) -> None:
        """Raise the fault of the smallest row, if there is any."""
        if self._found:
            (column, rule), (row, value, mend, n) = min(self._found.items(), key=lambda item: item[1][0])
            raise refusal(self.path, row, column, value, rule, mend, n)


def check_header(path: Path) -> list[str]:
    """Names of the header, trimmed and in lower case. Refuses what is not such a file at all."""
    with path.open("rb") as file:
        start = file.read(1 << 16)
    if not start.strip(b"\xef\xbb\xbf \r\n"):
        raise refusal(path, 1, "", "", "the file is empty", "Write a header row and a row for each fill")
    if start[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise refusal(path, 1, "", "", "the file is UTF-16", "Save it as UTF-8")
    try:
        header = next(_records(path, 0, 1))[1]
    except BadText as error:
        raise refusal(path, error.row, "", "", error.rule, error.mend) from None
    names = [name.strip().lower() for name in header]
    if len(names) == 1 and (other := next((d for d in ";\t|" if d in names[0]), None)):
        raise refusal(path, 1, "", header[0], f"columns are separated by {other!r}, not by commas", "Save with commas")
    if twice := [name for name in names if names.count(name) > 1]:
        raise refusal(path, 1, twice[0], twice[0], "the column appears twice", "Remove or rename one")
    unknown = [name for name in names if name not in COLUMNS]
    for name in REQUIRED:
        if name not in names:
            near = difflib.get_close_matches(name, unknown, n=1, cutoff=0.0)
            hint = f"Rename {near[0]!r}, if that is it" if near else "Add it"
            raise refusal(path, 1, name, "", "the column is missing", hint)
    return names


def blocks(path: Path, names: list[str]) -> Iterator[tuple[IntArray, pa.Table]]:
    """The data rows, some 16 MB at a time: their lines in the file, and their cells as text.

    Known columns are dictionary-encoded, so that a check or a conversion meets each distinct text once; times and
    unknown columns are plain text. Cells are as written: not trimmed, lengths not checked.

    Raises:
        UserError: a row that cannot be read (wrong cell count, quote, line break, NUL, not UTF-8).
    """
    coded = pa.dictionary(pa.int32(), pa.string())
    plain = {name for name in names if COLUMNS.get(name, "time") == "time"}
    options = pacsv.ConvertOptions(
        column_types={name: pa.string() if name in plain else coded for name in names}, strings_can_be_null=False
    )
    with path.open("rb") as file:
        offset, line = len(file.readline()), 2
        while block := file.read(BLOCK_BYTES):
            block += file.readline(MAX_LINE)  # whole lines
            lines, n_lines = _filled_lines(block)
            table = _parsed(block, names, options) if len(lines) else None
            if len(lines) and (table is None or table.num_rows != len(lines)):
                raise _unreadable(path, offset, line, len(names))
            if table is not None:
                yield lines + line, table
            offset, line = offset + len(block), line + n_lines


def _filled_lines(block: bytes) -> tuple[IntArray, int]:
    """Lines of the block that are not blank, counted from 0, and the number of its line ends."""
    text = np.frombuffer(block, np.uint8)
    ends = np.flatnonzero(text == 10)
    starts = np.concatenate([[0], ends + 1])
    starts = starts[starts < len(text)]
    first = text[starts]
    filled = np.ones(len(starts), bool)
    for k in np.flatnonzero((first <= 32) | (first >= 128)):  # white space at the start: look at the line
        end = block.find(b"\n", starts[k])
        filled[k] = bool(block[starts[k] : end if end >= 0 else None].decode("utf-8", "replace").strip())
    return np.flatnonzero(filled), len(ends)


def _parsed(block: bytes, names: list[str], options: pacsv.ConvertOptions) -> pa.Table | None:
    """The block's cells, None where the careful pass has to find what is wrong."""
    if b"\0" in block or (b"\r" in block and block.count(b"\r") != block.count(b"\r\n")):
        return None
    try:
        table = pacsv.read_csv(
            pa.BufferReader(block),
            read_options=pacsv.ReadOptions(column_names=names, block_size=len(block) + 1),
            parse_options=pacsv.ParseOptions(
                invalid_row_handler=lambda row: "error" if (row.text or "x").strip() else "skip"
            ),
            convert_options=options,
        ).combine_chunks()
    except (pa.ArrowInvalid, UnicodeDecodeError):
        return None
    if b'"' in block:  # only a quoted cell can hold a line break
        for column in table.columns:
            for chunk in column.chunks:
                texts = chunk.dictionary if isinstance(chunk, pa.DictionaryArray) else chunk
                if pc.any(pc.match_substring(texts, "\n")).as_py():
                    return None
    return table


def _unreadable(path: Path, offset: int, line: int, n_columns: int) -> UserError:
    """What the careful pass finds from byte `offset` (line `line`) on: the first row that cannot be read."""
    first, n_bad = (0, [""]), 0
    try:
        for row, cells in _records(path, offset, line):
            if len(cells) != n_columns and (len(cells) > 1 or cells[0].strip()):
                first, n_bad = first if n_bad else (row, cells), n_bad + 1
    except BadText as error:
        if not n_bad:
            return refusal(path, error.row, "", "", error.rule, error.mend)
    if not n_bad:
        return UserError(f"{path}: not readable as CSV after row {line - 1}. Save it again as UTF-8 CSV with commas.")
    return refusal(path, first[0], "", ",".join(first[1]), f"has {len(first[1])} cells, the header {n_columns}",
                   "Quote cells that hold commas, or complete the row", n_bad)  # fmt: skip


class BadText(Exception):
    """A line that is no text of a table: its row, the rule, the mend."""

    def __init__(self, row: int, rule: str, mend: str) -> None:
        self.row, self.rule, self.mend = row, rule, mend


def _records(path: Path, offset: int, line: int) -> Iterator[tuple[int, list[str]]]:
    """(row, cells) from byte `offset`, which begins line `line`. A cell that runs past its line is refused."""
    with path.open("rb") as file:
        file.seek(offset)
        reader, row = csv.reader(_text_lines(file, line)), line
        while True:
            try:
                cells = next(reader)
            except csv.Error:  # longer than csv's own limit
                cells = []
                if reader.line_num + line - 1 == row:
                    raise BadText(row, f"a cell is longer than {MAX_CELL} characters", "Shorten it") from None
            if cells == [_END]:
                return
            if reader.line_num + line - 1 > row:
                if not cells or _END in cells[-1]:
                    raise BadText(row, "a quote opens and never closes", 'Close it, or remove the "')
                raise BadText(row, "a quoted cell holds a line break", "Write it on one line, or close its quote")
            yield row, cells or [""]
            row += 1


def _text_lines(file: BinaryIO, line: int) -> Iterator[str]:
    for row, raw in enumerate(iter(lambda: file.readline(MAX_LINE), b""), start=line):
        if b"\0" in raw:
            raise BadText(row, "holds a NUL byte", "Save the file as UTF-8 CSV")
        body = raw.removesuffix(b"\n").removesuffix(b"\r")
        if b"\r" in body:
            raise BadText(row, "holds a carriage return inside the line", "End lines with LF or CRLF")
        if len(raw) == MAX_LINE and raw[-1:] != b"\n":
            raise BadText(row, f"is longer than {MAX_LINE:,} bytes", "Is this a CSV file? Save it again")
        try:
            yield body.decode("utf-8-sig" if row == 1 else "utf-8") + "\n"
        except UnicodeDecodeError:
            raise BadText(row, "is not UTF-8 text", "Save the file as UTF-8") from None
    yield _END  # lands inside the last cell where its quote is still open


__all__ = [
    "BLANK", "CELLS", "COLUMNS", "HORIZONS_S", "LIQUIDITIES", "MAX_CELL", "PRICE_COLUMNS", "REQUIRED", "RULES",
    "SIDES",
    "Faults", "blocks", "check_header", "refusal",
]  # fmt: skip
