"""What the calibration report counts, and files damaged at random: a day, or an error that names the file."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from glasspool.configs.errors import UserError
from glasspool.envs.data_report import data_report
from glasspool.envs.market_data import MarketDay, read_day, read_lobster, read_taq

OPEN = 34_200
MESSAGES = [
    f"{OPEN - 1}.5,1,1,100,1000000,1", f"{OPEN}.1,1,2,100,1000200,-1", f"{OPEN + 5}.0,4,2,50,1000200,-1",
    f"{OPEN + 5}.0,6,0,500,1000100,1", f"{OPEN + 10}.0,7,0,0,-1,-1", f"{OPEN + 40}.0,7,0,0,1,-1",
    f"{OPEN + 41}.0,1,3,100,1000000,1", f"{OPEN + 200}.0,5,0,30,1000100,1", f"{OPEN + 200}.0,1,4,100,1000100,1",
]  # fmt: skip
BOOK = ["1000200,100,1000000,100"] * 3 + ["1000200,50,1000000,100"] * 4 + ["1000100,50,1000100,100"] * 2
TRADES = [f"{1000 * (OPEN + t)},{1_000_000 + 100 * (t % 3)},{100 * (1 + t % 4)},N,{c},{s}"
          for t, c, s in ((-5, 1, 0), (2, 1, 0), (3, 40, 0), (4, 1, 1), (90, 1, 0), (91, 20, 0))]  # fmt: skip
QUOTES = [
    row
    for t in (-2, 1, 1, 60, 130)
    for row in (
        f"{1000 * (OPEN + t)},{1_000_000 - t},200,0,0,N,1,0",
        f"{1000 * (OPEN + t)},0,0,{1_000_300 + t},300,N,1,0",
    )
]
LOBSTER = ("ABC_2020-01-02_34200000_57600000_message_1.csv", "ABC_2020-01-02_34200000_57600000_orderbook_1.csv")
TAQ = ("20200102_abc_Trade_Tick.csv", "20200102_abc_Quote_Tick.csv")


def written(folder: Path, names: tuple[str, str], parts: tuple[bytes, bytes]) -> tuple[Path, Path]:
    paths = (folder / names[0], folder / names[1])
    for path, part in zip(paths, parts, strict=True):
        path.write_bytes(part)
    return paths


def joined(lines: list[str], end: str = "\n") -> bytes:
    return (end.join(lines) + end).encode()


def counts(day: MarketDay) -> dict[str, tuple[float, float]]:
    return {str(r["what"]): (float(r["count"]), float(r["seconds"])) for r in data_report([day])}


def test_a_lobster_day_reports_what_it_left_out_and_how_long_it_stood_still(tmp_path: Path) -> None:
    day = read_lobster(*written(tmp_path, LOBSTER, (joined(MESSAGES), joined(BOOK))))
    found = counts(day)
    assert found["trades"] == (2, 0) and found["events outside 09:30 to 16:00"] == (1, 0)
    assert found["crosses of an auction"] == (1, 0)
    assert found["halts"] == (1, 30.0)
    assert found["times without a two-sided quote"][1] == pytest.approx(30.0)
    assert found["locked quotes"][1] == pytest.approx(23_400 - 200)
    assert found["gaps over 60 s between trades"][0] == 2  # 195 s, and from the last trade to the close
    assert found["quote updates at the time of the one before"] == (2, 0)


def test_a_tape_reports_prints_by_reason(tmp_path: Path) -> None:
    day = read_taq(*written(tmp_path, TAQ, (joined(TRADES), joined(QUOTES))))
    found = counts(day)
    assert found["trades"] == (3, 0) and found["prints outside 09:30 to 16:00"] == (1, 0)
    assert found["suspicious prints"] == (1, 0)
    assert found["auctions, late, average-price, derivative and repeat prints"] == (1, 0)
    assert found["halts"] == (0, 0)


@pytest.mark.parametrize("kind", ["lobster", "taq"])
def test_line_ends_may_be_mixed(tmp_path: Path, kind: str) -> None:
    names, parts = (LOBSTER, (MESSAGES, BOOK)) if kind == "lobster" else (TAQ, (TRADES, QUOTES))
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    plain = read_day(written(tmp_path / "a", names, (joined(parts[0]), joined(parts[1]))))[0]
    mixed = [b"".join((line + ("\r\n" if k % 2 else "\n")).encode() for k, line in enumerate(p)) for p in parts]
    other = read_day(written(tmp_path / "b", names, (mixed[0], mixed[1])))[0]
    for field in (
        "trade_time_ns",
        "trade_price_e4",
        "trade_shares",
        "quote_time_ns",
        "bid_e4",
        "ask_e4",
        "trade_venue",
    ):
        assert (getattr(plain, field) == getattr(other, field)).all()


@pytest.mark.parametrize("kind", ["lobster", "taq"])
def test_a_byte_order_mark_is_refused_in_line_1(tmp_path: Path, kind: str) -> None:
    names, parts = (LOBSTER, (MESSAGES, BOOK)) if kind == "lobster" else (TAQ, (TRADES, QUOTES))
    paths = written(tmp_path, names, (b"\xef\xbb\xbf" + joined(parts[0]), joined(parts[1])))
    with pytest.raises(UserError, match=rf"{names[0]} line 1: field 'time'"):
        read_day(paths)


def damaged(raw: bytes, rng: np.random.Generator) -> bytes:
    """One random defect: a byte, a line, a field, the end, or the line ends."""
    lines = raw.decode("latin-1").splitlines()
    k = int(rng.integers(len(lines)))
    match rng.integers(9):
        case 0:
            at = int(rng.integers(len(raw)))
            return raw[:at] + bytes([int(rng.integers(256))]) + raw[at + 1 :]
        case 1:
            return raw[: int(rng.integers(len(raw)))]
        case 2:
            del lines[k]
        case 3:
            lines.insert(k, lines[k])
        case 4:
            j = int(rng.integers(len(lines)))
            lines[k], lines[j] = lines[j], lines[k]
        case 5:
            fields = lines[k].split(",")
            odd = ("", "-1", "0", "x", "1e9", "99999999999999999999", "nan", " ", "\x00", "1.5")
            fields[int(rng.integers(len(fields)))] = str(rng.choice(odd))
            lines[k] = ",".join(fields)
        case 6:
            lines[k] += ","
        case 7:
            lines.insert(k, "")
        case _:
            return raw.replace(b"\n", b"\r")
    return joined(lines)


@pytest.mark.parametrize("kind", ["lobster", "taq"])
def test_a_damaged_file_is_a_day_or_an_error_that_names_it(tmp_path: Path, kind: str) -> None:
    """400 single defects a format: a day whose arrays agree, or one message with the file in it; nothing else."""
    rng = np.random.default_rng(7)
    names, parts = (LOBSTER, (MESSAGES, BOOK)) if kind == "lobster" else (TAQ, (TRADES, QUOTES))
    refused = 0
    for i in range(400):
        raw = [joined(p) for p in parts]
        which = int(rng.integers(2))
        raw[which] = damaged(raw[which], rng)
        folder = tmp_path / str(i)
        folder.mkdir()
        paths = written(folder, names, (raw[0], raw[1]))
        try:
            (day,) = read_day(paths)
            data_report([day])
        except UserError as error:
            refused += 1
            assert names[0] in str(error) or names[1] in str(error) or "ABC 2020-01-02" in str(error), str(error)
            continue
        n = day.trade_time_ns.size
        sizes = {getattr(day, f).size for f in ("trade_price_e4", "trade_shares", "trade_venue", "trade_side")}
        assert sizes == {n} and (np.diff(day.trade_time_ns) >= 0).all() and (day.trade_shares > 0).all()
        assert (day.trade_price_e4 > 0).all() and (np.diff(day.quote_time_ns) >= 0).all()
        assert day.bid_e4.size == day.ask_e4.size == day.quote_time_ns.size
    assert 100 < refused < 400


@pytest.mark.parametrize("kind", ["lobster", "taq"])
def test_an_archive_cut_anywhere_is_refused(tmp_path: Path, kind: str) -> None:
    names, parts = (LOBSTER, (MESSAGES, BOOK)) if kind == "lobster" else (TAQ, (TRADES, QUOTES))
    packed = gzip.compress(joined(parts[0]))
    for cut in range(1, len(packed) - 1, 7):
        folder = tmp_path / str(cut)
        folder.mkdir()
        paths = written(folder, (names[0] + ".gz", names[1]), (packed[:cut], joined(parts[1])))
        with pytest.raises(UserError, match=names[0]):
            read_day(paths)
