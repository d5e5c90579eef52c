"""A proof lets a reader who holds one record and the root check that the record stands in the log."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from glasspool.configs.errors import UserError
from glasspool.explain.decision_log import DecisionLog, checkpoints_path
from glasspool.explain.merkle import merkle_root, verify_consistency, verify_inclusion
from glasspool.explain.proof import find_case, prove_consistency

T0_NS = 1_772_462_110_000_000_000


def write_log(path: Path, decisions: int) -> list[bytes]:
    with DecisionLog(path) as log:
        log.append("run", T0_NS, {"operator": "Zoë"})
        for i in range(decisions):
            log.append("decision", T0_NS + i, {"decision_id": f"P-{i}"})
    return path.read_bytes().splitlines()


@pytest.mark.parametrize("decisions", [1, 2, 4, 5, 8, 15])
def test_the_steps_as_the_page_tells_them_lead_from_every_record_to_the_root(tmp_path: Path, decisions: int) -> None:
    lines = write_log(tmp_path / "log.jsonl", decisions)
    for i in range(decisions):
        proof = find_case(tmp_path / "log.jsonl", f"P-{i}").proof
        assert proof.line.encode() == lines[i + 1] and proof.root == merkle_root(lines)
        assert verify_inclusion(lines[i + 1], proof.index, proof.size, proof.path, proof.root)
        reached = hashlib.sha256(b"\x00" + proof.line.encode()).digest()
        for side, step in proof.steps():
            pair = bytes.fromhex(step) + reached if side == "left" else reached + bytes.fromhex(step)
            reached = hashlib.sha256(b"\x01" + pair).digest()
        assert reached.hex() == proof.root


def test_an_older_checkpoint_is_shown_to_be_the_head_of_the_log(tmp_path: Path) -> None:
    lines = write_log(tmp_path / "log.jsonl", 9)
    for size in range(1, len(lines) + 1):
        older = tmp_path / "older.jsonl"
        older.write_bytes(b"".join(line + b"\n" for line in lines[:size]))
        found = prove_consistency(older, tmp_path / "log.jsonl")
        assert (found.ok, found.old_size, found.old_root) == (True, size, merkle_root(lines[:size]))
        assert verify_consistency(size, merkle_root(lines[:size]), len(lines), merkle_root(lines), found.proof)
        assert not verify_consistency(size, "0" * 64, len(lines), merkle_root(lines), found.proof)


def test_a_checkpoint_file_stands_for_the_log_that_it_was_made_of(tmp_path: Path) -> None:
    lines = write_log(tmp_path / "log.jsonl", 9)
    kept = tmp_path / "kept"
    kept.write_bytes(checkpoints_path(tmp_path / "log.jsonl").read_bytes())
    found = prove_consistency(kept, tmp_path / "log.jsonl")
    assert (found.ok, found.old_size, found.old_root) == (True, len(lines), merkle_root(lines))


def test_another_log_a_shorter_one_and_an_empty_one_are_not_consistent(tmp_path: Path) -> None:
    old, new = tmp_path / "old.jsonl", tmp_path / "new.jsonl"
    write_log(old, 4)
    write_log(new, 9)  # its record 5 is another decision where the old one closed
    found = prove_consistency(old, new)
    assert not found.ok and "the first 6 records are not those of the older state" in found.message
    found = prove_consistency(new, old)
    assert not found.ok and "has 6 records, the older state had 11: its tail is missing" in found.message
    new.write_bytes(b"")
    with pytest.raises(UserError, match="holds no record"):
        prove_consistency(new, old)


def test_a_decision_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    write_log(tmp_path / "log.jsonl", 3)
    with pytest.raises(UserError, match=r"no decision 'P-7'\. Its 3 decisions are P-0 to P-2"):
        find_case(tmp_path / "log.jsonl", "P-7")
