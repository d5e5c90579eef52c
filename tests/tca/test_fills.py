"""The reader of fills files against its contract: exact values, misses, warnings, and one clear message an error."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from glasspool.configs.errors import UserError
from glasspool.tca import fill_cells
from glasspool.tca.fills import UNKNOWN, Fills, read_fills

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


def test_a_fill_before_its_order_was_received_is_a_warning_and_equal_times_are_none(tmp_path: Path) -> None:
    rows = [f"{ROWS[0]},{when}" for when in ("2026-03-02T14:35:10.152000001Z",)]
    rows += [f"{ROWS[0].replace('A-001', 'A-004')},{when}" for when in ("2026-03-02T09:35:10.152-05",)]
    rows += [f"{ROWS[0].replace('A-001', 'A-005')},"]
    fills = read_fills(written(tmp_path, rows, HEADER + ",recv_ts"))
    assert fills.warnings == {"ts_before_recv_ts": 1}
    assert fills.recv_ts_ns.tolist() == [fills.ts_ns[0] + 1, fills.ts_ns[0], UNKNOWN]


def test_case_order_of_columns_spaces_and_line_ends_do_not_matter(tmp_path: Path) -> None:
    plain = read_fills(written(tmp_path, ROWS))
    turned = [",".join(f" {cell} " for cell in reversed(row.upper().split(","))) + "\r" for row in ROWS]
    turned = [row.replace("P-1", '"P-1"').replace(' "P-1" ', '"P-1 "').replace("ALPHA", "Alpha") for row in turned]
    turned = [row.replace("LIT 1", "Lit 1").replace("BETA", "Beta") for row in turned]
    header = ",".join(f" {name} " for name in reversed(HEADER.upper().split(","))) + "\r"
    assert same(plain, read_fills(written(tmp_path, turned, header, bom="\ufeff")))


def test_every_time_form_of_the_contract_is_the_same_instant(tmp_path: Path) -> None:
    forms = ("2026-03-02T14:35:10Z", "2026-03-02 14:35:10.000000000Z", "2026-03-02T09:35:10-05",
             "2026-03-02T09:35:10.0-0500", "2026-03-02T20:05:10+05:30")  # fmt: skip
    rows = [ROWS[0].replace("2026-03-02T09:35:10.152-05:00", form).replace("A-001", f"A-{i}")
            for i, form in enumerate(forms)]  # fmt: skip
    assert read_fills(written(tmp_path, rows)).ts_ns.tolist() == [1_772_462_110 * 10**9] * len(forms)


def same(a: Fills, b: Fills) -> bool:
    """The two hold the same values under the same names."""
    plain = [f.name for f in fields(Fills) if f.name not in ("mid_after_e6", "names", "warnings", "unknown_columns")]
    coded = a.names.keys() == b.names.keys() and all(
        (a.names[k][getattr(a, k)] == b.names[k][getattr(b, k)]).all() for k in a.names
    )
    return (
        coded
        and all((getattr(a, name) == getattr(b, name)).all() for name in plain if name not in a.names)
        and a.mid_after_e6.keys() == b.mid_after_e6.keys()
        and all((a.mid_after_e6[h] == b.mid_after_e6[h]).all() for h in a.mid_after_e6)
        and (a.warnings, a.unknown_columns) == (b.warnings, b.unknown_columns)
    )


@pytest.mark.parametrize("block_bytes", [1, 150, 2_000])
def test_the_size_of_a_block_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block_bytes: int) -> None:
    rng = np.random.default_rng(5)
    rows = []
    for i in range(200):
        cells = ROWS[i % 3].split(",")
        cells[0] = f"2026-03-02T14:35:{rng.integers(10, 60)}.{rng.integers(10**9):09d}Z"
        cells[1] = f" N-{i // 2 * 3 + i % 3}"
        cells[7] = f"{'  ' * int(rng.integers(2))}V{rng.integers(5)}" if i % 3 else cells[7]
        cells[4] = cells[4] and f"{rng.integers(10**6, 10**9) / 10**6:.6f}"
        rows += [",".join(cells), *["   "] * int(rng.integers(2)), *[""] * int(rng.integers(2))]
    path = written(tmp_path, rows)
    whole = read_fills(path)
    monkeypatch.setattr(fill_cells, "BLOCK_BYTES", block_bytes)
    assert same(whole, read_fills(path))
    lines = path.read_text().split("\n")
    for row, ts_ns in zip(whole.row[:20], whole.ts_ns, strict=False):
        assert lines[row - 1].startswith("2026") and f"{ts_ns % 10**9:09d}Z" in lines[row - 1]


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
        ("ts", "2026-02-30T09:35:10Z", 0),
        ("ts", "2026-03-02T09:35:10+25:00", 1),
        ("ts", "2026-03-02T09:35:10.1234567891Z", 1),
        ("ts", "1500-03-02T09:35:10Z", 1),
        ("ts", "", 1),
        ("shares", "", 1),
        ("shares", "1e2", 1),
        ("ask", "NaN", 1),
        ("ask", "-0.01", 2),
        ("venue", "", 1),
        ("venue", "V" * 41, 1),
        ("child_id", "A" * 65, 1),
        ("child_id", "-A", 1),
        ("parent_id", "=P", 1),
        ("tif", "I C", 1),
        ("fee_per_share", "$1", 1),
        ("mid_10s", "-1", 1),
        ("routed_shares", "10.5", 1),
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
    assert column in message or (column == "child_id" and value == "A-001")
    assert "more)" not in message and "\n" not in message


def test_the_first_bad_row_is_named_and_the_others_counted_over_blocks_and_columns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [*ROWS, *(ROWS[0].replace("A-001", f"B-{i}") for i in range(30))]
    for i in range(5, 30):
        rows[i] = rows[i].replace(",100.01,", ", $100.01 ,")
    rows[20] = rows[20].replace("dark", "grey")
    for block_bytes in (300, 1 << 24):
        monkeypatch.setattr(fill_cells, "BLOCK_BYTES", block_bytes)
        with pytest.raises(UserError) as error:
            read_fills(written(tmp_path, rows))
        assert f"row 7, column price: '$100.01': {fill_cells.RULES['price'][0]} (and 24 more). " in str(error.value)


def test_a_rule_over_two_cells_names_its_first_row_and_shows_the_cell_as_written(tmp_path: Path) -> None:
    rows = [*ROWS, *(ROWS[2].replace("A-003", f"B-{i}").replace(",0,,", ",0,100.50,") for i in range(4))]
    with pytest.raises(UserError, match=r"row 5, column price: '100.50': is blank exactly .* \(and 3 more\)\. "):
        read_fills(written(tmp_path, rows))


def test_a_cell_that_cannot_be_read_is_not_counted_as_a_blank_one(tmp_path: Path) -> None:
    rows = changed("price", "")
    rows[1] = rows[1].replace(",100.03,", ",$100.03,", 1)
    with pytest.raises(UserError, match=r"row 2, column price: '': a fill needs a price\. "):
        read_fills(written(tmp_path, rows))


def test_texts_that_differ_in_spaces_or_case_only_are_one(tmp_path: Path) -> None:
    second = ROWS[0].replace("A-001,buy", " A-001 ,BUY").replace("dark", "Dark").replace("IOC", "ioc")
    fills = read_fills(written(tmp_path, [row.replace(",200,100.01", ",100,100.01") for row in (ROWS[0], second)]))
    assert (fills.child.tolist(), fills.tif.tolist(), fills.dark.tolist()) == ([0, 0], [0, 0], [True, True])
    assert fills.names["child"].tolist() == ["A-001"]


def test_a_value_is_cut_to_forty_characters_in_the_message(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"row 3, column venue: 'V{40}\.\.\.': "):
        read_fills(written(tmp_path, changed("venue", "V" * 41, 1)))


def test_misses_need_the_column_of_the_size_of_their_order(tmp_path: Path) -> None:
    short = HEADER.replace(",routed_shares", "")
    rows = [",".join(cells[:10] + cells[11:]) for cells in (row.split(",") for row in ROWS)]
    with pytest.raises(UserError, match=r"row 4, column routed_shares.*Add the column routed_shares"):
        read_fills(written(tmp_path, rows, short))
    with pytest.raises(UserError, match=r"row 4, column routed_shares.*Fill in the column"):
        read_fills(written(tmp_path, changed("routed_shares", "", 2)))
    assert read_fills(written(tmp_path, rows[:2], short)).routed_shares.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("column", "value", "shown"),
    [("side", "sell", "child order 'A-001' has 'buy' in row 2"), ("venue", "Beta", "has 'Alpha' in row 2"),
     ("parent_id", "P-2", "has 'P-1' in row 2"), ("routed_shares", "201", "has '200' in row 2")],
)  # fmt: skip
def test_a_child_order_has_one_side_venue_parent_and_size(tmp_path: Path, column: str, value: str, shown: str) -> None:
    rows = [ROWS[0].replace(",200,100.01", ",100,100.01"), changed(column, value)[0].replace(",200,1", ",50,1")]
    with pytest.raises(UserError, match=f"row 3, column {column}: '{value}': .*{shown}"):
        read_fills(written(tmp_path, rows))


@pytest.mark.parametrize("length", [256, 257])
@pytest.mark.parametrize("column", ["venue", "ts", "memo"])
def test_a_cell_has_at_most_256_characters_spaces_and_unknown_columns_included(
    tmp_path: Path, column: str, length: int
) -> None:
    rows = [row + ",\u00e9" for row in ROWS]
    cells = rows[1].split(",")
    at = [*HEADER.split(","), "memo"].index(column)
    cells[at] = cells[at].ljust(length, "\u00e9" if column == "memo" else " ")
    path = written(tmp_path, [rows[0], ",".join(cells), rows[2]], HEADER + ",memo")
    if length == 256:
        assert len(read_fills(path)) == 3
    else:
        with pytest.raises(UserError, match=f"row 3, column {column}: .*is longer than 256 characters"):
            read_fills(path)


@pytest.mark.parametrize("block_bytes", [1, 1 << 24])
@pytest.mark.parametrize(
    ("cell", "message"),
    [('"Lit\n1"', "row 4: a quoted cell holds a line break"), ('"Lit 1\r\n"', "row 4: a quoted cell holds a line"),
     ('"Lit 1', "row 4: a quote opens and never closes"), ("Lit\r1", "row 4: holds a carriage return"),
     ("Lit 1\0", "row 4: holds a NUL"), ("Lit 1,", "row 4: .*has 16 cells, the header 15")],
)  # fmt: skip
@pytest.mark.parametrize("column", ["venue", "memo"])
def test_a_row_that_cannot_be_read_is_named_by_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, column: str, cell: str, message: str, block_bytes: int
) -> None:
    monkeypatch.setattr(fill_cells, "BLOCK_BYTES", block_bytes)
    rows = [row + "," for row in ROWS]
    rows[1] = rows[1].replace("Lit 1", cell) if column == "venue" else rows[1] + cell
    with pytest.raises(UserError, match=message):
        read_fills(written(tmp_path, [rows[0], " ", rows[1], *[rows[2]] * 3], HEADER + ",memo"))


def test_a_quote_left_open_in_the_last_cell_of_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="row 4: a quote opens and never closes"):
        read_fills(written(tmp_path, [*ROWS[:2], ROWS[2].replace("100.0255", '"100.0255')]))


def test_a_stray_quote_inside_a_cell_is_text_and_a_quoted_cell_may_hold_commas_and_quotes(tmp_path: Path) -> None:
    memos = ['5" pipe', '"a, ""b"""', ""]
    fills = read_fills(written(tmp_path, [f"{r},{m}" for r, m in zip(ROWS, memos, strict=True)], HEADER + ",memo"))
    assert fills.row.tolist() == [2, 3, 4]


def test_lines_of_white_space_are_skipped_and_counted_as_lines(tmp_path: Path) -> None:
    rows = [" \t ", ROWS[0], "", "\u00a0", "\r", ROWS[1], "      ", changed("side", "long", 2)[2]]
    assert read_fills(written(tmp_path, rows[:-1])).row.tolist() == [3, 7]
    with pytest.raises(UserError, match="row 9, column side: 'long'"):
        read_fills(written(tmp_path, rows))
    with pytest.raises(UserError, match="no data rows"):
        read_fills(written(tmp_path, rows[2:5]))


def test_a_thousands_comma_shows_as_a_wrong_cell_count(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"row 2: .*has 15 cells, the header 14"):
        read_fills(written(tmp_path, changed("shares", "1,000")))
    with pytest.raises(UserError, match=r"row 2: .*has 15 cells, the header 14 \(and 1 more\)\. "):
        read_fills(written(tmp_path, [*changed("shares", "1,000")[:2], ROWS[2] + ","]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "empty"),
        ((HEADER + "\n").encode(), "no data rows"),
        (HEADER.replace("venue_type", "venuetype").encode(), "row 1, column venue_type.*missing.*'venuetype'"),
        ((HEADER + ",ask\n").encode(), "appears twice"),
        (b"\xef\xbb\xbf\r\n", "empty"),
        ((HEADER + ",memo, Memo \n").encode(), "row 1, column memo.*appears twice"),
        (HEADER.replace(",", ";").encode(), "separated by ';'"),
        (HEADER.replace(",", "\t").encode(), "separated by '.t'"),
        (HEADER.replace("ts", '"ts').encode(), "row 1: a quote opens"),
        ((HEADER + "\r" + ROWS[0]).encode(), "row 1: holds a carriage return"),
        (HEADER.encode() + b",\xff\n" + ROWS[0].encode(), "row 1: is not UTF-8"),
        (HEADER.encode() + b"\n" + b"x" * (1 << 21), "row 2: is longer than 1,048,576 bytes"),
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
    again = [f"{ROWS[0].replace('A-001', f'B-{i}')},{name}" for i, name in enumerate(("f1", "", "", "f2", "f2", "f1"))]
    with pytest.raises(UserError, match=r"row 6, column fill_id: 'f2'.*\(and 1 more\)"):
        read_fills(written(tmp_path, again, header))


def test_fills_of_a_child_order_stay_within_its_size(tmp_path: Path) -> None:
    rows = [ROWS[0], ROWS[1], ROWS[0].replace(",200,100.01", ",1,100.01")]
    with pytest.raises(UserError, match="row 2, column routed_shares: '200': .*child order 'A-001' sum to 201"):
        read_fills(written(tmp_path, rows))


def test_a_parent_has_one_side(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="row 3, column side: 'sell'"):
        read_fills(written(tmp_path, changed("side", "sell", 1)))
