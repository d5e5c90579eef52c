"""The reader of fills files against its contract: exact values, misses, warnings, and one clear message an error."""

from __future__ import annotations

from pathlib import Path

import pytest

from glasspool.configs.errors import UserError
from glasspool.tca.fills import UNKNOWN, read_fills

HEADER = "ts,child_id,side,shares,price,bid,ask,venue,venue_type,parent_id,routed_shares,tif,fee_per_share,mid_10s"
ROWS = [
    "2026-03-02T09:35:10.152-05:00,A-001,buy,200,100.01,100.00,100.02,Alpha,dark,P-1,200,IOC,0.0010,100.015",
    "2026-03-02T14:35:12.427Z,A-002,buy,300.0,100.03,100.01,100.03,Lit 1,lit,P-1,300,IOC,-0.002,",
    "2026-03-02T14:35:15.819000001Z,A-003,buy,0,,100.02,100.03,Beta,dark,P-1,200,DAY,,100.0255",
]


def written(tmp_path: Path, rows: list[str], header: str = HEADER, **kwargs: str) -> Path:
    path = tmp_path / "fills.csv"
    path.write_bytes((kwargs.get("bom", "") + "\n".join([header, *rows]) + "\n").encode(kwargs.get("code", "utf-8")))
    return path


def test_prices_are_exact_and_times_are_utc_nanoseconds(tmp_path: Path) -> None:
    fills = read_fills(written(tmp_path, ROWS))
    assert fills.price_e6.tolist() == [100_010_000, 100_030_000, UNKNOWN]
    assert fills.ts_ns[0] == 1_772_462_110_152_000_000
    assert fills.ts_ns[2] % 10**9 == 819_000_001
    assert fills.shares.tolist() == [200, 300, 0]
    assert fills.mid2_e6.tolist() == [200_020_000, 200_040_000, 200_050_000]
    assert fills.fee_e6.tolist() == [1_000, -2_000, UNKNOWN]
    assert fills.mid_after_e6[10.0].tolist() == [100_015_000, UNKNOWN, 100_025_500]
    assert fills.dark.tolist() == [True, False, True]
    assert fills.names["venue"][fills.venue].tolist() == ["Alpha", "Lit 1", "Beta"]
    assert fills.warnings == {}


def test_rows_are_sorted_by_time_and_keep_their_line_numbers(tmp_path: Path) -> None:
    fills = read_fills(written(tmp_path, [ROWS[2], "", ROWS[0]], bom="\ufeff"))
    assert fills.row.tolist() == [4, 2]
    assert fills.warnings == {"unsorted_rows": 1}


def test_warnings_are_counted_by_code(tmp_path: Path) -> None:
    row = "2026-03-02T14:35:10Z,{},buy,100,{},{},{},V,dark,P,100,IOC,,,x"
    rows = [row.format("a", "10.05", "10", "10.02"), row.format("b", "10", "10", "10"),
            row.format("c", "10", "10.02", "10"), row.format("d", "10", "", "0")]  # fmt: skip
    fills = read_fills(written(tmp_path, rows, HEADER + ",memo"))
    assert fills.warnings == {
        "outside_nbbo": 1, "locked_quotes": 1, "crossed_quotes": 1, "no_quotes": 1, "unknown_columns": 1,
    }  # fmt: skip
    assert fills.unknown_columns == ("memo",)


def test_without_parent_ids_a_parent_is_symbol_and_side(tmp_path: Path) -> None:
    fills = read_fills(written(tmp_path, [r.replace(",P-1,", ",,") for r in ROWS]))
    assert set(fills.names["parent"][fills.parent]) == {"ALL:buy"}


def changed(column: str, value: str, row: int = 0) -> list[str]:
    cells = [r.split(",") for r in ROWS]
    cells[row][HEADER.split(",").index(column)] = value
    return [",".join(c) for c in cells]


@pytest.mark.parametrize(
    ("column", "value", "row"),
    [
        *[("price", value, 0) for value in ("NaN", "inf", "$100", "1e2", "-1", "0", "100.0000001", "")],
        ("price", "100", 2),
        ("shares", "10.5", 0),
        ("shares", "-5", 0),
        ("ts", "2026-03-02T09:35:10", 0),
        ("ts", "09:35:10Z", 0),
        ("ts", "2026-13-02T09:35:10Z", 0),
        ("bid", "-1", 1),
        ("side", "long", 0),
        ("venue_type", "grey", 0),
        ("child_id", "a b", 0),
        ("venue", "caf\u00e9", 0),
        ("routed_shares", "", 2),
        ("routed_shares", "0", 0),
        ("routed_shares", "100", 0),
        ("child_id", "A-001", 1),
    ],
)
def test_a_bad_cell_is_named_by_file_row_and_column(tmp_path: Path, column: str, value: str, row: int) -> None:
    with pytest.raises(UserError) as error:
        read_fills(written(tmp_path, changed(column, value, row)))
    message = str(error.value)
    assert f"fills.csv: row {row + 2}" in message
    assert column in message or column == "child_id"


def test_a_thousands_comma_shows_as_a_wrong_cell_count(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"row 2: .*has 15 cells, the header 14"):
        read_fills(written(tmp_path, changed("shares", "1,000")))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "empty"),
        ((HEADER + "\n").encode(), "no data rows"),
        (HEADER.replace("venue_type", "venuetype").encode(), "row 1, column venue_type.*missing.*'venuetype'"),
        ((HEADER + ",ask\n").encode(), "appears twice"),
        (HEADER.replace(",", ";").encode(), "separated by ';'"),
        ((HEADER + "\n").encode("utf-16"), "UTF-16"),
        ((HEADER + "\n" + ROWS[0] + "\n" + ROWS[1].replace("Lit", '"Lit') + "\n").encode(), "row 3: a quote opens"),
        ((HEADER + "\n" + ROWS[0].replace("Alpha", "A\0")).encode(), "NUL"),
        ((HEADER + "\n").encode() + ROWS[0].encode().replace(b"Alpha", b"\xff"), "row 2: is not UTF-8"),
    ],
)
def test_a_file_that_is_not_such_a_table_is_refused(tmp_path: Path, text: bytes, message: str) -> None:
    path = tmp_path / "fills.csv"
    path.write_bytes(text)
    with pytest.raises(UserError, match=message):
        read_fills(path)


def test_a_fill_id_may_appear_once(tmp_path: Path) -> None:
    header = HEADER + ",fill_id"
    with pytest.raises(UserError, match="row 4, column fill_id: 'f1'"):
        read_fills(written(tmp_path, [ROWS[0] + ",f1", ROWS[1] + ",f2", ROWS[2] + ",f1"], header))


def test_a_parent_has_one_side(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="row 3, column side: 'sell'"):
        read_fills(written(tmp_path, changed("side", "sell", 1)))
