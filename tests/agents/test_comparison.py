"""Routers compared side by side: each as if it were alone, in the order of the episodes; one error ends all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from glasspool.agents import evaluation
from glasspool.agents.comparison import compare
from glasspool.agents.evaluation import run_router
from glasspool.agents.registry import named_router
from glasspool.agents.router import LitVwap
from glasspool.configs.errors import UserError
from glasspool.envs.market import Market, stream_key

LENGTHS = {"orders": {"horizon_minutes": {15.0: 0.5, 30.0: 0.3, 60.0: 0.2}}}


@pytest.fixture(scope="module")
def market(market_with: Callable[..., Market]) -> Market:
    return market_with(LENGTHS)


def test_lengths_are_those_of_the_episodes(market: Market) -> None:
    numbers = 3 + np.arange(40)
    b, obs = market.batch(40)
    market.reset(stream_key(2, "test"), np.arange(40), numbers, b, obs)
    slots = market.horizon_slots(stream_key(2, "test"), numbers)
    assert (slots == b.episode["n_slots"]).all() and len(np.unique(slots)) == 3


def test_parents_come_back_in_the_order_of_the_episodes_whatever_the_chunks(
    market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run_router(market, named_router("sor_strong"), 50, 1, "test", fills_orders=9)
    monkeypatch.setattr(evaluation, "CHUNK", 8)
    seen: list[int] = []
    parts = run_router(market, named_router("sor_strong"), 50, 1, "test", fills_orders=9, after_chunk=seen.append)
    assert seen == [8, 16, 24, 32, 40, 48, 50]
    for name in ("cost_bps", "components_bps", "shares", "horizon_s", "kind_frac"):
        assert (getattr(whole, name) == getattr(parts, name)).all()
    (fills,), (of_parts,) = whole.fills, parts.fills
    assert set(fills["episode"]) == set(range(9)) and (fills == of_parts).all()
    assert (np.diff(fills["episode"]) >= 0).all()
    assert (whole.horizon_s / 10 == market.horizon_slots(stream_key(1, "test"), np.arange(50))).all()


def test_side_by_side_is_as_alone(market: Market) -> None:
    names = ("random", "rule_sor", "sor_strong", "thompson")
    done: list[int] = []
    by_name, runs = compare(
        market, [], [named_router(n) for n in names], orders=40, seed=1, fills_orders=0,
        progress=lambda name, parents, of: done.append(parents),
    )  # fmt: skip
    assert list(by_name) == list(names) and not runs and max(done) == 160
    for name in names:
        assert (by_name[name].cost_bps == run_router(market, named_router(name), 40, 1, "test").cost_bps).all()


def test_the_error_of_one_router_ends_all(market: Market) -> None:
    class Broken(LitVwap):
        def propose(self, *args: Any) -> None:
            raise UserError("broken: mend it")

    with pytest.raises(UserError, match="broken: mend it"):
        compare(market, [], [named_router("rule_sor"), Broken(), LitVwap()], orders=40, seed=1, fills_orders=0)
