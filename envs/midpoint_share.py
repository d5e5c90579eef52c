"""Share of volume printed at the midpoint off the displayed quotes, and the pools' supply that goes with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..configs.market import MarketConfig
from ..configs.pool_knowledge import resolved_supply_frac
from ..configs.stock import StockConfig
from .market_data import MarketDay

_TICK_E4 = 100
_LEAST_EVEN_SHARE = 0.2  # of volume: with less at even spreads, a tape in cents says nothing of midpoints


@dataclass(frozen=True)
class MidpointShare:
    """Midpoint prints of the off-exchange venue (tape) or of hidden orders (LOBSTER) as shares of volume."""

    seen_frac: float  # of all volume; a tape in whole cents can show them at even spreads only
    even_spread_frac: float  # of the volume at even spreads, which stands for all spreads; mean over days
    even_volume_frac: float  # of volume that trades at even spreads
    identified: bool


def midpoint_share(days: Sequence[MarketDay]) -> MidpointShare:
    """Measure on days of one name.

    A tape rounds prices to cents: at a spread of an odd number of ticks a midpoint print looks like any other, so the
    share at even spreads stands for all. LOBSTER prices have half cents, so there every spread counts.
    """
    rows = []
    for day in days:
        before = np.maximum(day.trade_quote_row, 0)
        bid, ask = day.bid_e4[before], day.ask_e4[before]
        quoted = (day.trade_quote_row >= 0) & (bid > 0) & (ask > bid)
        at_mid = quoted & day.trade_hidden & (2 * day.trade_price_e4 == bid + ask)
        shown = quoted & ((day.source == "lobster") | ((ask - bid) // _TICK_E4 % 2 == 0))
        shares, total = day.trade_shares, day.trade_shares.sum()
        even = int(shares[shown].sum())
        rows.append((shares[at_mid].sum() / total, shares[at_mid & shown].sum() / max(even, 1), even / total))
    seen, at_even, even_volume = (float(x) for x in np.mean(rows, axis=0))
    return MidpointShare(seen, at_even, even_volume, even_volume >= _LEAST_EVEN_SHARE and at_even > 0)


def mean_supply_frac(market: MarketConfig, stock: StockConfig) -> float:
    """Midpoint supply that the pools of a market bring to one side of a class, as a share of volume, at average
    conditions.

    Every midpoint print has one buyer and one seller, so supply on one side is what can print. Archetypes are dealt
    over fewer slots than there are; the draws of `randomisation` are left out.
    """
    total = sum(resolved_supply_frac(pool, stock, market) for pool in market.dark_pools)
    n_pools = len(market.dark_pools)
    return total * (len(market.dark_slots) or n_pools) / n_pools if n_pools else 0.0
