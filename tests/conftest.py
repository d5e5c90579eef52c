"""Shared by the tests of the market and its routers: the base market, variations of it, and a loop that plays."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import pytest
from hypothesis import settings
from numpy.typing import NDArray

from glasspool.agents.certification.check import FixedWeights
from glasspool.agents.router import Router
from glasspool.configs.loading import find_config, market_data
from glasspool.configs.market import MarketConfig
from glasspool.envs.market import Market, step_proposals, stream_key
from glasspool.envs.state import Batch

Floats = NDArray[np.float64]
# the first call of a function compiles it, which no deadline of an example foresees; all else as hypothesis has it here
settings.register_profile("compiled", settings.default, deadline=None)
settings.load_profile("compiled")


def merged(data: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`data` with `changes` laid over it: settings key by key; lists, values and tables of numbers are replaced."""
    out = copy.deepcopy(data)
    for key, value in changes.items():
        settings = isinstance(value, Mapping) and all(isinstance(k, str) for k in value)
        both = settings and isinstance(out.get(key), dict)
        out[key] = merged(out[key], value) if both else copy.deepcopy(value)
    return out


class Play(Protocol):
    """Run `router` on episodes 0..n-1 to their ends; `each_slot(batch)` is called after every slot."""

    def __call__(
        self, market: Market, router: Router, n: int, seed: int = 1, stream: str = "test",
        each_slot: Callable[[Batch], None] | None = None,
    ) -> Batch: ...  # fmt: skip


class _OneRoute:
    """One route at random in every slot, two lots."""

    name = "one_route"

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def propose(self, market: Market, b: Batch, obs: Floats, work: Floats, weights: Floats) -> None:
        work[:], weights[:] = 200.0, 0.0
        weights[np.arange(len(work)), self._rng.integers(0, len(market.routes), len(work))] = 1.0


@pytest.fixture(scope="session")
def one_route() -> Callable[[int], Router]:
    """one_route(seed) -> a router that tries every route: what files of own fills are simulated with."""
    return _OneRoute


@pytest.fixture(scope="session")
def base_data() -> dict[str, Any]:
    """The packaged base market as the plain mapping of its file; a copy for every use."""
    return market_data(find_config("base", "markets"))


@pytest.fixture(scope="session")
def base_market(base_data: dict[str, Any]) -> Market:
    return Market(MarketConfig.model_validate(base_data))


@pytest.fixture(scope="session")
def market_with(base_data: dict[str, Any]) -> Callable[..., Market]:
    """market_with(changes, ...) -> the base market with these changes laid over its file."""

    def build(*changes: Mapping[str, Any]) -> Market:
        data = base_data
        for change in changes:
            data = merged(data, change)
        return Market(MarketConfig.model_validate(data))

    return build


@pytest.fixture(scope="session")
def plain(base_data: dict[str, Any]) -> dict[str, Any]:
    """Changes to the base market: large class only, archetypes as they are under their own names, 15-minute orders."""
    return {
        "stocks": [{**base_data["stocks"][0], "probability": 1.0}],
        "randomisation": None,
        "dark_slots": [],
        "orders": {"horizon_minutes": {15.0: 1.0}},
    }


@pytest.fixture(scope="session")
def fixed_router() -> type[FixedWeights]:
    return FixedWeights


@pytest.fixture(scope="session")
def run_router() -> Play:
    def play(
        market: Market, router: Router, n: int, seed: int = 1, stream: str = "test",
        each_slot: Callable[[Batch], None] | None = None,
    ) -> Batch:  # fmt: skip
        b, obs = market.batch(n)
        market.reset(stream_key(seed, stream), np.arange(n), np.arange(n), b, obs)
        work, weights = np.zeros(n), np.zeros((n, len(market.routes)))
        while b.order["active"].any():
            router.propose(market, b, obs, work, weights)
            step_proposals(market.rules, b, work, weights, obs)
            if each_slot is not None:
                each_slot(b)
        return b

    return play
