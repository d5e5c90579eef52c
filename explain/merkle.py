"""RFC 6962 Merkle trees over the lines of a log: a root for many records, short proofs for one or for an older state.

Roots and proof steps are lower-case hex, so that they can stand in JSON as they are. A line is given without its
line feed. Leaves and nodes are hashed with different first bytes; otherwise a node could pass for a line.

Source: Laurie, Langley & Kasper (2013), RFC 6962, section 2.1; the checks of proofs follow RFC 9162, section 2.1.3-4.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from ..configs.errors import UserError

EMPTY_ROOT = hashlib.sha256(b"").hexdigest()


def leaf_hash(line: bytes) -> bytes:
    """SHA-256(00 || line), 32 bytes."""
    return hashlib.sha256(b"\x00" + line).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(01 || left || right), 32 bytes, of two 32-byte hashes."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class MerkleFrontier:
    """The root of a growing list of lines in O(log n) memory: one hash for each set bit of the size."""

    def __init__(self) -> None:
        self.size = 0
        self._peaks: list[bytes] = []  # roots of the full subtrees, largest (leftmost) first

    def append(self, line: bytes) -> None:
        peak = leaf_hash(line)
        carry = self.size
        while carry & 1:  # as in a binary counter: two full subtrees of one height make one of the next
            peak = node_hash(self._peaks.pop(), peak)
            carry >>= 1
        self._peaks.append(peak)
        self.size += 1

    def root(self) -> str:
        """Root of the lines so far (hex); SHA-256 of nothing when there are none."""
        if not self._peaks:
            return EMPTY_ROOT
        root = self._peaks[-1]
        for peak in reversed(self._peaks[:-1]):
            root = node_hash(peak, root)
        return root.hex()


def merkle_root(lines: Iterable[bytes]) -> str:
    """Root (hex) of the tree over `lines`, the raw lines and not their hashes."""
    frontier = MerkleFrontier()
    for line in lines:
        frontier.append(line)
    return frontier.root()


def inclusion_proof(lines: Sequence[bytes], index: int) -> list[str]:
    """The hashes that lead from line `index` up to the root of `lines`, lowest first (RFC 6962, 2.1.1).

    Raises:
        UserError: no line has that index.
    """
    if not 0 <= index < len(lines):
        raise UserError(f"record {index} is not in a log of {len(lines)} records. Pass 0 to {len(lines) - 1}.")
    leaves = [leaf_hash(line) for line in lines]
    first, end = 0, len(leaves)
    steps: list[str] = []
    while end - first > 1:
        middle = first + _left_size(end - first)
        if index < middle:
            steps.append(_subtree_root(leaves, middle, end).hex())
            end = middle
        else:
            steps.append(_subtree_root(leaves, first, middle).hex())
            first = middle
    return steps[::-1]


def verify_inclusion(line: bytes, index: int, size: int, proof: Sequence[str], root: str) -> bool:
    """Whether `line` is number `index` of the `size` lines under `root` (hex); False for a malformed proof too."""
    if not 0 <= index < size:
        return False
    steps = _from_hex(proof)
    if steps is None:
        return False
    node, last, path = index, size - 1, leaf_hash(line)
    for step in steps:
        if last == 0:
            return False
        if node & 1 or node == last:
            path = node_hash(step, path)
            while not node & 1 and node:  # a last node without a right neighbour rises unchanged
                node, last = node >> 1, last >> 1
        else:
            path = node_hash(path, step)
        node, last = node >> 1, last >> 1
    return last == 0 and path.hex() == root


def consistency_proof(lines: Sequence[bytes], old_size: int) -> list[str]:
    """The hashes that show that the first `old_size` lines are an unchanged head of `lines` (RFC 6962, 2.1.2).

    Raises:
        UserError: `old_size` is not between 1 and the number of lines.
    """
    if not 1 <= old_size <= len(lines):
        raise UserError(
            f"a checkpoint of {old_size} records cannot precede a log of {len(lines)}. Pass 1 to {len(lines)}."
        )
    leaves = [leaf_hash(line) for line in lines]
    first, end = 0, len(leaves)
    steps: list[str] = []
    while end != old_size:
        middle = first + _left_size(end - first)
        if old_size <= middle:
            steps.append(_subtree_root(leaves, middle, end).hex())
            end = middle
        else:
            steps.append(_subtree_root(leaves, first, middle).hex())
            first = middle
    if first > 0:  # with first == 0 the last subtree is the old tree, whose root the reader already holds
        steps.append(_subtree_root(leaves, first, end).hex())
    return steps[::-1]


def verify_consistency(old_size: int, old_root: str, new_size: int, new_root: str, proof: Sequence[str]) -> bool:
    """Whether the log under `new_root` begins with the log under `old_root` (both hex): nothing was rewritten."""
    steps = _from_hex(proof)
    if steps is None or not 1 <= old_size <= new_size:
        return False
    if old_size == new_size:
        return not steps and old_root == new_root
    if old_size & (old_size - 1) == 0:  # a full tree: its root is the first step, left out of the proof
        old_root_bytes = _from_hex([old_root])
        if old_root_bytes is None:
            return False
        steps = old_root_bytes + steps
    if not steps:
        return False
    node, last = old_size - 1, new_size - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    old_path = new_path = steps[0]
    for step in steps[1:]:
        if last == 0:
            return False
        if node & 1 or node == last:
            old_path, new_path = node_hash(step, old_path), node_hash(step, new_path)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            new_path = node_hash(new_path, step)
        node, last = node >> 1, last >> 1
    return last == 0 and old_path.hex() == old_root and new_path.hex() == new_root


def _left_size(size: int) -> int:
    """Largest power of two below `size` (size >= 2)."""
    return 1 << ((size - 1).bit_length() - 1)


def _subtree_root(leaves: Sequence[bytes], first: int, end: int) -> bytes:
    if end - first == 1:
        return leaves[first]
    middle = first + _left_size(end - first)
    return node_hash(_subtree_root(leaves, first, middle), _subtree_root(leaves, middle, end))


def _from_hex(hashes: Sequence[str]) -> list[bytes] | None:
    try:
        return [bytes.fromhex(text) for text in hashes]
    except ValueError:
        return None
