"""Real trading days: LOBSTER event files and trade-and-quote tapes, read into one shape.

Formats: the sample readme of lobsterdata.com (message and orderbook files) and the tick files that AlgoSeek supplies
to QuantConnect LEAN. Every field is checked; a file that breaks a rule is refused with its name, line and field.
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
from datetime import date as CalendarDate
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..configs.errors import UserError

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
Source = Literal["lobster", "taq"]

SESSION_OPEN_NS = 34_200 * 10**9  # 09:30 US Eastern
SESSION_CLOSE_NS = 57_600 * 10**9  # 16:00; the session is half open, [open, close)

# Sale conditions that take a print out of continuous volume (hexadecimal bit mask of the tape).
_NOT_CONTINUOUS_BITS = (
    (0x2, 0x4, 0x8, 0x200, 0x800, 0x2000, 0x4000, 0x40000, 0x100000, 0x200000)  # late, derivative, average, extended
    + (0x1000000, 0x2000000, 0x4000000)  # official close, prior reference price, official open: repeats
    + (0x40, 0x80)  # the opening and closing auctions themselves
)
NOT_CONTINUOUS_MASK = sum(_NOT_CONTINUOUS_BITS)
OFF_EXCHANGE_VENUE = "D"  # FINRA trade reporting facility
TAQ_SIGNING_LAG_NS = 10**6  # a print is compared with the quote in force one millisecond before it
_LOBSTER_EMPTY = 9_999_999_999  # price of an empty level (negative on the bid side); its size is 0
_MAX_SHARES = 10**9  # keeps price x shares sums of a day inside 64 bits

_LOBSTER_NAME = re.compile(
    r"(?P<symbol>[A-Za-z][\w.\-]*)_(?P<date>\d{4}-\d{2}-\d{2})_\d+_\d+_(?P<kind>message|orderbook)_(?P<level>[1-9]\d*)\.csv(\.gz)?"
)
_TAQ_NAME = re.compile(r"(?P<date>\d{8})_(?P<symbol>[A-Za-z][\w.\-]*)_(?P<kind>Trade|Quote)_Tick\.csv(\.gz)?")
_PARTNER = {"message": "orderbook", "orderbook": "message", "Trade": "Quote", "Quote": "Trade"}
_FIRST_KINDS = ("message", "Trade")
_EXPECTED_NAMES = (
    "<SYMBOL>_<yyyy-mm-dd>_<start>_<end>_message_<L>.csv[.gz] with ..._orderbook_<L>... (LOBSTER), "
    "or <yyyymmdd>_<symbol>_Trade_Tick.csv[.gz] with ..._Quote_Tick... (TAQ)"
)
_DAY_NS = 86_400 * 10**9
_SHOWN_BYTES = 60  # of a bad line
_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class MarketDay:
    """One name on one day: continuous-session trades and the best quotes. Times are ns since midnight US Eastern.

    Trades, (n_trades,), inside [SESSION_OPEN_NS, SESSION_CLOSE_NS), auctions and non-regular prints left out.
    Quotes, (n_quotes,), are the state after each update (LOBSTER: each message; TAQ: the last of each millisecond).
    They open with the quote in force at the open where the file has one and end before the close. A side without a
    quote has price 0 and size 0. Locked and crossed quotes are kept.
    """

    symbol: str
    date: str  # YYYY-MM-DD
    source: Source
    trade_time_ns: IntArray
    trade_price_e4: IntArray
    trade_shares: IntArray
    trade_venue: NDArray[np.str_]  # one-letter exchange code; LOBSTER: "Q"
    trade_hidden: BoolArray  # LOBSTER: execution of a hidden order; TAQ: printed off exchange (venue "D")
    trade_side: NDArray[np.int8]  # aggressor: +1 bought, -1 sold; 0 where the tape cannot tell (TAQ print at the mid)
    trade_quote_row: IntArray  # row of the quote in force just before the trade; -1 where there is none
    quote_time_ns: IntArray
    bid_e4: IntArray
    ask_e4: IntArray
    bid_shares: IntArray
    ask_shares: IntArray
    halt_ns: IntArray  # (n_halts, 2) start and end of trading halts; LOBSTER only
    left_out: tuple[tuple[str, int], ...] = ()  # rows of the files that are not in the arrays above: why, and how many


def read_lobster(message_path: Path | str, orderbook_path: Path | str) -> MarketDay:
    """Read a LOBSTER message file and its orderbook file (any number of levels; the best one is used).

    Executions of visible (type 4) and hidden orders (5) are the trades; the aggressor is on the side opposite to the
    resting order. A cross (6) is an auction and left out. A halt (7) runs from price -1 to price 1 or the close.

    Raises:
        UserError: an unreadable file, row counts that differ, or a field out of range; names file, line and field.
    """
    message_path, orderbook_path = Path(message_path), Path(orderbook_path)
    symbol, day = _symbol_and_date(message_path, orderbook_path, "lobster")
    messages = _read_columns(message_path, ("time", "type", "order id", "size", "price", "direction"), decimal="time")
    n_levels = _parse_name(orderbook_path)[2]
    fields = ("ask price", "ask size", "bid price", "bid size")
    book = _read_columns(
        orderbook_path, tuple(f"{field} {level}" for level in range(1, n_levels + 1) for field in fields), keep=4
    )
    if len(messages) != len(book):
        raise UserError(
            f"{message_path} has {len(messages)} rows but {orderbook_path.name} has {len(book)}: row i of "
            f"the book is the state after message i, so the counts must agree. Is one cut short, or of another day? "
            "Fetch the pair again."
        )
    kind, shares, price_e4 = (messages[name].to_numpy() for name in ("type", "size", "price"))
    direction, event = messages["direction"].to_numpy(), kind != 7
    time_ns = np.rint(messages["time"].to_numpy() * 1e9).astype(np.int64)
    _check_times(message_path, time_ns)
    _refuse(message_path, "type", kind, (kind < 1) | (kind > 7), "must be 1 to 7")
    _refuse(
        message_path,
        "size",
        shares,
        event & ((shares < 1) | (shares > _MAX_SHARES)),
        "must be a positive number of shares",
    )
    _refuse(
        message_path,
        "price",
        price_e4,
        event & ((price_e4 < 1) | (price_e4 >= _LOBSTER_EMPTY)),
        "must be a positive price x 10000",
    )
    _refuse(
        message_path, "direction", direction, np.abs(direction) != 1, "must be 1 (resting buy) or -1 (resting sell)"
    )
    quotes = [_book_side(orderbook_path, book, side) for side in ("bid", "ask")]

    inside = (time_ns >= SESSION_OPEN_NS) & (time_ns < SESSION_CLOSE_NS)
    first = max(int(np.searchsorted(time_ns, SESSION_OPEN_NS, "right")) - 1, 0)
    kept = slice(first, int(np.searchsorted(time_ns, SESSION_CLOSE_NS, "left")))
    rows = np.flatnonzero(inside & ((kind == 4) | (kind == 5)))
    return MarketDay(
        symbol=symbol, date=day, source="lobster",
        trade_time_ns=time_ns[rows], trade_price_e4=price_e4[rows], trade_shares=shares[rows],
        trade_venue=np.full(rows.size, "Q"), trade_hidden=kind[rows] == 5,
        trade_side=(-direction[rows]).astype(np.int8),
        trade_quote_row=rows - 1 - first,  # the book an event met is the row before it
        quote_time_ns=time_ns[kept], bid_e4=quotes[0][0][kept], ask_e4=quotes[1][0][kept],
        bid_shares=quotes[0][1][kept], ask_shares=quotes[1][1][kept], halt_ns=_halts(time_ns, kind, price_e4),
        left_out=(
            ("events outside 09:30 to 16:00", int((~inside).sum())),
            ("crosses of an auction", int((inside & (kind == 6)).sum())),
        ),
    )  # fmt: skip


def read_taq(trade_path: Path | str, quote_path: Path | str) -> MarketDay:
    """Read a consolidated trade file and the file of national best quotes of the same day.

    Prints with a condition of `NOT_CONTINUOUS_MASK` or the suspicious flag are left out. A trade is signed against the
    mid in force 1 ms earlier, a print at that mid gets side 0.

    Raises:
        UserError: an unreadable file, or a field out of range; names file, line and field.
    """
    trade_path, quote_path = Path(trade_path), Path(quote_path)
    symbol, day = _symbol_and_date(trade_path, quote_path, "taq")
    quote_time_ns, bid_e4, bid_shares, ask_e4, ask_shares = _taq_quotes(quote_path)
    trades = _read_columns(
        trade_path, ("time", "price", "shares", "exchange", "condition", "suspicious"), text=("exchange", "condition")
    )
    time_ns, price_e4, shares = (trades[name].to_numpy() for name in ("time", "price", "shares"))
    time_ns = time_ns * 10**6
    _check_times(trade_path, time_ns)
    _refuse(
        trade_path, "price", price_e4, (price_e4 < 1) | (price_e4 >= _LOBSTER_EMPTY), "must be a positive price x 10000"
    )
    _refuse(trade_path, "shares", shares, (shares < 1) | (shares > _MAX_SHARES), "must be a positive number of shares")
    codes, at = _categories(trade_path, trades["exchange"], r"[A-Z]", "must be one capital letter")
    venue = np.array(codes, dtype="U1")[at]
    hexes, at = _categories(trade_path, trades["condition"], r"[0-9A-Fa-f]{1,8}", "must be a hexadecimal bit mask")
    condition = np.array([int(text, 16) for text in hexes], dtype=np.int64)[at]
    inside = (time_ns >= SESSION_OPEN_NS) & (time_ns < SESSION_CLOSE_NS)
    trusted = trades["suspicious"].to_numpy() == 0
    regular = condition & NOT_CONTINUOUS_MASK == 0
    kept = inside & regular & trusted
    left_out = (
        ("prints outside 09:30 to 16:00", int((~inside).sum())),
        ("suspicious prints", int((inside & ~trusted).sum())),
        ("auctions, late, average-price, derivative and repeat prints", int((inside & trusted & ~regular).sum())),
    )
    time_ns, price_e4, venue = time_ns[kept], price_e4[kept], venue[kept]

    row = np.searchsorted(quote_time_ns, time_ns - TAQ_SIGNING_LAG_NS, "right") - 1
    two_sided = row >= 0
    two_sided[two_sided] = (bid_e4[row[two_sided]] > 0) & (ask_e4[row[two_sided]] > 0)
    side = np.zeros(row.size, dtype=np.int8)
    at = row[two_sided]
    side[two_sided] = np.sign(2 * price_e4[two_sided] - bid_e4[at] - ask_e4[at])
    return MarketDay(
        symbol=symbol, date=day, source="taq",
        trade_time_ns=time_ns, trade_price_e4=price_e4, trade_shares=shares[kept], trade_venue=venue,
        trade_hidden=venue == OFF_EXCHANGE_VENUE, trade_side=side, trade_quote_row=row,
        quote_time_ns=quote_time_ns, bid_e4=bid_e4, ask_e4=ask_e4, bid_shares=bid_shares, ask_shares=ask_shares,
        halt_ns=np.empty((0, 2), np.int64), left_out=left_out,
    )  # fmt: skip


def read_day(paths: Sequence[Path | str]) -> list[MarketDay]:
    """Read every day that the paths hold, sorted by symbol and date.

    A path is a LOBSTER file (`<SYMBOL>_<yyyy-mm-dd>_<start>_<end>_message_<L>.csv[.gz]` or `..._orderbook_<L>...`), a
    TAQ file (`<yyyymmdd>_<symbol>_Trade_Tick.csv[.gz]` or `..._Quote_Tick...`) or a folder, searched with its
    sub-folders. A file finds its partner beside it. A day recorded at several depths counts once, at the lowest level.
    In a folder, files of other kinds are passed over, and so, with a log warning, are files without a partner.

    Raises:
        UserError: a path that does not exist or is not recognised, a missing partner, or a broken file.
    """
    found = _find_files(paths)
    pairs: dict[tuple[str, str, int], tuple[Path, Path]] = {}
    unpaired = []
    for path, named in found.items():
        symbol, day, level, kind = _parse_name(path)
        partner = _partner_of(path, kind, found)
        if partner is None:
            if named:
                raise _partner_missing(path, kind)
            unpaired.append((path, kind))
            continue
        pair = (path, partner) if kind in _FIRST_KINDS else (partner, path)
        if pairs.setdefault((symbol, day, level), pair) != pair:
            first = pairs[symbol, day, level][0]
            raise UserError(f"{symbol} {day} is given twice, by {first} and by {pair[0]}. Pass one of them.")
    if unpaired and not pairs:
        raise _partner_missing(*unpaired[0])
    for path, _ in unpaired:
        _log.warning("%s is passed over: its partner file is not in the folder", path)
    days: dict[tuple[str, str], MarketDay] = {}
    for (symbol, day, level), pair in sorted(pairs.items()):
        if (symbol, day) not in days:  # sorted: the lowest level comes first
            days[symbol, day] = read_lobster(*pair) if level else read_taq(*pair)
    return list(days.values())


def _find_files(paths: Sequence[Path | str]) -> dict[Path, bool]:
    """Market data files under the paths; True for those the caller named, False for those met in a folder."""
    found: dict[Path, bool] = {}
    for path in map(Path, paths):
        if path.is_dir():
            inside = [file for file in sorted(path.rglob("*")) if is_market_data(file)]
            if not inside:
                raise UserError(
                    f"{path}: this folder holds no market data. Expected {_EXPECTED_NAMES}; name bars file by file."
                )
            found = dict.fromkeys(inside, False) | found
        elif not path.exists():
            raise UserError(f"{path}: there is no such file or folder. Check the path.")
        elif not is_market_data(path):
            raise UserError(f"{path}: not recognised by its name. Expected {_EXPECTED_NAMES}; rename it.")
        else:
            found[path] = True
    if not found:
        raise UserError(f"no market data was named. Pass a folder, or files called {_EXPECTED_NAMES}.")
    return found


def is_market_data(path: Path) -> bool:
    """Whether the name is that of a LOBSTER or TAQ file."""
    return bool(_LOBSTER_NAME.fullmatch(path.name) or _TAQ_NAME.fullmatch(path.name))


def _parse_name(path: Path) -> tuple[str, str, int, str]:
    """(symbol in capitals, date as YYYY-MM-DD, LOBSTER level or 0 for TAQ, kind of file)."""
    match = _LOBSTER_NAME.fullmatch(path.name) or _TAQ_NAME.fullmatch(path.name)
    if match is None:
        raise UserError(f"{path}: not recognised by its name. Expected {_EXPECTED_NAMES}; rename it.")
    part = match.groupdict()
    try:
        day = CalendarDate.fromisoformat(part["date"]).isoformat()
    except ValueError:
        raise UserError(f"{path}: {part['date']} in its name is not a calendar date. Rename the file.") from None
    return part["symbol"].upper(), day, int(part.get("level", 0)), part["kind"]


def _partner_of(path: Path, kind: str, found: dict[Path, bool]) -> Path | None:
    """The other file of the pair: beside this one, packed or not, or anywhere among the files found."""
    stem = path.name.removesuffix(".gz").replace(f"_{kind}_", f"_{_PARTNER[kind]}_")
    for name in (stem + ".gz", stem) if path.suffix == ".gz" else (stem, stem + ".gz"):
        if path.with_name(name).is_file():
            return path.with_name(name)
        if elsewhere := [other for other in found if other.name == name]:
            return elsewhere[0]
    return None


def _partner_missing(path: Path, kind: str) -> UserError:
    return UserError(f"{path}: its {_PARTNER[kind]} file is missing. Put it beside this one: a day needs both.")


def _symbol_and_date(first: Path, second: Path, source: Source) -> tuple[str, str]:
    (symbol, day, level, _), partner = _parse_name(first), _parse_name(second)
    if (symbol, day, level) != partner[:3] or (level > 0) != (source == "lobster"):
        raise UserError(
            f"{first.name} and {second.name} are not a {source} pair of one name, day and level. Pass both halves."
        )
    return symbol, day


def _taq_quotes(path: Path) -> tuple[IntArray, ...]:
    """(time_ns, bid_e4, bid_shares, ask_e4, ask_shares): one row a millisecond, from the quote in force at the open."""
    quotes = _read_columns(
        path, ("time", "bid price", "bid size", "ask price", "ask size", "exchange", "condition", "suspicious"),
        text=("exchange", "condition"),
    )  # fmt: skip
    time_ns = quotes["time"].to_numpy() * 10**6
    _check_times(path, time_ns)
    sides = []
    one_side = np.zeros(time_ns.size, dtype=bool)
    trusted = quotes["suspicious"].to_numpy() == 0
    for side in ("bid", "ask"):
        price_e4, shares = quotes[f"{side} price"].to_numpy(), quotes[f"{side} size"].to_numpy()
        _refuse(
            path, f"{side} price", price_e4, (price_e4 < 0) | (price_e4 >= _LOBSTER_EMPTY), "must be a price x 10000"
        )
        _refuse(path, f"{side} size", shares, (shares < 0) | (shares > _MAX_SHARES), "must be a number of shares")
        _refuse(path, f"{side} size", shares, (price_e4 > 0) != (shares > 0), "must be positive just when the price is")
        one_side |= price_e4 > 0
        # A row speaks for one side; the other side stays as it was.
        last = np.maximum.accumulate(np.where((price_e4 > 0) & trusted, np.arange(time_ns.size), -1))
        sides += [np.where(last >= 0, price_e4[last], 0), np.where(last >= 0, shares[last], 0)]
    _refuse(path, "bid price", quotes["bid price"].to_numpy(), ~one_side, "must be positive where the ask price is 0")
    settled = np.flatnonzero(np.append(time_ns[1:] != time_ns[:-1], True))  # what a millisecond ended with
    first = max(int(np.searchsorted(time_ns[settled], SESSION_OPEN_NS, "right")) - 1, 0)
    settled = settled[first : int(np.searchsorted(time_ns[settled], SESSION_CLOSE_NS, "left"))]
    return time_ns[settled], *(column[settled] for column in sides)


def _book_side(path: Path, book: pd.DataFrame, side: str) -> tuple[IntArray, IntArray]:
    """Best price and size of one side, (n_rows,); an empty level becomes 0, 0."""
    price_e4, shares = book[f"{side} price 1"].to_numpy(), book[f"{side} size 1"].to_numpy()
    empty = np.abs(price_e4) == _LOBSTER_EMPTY
    _refuse(
        path,
        f"{side} price 1",
        price_e4,
        ~empty & ((price_e4 < 1) | (price_e4 > _LOBSTER_EMPTY)),
        "must be a positive price x 10000",
    )
    _refuse(
        path,
        f"{side} size 1",
        shares,
        ~empty & ((shares < 1) | (shares > _MAX_SHARES)),
        "must be a positive number of shares",
    )
    return np.where(empty, 0, price_e4), np.where(empty, 0, shares)


def _halts(time_ns: IntArray, kind: IntArray, price_e4: IntArray) -> IntArray:
    halts: list[tuple[int, int]] = []
    start: int | None = None
    for row in np.flatnonzero(kind == 7):
        if price_e4[row] == -1 and start is None:
            start = int(time_ns[row])
        elif price_e4[row] == 1 and start is not None:
            halts.append((start, int(time_ns[row])))
            start = None
    if start is not None:
        halts.append((start, SESSION_CLOSE_NS))
    return np.array(halts, dtype=np.int64).reshape(-1, 2)


def _read_columns(
    path: Path, names: tuple[str, ...], *, decimal: str = "", text: tuple[str, ...] = (), keep: int | None = None
) -> pd.DataFrame:
    """A csv file without header as columns: int64, float64 for `decimal`, categories for `text`; the first `keep`."""
    raw = _read_bytes(path)
    characters = np.frombuffer(raw, dtype=np.uint8)
    line_ends = np.flatnonzero(characters == ord("\n"))
    if raw[-1:] != b"\n":
        line_ends = np.append(line_ends, len(raw))
    n_fields = np.diff(np.searchsorted(np.flatnonzero(characters == ord(",")), line_ends), prepend=0) + 1
    if (bad := np.flatnonzero(n_fields != len(names))).size:
        start = line_ends[bad[0] - 1] + 1 if bad[0] else 0
        line = raw[start : min(line_ends[bad[0]], start + _SHOWN_BYTES)].decode("latin-1").rstrip("\r")
        raise UserError(
            f"{path} line {bad[0] + 1}: {n_fields[bad[0]]} fields where {len(names)} are expected "
            f"({', '.join(names[:6])}{', ...' if len(names) > 6 else ''}), but the line is {line!r} "
            f"({bad.size} of {n_fields.size} lines are wrong). Is the file cut short, or of another format?"
        )
    types = {name: "category" if name in text else "float64" if name == decimal else "int64" for name in names}
    options: dict[str, Any] = {"header": None, "names": list(names), "na_filter": False, "encoding": "latin-1"}
    options |= {"skip_blank_lines": False, "quoting": csv.QUOTE_NONE}
    try:
        columns: pd.DataFrame = pd.read_csv(io.BytesIO(raw), dtype=types, usecols=list(names[:keep]), **options)
    except (ValueError, OverflowError) as error:
        columns = pd.read_csv(io.BytesIO(raw), dtype=str, **options)
        for name in names:
            pattern = r"\s*\d{1,6}(\.\d*)?\s*" if name == decimal else r"\s*-?\d{1,18}\s*"
            if name not in text:
                wrong = ~columns[name].str.fullmatch(pattern).to_numpy(dtype=bool)
                _refuse(path, name, columns[name].to_numpy(), wrong, "must be a number (the file has no header line)")
        raise UserError(f"{path}: cannot be read as numbers ({error}). Fetch the file again.") from None
    if decimal:
        times = columns[decimal].to_numpy()
        _refuse(path, decimal, times, ~np.isfinite(times), "must be a finite number")
    return columns


def _read_bytes(path: Path) -> bytes:
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{path}: the gzip archive is damaged or cut short ({error}). Fetch the file again.") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}). Check the path and its permissions.") from None
    if not raw.strip():
        raise UserError(f"{path}: the file is empty. Fetch it again.")
    return raw


def _categories(path: Path, column: pd.Series[Any], pattern: str, rule: str) -> tuple[list[str], NDArray[np.intp]]:
    """Distinct texts of a column and, per row, which one; all must match the pattern."""
    values, codes = [str(value) for value in column.cat.categories], column.cat.codes.to_numpy().astype(np.intp)
    bad = np.array([re.fullmatch(pattern, value) is None for value in values])
    _refuse(path, str(column.name), column.to_numpy(), bad[codes], rule)
    return values, codes


def _check_times(path: Path, time_ns: IntArray) -> None:
    _refuse(
        path, "time", time_ns / 1e9, (time_ns < 0) | (time_ns >= _DAY_NS), "must lie in the day (seconds from midnight)"
    )
    backwards = np.append(False, time_ns[1:] < time_ns[:-1])
    _refuse(
        path, "time", time_ns / 1e9, backwards, "must not go backwards (seconds from midnight). Sort the file by time"
    )


def _refuse(path: Path, field: str, values: NDArray[Any], bad: BoolArray, rule: str) -> None:
    """Raise for the first bad row: which file, line and field, the value, the rule, and how many there are."""
    if (rows := np.flatnonzero(bad)).size:
        raise UserError(
            f"{path} line {rows[0] + 1}: field '{field}' {rule}, but is {values[rows[0]]} "
            f"({rows.size} of {bad.size} lines are wrong). Correct or drop the line, or fetch the file again."
        )
