"""Proof that one record stands in a log: everything a reader needs to check it without the rest of the log."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..configs.errors import UserError
from .canonical import Record, canonical_bytes
from .decision_log import read_log
from .merkle import consistency_proof, inclusion_proof, merkle_root, verify_consistency


@dataclass(frozen=True, slots=True)
class InclusionProof:
    """Record `index` of `size` under `root`; hashes are hex, `path` from the leaf up (RFC 6962, 2.1.1)."""

    index: int
    size: int
    root: str
    path: tuple[str, ...]
    line: str  # the record as it lies in the log, without its line feed

    def steps(self) -> list[tuple[str, str]]:
        """(side, hash) in order: the step's hash stands to the left or the right of what was reached so far."""
        sides, node, last = [], self.index, self.size - 1
        for step in self.path:
            on_left = bool(node & 1 or node == last)
            sides.append(("left" if on_left else "right", step))
            while on_left and not node & 1 and node:  # a last node without a right neighbour rises unchanged
                node, last = node >> 1, last >> 1
            node, last = node >> 1, last >> 1
        return sides


@dataclass(frozen=True, slots=True)
class Case:
    """One decision, the whole log's records, and the proof."""

    record: Record
    records: tuple[Record, ...]
    proof: InclusionProof


def find_case(log: str | Path, decision_id: str) -> Case:
    """One decision of a log, with its inclusion proof. Does not verify the chain: `verify_log` does.

    Raises:
        UserError: no such file, a line that is no record, or no decision of that name; the message shows names.
    """
    records = tuple(read_log(log))
    at = [i for i, r in enumerate(records) if r["type"] == "decision" and r["body"].get("decision_id") == decision_id]
    if not at:
        names = [str(r["body"].get("decision_id")) for r in records if r["type"] == "decision"]
        held = f"Its {len(names)} decisions are {names[0]} to {names[-1]}." if names else "It holds no decision."
        raise UserError(f"{log}: no decision {decision_id!r}. {held}")
    lines = [canonical_bytes(r) for r in records]  # read_log has refused every line that is not canonical
    index = at[0]
    path = tuple(inclusion_proof(lines, index))
    proof = InclusionProof(index, len(lines), merkle_root(lines), path, lines[index].decode())
    return Case(records[index], records, proof)


@dataclass(frozen=True, slots=True)
class Consistency:
    """Whether a log begins with an older state of it; roots and proof are hex (RFC 6962, 2.1.2)."""

    ok: bool
    old_size: int
    old_root: str
    new_size: int
    new_root: str
    proof: tuple[str, ...]

    @property
    def message(self) -> str:
        """One sentence for people."""
        if self.ok:
            return (
                f"the {self.new_size} records begin with the {self.old_size} of the older state, unchanged; root then "
                f"{self.old_root}, now {self.new_root}; proof of {len(self.proof)} hashes"
            )
        if self.new_size < self.old_size:
            return f"the log has {self.new_size} records, the older state had {self.old_size}: its tail is missing"
        return f"the first {self.old_size} records are not those of the older state, whose root is {self.old_root}"


def prove_consistency(old: str | Path, new: str | Path) -> Consistency:
    """Whether the log `new` begins with `old`, an earlier copy of it or of its checkpoints (of which the last counts).

    Raises:
        UserError: no such file, a line that is no record, or an empty older state.
    """
    size, root = _older_state(old)
    lines = [canonical_bytes(r) for r in read_log(new)]
    now = merkle_root(lines)
    if not 1 <= size <= len(lines):
        return Consistency(False, size, root, len(lines), now, ())
    proof = consistency_proof(lines, size)
    holds = verify_consistency(size, root, len(lines), now, proof)
    return Consistency(holds, size, root, len(lines), now, tuple(proof))


def _older_state(old: str | Path) -> tuple[int, str]:
    """(records, root) of a log, or of the last line of a checkpoint file."""
    records = list(read_log(old))
    if not records:
        raise UserError(f"{old}: holds no record. Name an older copy of the log, or of its checkpoints.")
    size, root = records[-1].get("size"), records[-1].get("root")
    if isinstance(size, int) and isinstance(root, str):
        return size, root
    return len(records), merkle_root(canonical_bytes(r) for r in records)
