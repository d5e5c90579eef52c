"""A review goes to the end of a log, chained and under a checkpoint; what was there stays, and the log verifies."""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from glasspool import cli
from glasspool.configs.errors import UserError
from glasspool.explain.decision_log import DecisionLog, checkpoints_path, read_log
from glasspool.explain.merkle import merkle_root
from glasspool.explain.proof import prove_consistency
from glasspool.explain.review import append_review
from glasspool.explain.verification import verify_log

T0_NS = 1_772_462_110_000_000_000
LIMITS = {"routes": ["XQLA:take", "XQDA:ping", "XQDA:rest"]}
GOOD: dict[str, Any] = {"verdict": "justify", "owner": "Zoë", "text": "as the rules have it", "ts_ns": T0_NS + 10**15}


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "decisions.jsonl"
    with DecisionLog(path) as writer:
        writer.append("run", T0_NS, {"policy_id": "d-s1", "control_limits": LIMITS})
        for i in range(5):
            writer.append("decision", T0_NS + i, {"decision_id": f"P-0-000{i}"})
    return path


def test_a_review_is_appended_and_everything_before_it_stays(log: Path, tmp_path: Path) -> None:
    old = Path(shutil.copy(log, tmp_path / "old.jsonl"))
    old_points = checkpoints_path(log).read_bytes()
    assert append_review(log, "P-0-0003", **GOOD) == 7
    records = list(read_log(log))
    assert log.read_bytes().startswith(old.read_bytes()) and len(records) == 9
    review, close = records[7:]
    assert (review["type"], review["seq"], review["prev_hash"]) == ("review", 7, records[6]["hash"])
    assert review["body"] == {
        "decision_id": "P-0-0003", "venue": None, "policy_id": None, "decision": "justify", "owner": "Zoë",
        "text": "as the rules have it", "due_date": None, "evidence_sha256": records[4]["hash"],
        "period": {"from_ns": str(T0_NS + 3), "to_ns": str(T0_NS + 3)},
    }  # fmt: skip
    assert close["body"] == {"action": "close", "records": 9}
    points = checkpoints_path(log).read_bytes()
    assert points.startswith(old_points)
    last = json.loads(points.splitlines()[-1])
    assert (last["size"], last["root"]) == (9, merkle_root(log.read_bytes().splitlines()))
    verdict = verify_log(log)
    assert verdict.ok and (verdict.records, verdict.checkpoints) == (9, 2), verdict
    assert prove_consistency(old, log).ok


def test_reviews_of_a_venue_and_the_policy_name_the_log_as_it_was(log: Path) -> None:
    for i, (about, field) in enumerate([("XQDA", "venue"), ("d-s1", "policy_id")]):
        root = merkle_root(log.read_bytes().splitlines())
        append_review(log, about, **GOOD | {"verdict": "modify", "due_date": "2026-04-01"})
        body = list(read_log(log))[-2]["body"]
        assert {k: body[k] for k in ("decision_id", "venue", "policy_id") if body[k]} == {field: about}
        assert body["evidence_sha256"] == root and body["due_date"] == "2026-04-01"
        assert body["period"] == {"from_ns": str(T0_NS), "to_ns": str(T0_NS + 4)}
        assert verify_log(log).checkpoints == 2 + i


def test_a_log_may_be_reviewed_across_the_thousand(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    with DecisionLog(path) as writer:
        for i in range(997):
            writer.append("decision", T0_NS + i, {"decision_id": f"P-{i}"})
    for i in range(3):
        append_review(path, "P-0", **GOOD)
        assert verify_log(path).ok and verify_log(path).records == 1_000 + 2 * i
    sizes = [json.loads(line)["size"] for line in checkpoints_path(path).read_bytes().splitlines()]
    assert sizes == [998, 1_000, 1_002, 1_004]


@pytest.mark.parametrize(
    ("about", "change", "message"),
    [
        ("P-0-0009", {}, r"'P-0-0009' is none of .* P-0-0000 to P-0-0004, venues XQDA, XQLA, policy d-s1"),
        ("XQDA:ping", {}, "is none of its decisions"), ("", {}, "is none of its decisions"),
        ("P-0-0001", {"verdict": "approve"}, "verdict 'approve' is not known. Pass one of modify, justify"),
        ("P-0-0001", {"owner": " "}, "needs owner"), ("P-0-0001", {"text": ""}, "needs text"),
        ("P-0-0001", {"text": "x" * 4_001}, "4,001 characters"), ("P-0-0001", {"text": "\ud800"}, "lone surrogate"),
        ("P-0-0001", {"verdict": "modify"}, "needs a date"), ("P-0-0001", {"due_date": "1 April"}, "calendar date"),
        ("P-0-0001", {"due_date": "20260401"}, "calendar date"),
    ],
)  # fmt: skip
def test_what_is_no_review_is_refused_and_nothing_changes(
    log: Path, about: str, change: dict[str, Any], message: str
) -> None:
    before = log.read_bytes(), checkpoints_path(log).read_bytes()
    with pytest.raises(UserError, match=message):
        append_review(log, about, **GOOD | change)
    assert (log.read_bytes(), checkpoints_path(log).read_bytes()) == before
    assert sorted(p.name for p in log.parent.iterdir()) == [log.name, checkpoints_path(log).name]


def test_a_log_of_a_bundle_and_one_that_is_being_written_are_refused(log: Path, tmp_path: Path) -> None:
    inside = tmp_path / "bundle" / "explanations"
    inside.mkdir(parents=True)
    shutil.copy(log, inside)
    (tmp_path / "bundle" / "manifest.json").write_text("{}")
    with pytest.raises(UserError, match="part of the bundle .* review the copy"):
        append_review(inside / log.name, "P-0-0001", **GOOD)
    with log.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another review is being written"):
            append_review(log, "P-0-0001", **GOOD)


def test_a_review_that_cannot_be_written_leaves_the_log(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = log.read_bytes()

    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(UserError, match="No space left"):
        append_review(log, "P-0-0001", **GOOD)
    assert log.read_bytes() == before and verify_log(log).ok


def chained(path: Path, tail: list[tuple[str, dict[str, Any]]]) -> Path:
    """The log with further records, all hashes right; a close counts the records up to it."""
    writer = DecisionLog.reopened(path)
    for kind, body in tail:
        if body.get("action") == "close":
            body = {"action": "close", "records": writer.records + 1}
        writer._write(kind, T0_NS, body)
    checkpoints_path(path).unlink()
    for source, target in ((writer._partial_log, path), (writer._partial_checkpoints, checkpoints_path(path))):
        shutil.copy(source, target)
    checkpoints_path(path).unlink()
    writer.discard()
    return path


CLOSE, REVIEW, OTHER = ("control", {"action": "close"}), ("review", {"text": "x"}), ("decision", {"decision_id": "x"})


@pytest.mark.parametrize(
    ("tail", "found"),
    [
        ([REVIEW, CLOSE], None), ([REVIEW, REVIEW, CLOSE], None), ([REVIEW, CLOSE, REVIEW, CLOSE], None),
        ([CLOSE], (7, "AFTER_CLOSE")), ([OTHER, CLOSE], (7, "AFTER_CLOSE")),
        ([REVIEW, CLOSE, CLOSE], (9, "AFTER_CLOSE")), ([REVIEW, OTHER, CLOSE], (8, "AFTER_CLOSE")),
        ([REVIEW], (8, "TRUNCATED")),
    ],
)  # fmt: skip
def test_only_reviews_stand_after_the_close_each_run_of_them_closed(
    log: Path, tail: list[tuple[str, dict[str, Any]]], found: tuple[int, str] | None
) -> None:
    verdict = verify_log(chained(log, tail))
    assert (None if verdict.ok else (verdict.first_bad_record, verdict.reason)) == found


def test_an_edited_and_a_cut_review_are_found(log: Path, tmp_path: Path) -> None:
    append_review(log, "P-0-0001", **GOOD)
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines).replace(b"as the rules", b"as no rule"))
    assert (verify_log(log).first_bad_record, verify_log(log).reason) == (7, "HASH_MISMATCH")
    log.write_bytes(b"".join(lines[:7]))  # back to the first close: the checkpoints know better
    assert (verify_log(log).first_bad_record, verify_log(log).reason) == (7, "TRUNCATED")


def run(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as ended:
        cli.main(["audit", *args])
    shown = capsys.readouterr()
    return int(ended.value.code or 0), shown.out + shown.err


def test_the_commands_review_refuse_and_compare(log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = shutil.copy(checkpoints_path(log), tmp_path / "kept.checkpoints")
    answer: Callable[..., tuple[int, str]] = lambda *args: run(capsys, *args)  # noqa: E731
    code, said = answer("review", str(log), "P-0-0002", "--verdict", "justify", "--by", "A. Reader", "--note", "fine")
    assert code == 0 and "record 7: justify P-0-0002, by A. Reader" in said and "9 records are in order" in said
    code, said = answer("consistency", str(old), str(log), "--json", str(tmp_path / "proof.json"))
    assert code == 0 and "begin with the 7 of the older state" in said
    assert json.loads((tmp_path / "proof.json").read_text())["old_size"] == 7
    code, said = answer("consistency", str(checkpoints_path(log)), str(shutil.copy(log, tmp_path / "copy.jsonl")))
    assert code == 0
    code, said = answer("review", str(log), "P-9", "--verdict", "justify", "--by", "A", "--note", "b")
    assert code == 2 and "is none of its decisions" in said
    log.write_bytes(log.read_bytes().replace(b"fine", b"evil"))
    code, said = answer("review", str(log), "P-0-0002", "--verdict", "justify", "--by", "A", "--note", "b")
    assert code == 1 and "HASH_MISMATCH" in said
    code, said = answer("consistency", str(tmp_path / "copy.jsonl"), str(log))
    assert code == 1 and "are not those of the older state" in said
