"""Dated rules: each effective date on its own day and the day before, and what a market makes of them."""

from __future__ import annotations

from datetime import date

import pytest
from pydantic import ValidationError

from glasspool.configs.loading import load_market
from glasspool.configs.rule_table import RULES, access_fee_cap_mils, round_lot_shares, table_rows, tick_usd


@pytest.mark.parametrize(
    ("on", "price_usd", "narrow", "pilot", "expected"),
    [("2026-01-02", 1.0, False, False, 0.01), ("2026-01-02", 0.9999, False, False, 0.0001),
     ("2027-10-31", 50.0, True, False, 0.01), ("2027-11-01", 50.0, True, False, 0.005),
     ("2027-11-01", 50.0, False, False, 0.01), ("2016-10-02", 20.0, False, True, 0.01),
     ("2016-10-03", 20.0, False, True, 0.05), ("2018-09-28", 20.0, False, True, 0.05),
     ("2018-09-29", 20.0, False, True, 0.01)],
)  # fmt: skip
def test_ticks_by_day_and_price(on: str, price_usd: float, narrow: bool, pilot: bool, expected: float) -> None:
    assert tick_usd(date.fromisoformat(on), price_usd, narrow_spread=narrow, pilot=pilot) == expected


@pytest.mark.parametrize(
    ("on", "price_usd", "mils"),
    [("2027-10-31", 50.0, 30.0), ("2027-11-01", 50.0, 10.0), ("2027-10-31", 0.5, 15.0), ("2027-11-01", 0.5, 5.0)],
)
def test_the_access_fee_cap_by_day_and_price(on: str, price_usd: float, mils: float) -> None:
    assert access_fee_cap_mils(date.fromisoformat(on), price_usd) == pytest.approx(mils)


@pytest.mark.parametrize(
    ("on", "price_usd", "shares"),
    [("2025-11-02", 5_000.0, 100), ("2025-11-03", 250.0, 100), ("2025-11-03", 250.01, 40), ("2025-11-03", 1_000.0, 40),
     ("2025-11-03", 1_000.01, 10), ("2025-11-03", 10_000.0, 10), ("2025-11-03", 10_000.01, 1)],
)  # fmt: skip
def test_round_lots_by_day_and_price(on: str, price_usd: float, shares: int) -> None:
    assert round_lot_shares(date.fromisoformat(on), price_usd) == shares


def test_rows_of_one_rule_never_overlap_in_days_and_price_band() -> None:
    for row in RULES:
        same = [r for r in RULES if r.name == row.name and r.up_to_price_usd == row.up_to_price_usd and r is not row]
        assert all(r.effective_to < row.effective_from or row.effective_to < r.effective_from for r in same)


def test_the_table_in_force_is_a_part_of_the_whole() -> None:
    now = table_rows(date(2026, 1, 2))
    assert 0 < len(now) < len(table_rows())
    assert {r["rule"] for r in now} == {"tick", "access_fee_cap", "round_lot"}


def test_a_market_takes_tick_lot_and_fee_cap_of_its_trade_date() -> None:
    now, later = load_market("base"), load_market("base", ["trade_date=2027-11-01", "lit_venues.0.take_fee_mils=9"])
    assert (now.tick_usd(now.stocks[0]), now.lots_of_shares, now.fee_cap_mils(now.stocks[0])) == (0.01, 100, 30.0)
    assert later.fee_cap_mils(later.stocks[0]) == 10.0
    dear = load_market("base", ["stocks.0.price_usd=400", "stocks.1.price_usd=400", "stocks.2.price_usd=400"])
    assert dear.lots_of_shares == 40


@pytest.mark.parametrize(
    ("overrides", "words"),
    [(["lit_venues.0.take_fee_mils=31"], ("XQLA", "30 mils", "610(c)")),
     (["trade_date=2027-11-01"], ("10 mils", "2027-11-01", "deferred")),
     (["stocks.0.price_usd=400"], ("round lots", "lot_shares")),
     (["trade_date=1999-01-01"], ("1999-01-01", "later date")),
     (["trade_date=soon"], ("trade_date",))],
)  # fmt: skip
def test_a_market_against_its_rules_is_refused(overrides: list[str], words: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError) as caught:
        load_market("base", overrides)
    assert all(word in str(caught.value) for word in words), str(caught.value)
