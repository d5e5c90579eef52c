"""Verifying a decision log: is every record there, unchanged and in order, and if not, which is the first bad one?

`verify_log` reads the file once, in O(log n) memory, and walks positions p from 0. Line p is checked by itself, then
against the record before it; then the root over records 0..p-1 is compared where a checkpoint of size p exists. So a
break in the chain, which names one record, is found before a root mismatch, which only names a stretch of records.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..configs.errors import UserError
from .canonical import CanonicalError, Record, parse_line
from .decision_log import (
    GENESIS_HASH,
    checkpoints_path,
    envelope_problem,
    existing_file,
    is_decimal,
    matches_own_hash,
)
from .merkle import MerkleFrontier

RedecideFn = Callable[[Record], str | None]

REDECIDED_TYPES = frozenset({"run", "parent", "decision", "route_event", "fill", "control", "lit_outcome"})

REASONS = {
    "BAD_JSON": "the line is not a JSON object",
    "NOT_CANONICAL": "the line is not in canonical form",
    "HASH_MISMATCH": "the record does not match its own hash: a field was edited or the line is damaged",
    "BAD_ENVELOPE": "the record's envelope fields are not those of a decision log",
    "SEQUENCE": "the record's number is not its position: a record was deleted, inserted, repeated or moved",
    "PREV_MISMATCH": "the chain breaks here: the record was edited and hashed anew, or a forged one was put in",
    "TRUNCATED": "the log does not end here with a closing record that counts what is present: its tail is missing",
    "AFTER_CLOSE": "the record stands after the closing record and is no review",
    "ROOT_MISMATCH": "the log is not the one of its checkpoints: from here on it may have been written anew",
    "BAD_CHECKPOINT": "the records are in order, but the checkpoint file is damaged",
    "REDECIDE_MISMATCH": "the policy does not decide again what the record says",
}


@dataclass(frozen=True)
class Verdict:
    """What verification found. The first five fields are what `audit verify --json` prints.

    Attributes:
        ok: every check held.
        records: lines present in the file, an incomplete last one included.
        first_bad_record: position of the first bad record, from 0; for TRUNCATED the number of records present, for
            ROOT_MISMATCH the size of the last good checkpoint; None when ok, and for BAD_CHECKPOINT.
        reason: None when ok, else a key of REASONS; REDECIDE_MISMATCH, BAD_ENVELOPE and BAD_CHECKPOINT go on with
            ": " and the detail.
        root: Merkle root (hex) of the lines present, good or bad: it names the file that was judged.
        checkpoints: how many checkpoints were compared. With 0 a log that was cut short or rewritten as a whole, with
            fresh hashes, passes.
    """

    ok: bool
    records: int
    first_bad_record: int | None
    reason: str | None
    root: str
    checkpoints: int = 0

    @property
    def message(self) -> str:
        """One sentence for people."""
        if self.reason is None:
            return f"{self.records} records are in order; {self.checkpoints} checkpoints agree; root {self.root}"
        code = self.reason.partition(":")[0]
        place = "" if self.first_bad_record is None else f"record {self.first_bad_record}: "
        return f"{place}{REASONS[code]} ({self.reason})"


@dataclass(frozen=True)
class _Finding:
    position: int | None
    reason: str


@dataclass(frozen=True)
class _Checkpoint:
    size: int
    root: str
    head_hash: str


def refuse_other_files(path: Path) -> None:
    """A file without a single record was never a decision log: a slip of the user's, not tampering.

    Raises:
        UserError: so it is. An empty file passes: a log may have been emptied.
    """
    empty = True
    with existing_file(path).open("rb") as lines:
        for line in lines:
            empty = False
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(record, dict) and "body" in record:
                return
    if not empty:
        raise UserError(f"{path}: not a decision log (no line is a record). Name a decisions.jsonl.")


def verify_log(
    path: str | Path, *, redecide: RedecideFn | None = None, checkpoints: str | Path | None = None
) -> Verdict:
    """Check a decision log from its first byte to its last.

    Args:
        path: the log.
        redecide: called with every record of REDECIDED_TYPES, in order, each after its own checks held; returns None,
            or a reason why the record is not what the policy decides.
        checkpoints: the checkpoint file to compare with, such as a copy kept elsewhere; None takes the one beside the
            log, and does without where there is none.

    Raises:
        UserError: there is no log at `path`, or no file at `checkpoints`. Whatever is wrong inside a log is a verdict.
    """
    log_path = existing_file(path)
    if checkpoints is not None:
        checkpoint_file = existing_file(checkpoints)
    else:
        checkpoint_file = checkpoints_path(log_path)
    known, checkpoint_problem = _read_checkpoints(checkpoint_file) if checkpoint_file.is_file() else ([], None)
    walk = _Walk(known, redecide)
    with log_path.open("rb") as file:
        finding = walk.first_finding(file)
    if finding is None and checkpoint_problem is not None:
        finding = _Finding(None, f"BAD_CHECKPOINT: {checkpoint_file}, {checkpoint_problem}")
    if finding is None:
        return Verdict(True, walk.frontier.size, None, None, walk.frontier.root(), walk.checkpoints_compared)
    frontier = _frontier_of_file(log_path)  # the walk stopped early: records and root describe the whole file
    return Verdict(False, frontier.size, finding.position, finding.reason, frontier.root(), walk.checkpoints_compared)


class _Walk:
    """One pass over the lines, holding the last record, the tree so far and the checkpoints still to come."""

    def __init__(self, checkpoints: list[_Checkpoint], redecide: RedecideFn | None) -> None:
        self.frontier = MerkleFrontier()
        self.checkpoints_compared = 0
        self._checkpoints = checkpoints
        self._redecide = redecide
        self._last: Record | None = None
        self._closed = False
        self._open_reviews = False
        self._after_close: int | None = None  # the first record that may not stand where it does

    def first_finding(self, lines: Iterator[bytes]) -> _Finding | None:
        for position, raw_line in enumerate(lines):
            line = raw_line.removesuffix(b"\n")
            try:
                record = parse_line(raw_line)
            except CanonicalError as error:
                return _Finding(position, error.code)
            finding = (
                self._check_record(position, line, record)
                or self._check_chain(position, record, lines)
                or self._check_checkpoint()
                or self._check_decision(position, record)
            )
            if finding is not None:
                return finding
            self.frontier.append(line)
            self._last = record
            self._note_close(position, record)
        return self._check_end() or self._check_checkpoint() or self._check_nothing_after_close()

    def _check_record(self, position: int, line: bytes, record: Record) -> _Finding | None:
        if not matches_own_hash(line, record):
            return _Finding(position, "HASH_MISMATCH")
        if problem := envelope_problem(record):
            return _Finding(position, f"BAD_ENVELOPE: {problem}")
        return None

    def _check_chain(self, position: int, record: Record, following: Iterator[bytes]) -> _Finding | None:
        seq = record["seq"]
        if seq != position:
            # Two records claim one number: this one is genuine and in its place but for the one put in before it.
            return _Finding(max(position - 1, 0) if seq == position - 1 else position, "SEQUENCE")
        if record["prev_hash"] != (GENESIS_HASH if self._last is None else self._last["hash"]):
            # An inserted record pushes the genuine one, with the same number, to the next line. Otherwise the chain
            # breaks because the record before was edited and hashed anew.
            forged_here = position == 0 or _seq_of(next(following, b"")) == position
            return _Finding(position if forged_here else position - 1, "PREV_MISMATCH")
        return None

    def _check_checkpoint(self) -> _Finding | None:
        """Compare the records before this position with the checkpoint of that size, if there is one."""
        if self.checkpoints_compared == len(self._checkpoints):
            return None
        checkpoint = self._checkpoints[self.checkpoints_compared]
        if checkpoint.size != self.frontier.size or self._last is None:
            return None
        if checkpoint.root != self.frontier.root():
            compared = self.checkpoints_compared
            return _Finding(self._checkpoints[compared - 1].size if compared else 0, "ROOT_MISMATCH")
        if checkpoint.head_hash != self._last["hash"]:  # under an equal root only the checkpoint can be wrong
            return _Finding(None, f"BAD_CHECKPOINT: head_hash at size {checkpoint.size} is not that record's hash")
        self.checkpoints_compared += 1
        return None

    def _check_decision(self, position: int, record: Record) -> _Finding | None:
        if self._redecide is None or record["type"] not in REDECIDED_TYPES:
            return None
        problem = self._redecide(record)
        return None if problem is None else _Finding(position, f"REDECIDE_MISMATCH: {problem}")

    def _check_end(self) -> _Finding | None:
        size = self.frontier.size
        counted = self._last["body"].get("records") if self._last is not None and _is_close(self._last) else None
        closed = type(counted) is int and counted == size
        longest = self._checkpoints[-1].size if self._checkpoints else 0
        return None if closed and size >= longest else _Finding(size, "TRUNCATED")

    def _note_close(self, position: int, record: Record) -> None:
        """A log closes once: only reviews may follow, each run of them under a closing record of its own."""
        if self._closed and self._after_close is None:
            reopens = record["type"] == "review"
            closes = _is_close(record) and self._open_reviews
            if not reopens and not closes:
                self._after_close = position
            self._open_reviews = reopens
        self._closed = self._closed or _is_close(record)

    def _check_nothing_after_close(self) -> _Finding | None:
        """Another closing record would satisfy the check of the end."""
        return None if self._after_close is None else _Finding(self._after_close, "AFTER_CLOSE")


def _is_close(record: Record) -> bool:
    return bool(record["type"] == "control" and record["body"].get("action") == "close")


def _seq_of(raw_line: bytes) -> int | None:
    """The number a line claims; None where there is no such line or record."""
    try:
        seq = parse_line(raw_line).get("seq")
    except CanonicalError:
        return None
    return seq if type(seq) is int else None


def _read_checkpoints(path: Path) -> tuple[list[_Checkpoint], str | None]:
    """The good checkpoints at the head of the file, and what is wrong with the next line (None: nothing).

    The fields `log` and `ts_ns` are for people and not compared, so that copies may be renamed; further fields, such
    as a signature, may stand beside the five.
    """
    checkpoints: list[_Checkpoint] = []
    with path.open("rb") as file:
        for number, raw_line in enumerate(file, start=1):
            try:
                fields = parse_line(raw_line)
            except CanonicalError as error:
                return checkpoints, f"line {number}: {error}"
            size, root, head_hash = (fields.get(key) for key in ("size", "root", "head_hash"))
            previous_size = checkpoints[-1].size if checkpoints else 0
            if type(size) is not int or size <= previous_size:
                return checkpoints, f"line {number}: size is not an integer above {previous_size}"
            if not isinstance(root, str) or not isinstance(head_hash, str):
                return checkpoints, f"line {number}: root and head_hash are not both strings"
            if not isinstance(fields.get("log"), str) or not is_decimal(fields.get("ts_ns")):
                return checkpoints, f"line {number}: log is not a string or ts_ns not a decimal string"
            checkpoints.append(_Checkpoint(size, root, head_hash))
    return checkpoints, None if checkpoints else "line 1: there is no checkpoint"


def _frontier_of_file(path: Path) -> MerkleFrontier:
    frontier = MerkleFrontier()
    with path.open("rb") as file:
        for raw_line in file:
            frontier.append(raw_line.removesuffix(b"\n"))
    return frontier
