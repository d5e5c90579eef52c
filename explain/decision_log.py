"""The decision log: an append-only file of hash-chained records, one canonical JSON line each.

Beside the log lies `<log>.checkpoints`: the size, Merkle root and head hash after every 1,000 records and at the close.
The log is tamper-evident as long as a copy of that second file is kept where the log's writer cannot change it.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any

from ..configs.errors import UserError
from .canonical import CanonicalError, Record, canonical_bytes, parse_line
from .merkle import MerkleFrontier

ENVELOPE_VERSION = 1
ENVELOPE_KEYS = frozenset({"v", "seq", "type", "ts_ns", "prev_hash", "hash", "body"})
RECORD_TYPES = (
    "run", "parent", "decision", "lit_outcome", "baseline_outcome", "route_event", "fill", "markout", "control",
    "review",
)  # fmt: skip
CHECKPOINT_EVERY = 1_000  # records
GENESIS_HASH = "0" * 64  # prev_hash of record 0

_AFTER_HASH = b',"prev_hash":'  # of the sorted envelope fields, "hash" stands between "body" and "prev_hash"
_DECIMAL = re.compile(r"0|[1-9][0-9]*", re.ASCII)


class DecisionLog:
    """Writes one log. Nothing appears at `path` before `close`; an exception of the caller leaves nothing behind.

    Every record is handed to the system before `append` returns, so a killed process loses at most the record it was
    writing: the others lie in `.<name>.<token>.partial` beside `path`, which `verify_log` reads and calls TRUNCATED.
    A disk that is full leaves the whole records there too.

    with DecisionLog(path) as log:
        log.append("run", ts_ns, {"run_id": "r-1"})
        log.close(end_ns)

    A log that lies at `path` already is replaced at the close. One writer, one thread.

    Raises:
        UserError: `path` is a folder, or its folder does not exist.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if self.path.is_dir():
            raise UserError(f"{self.path} is a folder. Name a file for the decision log, such as decisions.jsonl.")
        if not self.path.parent.is_dir():
            raise UserError(
                f"The folder of the decision log {self.path} does not exist. Make {self.path.parent} first."
            )
        token = secrets.token_hex(4)
        self._partial_log = self.path.with_name(f".{self.path.name}.{token}.partial")
        self._partial_checkpoints = checkpoints_path(self._partial_log)
        # Unbuffered: what append has accepted must outlive the process.
        self._log_file = self._partial_log.open("xb", buffering=0)
        self._checkpoint_file = self._partial_checkpoints.open("xb", buffering=0)
        self._log_bytes = 0
        self._frontier = MerkleFrontier()
        self._head_hash = GENESIS_HASH
        self._head_ts_ns = 0
        self._checkpointed_records = 0
        self._open = True

    @classmethod
    def reopened(cls, path: str | Path) -> DecisionLog:
        """A log that goes on after the records of the whole one at `path`, which `close` replaces.

        The old lines and checkpoints are copied as they are; verify the log first. After a closing record `verify_log`
        accepts reviews alone.
        """
        old = existing_file(path)
        log = cls(old)
        try:
            log._copy(old)
        except BaseException:
            log.discard()
            raise
        return log

    def _copy(self, old: Path) -> None:
        raw_line = b""
        with old.open("rb") as file:
            for raw_line in file:
                _write_whole(self._log_file, raw_line)
                self._log_bytes += len(raw_line)
                self._frontier.append(raw_line.removesuffix(b"\n"))
        record = parse_line(raw_line)
        self._head_hash, self._head_ts_ns = record["hash"], int(record["ts_ns"])
        if checkpoints_path(old).is_file():
            _write_whole(self._checkpoint_file, checkpoints_path(old).read_bytes())
        self._checkpointed_records = self.records

    @property
    def records(self) -> int:
        """Records written so far, the close included."""
        return self._frontier.size

    @property
    def head_hash(self) -> str:
        """Hash of the last record (hex); 64 zeros before the first."""
        return self._head_hash

    def root(self) -> str:
        """Merkle root of the records so far (hex)."""
        return self._frontier.root()

    def append(self, type: str, ts_ns: int, body: Mapping[str, Any]) -> int:
        """Add one record.

        Args:
            type: one of RECORD_TYPES.
            ts_ns: UTC nanoseconds, an int; the log keeps it as a decimal string because it exceeds 2^53.
            body: what canonical_bytes accepts; units in the names, floats as `repr` strings.

        Returns:
            The record's number, from 0.

        Raises:
            UserError: unknown type, a time that is not a non-negative int, a body that canonical JSON cannot hold,
                a closed log, or a `control` with action `close`, which only `close` writes. Nothing is written then.
                Or the file cannot be written (disk full): the log is given up, its whole records are kept.
        """
        if type == "control" and body.get("action") == "close":
            raise UserError(f"{self.path}: append cannot write the closing record. Call close(ts_ns) instead.")
        return self._write(type, ts_ns, body)

    def close(self, ts_ns: int | None = None) -> str:
        """Write the closing record and the last checkpoint, and let both files appear under their names.

        Args:
            ts_ns: UTC nanoseconds; None takes the last record's time (0 in an empty log).

        Returns:
            The Merkle root of the whole log (hex).

        Raises:
            UserError: the files cannot be written; what was written is kept, and the message says where.
        """
        try:
            closing_ts_ns = self._head_ts_ns if ts_ns is None else ts_ns
            self._write("control", closing_ts_ns, {"action": "close", "records": self.records + 1})
            if self._checkpointed_records != self.records:
                self._write_checkpoint()
            for file in (self._log_file, self._checkpoint_file):
                os.fsync(file.fileno())
                file.close()
            # In this order every moment shows a log that verifies: never a new log beside old checkpoints.
            checkpoints_path(self.path).unlink(missing_ok=True)
            self._partial_log.replace(self.path)
            self._partial_checkpoints.replace(checkpoints_path(self.path))
        except OSError as error:
            raise self._kept(error) from error
        except BaseException:
            self.discard()
            raise
        self._open = False
        return self.root()

    def discard(self) -> None:
        """Give up an open log: remove what was written. Does nothing after `close`."""
        if not self._open:
            return
        self._open = False
        for file in (self._log_file, self._checkpoint_file):
            file.close()
        self._partial_log.unlink(missing_ok=True)
        self._partial_checkpoints.unlink(missing_ok=True)

    def __enter__(self) -> DecisionLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.discard()
        elif self._open:
            self.close()

    def _write(self, kind: str, ts_ns: int, body: Mapping[str, Any]) -> int:
        if not self._open:
            raise UserError(f"{self.path}: the log is closed. Open a new DecisionLog for further records.")
        if kind not in RECORD_TYPES:
            near = difflib.get_close_matches(kind, RECORD_TYPES, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"Pass one of {', '.join(RECORD_TYPES)}."
            raise UserError(f"{self.path}, record {self.records}: unknown record type {kind!r}. {hint}")
        if not isinstance(ts_ns, int) or isinstance(ts_ns, bool) or ts_ns < 0:
            raise UserError(
                f"{self.path}, record {self.records}: ts_ns = {ts_ns!r} must be UTC nanoseconds as an int >= 0. "
                f"Pass int(ts_ns)."
            )
        record: Record = {
            "v": ENVELOPE_VERSION,
            "seq": self.records,
            "type": kind,
            "ts_ns": str(ts_ns),
            "prev_hash": self._head_hash,
            "body": dict(body),
        }
        try:
            unhashed = canonical_bytes(record)
        except UserError as error:
            raise UserError(f"{self.path}, record {self.records}: {error}") from None
        digest = hashlib.sha256(unhashed).hexdigest()
        at = unhashed.rindex(_AFTER_HASH)  # set in where the key sorts, instead of writing the whole record again
        line = unhashed[:at] + _hash_field(digest) + unhashed[at:]
        try:
            _write_whole(self._log_file, line + b"\n")
            self._log_bytes += len(line) + 1
            self._frontier.append(line)
            self._head_hash, self._head_ts_ns = digest, ts_ns
            if self.records % CHECKPOINT_EVERY == 0:
                self._write_checkpoint()
        except OSError as error:
            raise self._kept(error) from error
        return self.records - 1

    def _kept(self, error: OSError) -> UserError:
        """Give up because a file cannot be written, but keep the whole records; the error that says so."""
        self._open = False
        left = self._partial_log if self._partial_log.exists() else self.path
        with contextlib.suppress(OSError, ValueError):  # a closed file, or a disk that refuses this too
            self._log_file.truncate(self._log_bytes)  # a record cut in the middle is no record
        for file in (self._log_file, self._checkpoint_file):
            with contextlib.suppress(OSError):
                file.close()
        return UserError(
            f"{self.path}: the log cannot be written ({error.strerror or error}). Its first {self.records} records are "
            f"kept in {left}. Free some space and run again; `glasspool audit verify {left}` reads them."
        )

    def _write_checkpoint(self) -> None:
        checkpoint = {
            "log": self.path.name,
            "size": self.records,
            "root": self.root(),
            "head_hash": self._head_hash,
            "ts_ns": str(self._head_ts_ns),
        }
        _write_whole(self._checkpoint_file, canonical_bytes(checkpoint) + b"\n")
        self._checkpointed_records = self.records


def _write_whole(file: FileIO, data: bytes) -> None:
    """All of `data`: one call of an unbuffered file may take only a part."""
    done = 0
    while done < len(data):
        done += file.write(data[done:])


def matches_own_hash(line: bytes, record: Record) -> bool:
    """Whether `record["hash"]` is record_hash(record), given the record's canonical `line` without its line feed.

    Takes the hash field out of the line, which costs half of writing the record again. A record with fields beside the
    seven of the envelope may be judged wrongly: refuse it by `envelope_problem`.
    """
    if not isinstance(record.get("hash"), str):
        return False
    field = _hash_field(record["hash"])
    at = line.rfind(field + _AFTER_HASH)
    return at >= 0 and hashlib.sha256(line[:at] + line[at + len(field) :]).hexdigest() == record["hash"]


def _hash_field(digest: str) -> bytes:
    return b',"hash":"' + digest.encode() + b'"'


def checkpoints_path(log_path: Path) -> Path:
    """Where the checkpoints of a log lie: `<log>.checkpoints` beside it."""
    return log_path.with_name(log_path.name + ".checkpoints")


def read_log(path: str | Path) -> Iterator[Record]:
    """The records of a log in file order, envelope included. Reads only; `verify_log` is what checks the chain.

    Raises:
        UserError: no such file (at once), or a line that is not a canonical record (when reached).
    """
    log_path = existing_file(path)

    def records() -> Iterator[Record]:
        with log_path.open("rb") as file:
            for position, raw_line in enumerate(file):
                try:
                    yield parse_line(raw_line)
                except CanonicalError as error:
                    raise UserError(
                        f"{log_path}, line {position + 1} (record {position}): {error}. "
                        f"Run `glasspool audit verify {log_path}`."
                    ) from None

    return records()


def existing_file(path: str | Path) -> Path:
    """`path` as a Path; UserError when there is no such file."""
    found = Path(path)
    if not found.is_file():
        raise UserError(f"There is no file {found}. Check the path; a log appears there when it is closed.")
    return found


def envelope_problem(record: Record) -> str | None:
    """What is wrong with the seven envelope fields of a record by themselves, or None."""
    if keys := ENVELOPE_KEYS ^ record.keys():
        return f"the fields {', '.join(sorted(keys))} are missing or not known"
    if type(record["v"]) is not int or record["v"] != ENVELOPE_VERSION:
        return f"v is not {ENVELOPE_VERSION}"
    if type(record["seq"]) is not int:  # bool is an int to Python, and True equals 1
        return "seq is not an integer"
    if record["type"] not in RECORD_TYPES:
        return "type is none of the known record types"
    if not is_decimal(record["ts_ns"]):
        return "ts_ns is not a decimal string"
    if not isinstance(record["body"], dict):
        return "body is not an object"
    return None


def is_decimal(value: object) -> bool:
    """Whether `value` is a non-negative integer written as a string, without leading zeros."""
    return isinstance(value, str) and _DECIMAL.fullmatch(value) is not None
