"""Bar files: the three ways to state a time, CSV and Parquet, days that are no whole days, and what is refused."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from glasspool.configs.errors import UserError
from glasspool.envs.bar_fit import measure_bars, volume_curve
from glasspool.envs.bars import read_bars, read_volume_table
from glasspool.envs.data_report import bar_report


def table(minutes: int = 5, symbol: str = "ABC", date: str = "2026-01-05", last: int = 960) -> pd.DataFrame:
    """One day of bars from 09:30 to `last`: volume 100 a minute, price up a cent each bar."""
    start = np.arange(570, last, minutes)
    close = 50 + 0.01 * np.arange(1, start.size + 1)
    return pd.DataFrame({
        "symbol": symbol, "date": date, "time_et": [f"{m // 60:02d}:{m % 60:02d}" for m in start],
        "open": close - 0.01, "high": close, "low": close - 0.01, "close": close, "volume": 100 * minutes,
    })  # fmt: skip


def test_start_end_and_milliseconds_are_the_same_bars(tmp_path: Path) -> None:
    by_start = table()
    start = 570 + 5 * np.arange(78)
    by_end = by_start.drop(columns="time_et").assign(
        time_et_end=[f"{m // 60:02d}:{m % 60:02d}" for m in start + 5])  # fmt: skip
    by_ms = by_start.drop(columns="time_et").assign(ms=start * 60_000)
    before = by_ms.iloc[:1].assign(ms=240 * 60_000)  # 04:00: not the session
    got = []
    for name, frame in (("start.csv", by_start), ("end.csv.gz", by_end), ("ms.parquet", pd.concat([before, by_ms]))):
        path = tmp_path / name
        frame.to_parquet(path) if name.endswith("parquet") else frame.to_csv(path, index=False)
        got.append(read_bars([path]))
    for bars in got:
        assert (bars.symbol, bars.dates, bars.bar_minutes) == ("ABC", ("2026-01-05",), 5)
        assert bars.volume_shares.tolist() == [[500.0] * 78]
        assert np.array_equal(bars.close_usd, got[0].close_usd)


def test_quotes_give_a_spread_and_a_missing_trade_side_is_a_bar_without_volume(tmp_path: Path) -> None:
    frame = table(minutes=1).assign(bid_close=49.99, ask_close=50.01)
    frame.loc[10, ["open", "high", "low", "close", "volume"]] = np.nan
    frame["bid_close"] += 0.01 * (np.arange(390) % 2)  # the mid moves
    frame["ask_close"] += 0.01 * (np.arange(390) % 2)
    frame.to_parquet(tmp_path / "abc.parquet")
    bars = read_bars([tmp_path / "abc.parquet"])
    assert bars.volume_shares[0, 9:12].tolist() == [100, 0, 100]
    got = measure_bars(bars)
    assert got.half_spread_bps == pytest.approx(1e4 * 0.01 / 50.005, rel=1e-3)
    assert got.adv_shares == 38_900
    # Every mid return but the first is one cent in 50 dollars, 2 bps.
    assert got.daily_vol_bps == pytest.approx(2 * np.sqrt(389), rel=1e-3)


def test_a_half_day_is_left_out_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pd.concat([table(), table(date="2026-01-06", last=780)]).to_csv(tmp_path / "abc.csv", index=False)
    with caplog.at_level(logging.WARNING):
        assert read_bars([tmp_path / "abc.csv"]).dates == ("2026-01-05",)
    assert "ABC 2026-01-06 is left out" in caplog.text


def test_one_name_must_be_chosen(tmp_path: Path) -> None:
    pd.concat([table(), table(symbol="XYZ")]).to_csv(tmp_path / "two.csv", index=False)
    with pytest.raises(UserError, match=r"two.csv holds 2 names \(ABC, XYZ\).*--symbol"):
        read_bars([tmp_path / "two.csv"])
    assert read_bars([tmp_path / "two.csv"], "xyz").symbol == "XYZ"
    with pytest.raises(UserError, match="no bar of QQQ"):
        read_bars([tmp_path / "two.csv"], "QQQ")


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (table().assign(high=10.0), r"row 2: field 'open' must lie between"),
        (
            pd.concat([table().iloc[:4], table().iloc[3:]]),
            r"row 6: field 'time' \(ABC 2026-01-05 09:45\) is the second bar",
        ),
        (table(minutes=2), "bars are 2 minutes long, but all must be 1, 5, 15"),
        (table().drop(columns="volume"), "row 1: column 'volume' is missing"),
        (table().drop(columns="time_et"), "row 1: columns none give the time"),
        (table().replace({"time_et": {"10:00": "10:02"}}), r"off the grid of|bars are 2|bars are 3"),
        (table(last=700), "no day has a bar with volume in every half hour"),
    ],
)
def test_broken_bars_are_refused_with_row_and_field(tmp_path: Path, frame: pd.DataFrame, message: str) -> None:
    frame.to_csv(tmp_path / "abc.csv", index=False)
    with pytest.raises(UserError, match=message):
        read_bars([tmp_path / "abc.csv"])


def lines_of(tmp_path: Path, frame: pd.DataFrame | None = None) -> list[str]:
    path = tmp_path / "good.csv"
    (table() if frame is None else frame).to_csv(path, index=False)
    return path.read_text().splitlines()


BAD_LINES = [  # line of the file that is replaced (the header is 1), by what, what the refusal says
    (5, "ABC,2026-01-05,09:45", r"abc.csv row 5: 3 fields where the header has 8, but the row is "
     r"'ABC,2026-01-05,09:45' \(1 of 78 rows are wrong\). Is the file cut short"),
    (79, "ABC,2026-01-05,15:55,50.77,50.7", "row 79: 5 fields where the header has 8"),
    (2, "ABC,2026-01-05,09:30,50.0,50.01,50.0,50.01,500,1", "row 2: 9 fields where the header has 8"),
    (6, "ABC,2026-01-05,09:40,50.0,50.01,50.0,50.01,500", "row 6: field 'time_et' must not go backwards|second bar"),
    (6, "ABC,2026-01-05,09:35,50.0,50.01,50.0,50.01,500", "row 6: field 'time_et' must not go backwards.*is '09:35'"),
    (9, "ABC,2026-01-05,10:05,50.0,50.01,50.0,50.01,-5", "row 9: field 'volume' must be a number of shares"),
    (9, "ABC,2026-01-05,10:05,x,50.01,50.0,50.01,500", "row 9: field 'open' must be a number, but is 'x'"),
    (1, "symbol,date,time_et,open,high,low,close,close", "row 1: column 'close' appears twice"),
    (9, "ABC,2026-01-05,10:05,50.0,50.01,\r50.0,50.01,500", "row 9: holds a lone carriage return"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "text", "message"), BAD_LINES)
def test_a_broken_line_is_refused_by_file_line_and_field(tmp_path: Path, line: int, text: str, message: str) -> None:
    lines = lines_of(tmp_path)
    lines[line - 1] = text
    (tmp_path / "abc.csv").write_bytes("\n".join([*lines, ""]).encode())
    with pytest.raises(UserError, match=message):
        read_bars([tmp_path / "abc.csv"])


def test_rows_in_reverse_are_refused(tmp_path: Path) -> None:
    head, *rows = lines_of(tmp_path)
    (tmp_path / "abc.csv").write_text("\n".join([head, *rows[::-1], ""]))
    with pytest.raises(
        UserError,
        match=r"row 3: .* not go backwards, but is '15:50' \(77 of 78 rows are wrong\). Sort the",
    ):
        read_bars([tmp_path / "abc.csv"])


def test_a_mark_mixed_line_ends_and_empty_lines_are_read_and_lines_still_count(tmp_path: Path) -> None:
    lines = lines_of(tmp_path)
    mixed = "\ufeff" + "\n".join(lines[:10]) + "\r\n\r\n\n" + "\r\n".join(lines[10:]) + "\n"
    (tmp_path / "abc.csv").write_bytes(mixed.encode())
    assert np.array_equal(read_bars([tmp_path / "abc.csv"]).close_usd, read_bars([tmp_path / "good.csv"]).close_usd)
    bad = mixed.replace(lines[10], lines[10].replace("10:15", "25:15"))
    (tmp_path / "abc.csv").write_bytes(bad.encode())
    with pytest.raises(UserError, match="row 13: field 'time_et' must be a time"):
        read_bars([tmp_path / "abc.csv"])


def test_locked_and_crossed_closes_have_no_weight_and_are_counted(tmp_path: Path) -> None:
    frame = table(minutes=1).assign(bid_close=49.99, ask_close=50.01)
    frame["bid_close"] += 0.01 * (np.arange(390) % 2)  # the mid moves
    frame["ask_close"] += 0.01 * (np.arange(390) % 2)
    frame.to_csv(tmp_path / "good.csv", index=False)
    frame.loc[[3, 4], "bid_close"], frame.loc[7, "bid_close"] = 51.0, frame.loc[7, "ask_close"]
    frame.to_csv(tmp_path / "abc.csv", index=False)
    clean, got = (measure_bars(read_bars([tmp_path / name])) for name in ("good.csv", "abc.csv"))
    assert got.half_spread_bps == pytest.approx(clean.half_spread_bps, rel=1e-4)
    counts = {row["what"]: row["count"] for row in bar_report(read_bars([tmp_path / "abc.csv"]))}
    assert counts == {"bars with volume": 390, "bars missing or without volume": 0, "locked closes": 1,
                      "crossed closes": 2, "bars without both closes": 0}  # fmt: skip
    frame.loc[:29, "bid_close"] = 51.0
    frame.to_csv(tmp_path / "abc.csv", index=False)
    rule = r"abc.csv row 2: field 'bid_close' \(ABC\) must be below ask_close .* half hour from 09:30, .* of 30 rows"
    with pytest.raises(UserError, match=rule):
        read_bars([tmp_path / "abc.csv"])
    frame["bid_close"] = 60.0
    pd.concat([table(1, date="2026-01-02").assign(bid_close=49.99, ask_close=50.01), frame]).to_csv(
        tmp_path / "abc.csv", index=False
    )
    with pytest.raises(UserError, match=r"row 392: .*must be at or below ask_close at some time on 2026-01-05, .* 390"):
        read_bars([tmp_path / "abc.csv"])


def test_a_crossed_close_is_no_price_for_volatility(tmp_path: Path) -> None:
    """Two crossed closes, dollars off, once made volatility four times what it was."""
    frame = table(minutes=1).assign(bid_close=49.99, ask_close=50.01)
    frame["bid_close"] += 0.01 * (np.arange(390) % 2)
    frame["ask_close"] += 0.01 * (np.arange(390) % 2)
    frame.to_csv(tmp_path / "good.csv", index=False)
    frame.loc[[100, 200], "bid_close"] = 60.0
    frame.to_csv(tmp_path / "abc.csv", index=False)
    clean, got = (measure_bars(read_bars([tmp_path / name])) for name in ("good.csv", "abc.csv"))
    assert got.daily_vol_bps == pytest.approx(clean.daily_vol_bps, rel=0.01)


def test_a_quote_without_its_other_side_is_refused(tmp_path: Path) -> None:
    table().assign(ask_close=50.01).to_csv(tmp_path / "abc.csv", index=False)
    with pytest.raises(UserError, match="row 1: column 'ask_close' stands without its other side"):
        read_bars([tmp_path / "abc.csv"])


def test_a_name_that_is_missing_is_refused(tmp_path: Path) -> None:
    frame = table()
    frame.loc[3, "symbol"] = None
    frame.to_parquet(tmp_path / "abc.parquet")
    with pytest.raises(UserError, match="row 4: field 'symbol' must be a name, but is nan"):
        read_bars([tmp_path / "abc.parquet"])


def test_the_header_s_line_counts_empty_lines_before_it_and_a_cut_last_line_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines = lines_of(tmp_path, table().drop(columns="volume"))
    (tmp_path / "abc.csv").write_text("\n".join(["", "", *lines, ""]))
    with pytest.raises(UserError, match="abc.csv row 3: column 'volume' is missing"):
        read_bars([tmp_path / "abc.csv"])
    (tmp_path / "abc.csv").write_text("\n".join(lines_of(tmp_path))[:-1])
    with caplog.at_level(logging.WARNING):
        assert read_bars([tmp_path / "abc.csv"]).volume_shares[0, -1] == 50  # of 500
    assert "abc.csv: its last line has no line end" in caplog.text


@pytest.mark.parametrize("name", ["broken.csv.gz", "broken.parquet", "empty.csv"])
def test_files_that_are_no_bars_at_all_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"" if name.startswith("empty") else b"no table")
    with pytest.raises(UserError, match=f"{name}.*cannot be read"):
        read_bars([tmp_path / name])


def clock(minute: int) -> str:
    return f"{(minute // 60 - 1) % 12 + 1:02d}:{minute % 60:02d} {'AM' if minute < 720 else 'PM'}"


def test_a_volume_table_of_quarter_hours_becomes_a_curve_of_five_minutes(tmp_path: Path) -> None:
    days = [f"2019-01-{d:02d}" for d in range(1, 21)]
    rows = [",".join([clock(570 + 15 * k), *[str(26 - k)] * 20]) for k in range(26)]
    (tmp_path / "curve.csv").write_text("\n".join([",".join(["bin_start", *days]), *rows]) + "\n")
    labels, volume = read_volume_table(tmp_path / "curve.csv")
    assert labels == tuple(days) and volume.shape == (20, 26)
    fine = volume_curve(volume)
    assert fine.shape == (78,) and fine.sum() == pytest.approx(1)
    assert fine[0] == fine[2] == pytest.approx(26 / 351 / 3)
    assert volume_curve(volume[:5]).shape == (13,)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["start,a", "09:30,1"], "row 1: the header starts with 'start'"),
        (["bin_start,a", *[f"{clock(570 + 30 * k)},1" for k in range(12)]], "12 bins, but the session has"),
        (["bin_start,a", *[f"{clock(575 + 30 * k)},1" for k in range(13)]], "row 2: field 'bin_start' must follow"),
        (["bin_start,a", *[f"{clock(570 + 30 * k)},{-k}" for k in range(13)]], "row 3: field 'a' must be a volume"),
        (["bin_start,a", *[f"{clock(570 + 30 * k)},0" for k in range(13)]], "column 'a' has no volume"),
    ],
)
def test_a_broken_volume_table_is_refused(tmp_path: Path, lines: list[str], message: str) -> None:
    (tmp_path / "curve.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(UserError, match=message):
        read_volume_table(tmp_path / "curve.csv")
