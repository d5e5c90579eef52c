"""Canonical JSON is one byte sequence per record, and everything else is refused by name."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glasspool.configs.errors import UserError
from glasspool.explain.canonical import (
    MAX_DEPTH,
    MAX_INTEGER,
    CanonicalError,
    canonical_bytes,
    parse_canonical,
    parse_line,
    record_hash,
)

ROUTES = """[
 {"route": "XQLA:take", "masks": [], "p_fill_ppm": 1000000, "exp_price_e6": 100030000, "fee_e6": 3000,
  "bias_e9": -350000000, "attr_e9": {"size": -40000000, "liquidity": 55000000, "volatility": 20000000, "venue": 0,
  "schedule": 65000000}, "residual_e9": 0, "score_e9": -250000000, "weight_ppm": 171636},
 {"route": "XQLA:post", "masks": [], "p_fill_ppm": 420000, "exp_price_e6": 100010000, "fee_e6": -2000,
  "bias_e9": 120000000, "attr_e9": {"size": 10000000, "liquidity": 80000000, "volatility": 45000000,
  "venue": 150000000, "schedule": -55000000}, "residual_e9": 0, "score_e9": 350000000, "weight_ppm": 312741},
 {"route": "XQDA:rest", "masks": [], "p_fill_ppm": 310000, "exp_price_e6": 100020000, "fee_e6": 1000,
  "bias_e9": 200000000, "attr_e9": {"size": 90000000, "liquidity": 210000000, "volatility": 130000000,
  "venue": 260000000, "schedule": -40000000}, "residual_e9": 0, "score_e9": 850000000, "weight_ppm": 515623},
 {"route": "XQDB:ping", "masks": ["MASKED_TOXICITY"], "p_fill_ppm": 180000, "exp_price_e6": 100020000,
  "fee_e6": 1000, "score_e9": null, "weight_ppm": 0}]"""

LIT_ALTERNATIVE = """{"shares": 200, "basis": "model",
  "dark": {"route": "XQDA:rest", "p_fill_ppm": 310000, "spread_e6": 0, "instant_e6": 0, "adverse_e6": 1500,
    "fee_e6": 1000, "impact_e6": 5200, "cost_e6": 7700},
  "take": {"route": "XQLA:take", "p_fill_ppm": 1000000, "spread_e6": 10000, "instant_e6": 17000, "adverse_e6": 0,
    "fee_e6": 3000, "impact_e6": 13000, "cost_e6": 43000},
  "post": {"route": "XQLA:post", "p_fill_ppm": 420000, "spread_e6": -10000, "instant_e6": 0, "adverse_e6": 12500,
    "fee_e6": -2000, "impact_e6": 13000, "cost_e6": 13500}}"""


def child(route: str, shares: int, limit_e6: int, tif: str, **more: int) -> dict[str, Any]:
    return {"route": route, "shares": shares, "limit_e6": limit_e6, "tif": tif, **more}


def decision_record() -> dict[str, Any]:
    """The worked decision record of the audit guide, with its published hash."""
    lit = [child("XQLA:take", 100, 100_030_000, "IOC"), child("XQLA:post", 200, 100_010_000, "DAY")]
    body = {
        "decision_id": "P-1-0007", "parent_id": "P-1", "policy_id": "glass-additive-1", "remaining_shares": 987_900,
        "target_shares": 12_500, "gap_shares": 400, "pace_shares": 600, "flags": [],
        "nbbo": {"bid_e6": 100_010_000, "ask_e6": 100_030_000, "bid_shares": 800, "ask_shares": 500,
                 "ts_ns": "1772462112426690000", "source": "sim"},
        "features": {"pct_adv": "10.0", "spread_ticks": "2.0", "vol_ratio": "0.92",
                     "venue_markout_hs": {"XQDA": "-0.15", "XQDB": "-1.2"}, "gap_frac": "0.0004"},
        "candidates": json.loads(ROUTES),
        "proposed": [*lit, child("XQDA:rest", 300, 100_020_000, "DAY", min_qty=100)],
        "controls": [{"code": "MAX_CHILD_SHARES", "limit": 200, "seen": 300, "outcome": "clip"}],
        "released": [*lit, child("XQDA:rest", 200, 100_020_000, "DAY", min_qty=100)],
        "baseline": {"policy_id": "rule-sor-1", "top": "XQDA:ping", "votes": 3, "reasons": [
            "SIZE_PCT_ADV_MID", "SPREAD_TIGHT_LIQUID", "VOL_LOW_STABLE_NBBO", "VENUE_QUALITY_GOOD"]},
        "agrees": "venue", "margin_e9": 500_000_000, "margin_lit_e9": 500_000_000, "exploration": False,
        "lit_alternative": json.loads(LIT_ALTERNATIVE),
        "reasons": [{"code": "VENUE_MARKOUT_OK", "attr_e9": 260_000_000},
                    {"code": "SPREAD_TIGHT_LIQUID", "attr_e9": 210_000_000},
                    {"code": "VOL_LOW_STABLE_NBBO", "attr_e9": 130_000_000}],
        "counterfactual": "XQLA:post leads if venue_markout_hs of XQDA is below -0.92",
    }  # fmt: skip
    return {
        "v": 1, "seq": 41, "type": "decision", "ts_ns": "1772462112427000000",
        "prev_hash": "6cb62886261a903263f20aa8f6f5b0e22b8283b4731e95ae560a5ec7c1d52e44",
        "hash": "b53956a4fcde0ae2a654a09a4a25e9cc96eed2210b2a9167ec58c01d39a21fb3", "body": body,
    }  # fmt: skip


def test_the_worked_decision_record_has_its_published_hash() -> None:
    record = decision_record()
    assert record_hash(record) == record["hash"]


def test_the_hash_does_not_cover_the_hash_field_and_covers_every_other() -> None:
    record = {"v": 1, "body": {"shares": 100}}
    assert record_hash(record | {"hash": "anything"}) == record_hash(record)
    assert record_hash(record | {"v": 2}) != record_hash(record)
    assert record_hash(record | {"body": {"shares": 101}}) != record_hash(record)


def test_the_canonical_form_sorts_keys_at_every_level_and_writes_no_space() -> None:
    record = {"b": [True, None, {"z": 1, "a": -2}], "a": 'é "\n\x1f/'}
    assert canonical_bytes(record) == '{"a":"é \\"\\n\\u001f/","b":[true,null,{"a":-2,"z":1}]}'.encode()


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-MAX_INTEGER, MAX_INTEGER)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(max_codepoint=127)), inner, max_size=4)
    ),
    max_leaves=12,
)
records = st.dictionaries(st.text(st.characters(max_codepoint=127)), json_values, max_size=4)


@given(record=records)
def test_what_is_written_is_read_back_as_the_same_record(record: dict[str, Any]) -> None:
    assert parse_canonical(canonical_bytes(record)) == record


@given(record=records, order=st.randoms(use_true_random=False))
def test_the_order_in_which_a_record_was_filled_does_not_matter(record: dict[str, Any], order: Any) -> None:
    keys = list(record)
    order.shuffle(keys)
    assert canonical_bytes({key: record[key] for key in keys}) == canonical_bytes(record)


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({"score": 0.5}, r"body\.score = 0\.5 is a float"),
        ({"fills": [{"shares": 100}, {"shares": 7.0}]}, r"body\.fills\[1\]\.shares = 7\.0 is a float"),
        ({"x": float("nan")}, r"body\.x = nan is a float"),
        ({"x": np.float64(0.25)}, r"body\.x = 0\.25 is a float"),
        ({"ts_ns": 2**53}, r"body\.ts_ns is an integer beyond .* decimal string"),
        ({"ts_ns": -(2**53)}, r"body\.ts_ns is an integer beyond"),
        ({"prix_é": 1}, r"body has the key 'prix_\\xe9': keys are ASCII strings"),
        ({7: 1}, r"body has the key 7: keys are ASCII strings"),
        ({"text": "ok \ud800"}, r"body\.text holds a lone surrogate at character 3"),
        ({"shares": np.int64(100)}, r"body\.shares is numpy\.int64, not JSON"),
        ({"routes": {"XQDA"}}, r"body\.routes is builtins\.set, not JSON"),
    ],
)
def test_what_canonical_json_cannot_hold_is_refused_by_field(body: dict[Any, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        canonical_bytes({"body": body})


def test_the_largest_integers_and_the_deepest_record_are_still_held() -> None:
    deepest: dict[str, Any] = {}
    for _ in range(MAX_DEPTH - 1):
        deepest = {"a": deepest}
    for record in ({"a": MAX_INTEGER, "b": -MAX_INTEGER}, deepest):
        assert parse_canonical(canonical_bytes(record)) == record
    with pytest.raises(UserError, match=r"nested deeper than 64 levels"):
        canonical_bytes({"a": deepest})


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"", "BAD_JSON"),
        (b"{", "BAD_JSON"),
        (b"[]", "BAD_JSON"),
        (b"7", "BAD_JSON"),
        (b'{"a":1}{"b":2}', "BAD_JSON"),
        (b'{"a":NaN}', "BAD_JSON"),
        (b'{"a":-Infinity}', "BAD_JSON"),
        (b'{"a":"\xff"}', "BAD_JSON"),
        (b'{"a":"\xed\xa0\x80"}', "BAD_JSON"),  # a surrogate as bytes is not UTF-8
        (b'{"a":"\x01"}', "BAD_JSON"),
        (b'\xef\xbb\xbf{"a":1}', "BAD_JSON"),
        (b'{"a":1,"a":1}', "NOT_CANONICAL"),
        (b'{"x":{"a":1,"a":2}}', "NOT_CANONICAL"),
        (b'{"b":1,"a":2}', "NOT_CANONICAL"),
        (b'{"a": 1}', "NOT_CANONICAL"),
        (b'{"a":1} ', "NOT_CANONICAL"),
        (b'{"a":1}\r', "NOT_CANONICAL"),
        (b'{"a":1}\n', "NOT_CANONICAL"),
        (b'{"a":1.0}', "NOT_CANONICAL"),
        (b'{"a":1e3}', "NOT_CANONICAL"),
        (b'{"a":-0}', "NOT_CANONICAL"),
        (b'{"a":9007199254740992}', "NOT_CANONICAL"),
        (b'{"a":' + b"9" * 5000 + b"}", "NOT_CANONICAL"),
        (b'{"a":"\\ud800"}', "NOT_CANONICAL"),
        (b'{"a":"\\u0041"}', "NOT_CANONICAL"),
        (b'{"a":"\\/"}', "NOT_CANONICAL"),
        ('{"é":1}'.encode(), "NOT_CANONICAL"),
        (b'{"a":' * 70 + b"1" + b"}" * 70, "NOT_CANONICAL"),
        (b'{"a":' + b"[" * 100_000, "NOT_CANONICAL"),
    ],
)
def test_a_line_that_is_not_canonical_is_refused_with_its_code(line: bytes, code: str) -> None:
    with pytest.raises(CanonicalError) as refusal:
        parse_canonical(line)
    assert refusal.value.code == code
    assert str(refusal.value).startswith(f"{code}: ")


def test_a_line_of_a_file_ends_with_its_line_feed() -> None:
    assert parse_line(b'{"a":1}\n') == {"a": 1}
    with pytest.raises(CanonicalError, match="NOT_CANONICAL: the line does not end with a line feed"):
        parse_line(b'{"a":1}')
