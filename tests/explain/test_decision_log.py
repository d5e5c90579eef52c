"""A log appears whole or not at all, chained and counted as specified."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from glasspool.configs.errors import UserError
from glasspool.explain.canonical import canonical_bytes, record_hash
from glasspool.explain.decision_log import (
    CHECKPOINT_EVERY,
    GENESIS_HASH,
    RECORD_TYPES,
    DecisionLog,
    checkpoints_path,
    matches_own_hash,
    read_log,
)
from glasspool.explain.merkle import merkle_root

T0_NS = 1_772_462_110_000_000_000


def write_three_records(path: Path) -> None:
    with DecisionLog(path) as log:
        assert log.append("run", T0_NS, {"note": "a"}) == 0
        assert log.append("decision", T0_NS + 1, {"note": "b"}) == 1
        log.close(T0_NS + 2)


def test_three_records_have_their_published_hashes_and_root(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    write_three_records(path)
    first, second, close = read_log(path)
    assert first == {
        "v": 1, "seq": 0, "type": "run", "ts_ns": "1772462110000000000", "prev_hash": GENESIS_HASH,
        "body": {"note": "a"}, "hash": "e63d9a596dc0e2897cb215b5e927d917eaf7badcb9ea965107d6e29fe1ee8af0",
    }  # fmt: skip
    assert second["hash"] == "6cb62886261a903263f20aa8f6f5b0e22b8283b4731e95ae560a5ec7c1d52e44"
    assert close["body"] == {"action": "close", "records": 3}
    assert close["hash"] == "8a7e4f5b1c7609655b4e858b87dd43d4a2ac41da74e1ea3eafaf23952d9afed7"
    root = "084bae22c607e93d418a80f4be25b59b4deb4285dd9f03fb5481d848e0e2f839"
    assert merkle_root(path.read_bytes().splitlines()) == root
    (checkpoint,) = (json.loads(line) for line in checkpoints_path(path).read_text().splitlines())
    assert checkpoint == {
        "log": "decisions.jsonl", "size": 3, "root": root, "head_hash": close["hash"], "ts_ns": str(T0_NS + 2),
    }  # fmt: skip


def test_every_line_is_canonical_and_hashed_over_all_but_its_hash(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    tricky = {"text": ',"prev_hash":"x"', "hash": "y", "prev_hash": "z"}  # must not be taken for the envelope's
    with DecisionLog(path) as log:
        log.append("decision", T0_NS, {"nested": tricky, "name": "Zoë"})
    raw_lines = path.read_bytes().splitlines()
    for raw_line, record in zip(raw_lines, read_log(path), strict=True):
        assert raw_line == canonical_bytes(record)
        assert record["hash"] == record_hash(record)
        assert matches_own_hash(raw_line, record)


def test_checkpoints_stand_at_every_thousandth_record_and_at_the_close(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with DecisionLog(path) as log:
        for number in range(2 * CHECKPOINT_EVERY + 7):
            log.append("fill", T0_NS + number, {"shares": number})
    raw_lines = path.read_bytes().splitlines()
    checkpoints = [json.loads(line) for line in checkpoints_path(path).read_text().splitlines()]
    assert [checkpoint["size"] for checkpoint in checkpoints] == [1_000, 2_000, 2_008]
    for checkpoint in checkpoints:
        assert checkpoint["root"] == merkle_root(raw_lines[: checkpoint["size"]])
        assert checkpoint["head_hash"] == json.loads(raw_lines[checkpoint["size"] - 1])["hash"]


def test_a_close_on_a_thousandth_record_is_checkpointed_once(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with DecisionLog(path) as log:
        for number in range(CHECKPOINT_EVERY - 1):
            log.append("fill", T0_NS + number, {})
    assert len(checkpoints_path(path).read_text().splitlines()) == 1


def test_nothing_appears_before_the_close_and_both_files_after_it(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with DecisionLog(path) as log:
        log.append("run", T0_NS, {})
        assert not path.exists() and not checkpoints_path(path).exists()
        root = log.close(T0_NS)
        assert {file.name for file in tmp_path.iterdir()} == {"log.jsonl", "log.jsonl.checkpoints"}
    assert (log.records, log.root()) == (2, root)
    assert log.head_hash == list(read_log(path))[-1]["hash"]


def test_an_exception_leaves_nothing_and_keeps_the_older_log(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    write_three_records(path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(KeyboardInterrupt), DecisionLog(path) as log:
        log.append("run", T0_NS, {})
        raise KeyboardInterrupt
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_a_close_that_cannot_write_keeps_the_records_and_says_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def disk_full(*_: object) -> None:
        raise OSError("No space left on device")

    log = DecisionLog(tmp_path / "log.jsonl")
    log.append("run", T0_NS, {})
    monkeypatch.setattr(Path, "replace", disk_full)
    with pytest.raises(UserError, match=r"No space left.*2 records are kept in .*\.partial"):
        log.close(T0_NS)
    (kept,) = tmp_path.glob(".log.jsonl.*.partial")
    assert len(list(read_log(kept))) == 2
    assert not (tmp_path / "log.jsonl").exists()


def test_a_new_log_replaces_the_older_one_and_its_checkpoints(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with DecisionLog(path) as log:
        for number in range(5):
            log.append("fill", T0_NS + number, {})
    write_three_records(path)
    assert len(list(read_log(path))) == 3
    assert [json.loads(line)["size"] for line in checkpoints_path(path).read_text().splitlines()] == [3]


def test_leaving_the_block_closes_at_the_last_record_s_time(tmp_path: Path) -> None:
    with DecisionLog(tmp_path / "log.jsonl") as log:
        log.append("run", T0_NS + 5, {})
    with DecisionLog(tmp_path / "empty.jsonl"):
        pass
    assert list(read_log(tmp_path / "log.jsonl"))[-1]["ts_ns"] == str(T0_NS + 5)
    assert [record["body"] for record in read_log(tmp_path / "empty.jsonl")] == [{"action": "close", "records": 1}]


def test_the_log_is_as_readable_as_any_file_of_its_writer(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    write_three_records(tmp_path / "log.jsonl")
    mode = stat.S_IMODE((tmp_path / "plain").stat().st_mode)
    assert stat.S_IMODE((tmp_path / "log.jsonl").stat().st_mode) == mode


def test_every_specified_record_type_and_no_other_is_written(tmp_path: Path) -> None:
    with DecisionLog(tmp_path / "log.jsonl") as log:
        for kind in RECORD_TYPES:
            log.append(kind, T0_NS, {})
        with pytest.raises(UserError, match=r"log\.jsonl, record 10: unknown record type 'decisions'.*mean 'decision'"):
            log.append("decisions", T0_NS, {})
        with pytest.raises(UserError, match=r"unknown record type 'zzz'\. Pass one of run, parent, "):
            log.append("zzz", T0_NS, {})
    assert [record["type"] for record in read_log(log.path)] == [*RECORD_TYPES, "control"]


def test_a_refused_record_leaves_the_log_as_it_was(tmp_path: Path) -> None:
    with DecisionLog(tmp_path / "log.jsonl") as log:
        log.append("run", T0_NS, {})
        with pytest.raises(UserError, match=r"log\.jsonl, record 1: body\.price = 10\.5 is a float"):
            log.append("fill", T0_NS, {"price": 10.5})
        for ts_ns in (-1, True, "1", 1.0):
            with pytest.raises(UserError, match=r"record 1: ts_ns = .* must be UTC nanoseconds as an int >= 0"):
                log.append("fill", ts_ns, {})  # type: ignore[arg-type]
        with pytest.raises(UserError, match=r"Call close\(ts_ns\)"):
            log.append("control", T0_NS, {"action": "close", "records": 2})
        log.append("fill", T0_NS, {"price_e6": 10_500_000})
    assert [record["seq"] for record in read_log(log.path)] == [0, 1, 2]


def test_a_closed_log_takes_no_record(tmp_path: Path) -> None:
    with DecisionLog(tmp_path / "log.jsonl") as log:
        log.close(T0_NS)
        with pytest.raises(UserError, match="the log is closed"):
            log.append("run", T0_NS, {})
        with pytest.raises(UserError, match="the log is closed"):
            log.close(T0_NS)
    assert len(list(read_log(log.path))) == 1


def test_a_place_where_no_log_can_lie_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a folder"):
        DecisionLog(tmp_path)
    with pytest.raises(UserError, match=r"does not exist\. Make .*missing first"):
        DecisionLog(tmp_path / "missing" / "log.jsonl")


def test_reading_names_the_missing_file_and_the_bad_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no file .*absent\.jsonl"):
        read_log(tmp_path / "absent.jsonl")
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"a":1}\n{"a":1.5}\n')
    with pytest.raises(UserError, match=r"log\.jsonl, line 2 \(record 1\): NOT_CANONICAL: a = 1\.5 is a float"):
        list(read_log(path))
