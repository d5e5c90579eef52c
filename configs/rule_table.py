"""Dated legal constants of US equity trading: looked up by trade date, never written into code.

Each row says where it comes from, from when to when it holds, and when it was last checked. `in force` means that the
row was in force on the day of checking; `verify` means that the source is to be read again before anyone relies on it.
Nothing here is legal advice.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

RULE_TABLE_VERSION = "2026-11-26"
_CHECKED_ON = date(2026, 11, 26)
_ALWAYS = date(9999, 12, 31)


@dataclass(frozen=True, slots=True)
class RuleConstant:
    """One value of one rule. `up_to_price_usd` bounds the price band it is for, from the row before it upwards."""

    name: str
    value: float
    unit: str
    condition: str
    effective_from: date
    effective_to: date  # the last day
    source: str
    status: str
    up_to_price_usd: float = float("inf")
    checked_on: date = _CHECKED_ON


def _row(
    name: str, value: float, unit: str, condition: str, start: str, end: str | None, source: str, status: str,
    up_to_price_usd: float = float("inf"),
) -> RuleConstant:  # fmt: skip
    last = _ALWAYS if end is None else date.fromisoformat(end)
    return RuleConstant(name, value, unit, condition, date.fromisoformat(start), last, source, status, up_to_price_usd)


# fmt: off
RULES: tuple[RuleConstant, ...] = (
    _row("tick", 0.0001, "USD", "price under $1", "2006-01-31", None, "Reg NMS 612", "in force", 1.0),
    _row("tick", 0.01, "USD", "price of $1 or more", "2006-01-31", None, "Reg NMS 612", "in force"),
    _row("tick_narrow", 0.005, "USD", "narrow average spread", "2027-11-01", None, "Reg NMS 612 as amended, deferred",
         "verify"),
    _row("tick_pilot", 0.05, "USD", "pilot names", "2016-10-03", "2018-09-28", "Tick Size Pilot", "verify"),
    _row("access_fee_cap", 0.003, "fraction of price", "price under $1", "2007-01-01", "2027-10-31", "Reg NMS 610(c)",
         "in force", 1.0),
    _row("access_fee_cap", 30.0, "mils", "price of $1 or more", "2007-01-01", "2027-10-31", "Reg NMS 610(c)",
         "in force; verify from"),
    _row("access_fee_cap", 0.001, "fraction of price", "price under $1", "2027-11-01", None,
         "Reg NMS 610(c) as amended, deferred", "verify", 1.0),
    _row("access_fee_cap", 10.0, "mils", "price of $1 or more", "2027-11-01", None,
         "Reg NMS 610(c) as amended, deferred", "verify"),
    _row("round_lot", 100, "shares", "all prices", "2000-01-01", "2025-11-02", "Reg NMS", "in force until then"),
    _row("round_lot", 100, "shares", "average close to $250", "2025-11-03", None, "Reg NMS 600(b)", "verify", 250.0),
    _row("round_lot", 40, "shares", "to $1,000", "2025-11-03", None, "Reg NMS 600(b)", "verify", 1_000.0),
    _row("round_lot", 10, "shares", "to $10,000", "2025-11-03", None, "Reg NMS 600(b)", "verify", 10_000.0),
    _row("round_lot", 1, "shares", "above $10,000", "2025-11-03", None, "Reg NMS 600(b)", "verify"),
)
# fmt: on


def constant(name: str, on: date, price_usd: float) -> RuleConstant:
    """The row of a rule in force on a day for a price; the first whose price band holds it (under $1: strictly).

    Raises:
        LookupError: no row of that name covers the day.
    """
    rows = [r for r in RULES if r.name == name and r.effective_from <= on <= r.effective_to]
    for row in rows:
        if price_usd < row.up_to_price_usd or (name == "round_lot" and price_usd <= row.up_to_price_usd):
            return row
    raise LookupError(f"the rule table has no {name!r} for {on} at ${price_usd:g}")


def tick_usd(on: date, price_usd: float, *, narrow_spread: bool = False, pilot: bool = False) -> float:
    """Smallest price step of a displayed order, USD. Midpoint executions may be finer."""
    for wanted, name in ((pilot, "tick_pilot"), (narrow_spread, "tick_narrow")):
        if wanted and price_usd >= 1.0:
            try:
                return constant(name, on, price_usd).value
            except LookupError:
                continue
    return constant("tick", on, price_usd).value


def access_fee_cap_mils(on: date, price_usd: float) -> float:
    """Most that a displayed venue may charge a taker, $0.0001 a share."""
    row = constant("access_fee_cap", on, price_usd)
    return row.value if row.unit == "mils" else row.value * price_usd * 1e4


def round_lot_shares(on: date, price_usd: float) -> int:
    """Shares of a round lot."""
    return int(constant("round_lot", on, price_usd).value)


def table_rows(on: date | None = None) -> list[dict[str, str]]:
    """The table for people, all rows or those in force on a day."""
    return [
        {
            "rule": r.name, "value": f"{r.value:g} {r.unit}", "condition": r.condition,
            "from": r.effective_from.isoformat(), "to": "" if r.effective_to == _ALWAYS else r.effective_to.isoformat(),
            "source": r.source, "status": r.status,
        }
        for r in RULES
        if on is None or r.effective_from <= on <= r.effective_to
    ]  # fmt: skip
