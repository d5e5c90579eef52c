"""Reading real days: what is kept, what is left out, and how broken files are refused."""

from __future__ import annotations

import gzip
import logging
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from glasspool.configs.errors import UserError
from glasspool.envs.market_data import MarketDay, read_day, read_lobster, read_taq

OPEN_NS = 34_200 * 10**9
DATA = os.environ.get("GLASSPOOL_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="GLASSPOOL_DATA is not set")

LOBSTER = "XYZ_2012-06-21_34200000_57600000_{}_1.csv"
MESSAGES = [
    "34200.000000001,1,11,100,1000000,1",  # a bid of 100.00 x 100
    "34200.500000000,4,12,40,1000200,-1",  # a resting sell executed: somebody bought
    "34201.000000000,5,0,30,1000100,1",  # a hidden buy executed: somebody sold
    "34201.000000000,3,13,60,1000200,-1",
]
BOOK = ["1000200,100,1000000,100", "1000200,60,1000000,100", "1000200,60,1000000,100", "1000300,20,1000000,100"]

TAQ_TRADE, TAQ_QUOTE = "20131007_xyz_Trade_Tick.csv", "20131007_xyz_Quote_Tick.csv"
QUOTES = [
    "34000000,100000,500,0,0,Q,1,0",  # before the open: in force at the open
    "34000000,0,0,100200,300,N,1,0",
    "34201000,100100,200,0,0,P,1,0",
    "34201000,0,0,100300,400,P,1,0",
]
TRADES = [
    "34199999,100100,900,N,1,0",  # before the session
    "34200500,100200,100,N,1,0",  # at the offer: a buy
    "34200600,100100,100,D,1,0",  # off exchange, at the mid: no sign
    "34201000,100100,100,Q,20000020,0",  # the quote of the same millisecond is not used: still at the old mid
    "34201001,100100,200,K,1,0",  # at the new bid: a sale
    "34201002,100100,5000,N,40,0",  # opening auction
    "34201003,100100,5000,N,20200000,0",  # late print
    "34201004,100100,700,N,1,1",  # suspicious
    "57600000,100100,900,N,1,0",  # after the session
]


def write(path: Path, lines: list[str]) -> Path:
    text = "".join(line + "\n" for line in lines).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


def lobster(folder: Path, messages: list[str] = MESSAGES, book: list[str] = BOOK) -> MarketDay:
    return read_lobster(
        write(folder / LOBSTER.format("message"), messages), write(folder / LOBSTER.format("orderbook"), book)
    )


def taq(folder: Path, trades: list[str] = TRADES, quotes: list[str] = QUOTES) -> MarketDay:
    return read_taq(write(folder / TAQ_TRADE, trades), write(folder / TAQ_QUOTE, quotes))


def test_lobster_trades_are_the_executions_signed_against_the_resting_order(tmp_path: Path) -> None:
    day = lobster(tmp_path)
    assert (day.symbol, day.date, day.source) == ("XYZ", "2012-06-21", "lobster")
    assert day.trade_time_ns.tolist() == [OPEN_NS + 500_000_000, OPEN_NS + 1_000_000_000]
    assert day.trade_side.tolist() == [1, -1]
    assert day.trade_hidden.tolist() == [False, True]
    assert day.trade_shares.tolist() == [40, 30]
    assert set(day.trade_venue) == {"Q"}


def test_a_lobster_execution_met_the_book_of_the_row_before(tmp_path: Path) -> None:
    day = lobster(tmp_path)
    assert day.trade_quote_row.tolist() == [0, 1]
    assert day.ask_shares[day.trade_quote_row].tolist() == [100, 60]


def test_lobster_nanoseconds_survive(tmp_path: Path) -> None:
    assert lobster(tmp_path).quote_time_ns[0] == OPEN_NS + 1


def test_an_empty_lobster_level_is_a_side_without_a_quote(tmp_path: Path) -> None:
    day = lobster(tmp_path, book=[*BOOK[:3], "9999999999,0,1000000,100"])
    assert (day.ask_e4[3], day.ask_shares[3], day.bid_e4[3]) == (0, 0, 1_000_000)


def test_a_halt_runs_from_its_message_to_the_resumption_of_trading(tmp_path: Path) -> None:
    halt = ["34300.0,7,0,0,-1,-1", "34400.0,7,0,0,0,-1", "34500.0,7,0,0,1,-1", "57000.0,7,0,0,-1,-1"]
    day = lobster(tmp_path, MESSAGES + halt, BOOK + [BOOK[-1]] * 4)
    seconds = day.halt_ns / 1e9
    assert seconds.tolist() == [[34_300.0, 34_500.0], [57_000.0, 57_600.0]]


def test_taq_keeps_the_continuous_session_only(tmp_path: Path) -> None:
    day = taq(tmp_path)
    assert day.trade_shares.tolist() == [100, 100, 100, 200]
    assert day.trade_venue.tolist() == ["N", "D", "Q", "K"]
    assert day.trade_hidden.tolist() == [False, True, False, False]


def test_a_taq_trade_is_signed_against_the_quote_one_millisecond_before(tmp_path: Path) -> None:
    day = taq(tmp_path)
    assert day.trade_side.tolist() == [1, 0, 0, -1]
    assert day.trade_quote_row.tolist() == [0, 0, 0, 1]


def test_taq_quote_rows_become_states_with_the_one_in_force_at_the_open_first(tmp_path: Path) -> None:
    day = taq(tmp_path)
    assert day.quote_time_ns.tolist() == [34_000 * 10**9, 34_201 * 10**9]
    assert list(zip(day.bid_e4, day.ask_e4, strict=True)) == [(100_000, 100_200), (100_100, 100_300)]
    assert list(zip(day.bid_shares, day.ask_shares, strict=True)) == [(500, 300), (200, 400)]


def test_locked_and_crossed_quotes_are_kept(tmp_path: Path) -> None:
    crossed = ["34202000,100400,200,0,0,P,1,0", "34203000,0,0,100400,200,P,1,0"]
    day = taq(tmp_path, quotes=QUOTES + crossed)
    assert (day.ask_e4 - day.bid_e4).tolist() == [200, 200, -100, 0]


def test_packed_and_plain_files_read_the_same(tmp_path: Path) -> None:
    plain = taq(tmp_path)
    packed = read_taq(write(tmp_path / (TAQ_TRADE + ".gz"), TRADES), write(tmp_path / (TAQ_QUOTE + ".gz"), QUOTES))
    assert packed.trade_price_e4.tolist() == plain.trade_price_e4.tolist()
    assert packed.quote_time_ns.tolist() == plain.quote_time_ns.tolist()


BAD_LINES = [  # file, row replaced, by what, what the refusal says
    (
        "message",
        2,
        "34201.0,5,0,30,1000100",
        "message_1.csv line 3: 5 fields where 6 are expected .*, but the line is "
        r"'34201.0,5,0,30,1000100' \(1 of \d lines are wrong\)",
    ),
    ("message", 1, MESSAGES[1] + ",7", "message_1.csv line 2: 7 fields where 6 are expected"),
    ("message", 3, "", "line 4: 1 fields where 6 are expected"),
    (
        "message",
        0,
        "time,type,id,size,price,direction",
        r"line 1: field 'time' must be a number .*no header line.*is time",
    ),
    ("message", 1, "34200.5,4,12,x,1000200,-1", "line 2: field 'size' must be a number .*is x"),
    ("message", 1, "34200.5,4,12,,1000200,-1", "line 2: field 'size' must be a number"),
    ("message", 1, "34200.5,4,12,1.5,1000200,-1", "line 2: field 'size' must be a number"),
    ("message", 1, "nan,4,12,40,1000200,-1", "line 2: field 'time' must be a number"),
    ("message", 1, "inf,4,12,40,1000200,-1", "line 2: field 'time' must be a finite number"),
    ("message", 3, "34200.9,3,13,60,1000200,-1", "line 4: field 'time' must not go backwards"),
    ("message", 3, "86400.0,3,13,60,1000200,-1", "line 4: field 'time' must lie in the day"),
    ("message", 1, "34200.5,4,12,0,1000200,-1", "line 2: field 'size' must be a positive number"),
    ("message", 1, "34200.5,4,12,40,-5,-1", "line 2: field 'price' must be a positive price .*is -5"),
    ("message", 1, "34200.5,9,12,40,1000200,-1", "line 2: field 'type' must be 1 to 7"),
    ("message", 1, "34200.5,4,12,40,1000200,0", "line 2: field 'direction' must be 1"),
    ("orderbook", 1, "1000200,60,0,100", "orderbook_1.csv line 2: field 'bid price 1' must be a positive"),
    ("orderbook", 1, "1000200,0,1000000,100", "line 2: field 'ask size 1' must be a positive"),
    ("Trade", 1, "34200500,0,100,N,1,0", "Trade_Tick.csv line 2: field 'price' must be a positive"),
    ("Trade", 1, "34200500,100200,-1,N,1,0", "line 2: field 'shares' must be a positive"),
    ("Trade", 1, "34200500,100200,100,??,1,0", "line 2: field 'exchange' must be one capital letter"),
    ("Trade", 1, "34200500,100200,100,N,zz,0", "line 2: field 'condition' must be a hexadecimal"),
    ("Trade", 1, "34199998,100200,100,N,1,0", "line 2: field 'time' must not go backwards"),
    ("Quote", 2, "34201000,100100,0,0,0,P,1,0", "Quote_Tick.csv line 3: field 'bid size' must be positive just when"),
    ("Quote", 2, "34201000,0,0,0,0,P,1,0", "line 3: field 'bid price' must be positive where the ask price is 0"),
    ("Quote", 2, "34201000,-1,5,0,0,P,1,0", "line 3: field 'bid price' must be a price"),
    ("Quote", 2, "34201000,99999999999999999999,5,0,0,P,1,0", "line 3: field 'bid price' must be a number"),
]


@pytest.mark.parametrize(("file", "row", "line", "message"), BAD_LINES)
def test_a_broken_line_is_refused_by_file_line_and_field(
    tmp_path: Path, file: str, row: int, line: str, message: str
) -> None:
    good = {"message": MESSAGES, "orderbook": BOOK, "Trade": TRADES, "Quote": QUOTES}
    broken = good | {file: [*good[file][:row], line, *good[file][row + 1 :]]}
    with pytest.raises(UserError, match=message):
        if file in ("message", "orderbook"):
            lobster(tmp_path, broken["message"], broken["orderbook"])
        else:
            taq(tmp_path, broken["Trade"], broken["Quote"])


def test_a_lobster_pair_of_unequal_length_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"message_1.csv has 4 rows but .*orderbook_1.csv has 3"):
        lobster(tmp_path, book=BOOK[:-1])


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"Trade_Tick.csv: the file is empty"):
        taq(tmp_path, trades=[])


def test_a_file_cut_short_in_its_archive_is_refused(tmp_path: Path) -> None:
    quotes = write(tmp_path / (TAQ_QUOTE + ".gz"), QUOTES * 50)
    quotes.write_bytes(quotes.read_bytes()[:-12])
    with pytest.raises(UserError, match=r"Quote_Tick.csv.gz: the gzip archive is damaged or cut short"):
        read_taq(write(tmp_path / TAQ_TRADE, TRADES), quotes)


def test_a_plain_file_named_gz_is_refused(tmp_path: Path) -> None:
    (tmp_path / (TAQ_QUOTE + ".gz")).write_text("34000000,100000,500,0,0,Q,1,0\n")
    with pytest.raises(UserError, match="the gzip archive is damaged"):
        read_taq(write(tmp_path / TAQ_TRADE, TRADES), tmp_path / (TAQ_QUOTE + ".gz"))


def test_files_of_two_days_or_names_are_no_pair(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a taq pair"):
        read_taq(write(tmp_path / TAQ_TRADE, TRADES), write(tmp_path / "20131008_xyz_Quote_Tick.csv", QUOTES))


def test_a_folder_gives_its_days_sorted_and_passes_over_what_it_does_not_know(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "sub").mkdir()
    lobster(tmp_path / "sub")
    taq(tmp_path)
    write(tmp_path / "20131007_spy_Trade_Tick.csv", TRADES)
    write(tmp_path / "20131007_spy_second_quote.csv", ["1"])
    with caplog.at_level(logging.WARNING):
        days = read_day([tmp_path])
    assert [(day.symbol, day.date) for day in days] == [("XYZ", "2012-06-21"), ("XYZ", "2013-10-07")]
    assert "20131007_spy_Trade_Tick.csv is passed over" in caplog.text


def test_one_file_of_a_pair_finds_the_other_beside_it(tmp_path: Path) -> None:
    taq(tmp_path)
    assert [day.source for day in read_day([tmp_path / TAQ_QUOTE])] == ["taq"]
    assert len(read_day([tmp_path / TAQ_QUOTE, tmp_path / TAQ_TRADE, tmp_path])) == 1


def test_a_day_at_two_depths_counts_once_at_the_lower_one(tmp_path: Path) -> None:
    lobster(tmp_path)
    five = LOBSTER.replace("_1.csv", "_5.csv")
    write(tmp_path / five.format("message"), MESSAGES[:3])
    write(tmp_path / five.format("orderbook"), [line + ",1000400,5,999900,5" * 4 for line in BOOK[:3]])
    assert [day.bid_e4.size for day in read_day([tmp_path])] == [4]
    assert read_day([tmp_path / five.format("message")])[0].bid_e4.tolist() == lobster(tmp_path).bid_e4[:3].tolist()


@pytest.mark.parametrize("name", [TAQ_TRADE, TAQ_QUOTE, LOBSTER.format("message"), LOBSTER.format("orderbook")])
def test_a_missing_partner_is_named(tmp_path: Path, name: str) -> None:
    partner = {"Trade": "Quote", "Quote": "Trade", "message": "orderbook", "orderbook": "message"}
    word = next(other for kind, other in partner.items() if f"_{kind}_" in name)
    path = write(tmp_path / name, TRADES)
    for argument in (path, tmp_path):
        with pytest.raises(UserError, match=rf"its {word} file is missing"):
            read_day([argument])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: p / "no_such.csv", "there is no such file or folder"),
        (lambda p: write(p / "fills.csv", ["1"]), "not recognised by its name"),
        (lambda p: p, "this folder holds no market data"),
        (lambda p: write(p / "20131399_xyz_Trade_Tick.csv", ["1"]), "20131399 in its name is not a calendar date"),
    ],
)
def test_a_path_that_leads_nowhere_is_refused(tmp_path: Path, make: Callable[[Path], Path], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_day([make(tmp_path)])


def test_the_same_day_from_two_folders_is_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        taq(tmp_path / name)
    with pytest.raises(UserError, match="XYZ 2013-10-07 is given twice"):
        read_day([tmp_path])


@needs_data
def test_levels_one_and_five_of_a_real_day_hold_the_same_trades() -> None:
    stem = str(Path(str(DATA)) / "lobster" / "AMZN_2012-06-21_34200000_57600000_{}_{}.csv.gz")
    one, five = (read_lobster(stem.format("message", n), stem.format("orderbook", n)) for n in (1, 5))
    assert np.array_equal(one.trade_time_ns, five.trade_time_ns)
    assert np.array_equal(one.trade_shares, five.trade_shares)
    assert one.quote_time_ns.size < five.quote_time_ns.size
