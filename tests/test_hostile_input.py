"""Hostile input is refused with a message or found bad; it never ends in a traceback, nor passes for good."""

from __future__ import annotations

import copy
import hashlib
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from glasspool import cli
from glasspool.agents.bundle import MANIFEST, Bundle, export_bundle, load_bundle
from glasspool.agents.live import load_router
from glasspool.agents.redecision import Redecider
from glasspool.agents.runs import load_run, training_summary
from glasspool.configs.errors import UserError
from glasspool.configs.loading import find_config, load_experiment, load_market
from glasspool.envs.market import Market
from glasspool.explain.canonical import canonical_bytes
from glasspool.explain.verification import verify_log
from glasspool.user_messages import user_message

from .agents.test_bundle import LOG, make_run

FUZZ = settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
RECORDS_KEPT = 120


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("run"), "additive")


@pytest.fixture(scope="module")
def bundle_dir(run_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_bundle(run_dir, tmp_path_factory.mktemp("out") / "bundle", orders=1, seed=1_000)


@pytest.fixture(scope="module")
def scratch(bundle_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy that tests change and mend."""
    return Path(shutil.copytree(bundle_dir, tmp_path_factory.mktemp("scratch") / "bundle"))


def refused(read: Callable[[], object]) -> bool:
    """Whether reading was refused; an error without a message for the user is raised."""
    try:
        read()
    except Exception as error:
        if user_message(error) is None:
            raise
        return True
    return False


def damaged(whole: bytes, rng: random.Random) -> bytes:
    """Bytes changed, cut off, repeated, moved, put in, or far too many."""
    lines = whole.splitlines(keepends=True)
    at, other = rng.randrange(len(whole)), rng.randrange(len(lines))
    match rng.randrange(7):
        case 0:
            return whole[:at] + bytes([whole[at] ^ (1 << rng.randrange(8))]) + whole[at + 1 :]
        case 1:
            return whole[:at]
        case 2:
            lines[other : other + 1] *= 2
        case 3:
            lines.insert(rng.randrange(len(lines)), lines.pop(other))
        case 4:
            return whole[:at] + rng.randbytes(rng.randrange(1, 40)) + whole[at:]
        case 5:
            return whole[:at] + rng.choice([b"9" * 6_000, b"[" * 6_000, b"{" * 6_000, b"\x00", b"\xff"]) + whole[at:]
        case _:
            del lines[other]
    return b"".join(lines)


@pytest.mark.parametrize("name", ["base", "wide_spread"])
def test_a_damaged_market_is_read_or_refused(name: str, tmp_path: Path) -> None:
    good = find_config(name, "markets").read_bytes()
    path, rng, times = tmp_path / "market.yaml", random.Random(7), 60
    n_refused = 0
    for _ in range(times):
        path.write_bytes(damaged(good, rng))
        n_refused += refused(lambda: Market(load_market(path)))
    assert n_refused > 5


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12)
)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 3_000, "a: " + "{b: " * 5_000, "a: " + "9" * 6_000, "a: 2026-13-45", BOMB, "a: &a [*a]", "? [x]\n: 1",
        "!!python/object/apply:os.system [true]", "\x00", "5: 5", "seed: " + "9" * 400, "name: 5", "market: 7",
        "market: [1]", "training: 5", "market: {base: base, stocks: 5}", "a: 1\na: 2", "--- 1\n--- 2", "", "null",
        "# " + "x" * 6_000_000,
    ],
)  # fmt: skip
def test_a_config_that_is_none_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    assert refused(lambda: load_experiment(path)), "an experiment was read from it"
    assert refused(lambda: load_market(path)), "a market was read from it"


@pytest.mark.parametrize("value", ["[" * 3_000, "9" * 6_000, "2026-13-45", "a: b: c", "'", ".nan", "-1e999"])
def test_an_override_that_is_none_is_refused(value: str) -> None:
    assert refused(lambda: load_experiment("default", [f"training.steps={value}"]))


def test_any_damage_to_a_bundle_is_refused(scratch: Path) -> None:
    rng = random.Random(3)
    for file in sorted(p for p in scratch.rglob("*") if p.is_file()):
        good = file.read_bytes()
        for _ in range(12):
            bad = damaged(good, rng)
            file.write_bytes(bad)
            assert refused(lambda: load_bundle(scratch)) or bad == good, file.name
        file.write_bytes(good)
    load_bundle(scratch)


def put(data: Any, place: list[int], value: Any) -> None:
    """Replace one value of nested JSON; `place` picks a key at every level."""
    node, key = data, None
    for pick in place:
        inner = node if key is None else node[key]
        if not isinstance(inner, dict | list) or not inner:
            break
        node, key = inner, (sorted(inner)[pick % len(inner)] if isinstance(inner, dict) else pick % len(inner))
    if value is Ellipsis:
        del node[key]
    else:
        node[key] = value


values = st.sampled_from(
    [..., None, True, -1, 0, 10**30, 10**16, 1.5, float("nan"), "", "x", "nan", "9" * 5_000, [], {}, [[]],
     {"a": 1}, "../../etc/passwd"]
).map(copy.deepcopy)  # fmt: skip  # a fresh one each time: what one example changes, the next must not meet
places = st.lists(st.integers(0, 40), min_size=1, max_size=6)


def forge(folder: Path, manifest: dict[str, Any]) -> None:
    """A manifest with hashes that hold, as somebody writes it who knows how."""
    manifest.pop("manifest_sha256", None)
    try:
        manifest["manifest_sha256"] = hashlib.sha256(canonical_bytes(manifest)).hexdigest()
    except UserError:
        pass
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")


@FUZZ
@given(place=places, value=values)
def test_a_forged_manifest_is_read_or_refused(scratch: Path, place: list[int], value: Any) -> None:
    good = (scratch / MANIFEST).read_bytes()
    manifest = json.loads(good)
    put(manifest, place, value)
    forge(scratch, manifest)
    try:
        if not refused(lambda: load_bundle(scratch)):
            ranges = load_bundle(scratch).ranges
            assert np.isfinite([ranges.low, ranges.high]).all() and (ranges.low <= ranges.high).all()
    finally:
        (scratch / MANIFEST).write_bytes(good)


@FUZZ
@given(place=places, value=values)
def test_forged_tables_are_read_as_they_stand_or_refused(scratch: Path, place: list[int], value: Any) -> None:
    policy, good = (scratch / "policy.json").read_bytes(), (scratch / MANIFEST).read_bytes()
    tables = json.loads(policy)
    put(tables, place, value)
    (scratch / "policy.json").write_text(json.dumps(tables))
    manifest = json.loads(good)
    manifest["files"]["policy.json"] = hashlib.sha256((scratch / "policy.json").read_bytes()).hexdigest()
    forge(scratch, manifest)
    try:
        if not refused(lambda: load_bundle(scratch)):
            assert load_bundle(scratch).runtime.to_json() == tables
    finally:
        (scratch / "policy.json").write_bytes(policy)
        (scratch / MANIFEST).write_bytes(good)


@pytest.mark.parametrize("change", [{"version": 99}, {"version": None}, {"format": "other"}, {"feature_ranges": {}}])
def test_a_bundle_of_another_version_is_refused_with_the_mend(scratch: Path, change: dict[str, Any]) -> None:
    good = (scratch / MANIFEST).read_bytes()
    forge(scratch, json.loads(good) | change)
    with pytest.raises(UserError, match=rf"{MANIFEST}: .*Export the run again"):
        load_bundle(scratch)
    (scratch / MANIFEST).write_bytes(good)


@pytest.fixture(scope="module")
def bundle(bundle_dir: Path) -> Bundle:
    return load_bundle(bundle_dir)


@pytest.fixture(scope="module")
def log_lines(bundle_dir: Path) -> list[bytes]:
    return (bundle_dir / LOG).read_bytes().splitlines(keepends=True)


@pytest.mark.parametrize("seed", range(4))
def test_a_damaged_log_is_found_bad(bundle_dir: Path, log_lines: list[bytes], tmp_path: Path, seed: int) -> None:
    rng, path = random.Random(seed), tmp_path / "log.jsonl"
    whole = b"".join(log_lines)
    for _ in range(6):
        bad = damaged(whole, rng)
        path.write_bytes(bad)
        verdict = verify_log(path)
        assert not verdict.ok or bad == whole


@FUZZ
@given(place=places, value=values, data=st.data())
def test_a_forged_record_is_not_decided_again_as_it_stands(
    bundle: Bundle, log_lines: list[bytes], place: list[int], value: Any, data: st.DataObject
) -> None:
    """What the bundle reads back from a log is any JSON at all: it answers with words, never with a traceback."""
    redecide = Redecider(bundle)
    records = [json.loads(line) for line in log_lines[:RECORDS_KEPT]]
    read = [r for r in records if r["type"] in ("run", "parent", "decision")][:12]
    at = data.draw(st.integers(0, len(read) - 1))
    forged = copy.deepcopy(read)
    put(forged[at], [sorted(forged[at]).index("body"), *place], value)
    answers = [redecide(record) for record in forged]
    assert all(a is None or isinstance(a, str) for a in answers)
    if read[at]["type"] == "decision" and forged != read:
        body, old = forged[at]["body"], read[at]["body"]
        if not isinstance(body, dict) or made_again(body) != made_again(old):
            assert answers[at] is not None


def made_again(body: dict[str, Any]) -> dict[str, Any]:
    """A decision without what is read from the record and not made again, as docs/audit.md lists it: forged there to
    another value that decides the same, it is for the hash chain to find."""
    kept = {k: v for k, v in body.items() if k not in ("baseline", "lit_alternative", "decision_id", "dark_shares")}
    read = ("fee_e6", "p_fill_ppm", "min_qty")
    if isinstance(routes := kept.get("candidates"), list):
        kept["candidates"] = [
            {k: v for k, v in c.items() if k not in read or type(v) is not int} if isinstance(c, dict) else c
            for c in routes
        ]
    return kept


def test_a_damaged_run_is_refused(run_dir: Path, tmp_path: Path) -> None:
    folder, rng = Path(shutil.copytree(run_dir, tmp_path / "run")), random.Random(5)
    for name, read in (("config.yaml", load_run), ("training.json", training_summary)):
        good = (folder / name).read_bytes()
        for bad in (b"", b"[" * 6_000, b"9" * 6_000, b"\xff\xfe", b"null", *(damaged(good, rng) for _ in range(5))):
            (folder / name).write_bytes(bad)
            refused(lambda read=read: read(folder))  # type: ignore[misc]
        (folder / name).write_bytes(good)
    archive = (folder / "policy.zip").read_bytes()
    for bad in (b"", b"PK", archive[: len(archive) // 2], b"x" * 1_000):
        (folder / "policy.zip").write_bytes(bad)
        assert refused(lambda: load_run(folder))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["evaluate", "{bundle}"], "policy.json: was changed"),
        (["explain", "{bundle}"], "policy.json: was changed"),
        (["audit", "verify", "{bundle}/explanations/decisions.jsonl", "--bundle", "{bundle}"], "was changed"),
    ],
)
def test_a_command_refuses_a_changed_bundle_with_exit_2(
    scratch: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    policy = (scratch / "policy.json").read_bytes()
    (scratch / "policy.json").write_bytes(policy.replace(b"bias", b"bios", 1))
    try:
        with pytest.raises(SystemExit) as stopped:
            cli.main([word.format(bundle=scratch) for word in words])
        printed = capsys.readouterr()
        assert stopped.value.code == 2 and said in " ".join(printed.err.split()) and "Traceback" not in printed.err
        with pytest.raises(UserError, match="was changed"):
            load_router(scratch)
    finally:
        (scratch / "policy.json").write_bytes(policy)


def test_a_loaded_bundle_decides_with_its_own_ranges(bundle_dir: Path) -> None:
    router, bundle = load_router(bundle_dir), load_bundle(bundle_dir)
    assert router.name == bundle.policy_id
    manifest = json.loads((bundle_dir / MANIFEST).read_text())
    assert manifest["feature_ranges"] == bundle.ranges.body()
