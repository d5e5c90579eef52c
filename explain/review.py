"""A committee's verdict on a decision, a venue or the policy, appended to the log that it is about.

A review comes after the closing record and has a closing record and a checkpoint of its own; nothing before it changes,
so that an older checkpoint stays the head of the log (`proof.prove_consistency`). Its time is the wall clock's, also in
a log on a synthetic clock.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from ..configs.errors import UserError
from .canonical import Record, canonical_bytes
from .decision_log import DecisionLog, existing_file, read_log
from .facts import Body, venue_of
from .merkle import MerkleFrontier

VERDICTS = ("modify", "justify")
MAX_TEXT = 4_000  # characters


def append_review(
    path: str | Path, about: str, *, verdict: str, owner: str, text: str, due_date: str | None = None,
    ts_ns: int | None = None,
) -> int:  # fmt: skip
    """Append one `review` and a closing record to a whole log (verify it first); the log is replaced at once or not.

    Args:
        about: a decision, a venue of the log's routes, or its policy, by ID.
        due_date: YYYY-MM-DD; needed with "modify".
        ts_ns: UTC nanoseconds; None: now.

    Returns:
        The review's record number.

    Raises:
        UserError: an unknown ID or verdict, no owner or text, a date that is none, a log of a bundle, whose manifest
            holds its hash, or one that another writer is appending to.
    """
    log_path = existing_file(path)
    _refuse_bundled(log_path)
    if verdict not in VERDICTS:
        raise UserError(f"verdict {verdict!r} is not known. Pass one of {', '.join(VERDICTS)}.")
    for name, option, value in (("owner", "--by", owner), ("text", "--note", text)):
        if not value.strip():
            raise UserError(f"a review needs {name}. Say it with {option}.")
        if len(value) > MAX_TEXT:
            raise UserError(f"the {name} has {len(value):,} characters, {MAX_TEXT:,} at most. Shorten it ({option}).")
    if verdict == "modify" and due_date is None:
        raise UserError("a verdict to modify needs a date. Pass it as YYYY-MM-DD (--due).")
    if due_date is not None:
        _refuse_odd_date(due_date)
    with _locked(log_path):
        body = _subject(log_path, about) | {
            "decision": verdict, "text": text, "owner": owner, "due_date": due_date,
        }  # fmt: skip
        with DecisionLog.reopened(log_path) as log:
            now_ns = time.time_ns() if ts_ns is None else ts_ns
            seq = log.append("review", now_ns, body)
            log.close(now_ns)
    return seq


def _subject(path: Path, about: str) -> Body:
    """decision_id, venue and policy_id (one of them not null), period, and the hash of the evidence.

    Evidence: of a decision the hash of its record, of a venue or the policy the root of the log as it was reviewed.
    """
    decision: Record | None = None
    first_ns = last_ns = ""
    names: list[str] = []
    venues: set[str] = set()
    policies: set[str] = set()
    tree = MerkleFrontier()
    for record in read_log(path):
        tree.append(canonical_bytes(record))
        kind, body = record["type"], record["body"]
        if kind == "run":
            policies.add(str(body.get("policy_id")))
            venues |= {venue_of(route) for route in (body.get("control_limits") or {}).get("routes", [])}
        elif kind == "decision":
            names.append(str(body.get("decision_id")))
            decision = record if names[-1] == about else decision
        if kind != "review" and body.get("action") != "close":
            first_ns, last_ns = first_ns or record["ts_ns"], record["ts_ns"]
    if decision is not None:
        first_ns = last_ns = decision["ts_ns"]
    elif about not in venues | policies:
        held = f"decisions {names[0]} to {names[-1]}" if names else "no decision"
        raise UserError(
            f"{path}: {about!r} is none of its decisions, venues or policies. It holds {held}, venues "
            f"{', '.join(sorted(venues)) or 'none'}, policy {', '.join(sorted(policies)) or 'none'}."
        )
    return {
        "decision_id": about if decision is not None else None,
        "venue": about if decision is None and about in venues else None,
        "policy_id": about if decision is None and about not in venues else None,
        "period": {"from_ns": first_ns, "to_ns": last_ns},
        "evidence_sha256": decision["hash"] if decision is not None else tree.root(),
    }


def _refuse_bundled(path: Path) -> None:
    bundle = path.resolve().parent.parent
    if (bundle / "manifest.json").is_file():
        raise UserError(
            f"{path}: is part of the bundle {bundle}, whose manifest holds its hash. Copy the log and its checkpoints "
            "elsewhere and review the copy."
        )


def _refuse_odd_date(text: str) -> None:
    try:
        good = datetime.date.fromisoformat(text).isoformat() == text
    except ValueError:
        good = False
    if not good:
        raise UserError(f"due date {text!r} is not a calendar date. Write it as YYYY-MM-DD.")


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One writer at a time: whoever comes second would replace the first one's review."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(f"{path}: another review is being written. Try again.") from None
        if not os.path.samestat(os.fstat(file.fileno()), path.stat()):
            raise UserError(f"{path}: another review has just been written. Try again.")
        yield
