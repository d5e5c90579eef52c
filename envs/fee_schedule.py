"""A user's own fees, read from CSV and laid over a market's venues."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path

from ..configs.errors import UserError
from ..configs.market import MarketConfig

_COLUMNS = ("take_fee_mils", "post_fee_mils", "fee_mils")
_MAX_REBATE_MILS = 100.0


def read_fees(path: Path | str, market: MarketConfig) -> dict[str, dict[str, float]]:
    """Fees by venue from a CSV with the column `venue` and `take_fee_mils`, `post_fee_mils` (lit) or `fee_mils` (dark).

    1 mil is $0.0001 a share; a negative fee is a rebate. A cell may be empty where it does not apply. A pool is named
    by its archetype (`dark_pools`), since archetypes are dealt over the dark slots.

    Raises:
        UserError: an unreadable file, an unknown column or venue, a venue twice, a value that is no fee or over the
            access fee cap; names file, row (the header is row 1) and field.
    """
    path = Path(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.reader(file))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}). Check the path; it must be a CSV text file.") from None
    rows = [row for row in rows if row]
    header = [cell.strip() for cell in rows[0]] if rows else []
    if "venue" not in header or not set(header) & set(_COLUMNS) or set(header) - {"venue", *_COLUMNS} or len(
        set(header)) < len(header):  # fmt: skip
        raise UserError(
            f"{path} row 1: the header is {','.join(header) or 'missing'}, but must be venue,take_fee_mils,"
            "post_fee_mils for lit venues or venue,fee_mils for pools (or all four). Name the columns so."
        )
    lit = {venue.name for venue in market.lit_venues}
    dark = {pool.name for pool in market.dark_pools}
    cap_mils = min(market.fee_cap_mils(stock) for stock in market.stocks)
    fees: dict[str, dict[str, float]] = {}
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(header):
            raise UserError(
                f"{path} row {number}: {len(row)} fields where the header has {len(header)}. Fill or drop the row."
            )
        cells = dict(zip(header, (cell.strip() for cell in row), strict=True))
        venue = cells.pop("venue")
        if venue not in lit | dark:
            raise UserError(
                f"{path} row {number}: field 'venue' is {venue!r}, but the market's lit venues are "
                f"{', '.join(sorted(lit))} and its pools {', '.join(sorted(dark))}. Use one of these names."
            )
        if venue in fees:
            raise UserError(f"{path} row {number}: venue {venue!r} is given twice. Keep one row.")
        mine = {"take_fee_mils", "post_fee_mils"} if venue in lit else {"fee_mils"}
        fees[venue] = {}
        for field, text in cells.items():
            if not text:
                continue
            if field not in mine:
                raise UserError(
                    f"{path} row {number}: field {field!r} does not apply to {venue!r}, which has "
                    f"{' and '.join(sorted(mine))}. Leave the cell empty."
                )
            fees[venue][field] = _fee(path, number, field, text, cap_mils)
    if not any(fees.values()):
        raise UserError(f"{path}: holds no fee. Give at least one row with a value.")
    return fees


def with_fees(market: MarketConfig, paths: Sequence[Path | str]) -> MarketConfig:
    """The market with the fees of these files; a later file wins."""
    for path in paths:
        fees = read_fees(path, market)
        lit = tuple(venue.model_copy(update=fees.get(venue.name, {})) for venue in market.lit_venues)
        dark = tuple(pool.model_copy(update=fees.get(pool.name, {})) for pool in market.dark_pools)
        market = market.model_copy(update={"lit_venues": lit, "dark_pools": dark})
    return market


def _fee(path: Path, number: int, field: str, text: str, cap_mils: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value < -_MAX_REBATE_MILS:
        raise UserError(
            f"{path} row {number}: field {field!r} must be a fee in mils ($0.0001 a share), at least "
            f"-{_MAX_REBATE_MILS:g}, but is {text!r}. Correct the cell."
        )
    if value > cap_mils:
        raise UserError(
            f"{path} row {number}: field {field!r} is {value:g} mils, over the access fee cap of "
            f"{cap_mils:g} mils on the market's trade date (Regulation NMS 610(c)). Are these dollars or cents per 100 "
            "shares? Give mils."
        )
    return value
