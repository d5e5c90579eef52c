"""The user's own fills, misses included: the reader of `fills.csv` (contract in docs/data.md).

pyarrow reads and checks whole columns; only where a check fails does a careful pass over the text find the first bad
cell, so that the message can name its row. Prices are exact integers of $0.000001, times UTC nanoseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
from numpy.typing import NDArray

from ..configs.errors import UserError
from .fill_cells import (
    BLANK,
    CELLS,
    COLUMNS,
    HORIZONS_S,
    LIQUIDITIES,
    PRICE_COLUMNS,
    REQUIRED,
    SIDES,
    check_header,
    first_bad_cell,
    refusal,
    rows_of,
)

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
UNKNOWN = np.iinfo(np.int64).min  # a blank price, time or fee


@dataclass(frozen=True, eq=False)
class Fills:
    """Rows of a fills file in time order (stable); arrays of length n. Codes index `names`.

    A row with shares 0 is the end of a child order that got nothing or whose remainder was cancelled. Prices ending in
    `_e6` are $0.000001; `UNKNOWN` marks blank cells, and a quote side that is absent is 0.
    """

    row: IntArray  # line in the file, the header is 1
    ts_ns: IntArray
    side: IntArray  # +1 buy, -1 sell or short sale
    short_sale: BoolArray
    shares: IntArray
    price_e6: IntArray
    bid_e6: IntArray
    ask_e6: IntArray
    dark: BoolArray
    child: IntArray  # codes
    venue: IntArray
    parent: IntArray
    symbol: IntArray
    routed_shares: IntArray  # of the child order; 0 where unknown
    tif: IntArray
    liquidity: IntArray
    fee_e6: IntArray  # dollars x 1e6 a share, + = fee paid
    recv_ts_ns: IntArray
    recv_bid_e6: IntArray
    recv_ask_e6: IntArray
    mid_after_e6: dict[float, IntArray]  # by horizon in seconds, of the columns that the file has
    names: dict[str, NDArray[np.str_]]  # child, venue, parent, symbol, tif, liquidity
    warnings: dict[str, int]
    unknown_columns: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.row)

    @property
    def mid2_e6(self) -> IntArray:
        """Twice the mid at ts; 0 where a side is missing or the quote is crossed (no mid, TCA null rule)."""
        normal = (self.bid_e6 > 0) & (self.ask_e6 >= self.bid_e6)
        return np.where(normal, self.bid_e6 + self.ask_e6, 0)


def read_fills(path: Path | str) -> Fills:
    """Read and check a fills file.

    Raises:
        UserError: a rule of the contract is broken: file, row, column, value, rule, mend. Nothing is returned then.
    """
    path = Path(path)
    table, columns, unknown = _table(path)

    def refuse(column: str) -> None:
        """Name the first cell of `column` that breaks its rule."""
        found = first_bad_cell(path, column)
        if found is not None:
            raise found
        raise refusal(path, 2, column, "", "the column cannot be read", "Save the file again as plain CSV")

    text = {name: pc.utf8_trim_whitespace(table[index]) for name, index in columns.items()}
    for name, values in text.items():
        _check_cells(values, name, refuse)
    get = text.get
    n = table.num_rows
    ts = _times(text["ts"], "ts", refuse)
    shares = _whole(text["shares"], "shares", refuse)
    prices = {name: _e6(get(name), n, name, refuse) for name in PRICE_COLUMNS if name in text}
    none = np.full(n, UNKNOWN, np.int64)
    price = prices["price"]
    side_text = pc.utf8_lower(text["side"])
    side_code, side_names = _codes(side_text)
    side_of = np.array([SIDES.get(str(name), 0) for name in side_names], np.int64)
    dark_code, dark_names = _codes(pc.utf8_lower(text["venue_type"]))
    routed = _whole(text["routed_shares"], "routed_shares", refuse, blank=0) if "routed_shares" in text else none * 0
    codes: dict[str, IntArray] = {}
    names: dict[str, NDArray[np.str_]] = {}
    for key, column in (("child", "child_id"), ("venue", "venue"), ("symbol", "symbol"), ("tif", "tif"),
                        ("liquidity", "liquidity")):  # fmt: skip
        values = text.get(column, pa.chunked_array([pa.repeat("", n)]))
        if key in ("tif", "liquidity"):
            values = pc.utf8_upper(values) if key == "tif" else pc.utf8_lower(values)
        codes[key], names[key] = _codes(values)
    side = side_of[side_code]
    codes["parent"], names["parent"] = _parents(text, side, codes["symbol"], names["symbol"])
    row = rows_of(path, n)
    _check_rows(path, row, shares, price, routed, "routed_shares" in text, text)
    _check_orders(path, row, shares, routed, side, side_code, codes, names, side_names)
    _check_fill_ids(path, row, text)
    bid, ask = (np.maximum(prices[name], 0) for name in ("bid", "ask"))  # blank means no quote
    recv = _times(text["recv_ts"], "recv_ts", refuse, blank=True) if "recv_ts" in text else none
    order = np.argsort(ts, kind="stable")
    warnings = _warnings(ts, shares, price, bid, ask, recv, unknown)
    data = {
        "row": row, "ts_ns": ts, "side": side, "short_sale": side_names[side_code] == "sell_short", "shares": shares,
        "price_e6": price, "bid_e6": bid, "ask_e6": ask, "dark": dark_names[dark_code] == "dark", **codes,
        "routed_shares": routed, "fee_e6": prices.get("fee_per_share", none), "recv_ts_ns": recv,
        "recv_bid_e6": np.maximum(prices.get("recv_bid", none), 0),
        "recv_ask_e6": np.maximum(prices.get("recv_ask", none), 0),
    }  # fmt: skip
    mids = {h: prices[name][order] for name, h in HORIZONS_S.items() if name in prices}
    return Fills(
        **{name: values[order] for name, values in data.items()}, mid_after_e6=mids, names=names,
        warnings=warnings, unknown_columns=tuple(unknown),
    )  # fmt: skip


def _table(path: Path) -> tuple[pa.Table, dict[str, int], list[str]]:
    """The file as columns of text, the place of each known column, and the names of the others."""
    header = check_header(path)
    names = [name.strip().lower() for name in header]
    columns = {name: i for i, name in enumerate(names) if name in COLUMNS}
    unknown = [name for name in names if name not in COLUMNS]
    ids = [str(i) for i in range(len(names))]
    try:
        table = pacsv.read_csv(
            path,
            read_options=pacsv.ReadOptions(column_names=ids, skip_rows=1, block_size=1 << 24),
            parse_options=pacsv.ParseOptions(ignore_empty_lines=True),
            convert_options=pacsv.ConvertOptions(
                column_types={i: pa.string() for i in ids}, strings_can_be_null=False,
                include_columns=[ids[i] for i in columns.values()],
            ),
        )  # fmt: skip
    except (pa.ArrowInvalid, pa.ArrowKeyError, UnicodeDecodeError) as error:
        found = first_bad_cell(path)
        raise found or UserError(f"{path}: not readable as CSV ({error}). Save it again as UTF-8, comma.") from None
    if table.num_rows == 0:
        raise refusal(path, 1, "", "", "the file has a header and no data rows", "Add a row for each fill")
    return table, {name: k for k, name in enumerate(columns)}, unknown


def _check_cells(values: pa.ChunkedArray, name: str, refuse: Callable[[str], None]) -> None:
    """Every cell of the column meets the pattern of its kind; blank where that is allowed."""
    pattern = CELLS[COLUMNS[name]].pattern
    unique = pc.unique(values) if COLUMNS[name] in ("name", "side", "type", "liquidity") else values
    good = pc.match_substring_regex(unique, pattern)
    if name not in REQUIRED or name in BLANK:
        good = pc.or_(good, pc.equal(unique, ""))
    if not pc.all(good).as_py():
        refuse(name)


def _whole(values: pa.ChunkedArray, name: str, refuse: Callable[[str], None], blank: int | None = None) -> IntArray:
    if blank is not None:
        values = pc.if_else(pc.equal(values, ""), str(blank), values)
    try:
        number = pc.cast(pc.replace_substring_regex(values, r"\.0*$", ""), pa.int64())
    except pa.ArrowInvalid:
        refuse(name)
        raise
    return np.asarray(number, np.int64)


def _e6(values: pa.ChunkedArray, n: int, name: str, refuse: Callable[[str], None]) -> IntArray:
    """Decimal dollars as exact integers of $0.000001; UNKNOWN where blank."""
    blank = np.asarray(pc.equal(values, ""))
    filled = pc.if_else(pc.equal(values, ""), "0", values)
    try:
        scaled = pc.multiply(pc.cast(filled, pa.decimal128(24, 6)), pa.scalar(10**6, pa.decimal128(8, 0)))
        number = np.asarray(pc.cast(pc.cast(scaled, pa.decimal128(38, 0)), pa.int64()), np.int64)
    except (pa.ArrowInvalid, OverflowError):
        refuse(name)
        raise
    out: IntArray = np.where(blank, UNKNOWN, number)
    return out


def _times(values: pa.ChunkedArray, name: str, refuse: Callable[[str], None], blank: bool = False) -> IntArray:
    """ISO 8601 with an offset as UTC nanoseconds; UNKNOWN where blank."""
    empty = np.asarray(pc.equal(values, ""))
    if blank:
        values = pc.if_else(pc.equal(values, ""), "1970-01-01T00:00:00Z", values)
    values = pc.replace_substring_regex(values, r"([+-]\d\d)$", r"\1:00")
    values = pc.replace_substring_regex(values, r"([+-]\d\d)(\d\d)$", r"\1:\2")
    try:
        stamps = pc.cast(values, pa.timestamp("ns", tz="UTC"))
    except pa.ArrowInvalid:
        refuse(name)
        raise
    out: IntArray = np.where(empty, UNKNOWN, np.asarray(pc.cast(stamps, pa.int64()), np.int64))
    return out


def _codes(values: pa.ChunkedArray) -> tuple[IntArray, NDArray[np.str_]]:
    coded = pc.dictionary_encode(values).combine_chunks()
    if isinstance(coded, pa.ChunkedArray):
        coded = coded.chunk(0)
    return np.asarray(coded.indices, np.int64), np.array(coded.dictionary.to_pylist(), dtype=np.str_)


def _parents(
    text: Mapping[str, pa.ChunkedArray], side: IntArray, symbol: IntArray, symbols: NDArray[np.str_]
) -> tuple[IntArray, NDArray[np.str_]]:
    """Parent codes: the column where it is filled, else `symbol:side` (`ALL:side` without a symbol)."""
    stems = [name or "ALL" for name in symbols]
    own_names = np.array([f"{stem}:{kind}" for stem in stems for kind in ("buy", "sell")], dtype=np.str_)
    own = 2 * symbol + (side < 0)
    if "parent_id" not in text:
        used, code = np.unique(own, return_inverse=True)
        return code.astype(np.int64), own_names[used]
    code, names = _codes(text["parent_id"])
    blank = names[code] == ""
    return np.where(blank, len(names) + own, code), np.concatenate([names, own_names])


def _check_rows(
    path: Path, row: IntArray, shares: IntArray, price: IntArray, routed: IntArray, has_routed: bool,
    text: Mapping[str, pa.ChunkedArray],
) -> None:  # fmt: skip
    def first(bad: BoolArray, column: str, rule: str, mend: str) -> None:
        if (at := np.flatnonzero(bad)).size:
            value = text[column][int(at[0])].as_py() if column in text else ""
            raise refusal(path, int(row[at[0]]), column, value, rule, mend, at.size)

    first((shares > 0) & (price == UNKNOWN), "price", "a fill needs a price", "Give the price, or shares 0 for a miss")
    first((shares == 0) & (price != UNKNOWN), "price", "is blank exactly when shares is 0", "Blank it, or give shares")
    first((price != UNKNOWN) & (price <= 0), "price", "must be above 0", "Give dollars")
    first((shares == 0) & (routed == 0), "routed_shares", "a row with shares 0 needs the quantity of its child order",
          "Fill in the column" if has_routed else "Add the column routed_shares")  # fmt: skip


def _check_orders(
    path: Path, row: IntArray, shares: IntArray, routed: IntArray, side: IntArray, side_code: IntArray,
    codes: Mapping[str, IntArray], names: Mapping[str, NDArray[np.str_]], side_names: NDArray[np.str_],
) -> None:  # fmt: skip
    """One side, venue, parent and size per child; one side per parent; fills of a child within its size."""
    child, n_children = codes["child"], len(names["child"])
    first_row = np.zeros(n_children, np.int64)
    first_row[child[::-1]] = np.arange(len(child))[::-1]
    base = first_row[child]
    for what, values, shown in (
        ("side", side_code, side_names), ("venue", codes["venue"], names["venue"]),
        ("parent_id", codes["parent"], names["parent"]), ("routed_shares", routed, None),
    ):  # fmt: skip
        if (at := np.flatnonzero(values != values[base])).size:
            i = int(at[0])
            value, before = (str(shown[x]) if shown is not None else str(x) for x in (values[i], values[base[i]]))
            raise refusal(path, int(row[i]), what, value, f"child order {names['child'][child[i]]!r} has {before!r} in "
                          f"row {row[base[i]]}", "Give a child order one value", at.size)  # fmt: skip
    parent_first = np.zeros(len(names["parent"]), np.int64)
    parent_first[codes["parent"][::-1]] = np.arange(len(child))[::-1]
    if (at := np.flatnonzero(side_code != side_code[parent_first[codes["parent"]]])).size:
        i = int(at[0])
        raise refusal(path, int(row[i]), "side", str(side_names[side_code[i]]), "a parent has one side",
                      "Give each side a parent_id of its own", at.size)  # fmt: skip
    total = np.bincount(child, shares, n_children)
    over = (total > routed[first_row]) & (routed[first_row] > 0)
    if over.any():
        k = int(np.flatnonzero(over)[0])
        raise refusal(path, int(row[first_row[k]]), "routed_shares", str(routed[first_row[k]]),
                      f"the fills of child order {names['child'][k]!r} sum to {total[k]:.0f}",
                      "Routed shares are those of the whole child order", int(over.sum()))  # fmt: skip


def _check_fill_ids(path: Path, row: IntArray, text: Mapping[str, pa.ChunkedArray]) -> None:
    if "fill_id" not in text:
        return
    code, names = _codes(text["fill_id"])
    count = np.bincount(code, minlength=len(names))
    twice = (count > 1) & (names != "")
    if twice.any():
        i = int(np.flatnonzero(twice[code])[1]) if twice.sum() == 1 else int(_second(code, twice))
        raise refusal(path, int(row[i]), "fill_id", str(names[code[i]]), "a fill_id may appear once",
                      "Remove the repeated fill", int(twice.sum()))  # fmt: skip


def _second(code: IntArray, twice: BoolArray) -> int:
    """First row that repeats an earlier code."""
    rows = np.flatnonzero(twice[code])
    _, first = np.unique(code[rows], return_index=True)
    return int(np.delete(rows, first)[0])


def _warnings(
    ts: IntArray, shares: IntArray, price: IntArray, bid: IntArray, ask: IntArray, recv: IntArray, unknown: list[str]
) -> dict[str, int]:
    quoted = (bid > 0) & (ask > 0)
    usable = quoted & (bid <= ask) & (shares > 0)
    counts: dict[str, Any] = {
        "unsorted_rows": (np.diff(ts) < 0).sum(),
        "outside_nbbo": (usable & ((price < bid) | (price > ask))).sum(),
        "locked_quotes": (quoted & (bid == ask)).sum(), "crossed_quotes": (quoted & (bid > ask)).sum(),
        "no_quotes": (~quoted).sum(), "ts_before_recv_ts": ((recv != UNKNOWN) & (ts < recv)).sum(),
        "unknown_columns": len(unknown),
    }  # fmt: skip
    return {name: int(n) for name, n in counts.items() if n}


__all__ = ["HORIZONS_S", "LIQUIDITIES", "UNKNOWN", "Fills", "read_fills"]
