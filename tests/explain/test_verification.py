"""Whatever is done to a log, verification says so and names the first bad record; an untouched log passes."""

from __future__ import annotations

import json
import os
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import astuple
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glasspool.configs.errors import UserError
from glasspool.explain.canonical import Record, canonical_bytes, record_hash
from glasspool.explain.decision_log import GENESIS_HASH, DecisionLog, checkpoints_path
from glasspool.explain.merkle import EMPTY_ROOT, merkle_root
from glasspool.explain.verification import REASONS, REDECIDED_TYPES, verify_log

T0_NS = 1_772_462_110_000_000_000
SMALL = 6  # records of the small log, its close included
LONG = 2_501


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("logs")


@pytest.fixture(scope="module")
def small(folder: Path) -> Path:
    """run, parent, two decisions, a fill, the close; with text beyond ASCII and numbers of every sign."""
    path = folder / "small.jsonl"
    with DecisionLog(path) as log:
        log.append("run", T0_NS, {"run_id": "r-1", "operator": "Zoë €"})
        log.append("parent", T0_NS + 1, {"parent_id": "P-1", "ordered_shares": 5_000})
        log.append("decision", T0_NS + 2, {"decision_id": "P-1-0", "margin_e9": -5, "lit_alternative": None})
        log.append("decision", T0_NS + 3, {"decision_id": "P-1-1", "features": {"gap_frac": "0.25"}, "flags": []})
        log.append("fill", T0_NS + 4, {"exec_id": "F-1", "shares": 100})
        log.close(T0_NS + 5)
    return path


@pytest.fixture(scope="module")
def long(folder: Path) -> Path:
    path = folder / "long.jsonl"
    with DecisionLog(path) as log:
        for number in range(LONG - 1):
            log.append("decision", T0_NS + number, {"decision_id": f"P-{number}", "pace_shares": number})
    return path


@pytest.fixture(scope="module")
def tampered(folder: Path) -> Callable[..., Path]:
    """Writes a changed copy of a log and beside it, unless told otherwise, the genuine log's checkpoints."""

    def write(genuine: Path, content: bytes | list[bytes], *, checkpoints: bool = True) -> Path:
        path = folder / "tampered.jsonl"
        path.unlink(missing_ok=True)  # some file systems flush a file that is emptied and written again
        path.write_bytes(content if isinstance(content, bytes) else b"".join(line + b"\n" for line in content))
        checkpoints_path(path).unlink(missing_ok=True)
        if checkpoints:
            checkpoints_path(path).write_bytes(checkpoints_path(genuine).read_bytes())
        return path

    return write


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines()


def rehashed(line: bytes, **changes: Any) -> bytes:
    """The line with fields changed and a fresh hash: the forger knows the format."""
    record = json.loads(line) | changes
    return canonical_bytes(record | {"hash": record_hash(record)})


def rechained(lines: list[bytes], first: int) -> list[bytes]:
    """The lines numbered, chained and hashed anew from `first` on, the closing count mended."""
    forged = list(lines)
    for position in range(first, len(lines)):
        record = json.loads(lines[position])
        prev_hash = json.loads(forged[position - 1])["hash"] if position else GENESIS_HASH
        body = record["body"] | ({"records": len(lines)} if record["body"].get("action") == "close" else {})
        forged[position] = rehashed(lines[position], seq=position, prev_hash=prev_hash, body=body)
    return forged


def finding(path: Path) -> tuple[int | None, str | None]:
    verdict = verify_log(path)
    assert not verdict.ok
    content = path.read_bytes()
    assert verdict.records == content.count(b"\n") + (not content.endswith(b"\n") and content != b"")
    return verdict.first_bad_record, verdict.reason


# --- what passes ---


def test_an_untouched_log_passes_with_its_root_and_all_its_checkpoints(small: Path, long: Path) -> None:
    root = merkle_root(lines_of(small))
    assert astuple(verify_log(small)) == (True, SMALL, None, None, root, 1)
    assert astuple(verify_log(str(long))) == (True, LONG, None, None, merkle_root(lines_of(long)), 3)
    assert verify_log(small).message == f"6 records are in order; 1 checkpoints agree; root {root}"


def test_without_checkpoints_chain_and_close_are_still_verified(small: Path, tampered: Callable[..., Path]) -> None:
    verdict = verify_log(tampered(small, lines_of(small), checkpoints=False))
    assert (verdict.ok, verdict.checkpoints) == (True, 0)
    assert finding(tampered(small, lines_of(small)[:-1], checkpoints=False)) == (SMALL - 1, "TRUNCATED")


def test_memory_does_not_grow_with_the_log(small: Path, long: Path) -> None:
    def peak_bytes(path: Path) -> int:
        tracemalloc.start()
        verify_log(path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    peak_bytes(small)
    assert peak_bytes(long) - peak_bytes(small) < 100_000 < long.stat().st_size


# --- damage, byte by byte ---


def line_of_each_byte(content: bytes) -> Iterator[int]:
    line = 0
    for byte in content:
        yield line
        line += byte == 0x0A


def test_every_flipped_bit_is_found_in_its_record(small: Path, tampered: Callable[..., Path]) -> None:
    content = small.read_bytes()
    path = tampered(small, content)
    with path.open("r+b", buffering=0) as file:
        for at, line in enumerate(line_of_each_byte(content)):
            for byte in (content[at] ^ (1 << bit) for bit in range(8)):
                file.seek(at)
                file.write(bytes([byte]))
                verdict = verify_log(path)
                assert (verdict.ok, verdict.first_bad_record) == (False, line), (at, byte, verdict)
                assert verdict.reason in ("BAD_JSON", "NOT_CANONICAL", "HASH_MISMATCH")
            file.seek(at)
            file.write(content[at : at + 1])
    assert verify_log(path).ok


@given(data=st.data())
def test_every_changed_dropped_or_added_byte_is_found_in_its_record(
    data: st.DataObject, small: Path, tampered: Callable[..., Path]
) -> None:
    content = small.read_bytes()
    at = data.draw(st.integers(0, len(content) - 1), label="at")
    line = list(line_of_each_byte(content))[at]
    byte = data.draw(st.binary(min_size=1, max_size=1).filter(lambda new: new != content[at : at + 1]), label="byte")
    for damaged in (
        content[:at] + byte + content[at + 1 :],
        content[:at] + content[at + 1 :],
        content[:at] + byte + content[at:],
    ):
        assert finding(tampered(small, damaged))[0] == line


def test_every_cut_inside_the_file_is_found_where_it_was_made(small: Path, tampered: Callable[..., Path]) -> None:
    content = small.read_bytes()
    path = tampered(small, content)
    for at, line in reversed(list(enumerate(line_of_each_byte(content)))):
        os.truncate(path, at)
        position, reason = finding(path)
        assert position == line
        assert reason in ("TRUNCATED", "BAD_JSON", "NOT_CANONICAL")


def test_an_empty_log_is_truncated_at_record_0(small: Path, tampered: Callable[..., Path]) -> None:
    assert finding(tampered(small, b"")) == (0, "TRUNCATED")
    assert finding(tampered(small, b"", checkpoints=False)) == (0, "TRUNCATED")
    assert verify_log(tampered(small, b"")).root == EMPTY_ROOT


# --- edits of records ---


def test_an_edited_field_is_a_hash_mismatch_there(small: Path, tampered: Callable[..., Path]) -> None:
    for position, line in enumerate(lines_of(small)):
        for field, value in {"v": 2, "seq": 9, "type": "review", "ts_ns": "1", "prev_hash": "0", "body": {}}.items():
            lines = lines_of(small)
            lines[position] = canonical_bytes(json.loads(line) | {field: value})
            assert finding(tampered(small, lines)) == (position, "HASH_MISMATCH"), field


def test_a_record_edited_and_hashed_anew_is_named_by_the_broken_chain(
    small: Path, tampered: Callable[..., Path]
) -> None:
    for position in range(SMALL - 1):
        lines = lines_of(small)
        lines[position] = rehashed(lines[position], body={"decision_id": "forged"})
        assert finding(tampered(small, lines, checkpoints=False)) == (position, "PREV_MISMATCH")


def test_the_chain_names_the_record_even_where_a_checkpoint_ends(long: Path, tampered: Callable[..., Path]) -> None:
    for position in (999, 1_000, 1_999):
        lines = lines_of(long)
        lines[position] = rehashed(lines[position], body={"decision_id": "forged"})
        assert finding(tampered(long, lines)) == (position, "PREV_MISMATCH")


def test_an_edited_last_record_hashed_anew_needs_the_checkpoints(long: Path, tampered: Callable[..., Path]) -> None:
    lines = lines_of(long)
    lines[-1] = rehashed(lines[-1], ts_ns="1")
    assert finding(tampered(long, lines)) == (2_000, "ROOT_MISMATCH")
    assert verify_log(tampered(long, lines, checkpoints=False)).ok  # the stated limit of a chain alone


def test_a_first_record_with_another_predecessor_is_bad_itself(small: Path, tampered: Callable[..., Path]) -> None:
    lines = lines_of(small)
    lines[0] = rehashed(lines[0], prev_hash="1" * 64)
    assert finding(tampered(small, lines)) == (0, "PREV_MISMATCH")


@given(position=st.integers(0, SMALL - 1))
def test_a_deleted_record_is_found(position: int, small: Path, tampered: Callable[..., Path]) -> None:
    lines = lines_of(small)
    del lines[position]
    expected = "TRUNCATED" if position == SMALL - 1 else "SEQUENCE"
    assert finding(tampered(small, lines)) == (position, expected)


@given(order=st.permutations(range(SMALL)).filter(lambda order: list(order) != list(range(SMALL))))
def test_reordered_records_are_found_at_the_first_one_moved(
    order: list[int], small: Path, tampered: Callable[..., Path]
) -> None:
    lines = lines_of(small)
    first_moved = next(position for position, source in enumerate(order) if position != source)
    assert finding(tampered(small, [lines[source] for source in order])) == (first_moved, "SEQUENCE")


@given(source=st.integers(0, SMALL - 1), position=st.integers(0, SMALL))
def test_a_repeated_record_is_found(source: int, position: int, small: Path, tampered: Callable[..., Path]) -> None:
    lines = lines_of(small)
    lines.insert(position, lines[source])
    # Beside its original, two records claim one number, and that number is named.
    expected = source if position in (source, source + 1) else position
    assert finding(tampered(small, lines)) == (expected, "SEQUENCE")


@pytest.mark.parametrize("knows_the_chain", [True, False])
def test_a_forged_record_put_in_is_found(knows_the_chain: bool, small: Path, tampered: Callable[..., Path]) -> None:
    for position in range(SMALL):
        lines = lines_of(small)
        prev_hash = json.loads(lines[position])["prev_hash"] if knows_the_chain else "a" * 64
        lines.insert(position, rehashed(lines[2], seq=position, prev_hash=prev_hash, body={"decision_id": "forged"}))
        reason = "SEQUENCE" if knows_the_chain else "PREV_MISMATCH"
        assert finding(tampered(small, lines)) == (position, reason)


def test_records_after_the_close_are_found(small: Path, tampered: Callable[..., Path]) -> None:
    lines = lines_of(small)
    appended = rehashed(lines[4], seq=SMALL, prev_hash=json.loads(lines[-1])["hash"])
    assert finding(tampered(small, [*lines, appended])) == (SMALL + 1, "TRUNCATED")
    second_close = rechained([*lines, appended, lines[-1]], first=SMALL)
    assert finding(tampered(small, second_close)) == (SMALL, "AFTER_CLOSE")


def test_a_log_cut_short_is_truncated_at_the_number_of_records_left(long: Path, tampered: Callable[..., Path]) -> None:
    for left in (1, 999, 1_000, 1_001, LONG - 1):
        assert finding(tampered(long, lines_of(long)[:left])) == (left, "TRUNCATED")


def test_a_log_cut_short_and_closed_again_is_shorter_than_its_checkpoints(
    long: Path, tampered: Callable[..., Path]
) -> None:
    lines = lines_of(long)
    forged = rechained([*lines[:1_500], lines[-1]], first=1_500)
    assert finding(tampered(long, forged)) == (1_501, "TRUNCATED")
    assert verify_log(tampered(long, forged, checkpoints=False)).ok  # the stated limit of a chain alone


def test_a_close_that_counts_wrongly_is_no_close(small: Path, tampered: Callable[..., Path]) -> None:
    for records in (SMALL - 1, SMALL + 1, "6", None):
        lines = lines_of(small)
        lines[-1] = rehashed(lines[-1], body={"action": "close", "records": records})
        assert finding(tampered(small, lines)) == (SMALL, "TRUNCATED")


@pytest.mark.parametrize(("edited", "last_good_size"), [(0, 0), (999, 0), (1_000, 1_000), (2_499, 2_000)])
def test_a_rewrite_with_fresh_hashes_is_found_from_the_last_good_checkpoint_on(
    edited: int, last_good_size: int, long: Path, tampered: Callable[..., Path]
) -> None:
    lines = lines_of(long)
    lines[edited] = rehashed(lines[edited], body={"decision_id": "forged"})
    path = tampered(long, rechained(lines, first=edited + 1))
    assert finding(path) == (last_good_size, "ROOT_MISMATCH")
    assert verify_log(path).checkpoints == last_good_size // 1_000


@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        ({"v": 2}, "v is not 1"),
        ({"v": True}, "v is not 1"),
        ({"seq": True}, "seq is not an integer"),
        ({"seq": "1"}, "seq is not an integer"),
        ({"type": "note"}, "type is none of the known record types"),
        ({"ts_ns": 7}, "ts_ns is not a decimal string"),
        ({"ts_ns": "07"}, "ts_ns is not a decimal string"),
        ({"body": []}, "body is not an object"),
        ({"venue": "XQLA"}, "the fields venue are missing or not known"),
    ],
)
def test_a_well_hashed_record_of_another_shape_is_refused(
    changes: dict[str, Any], detail: str, small: Path, tampered: Callable[..., Path]
) -> None:
    lines = lines_of(small)
    lines[1] = rehashed(lines[1], **changes)
    assert finding(tampered(small, lines)) == (1, f"BAD_ENVELOPE: {detail}")


# --- checkpoints ---


def test_the_checkpoints_of_another_log_do_not_fit(small: Path, tampered: Callable[..., Path]) -> None:
    lines = lines_of(small)
    lines[2] = rehashed(lines[2], body={})
    other = tampered(small, rechained(lines, first=3), checkpoints=False)
    assert verify_log(other).ok
    verdict = verify_log(other, checkpoints=checkpoints_path(small))  # a copy kept elsewhere
    assert (verdict.first_bad_record, verdict.reason) == (0, "ROOT_MISMATCH")


@pytest.mark.parametrize(
    ("damage", "detail"),
    [
        (lambda text: "", "line 1: there is no checkpoint"),
        (lambda text: text + "{", "line 2: BAD_JSON"),
        (lambda text: text[:-1], "line 1: NOT_CANONICAL: the line does not end with a line feed"),
        (lambda text: text + text, "line 2: size is not an integer above 6"),
        (lambda text: text.replace('"size":6', '"size":"6"'), "line 1: size is not an integer above 0"),
        (lambda text: text.replace('"size":6', '"size":0'), "line 1: size is not an integer above 0"),
        (lambda text: text.replace('"root":', '"rout":'), "line 1: root and head_hash are not both strings"),
        (lambda text: text.replace('"ts_ns":"', '"ts_ns":"x'), "line 1: log is not a string or ts_ns not a decimal"),
        (lambda text: text.replace('"head_hash":"', '"head_hash":"0'), "head_hash at size 6 is not that record's"),
    ],
)
def test_a_damaged_checkpoint_file_is_said_to_be_that_and_no_record_is_blamed(
    damage: Callable[[str], str], detail: str, small: Path, tampered: Callable[..., Path]
) -> None:
    path = tampered(small, lines_of(small))
    checkpoints_path(path).write_text(damage(checkpoints_path(path).read_text()))
    position, reason = finding(path)
    assert position is None
    assert reason is not None and reason.startswith("BAD_CHECKPOINT: ") and detail in reason
    assert "checkpoint file" in verify_log(path).message


def test_a_damaged_checkpoint_file_does_not_hide_a_bad_record(small: Path, tampered: Callable[..., Path]) -> None:
    path = tampered(small, lines_of(small)[1:])
    checkpoints_path(path).write_text("{")
    assert finding(path) == (0, "SEQUENCE")


def test_a_checkpoint_may_carry_a_signature(small: Path, tampered: Callable[..., Path]) -> None:
    path = tampered(small, lines_of(small))
    signed = json.loads(checkpoints_path(path).read_text()) | {"signature": "ed25519:00"}
    checkpoints_path(path).write_bytes(canonical_bytes(signed) + b"\n")
    assert verify_log(path).ok


# --- deciding again ---


def test_runs_parents_and_decisions_are_decided_again_in_order(small: Path) -> None:
    seen: list[Record] = []

    def agree(record: Record) -> str | None:
        seen.append(record)
        return None

    assert verify_log(small, redecide=agree).ok
    told = [json.loads(line) for line in lines_of(small)]
    assert seen == [r for r in told if r["type"] in REDECIDED_TYPES]


def test_a_decision_that_the_policy_does_not_repeat_is_named(small: Path) -> None:
    def disagree(record: Record) -> str | None:
        return "pace_shares 600, again 700" if record["body"].get("decision_id") == "P-1-1" else None

    verdict = verify_log(small, redecide=disagree)
    assert (verdict.ok, verdict.first_bad_record) == (False, 3)
    assert verdict.reason == "REDECIDE_MISMATCH: pace_shares 600, again 700"
    assert verdict.root == merkle_root(lines_of(small))


def test_a_record_whose_own_checks_fail_is_not_decided_again(small: Path, tampered: Callable[..., Path]) -> None:
    lines = lines_of(small)
    lines[3] = lines[3].replace(b"0.25", b"0.26")
    seen: list[int] = []

    def note(record: Record) -> str | None:
        seen.append(record["seq"])
        return None

    assert verify_log(tampered(small, lines), redecide=note).reason == "HASH_MISMATCH"
    assert seen == [0, 1, 2]


# --- words ---


def test_a_missing_file_is_the_user_s_error(tmp_path: Path, small: Path) -> None:
    with pytest.raises(UserError, match=r"no file .*absent\.jsonl"):
        verify_log(tmp_path / "absent.jsonl")
    with pytest.raises(UserError, match=r"no file .*absent\.checkpoints"):
        verify_log(small, checkpoints=tmp_path / "absent.checkpoints")


def test_the_message_names_the_record_the_reason_and_its_code(small: Path, tampered: Callable[..., Path]) -> None:
    verdict = verify_log(tampered(small, lines_of(small)[:-1]))
    assert verdict.message == f"record 5: {REASONS['TRUNCATED']} (TRUNCATED)"
