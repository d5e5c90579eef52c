"""A log meets faults: random changes are all found, a killed writer and a full disk lose at most one record."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from glasspool.explain.decision_log import DecisionLog, checkpoints_path
from glasspool.explain.verification import verify_log

T0_NS = 1_772_462_110_000_000_000
MUTATIONS = 1_000

WRITER = """
import sys
from glasspool.explain.decision_log import DecisionLog
log = DecisionLog(sys.argv[1])
for number in range(10**6):
    log.append("fill", number, {"exec_id": f"F-{number}", "note": "x" * 300})
    print(number, flush=True)
"""
FULL_DISK = """
import resource, sys
from glasspool.configs.errors import UserError
from glasspool.explain.decision_log import DecisionLog
with DecisionLog(sys.argv[1]) as log:
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    try:
        for number in range(1_000):
            log.append("fill", number, {"exec_id": f"F-{number}", "note": "x" * 300})
    except UserError as error:
        print(error)
"""


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("log") / "log.jsonl"
    with DecisionLog(path) as writer:
        writer.append("run", T0_NS, {"run_id": "r-1", "operator": "Zoë"})
        for i in range(30):
            body = {"decision_id": f"P-1-{i:04d}", "pace_shares": 100 * i, "features": {"gap_frac": repr(i / 7)}}
            writer.append("decision", T0_NS + i, body)
    return path


def mutated(lines: list[bytes], rng: random.Random) -> tuple[str, bytes]:
    """One random change of a log, as a name and the changed bytes."""
    kind = rng.choice(["flip", "edit", "delete", "duplicate", "swap", "insert", "truncate"])
    at, other = rng.sample(range(len(lines)), 2)
    new = list(lines)
    if kind == "flip":
        whole = bytearray(b"".join(lines))
        whole[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        return kind, bytes(whole)
    if kind == "truncate":
        whole = b"".join(lines)
        return kind, whole[: rng.randrange(len(whole))]
    if kind == "edit":
        record = json.loads(new[at])
        field = rng.choice(["seq", "ts_ns", "type", "prev_hash", "hash", "body"])
        change = {"seq": 999, "type": "review", "body": {"changed": rng.random() < 0.5}}.get(field, "7" * 64)
        text = json.dumps(record | {field: change}, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        new[at] = text.encode() + b"\n"
    elif kind == "delete":
        del new[at]
    elif kind == "duplicate":
        new.insert(other, new[at])
    elif kind == "swap":
        new[at], new[other] = new[other], new[at]
    else:
        new.insert(at, b'{"v":1}\n')
    return kind, b"".join(new)


def test_every_one_of_1000_random_changes_is_found(log: Path, tmp_path: Path) -> None:
    lines = log.read_bytes().splitlines(keepends=True)
    rng, copy, seen = random.Random(8), tmp_path / "copy.jsonl", set()
    checkpoints_path(copy).write_bytes(checkpoints_path(log).read_bytes())
    for number in range(MUTATIONS):
        kind, content = mutated(lines, rng)
        seen.add(kind)
        copy.unlink(missing_ok=True)
        copy.write_bytes(content)
        verdict = verify_log(copy)
        assert not verdict.ok and verdict.first_bad_record is not None, f"change {number} ({kind}) went unnoticed"
    assert len(seen) == 7
    copy.write_bytes(b"".join(lines))
    assert verify_log(copy).ok


def partial_in(folder: Path) -> Path:
    (path,) = (p for p in folder.iterdir() if p.name.endswith(".partial"))
    return path


def test_a_killed_writer_loses_at_most_the_record_it_was_writing(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path / "log.jsonl")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        acknowledged = 0
        while acknowledged < 200:
            acknowledged = int(writer.stdout.readline())
        os.kill(writer.pid, signal.SIGKILL)
        acknowledged = max([acknowledged, *map(int, writer.stdout.read().split(b"\n")[:-1])])
    verdict = verify_log(partial_in(tmp_path))
    assert not verdict.ok and verdict.reason in ("TRUNCATED", "BAD_JSON", "NOT_CANONICAL")
    assert verdict.first_bad_record is not None and verdict.first_bad_record >= acknowledged + 1
    assert not (tmp_path / "log.jsonl").exists()


def test_a_full_disk_is_one_clear_error_and_keeps_the_whole_records(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(path)], capture_output=True, text=True, check=True)
    kept = partial_in(tmp_path)
    verdict = verify_log(kept)
    assert verdict.reason == "TRUNCATED" and verdict.first_bad_record == verdict.records > 20
    assert f"{path}: the log cannot be written (File too large). Its first {verdict.records} records" in done.stdout
    assert str(kept) in done.stdout and "audit verify" in done.stdout
