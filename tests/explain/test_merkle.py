"""The tree is RFC 6962's: published roots, and proofs that hold for what is there and for nothing else."""

from __future__ import annotations

import hashlib

import pytest

from glasspool.configs.errors import UserError
from glasspool.explain.merkle import (
    MerkleFrontier,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    merkle_root,
    verify_consistency,
    verify_inclusion,
)

# The eight leaves of the Certificate Transparency test vectors.
CT_LEAVES = [
    bytes.fromhex(text)
    for text in (
        "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
    )
]  # fmt: skip


def lines_of(size: int) -> list[bytes]:
    return [b"line %d" % number for number in range(size)]


def root_by_definition(lines: list[bytes]) -> bytes:
    """RFC 6962, 2.1, word by word."""
    if not lines:
        return hashlib.sha256(b"").digest()
    if len(lines) == 1:
        return hashlib.sha256(b"\x00" + lines[0]).digest()
    left = 1
    while left * 2 < len(lines):
        left *= 2
    return hashlib.sha256(b"\x01" + root_by_definition(lines[:left]) + root_by_definition(lines[left:])).digest()


@pytest.mark.parametrize(
    ("lines", "root"),
    [
        ([], "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        ([b""], "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"),
        ([b"a", b"b", b"c"], "36642e73c2540ab121e3a6bf9545b0a24982cd830eb13d3cd19de3ce6c021ec1"),
        ([b"a", b"b", b"c", b"d", b"e"], "fe14a5426fbd70c0fa73f52342afed0da0bd23c4838662ccf6b88a3070ead97b"),
        (CT_LEAVES, "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"),
    ],
)
def test_published_roots(lines: list[bytes], root: str) -> None:
    assert merkle_root(lines) == root


def test_the_frontier_has_the_defined_root_after_every_line() -> None:
    frontier = MerkleFrontier()
    for size in range(130):
        assert frontier.root() == root_by_definition(lines_of(size)).hex(), size
        frontier.append(b"line %d" % size)
        assert frontier.size == size + 1


def test_the_frontier_of_many_lines_holds_one_hash_for_each_set_bit_of_their_number() -> None:
    frontier = MerkleFrontier()
    for number in range(100_003):
        frontier.append(b"%d" % number)
    assert len(frontier._peaks) == (100_003).bit_count()


def test_a_node_cannot_pass_for_a_line() -> None:
    forged_line = leaf_hash(b"a") + leaf_hash(b"b")
    assert merkle_root([forged_line]) != merkle_root([b"a", b"b"])


def test_every_line_of_every_small_log_has_a_proof_that_holds_for_it_alone() -> None:
    for size in range(1, 35):
        lines = lines_of(size)
        root = merkle_root(lines)
        for index, line in enumerate(lines):
            proof = inclusion_proof(lines, index)
            assert verify_inclusion(line, index, size, proof, root), (size, index)
            assert not verify_inclusion(b"forged", index, size, proof, root)
            assert not verify_inclusion(line, index, size, [*proof, "00" * 32], root)
            assert not verify_inclusion(line, index, size, proof, "00" * 32)
            if size > 1:
                assert not verify_inclusion(line, index, size, proof[:-1], root)
                assert not verify_inclusion(line, (index + 1) % size, size, proof, root)


def test_a_proof_does_not_hold_in_a_log_of_another_depth() -> None:
    lines = lines_of(4)
    root = merkle_root(lines)
    assert not verify_inclusion(lines[0], 0, 8, inclusion_proof(lines, 0), root)
    assert not verify_inclusion(lines[3], 1, 2, inclusion_proof(lines, 3), root)


def test_a_proof_needs_as_many_hashes_as_the_tree_is_deep() -> None:
    assert len(inclusion_proof(lines_of(1024), 700)) == 10
    assert inclusion_proof([b"only"], 0) == []


def test_the_published_path_of_the_first_ct_leaf() -> None:
    assert inclusion_proof(CT_LEAVES, 0) == [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ]


def test_malformed_proofs_are_false_and_not_an_exception() -> None:
    root = merkle_root([b"a", b"b"])
    for proof in (["zz"], ["00"], ["00" * 33], []):
        assert not verify_inclusion(b"a", 0, 2, proof, root)
        assert not verify_consistency(1, merkle_root([b"a"]), 2, root, proof)
    assert not verify_inclusion(b"a", 2, 2, inclusion_proof([b"a", b"b"], 0), root)
    assert not verify_inclusion(b"a", -1, 2, inclusion_proof([b"a", b"b"], 0), root)
    assert not verify_consistency(0, merkle_root([]), 2, root, [])
    assert not verify_consistency(1, "not hex", 2, root, consistency_proof([b"a", b"b"], 1))


def test_an_older_checkpoint_is_proved_a_head_of_every_later_one_and_a_rewritten_one_is_not() -> None:
    for size in range(1, 24):
        lines = lines_of(size)
        root = merkle_root(lines)
        for old_size in range(1, size + 1):
            proof = consistency_proof(lines, old_size)
            assert verify_consistency(old_size, merkle_root(lines[:old_size]), size, root, proof), (old_size, size)
            rewritten = [b"forged", *lines[1:old_size]]
            assert not verify_consistency(old_size, merkle_root(rewritten), size, root, proof)
            assert not verify_consistency(old_size, merkle_root(lines[:old_size]), size, "00" * 32, proof)
            if old_size < size:
                assert not verify_consistency(old_size, merkle_root(lines[:old_size]), size, root, [*proof, "00" * 32])


def test_a_consistency_proof_does_not_hold_for_logs_of_another_depth() -> None:
    lines = lines_of(8)
    root = merkle_root(lines)
    assert not verify_consistency(4, merkle_root(lines[:4]), 16, root, consistency_proof(lines, 4))
    assert not verify_consistency(3, merkle_root(lines[:7]), 4, root, consistency_proof(lines, 7))


def test_a_record_that_is_not_there_is_refused() -> None:
    with pytest.raises(UserError, match=r"record 3 is not in a log of 3 records\. Pass 0 to 2"):
        inclusion_proof(lines_of(3), 3)
    with pytest.raises(UserError, match=r"checkpoint of 4 records cannot precede a log of 3"):
        consistency_proof(lines_of(3), 4)
