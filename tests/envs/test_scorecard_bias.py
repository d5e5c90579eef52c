"""Historical scorecards may be wrong by a stated bias; the market behind them stays the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from glasspool.envs.market import Market, stream_key

N = 64


def opened(market: Market) -> Any:
    b, obs = market.batch(N)
    market.reset(stream_key(3, "train"), np.arange(N), np.arange(N), b, obs, "train")
    return b


def known(card: Any) -> Any:
    """Rows with a history; markouts by card as (episodes, venues, cards)."""
    return (card["attempts"] > 0) & (card["markouts"] > 0)


def test_a_markout_bias_moves_every_history_by_that_and_nothing_else(
    base_market: Market, market_with: Callable[..., Market]
) -> None:
    plain, biased = opened(base_market), opened(market_with({"randomisation": {"scorecard_markout_bias_hs": 0.25}}))
    rows = known(plain.card)
    assert rows.sum() > 500
    mean = [b.card["markout_hs_sum"][rows] / b.card["markouts"][rows] for b in (plain, biased)]
    assert mean[1] - mean[0] == pytest.approx(0.25)
    assert (plain.card["filled"] == biased.card["filled"]).all()
    for name in ("venue", "episode", "tape"):
        assert getattr(plain, name).tobytes() == getattr(biased, name).tobytes()


def test_a_fill_factor_scales_the_historical_rates_and_not_the_pools(
    base_market: Market, market_with: Callable[..., Market]
) -> None:
    plain, biased = opened(base_market), opened(market_with({"randomisation": {"scorecard_fill_factor": 0.5}}))
    rows = known(plain.card) & known(biased.card)
    assert rows.sum() > 500
    rates = [b.card["filled"][rows] / b.card["attempts"][rows] for b in (plain, biased)]
    assert np.median(rates[1] / rates[0]) == pytest.approx(0.5, abs=0.02)
    assert plain.venue.tobytes() == biased.venue.tobytes() and plain.tape.tobytes() == biased.tape.tobytes()


def test_a_fill_factor_stops_at_certainty(market_with: Callable[..., Market]) -> None:
    card = opened(market_with({"randomisation": {"scorecard_fill_factor": 1000.0}})).card
    assert (card["filled"] <= card["attempts"]).all() and (card["filled"] == card["attempts"])[known(card)].any()
