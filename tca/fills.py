"""The user's own fills, misses included: the reader of `fills.csv` (contract in docs/data.md).

The file is read in blocks; each distinct text of a column is checked and converted once. A broken rule is kept until
all blocks are read, so that the message names the first bad row and says how many more there are. Prices are exact
integers of $0.000001, times UTC nanoseconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from .fill_cells import (
    BLANK,
    CELLS,
    COLUMNS,
    HORIZONS_S,
    LIQUIDITIES,
    MAX_CELL,
    PRICE_COLUMNS,
    REQUIRED,
    RULES,
    SIDES,
    Faults,
    blocks,
    check_header,
    refusal,
)

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
UNKNOWN = np.iinfo(np.int64).min  # a blank price, time or fee
_UTC_NS = pa.timestamp("ns", tz="UTC")
_NAMES_AT_ONCE = 1 << 16
_TEXTS = ("child_id", "side", "venue", "venue_type", "parent_id", "symbol", "fill_id", "tif", "liquidity")
_CASE = {"side": pc.utf8_lower, "venue_type": pc.utf8_lower, "liquidity": pc.utf8_lower, "tif": pc.utf8_upper}


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
    """Read and check a fills file. The arrays of columns that the file lacks are read-only.

    Raises:
        UserError: a rule of the contract is broken: file, row, column, value, rule, mend. Nothing is returned then.
    """
    path = Path(path)
    header = check_header(path)
    faults = Faults(path)
    number_parts: dict[str, list[IntArray]] = {}
    text_parts: dict[str, list[pa.DictionaryArray]] = {name: [] for name in _TEXTS if name in header}
    for row, table in blocks(path, header):
        block = _Block(row, table, faults)
        for name, values in block.numbers().items():
            number_parts.setdefault(name, []).append(values)
        for name, parts in text_parts.items():
            parts.append(block.text(name))
    if not number_parts:
        raise refusal(path, 1, "", "", "the file has a header and no data rows", "Add a row for each fill")
    faults.refuse()
    number = {name: np.concatenate(number_parts.pop(name)) for name in tuple(number_parts)}
    text = {name: _unified(text_parts.pop(name)) for name in tuple(text_parts)}
    return _fills(path, number, text, tuple(name for name in header if name not in COLUMNS))


def _fills(
    path: Path,
    number: dict[str, IntArray],
    text: dict[str, tuple[IntArray, NDArray[np.str_]]],
    unknown: tuple[str, ...],
) -> Fills:
    """Whole columns in time order, once the rules that join rows hold."""
    row, ts, shares = number.pop("row"), number.pop("ts"), number.pop("shares")
    n = len(row)
    absent = np.broadcast_to(np.int64(UNKNOWN), n)
    no_text = (np.broadcast_to(np.int64(0), n), np.array([""]))
    _check_fill_ids(path, row, *text.pop("fill_id", no_text))
    side_code, side_names = text.pop("side")
    side = np.array([SIDES[str(name)] for name in side_names], np.int64)[side_code]
    short_sale = (side_names == "sell_short")[side_code]
    dark_code, dark_names = text.pop("venue_type")
    keys = {"child": "child_id", "venue": "venue", "symbol": "symbol", "tif": "tif", "liquidity": "liquidity"}
    pairs = {key: text.pop(column, no_text) for key, column in keys.items()}
    codes, names = ({key: pair[k] for key, pair in pairs.items()} for k in (0, 1))
    codes["parent"], names["parent"] = _parents(text.pop("parent_id", None), side, codes["symbol"], names["symbol"])
    routed = number.pop("routed_shares", np.broadcast_to(np.int64(0), n))
    _check_orders(path, row, shares, routed, side_code, codes, names, side_names)
    price, bid, ask = (number.pop(name) for name in ("price", "bid", "ask"))
    recv = number.pop("recv_ts", absent)
    warnings = _warnings(ts, shares, price, bid, ask, recv, unknown)
    data: dict[str, Any] = {
        "row": row, "ts_ns": ts, "side": side, "short_sale": short_sale, "shares": shares, "price_e6": price,
        "bid_e6": bid, "ask_e6": ask, "dark": (dark_names == "dark")[dark_code], **codes, "routed_shares": routed,
        "fee_e6": number.pop("fee_per_share", absent), "recv_ts_ns": recv,
        "recv_bid_e6": number.pop("recv_bid", no_text[0]), "recv_ask_e6": number.pop("recv_ask", no_text[0]),
    }  # fmt: skip
    mids = {HORIZONS_S[name]: number.pop(name) for name in HORIZONS_S if name in number}
    if "unsorted_rows" in warnings:
        order = np.argsort(ts, kind="stable")
        data = {name: values if values.strides == (0,) else values[order] for name, values in data.items()}
        mids = {horizon: values[order] for horizon, values in mids.items()}
    return Fills(**data, mid_after_e6=mids, names=names, warnings=warnings, unknown_columns=unknown)


class _Block:
    """Some rows of the file. Cells that break a rule go into `faults` and count as blank from there on."""

    def __init__(self, row: IntArray, table: pa.Table, faults: Faults) -> None:
        self.row, self.table, self.faults = row, table, faults
        self.good = np.ones(len(row), bool)
        for name in table.column_names:
            code, raw = self._distinct(name)
            if (long := np.asarray(pc.greater(pc.utf8_length(raw), MAX_CELL))).any():
                self._note(long[code], name, raw, f"is longer than {MAX_CELL} characters", "Shorten it")

    def numbers(self) -> dict[str, IntArray]:
        """Every column of times, shares and prices; quotes that are blank are 0, other blanks UNKNOWN, sizes 0."""
        out = {"row": self.row}
        for name in (name for name in self.table.column_names if name in COLUMNS and name not in _TEXTS):
            code, texts = self._checked(name)
            if COLUMNS[name] == "time":
                out[name] = self._times(name, texts)
            elif name in PRICE_COLUMNS:
                blank = 0 if name in ("bid", "ask", "recv_bid", "recv_ask") else UNKNOWN
                out[name] = _e6(texts, blank)[code]
            else:
                out[name] = _whole(texts)[code]
        shares, price = out["shares"], out["price"]
        routed = out.get("routed_shares", np.zeros_like(shares))
        filled, priced = shares > 0, price != UNKNOWN
        for bad, name, rule, mend in (
            (filled & ~priced, "price", "a fill needs a price", "Give the price, or shares 0 for a miss"),
            (~filled & priced, "price", "is blank exactly when shares is 0", "Blank it, or give shares"),
            (priced & (price <= 0), "price", "must be above 0", "Give dollars"),
            (~filled & (routed == 0), "routed_shares", "a row with shares 0 needs the quantity of its child order",
             "Fill in the column" if "routed_shares" in out else "Add the column routed_shares"),
        ):  # fmt: skip
            if (bad := bad & self.good).any():
                self._note(bad, name, None, rule, mend)
        return out

    def text(self, name: str) -> pa.DictionaryArray:
        """The column's trimmed texts, in the case that its kind is compared in."""
        code, texts = self._checked(name)
        if name in _CASE:
            texts = _CASE[name](texts)
        if len(pc.unique(texts)) == len(texts):
            return pa.DictionaryArray.from_arrays(pa.array(code), texts)
        return pc.dictionary_encode(texts.take(pa.array(code)))

    def _distinct(self, name: str) -> tuple[Any, pa.StringArray]:
        """Distinct texts and each row's place among them; for plain columns all texts and all places."""
        column = self.table[name].chunk(0)
        if isinstance(column, pa.DictionaryArray):
            return np.asarray(column.indices), column.dictionary
        return slice(None), column

    def _checked(self, name: str) -> tuple[Any, pa.StringArray]:
        """As `_distinct`, trimmed; texts that do not meet the column's pattern are noted and made blank."""
        code, raw = self._distinct(name)
        texts = pc.utf8_trim_whitespace(raw)
        fine = pc.match_substring_regex(texts, CELLS[COLUMNS[name]])
        if name not in REQUIRED or name in BLANK:
            fine = pc.or_(fine, pc.equal(texts, ""))
        if not pc.all(fine).as_py():
            self._note(~np.asarray(fine)[code], name, texts)
            texts = pc.if_else(fine, texts, "")
        return code, texts

    def _times(self, name: str, texts: pa.StringArray) -> IntArray:
        """ISO 8601 with an offset as UTC nanoseconds; UNKNOWN where blank."""
        try:
            stamps = pc.cast(pc.if_else(pc.equal(texts, ""), None, texts), _UTC_NS)
        except pa.ArrowInvalid:  # no such day, hour or offset, or a year beyond 64 bits
            fine = pa.array([value == "" or _is_time(value) for value in texts.to_pylist()])
            self._note(~np.asarray(fine), name, texts)
            return self._times(name, pc.if_else(fine, texts, ""))
        return np.asarray(pc.fill_null(pc.cast(stamps, pa.int64()), UNKNOWN), np.int64)

    def _note(
        self, bad: BoolArray, name: str, texts: pa.StringArray | None, rule: str | None = None, mend: str = ""
    ) -> None:
        """Keep the first of the bad rows for the message; `texts` None: take the cell as written, if there is one."""
        self.good &= ~bad
        i = int(np.flatnonzero(bad)[0])
        value = ""
        if name in self.table.column_names:
            code, raw = self._distinct(name)
            at = i if isinstance(code, slice) else int(code[i])
            value = (raw if texts is None else texts)[at].as_py()
        if rule is None:
            rule, mend = RULES[COLUMNS[name]]
        self.faults.add(name, rule, mend, int(self.row[i]), value, int(bad.sum()))


def _is_time(value: str) -> bool:
    try:
        pc.cast(pa.scalar(value), _UTC_NS)
    except pa.ArrowInvalid:
        return False
    return True


def _whole(texts: pa.StringArray) -> IntArray:
    """Whole numbers, `200.0` too; 0 where blank."""
    digits = pc.replace_substring_regex(pc.if_else(pc.equal(texts, ""), "0", texts), r"\.0*$", "")
    return np.asarray(pc.cast(digits, pa.int64()), np.int64)


def _e6(texts: pa.StringArray, blank: int) -> IntArray:
    """Decimal dollars as exact integers of $0.000001; `blank` where blank."""
    dollars = pc.cast(pc.if_else(pc.equal(texts, ""), None, texts), pa.decimal128(24, 6))
    scaled = pc.multiply(dollars, pa.scalar(10**6, pa.decimal128(8, 0)))
    return np.asarray(pc.fill_null(pc.cast(pc.cast(scaled, pa.decimal128(38, 0)), pa.int64()), blank), np.int64)


def _unified(parts: list[pa.DictionaryArray]) -> tuple[IntArray, NDArray[np.str_]]:
    """Codes of all blocks, in the order in which the file brings the texts, and the texts."""
    whole = pa.chunked_array(parts).unify_dictionaries()
    codes = np.concatenate([np.asarray(chunk.indices, np.int64) for chunk in whole.chunks])
    texts = whole.chunk(whole.num_chunks - 1).dictionary
    names = np.empty(len(texts), f"U{max(pc.max(pc.utf8_length(texts)).as_py(), 1)}")
    for start in range(0, len(texts), _NAMES_AT_ONCE):  # Python strings are ten times the size of the text
        names[start : start + _NAMES_AT_ONCE] = texts.slice(start, _NAMES_AT_ONCE).to_pylist()
    return codes, names


def _parents(
    given: tuple[IntArray, NDArray[np.str_]] | None, side: IntArray, symbol: IntArray, symbols: NDArray[np.str_]
) -> tuple[IntArray, NDArray[np.str_]]:
    """Parent codes: the column where it is filled, else `symbol:side` (`ALL:side` without a symbol)."""
    stems = [name or "ALL" for name in symbols]
    own_names = np.array([f"{stem}:{kind}" for stem in stems for kind in ("buy", "sell")], dtype=np.str_)
    own = 2 * symbol + (side < 0)
    if given is None:
        used = np.bincount(own, minlength=len(own_names)) > 0
        return (np.cumsum(used) - 1)[own], own_names[used]
    code, names = given
    blank = names == ""
    if not blank.any():
        return code, names
    return np.where(blank[code], len(names) + own, code), np.concatenate([names, own_names])


def _check_orders(
    path: Path, row: IntArray, shares: IntArray, routed: IntArray, side_code: IntArray,
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
            raise refusal(path, int(row[i]), what, value, f"child order '{names['child'][child[i]]}' has {before!r} in "
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
                      f"the fills of child order '{names['child'][k]}' sum to {total[k]:.0f}",
                      "Routed shares are those of the whole child order", int(over.sum()))  # fmt: skip


def _check_fill_ids(path: Path, row: IntArray, code: IntArray, names: NDArray[np.str_]) -> None:
    twice = (np.bincount(code, minlength=len(names)) > 1) & (names != "")
    if twice.any():
        rows = np.flatnonzero(twice[code])
        _, first = np.unique(code[rows], return_index=True)
        again = np.delete(rows, first)  # rows that repeat an earlier one
        i = int(again[0])
        raise refusal(path, int(row[i]), "fill_id", str(names[code[i]]), "a fill_id may appear once",
                      "Remove the repeated fill", again.size)  # fmt: skip


def _warnings(
    ts: IntArray, shares: IntArray, price: IntArray, bid: IntArray, ask: IntArray, recv: IntArray,
    unknown: tuple[str, ...],
) -> dict[str, int]:  # fmt: skip
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
