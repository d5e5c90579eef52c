"""Pools described by a fill rate: what children in the simulator then meet, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from glasspool.agents.certification.check import FixedWeights, play
from glasspool.agents.certification.draws import draws
from glasspool.agents.jobs import _bar
from glasspool.configs.pool_knowledge import notes, resolved_supply_frac
from glasspool.configs.supply_law import rest_fill_rate
from glasspool.envs.market import Market
from glasspool.envs.market_fit import _pools
from glasspool.envs.state import Batch

MarketWith = Callable[..., Market]
FREE = {"max_routes": 20, "weight_cut": 0.0, "max_child_shares": 10**9, "max_dark_frac": 1.0,
        "toxicity_limit_hs": -99.0}  # fmt: skip
DESK = {"name": "DESK", "fill_rate": {60: 0.2}}


def met_in_slots(market: Market, n: int, seed: int) -> NDArray[np.bool_]:
    """(n, slots) whether a rest that nothing completes is met; without the last slot, in which the order is ended."""
    at = [r.name for r in market.routes].index("DESK:rest")
    met: list[NDArray[np.bool_]] = []

    def record(b: Batch) -> None:
        met.append(b.fill_shares[:, at].sum(1) > 0)

    play(market, FixedWeights({"DESK:rest": 1.0}, work_shares=10**8), n, seed, record, shares=10**9)
    return np.stack(met[:-1], 1)


@pytest.mark.parametrize(
    ("seconds", "rate", "pool"),
    [(10, 0.05, {}), (60, 0.2, {"kappa_slow": 0.25, "size_beta": 1.6}),
     (60, 0.3, {"min_quantity_lots": 10, "size_beta": 1.2}),
     (60, 0.2, {"informed_frac": 0.5, "kappa_slow": 0.6, "min_quantity_lots": 3}),
     (60, 0.2, {"informed_frac": 0.5, "kappa_slow": 0.6}), (300, 0.5, {"kappa_slow": 0.1})],
)  # fmt: skip
def test_orders_resting_so_long_fill_as_often_as_stated(
    market_with: MarketWith, plain: dict[str, Any], seconds: int, rate: float, pool: dict[str, float]
) -> None:
    """Whole days of rests, cut into the stated durations; 4 standard errors clustered by day, each below 3 % of the
    rate. Six tests, false alarm 4 in 10,000. A law without the volume's own noise is 8 % off at 60 s."""
    market = market_with(
        plain, {"orders": {"horizon_minutes": {390.0: 1.0}}, "controls": FREE},
        {"dark_pools": [{"name": "DESK", "fill_rate": {seconds: rate}, **pool}]},
    )  # fmt: skip
    met, slots = met_in_slots(market, 300, 1), seconds // 10
    met = met[:, : met.shape[1] // slots * slots]
    filled = met.reshape(len(met), -1, slots).any(2).mean(1)
    error = filled.std() / np.sqrt(len(filled))
    assert error < 0.03 * rate
    assert abs(filled.mean() - rate) < 4 * error


def test_every_class_gets_the_supply_that_its_fill_rate_asks(
    base_data: dict[str, Any], market_with: MarketWith
) -> None:
    """The same rate asks for more of a small stock's volume; episodes draw around it, and the certificate says so."""
    market = market_with({"dark_pools": [DESK, *base_data["dark_pools"][1:]]})
    config = market.config
    supplies = [resolved_supply_frac(config.dark_pools[0], s, config) for s in config.stocks]
    assert supplies[0] < supplies[1] < supplies[2]
    assert market.rules.dark_supply_frac[:, 0].tolist() == supplies
    for stock, supply in zip(config.stocks, supplies, strict=True):
        assert rest_fill_rate(config, stock, config.dark_pools[0], supply, 0.0, 60.0) == pytest.approx(0.2, abs=1e-8)
    told = notes(config)
    assert [f"class {s.name!r}: fill_rate means supply_frac" in t for s, t in zip(config.stocks, told, strict=True)]
    assert all(line.passed for line in draws(config, 3_000, 1))


def test_commands_say_what_a_description_means(market_with: MarketWith, capsys: pytest.CaptureFixture[str]) -> None:
    _bar("certifying", market_with({"dark_slots": [], "dark_pools": [DESK]}).config)
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count("pool 'DESK', class") == told.err.count("fill_rate means supply_frac 0.") == 3


def test_the_supply_of_a_fill_rate_is_the_one_it_came_from(market_with: MarketWith, plain: dict[str, Any]) -> None:
    """Rates of three durations that one supply gives are met by that supply."""
    known = market_with(plain).config
    stock, pool = known.stocks[0], known.dark_pools[2]
    rates = {s: rest_fill_rate(known, stock, pool, pool.supply_frac, pool.kappa_slow, s) for s in (10.0, 60.0, 240.0)}
    assert sorted(rates.values()) == list(rates.values())
    described = pool.model_copy(update={"supply_frac": 0.0, "fill_rate": rates})
    assert resolved_supply_frac(described, stock, known) == pytest.approx(pool.supply_frac, rel=1e-6)


def test_a_calibration_scales_what_the_base_states_as_a_fill_rate(
    base_data: dict[str, Any], market_with: MarketWith
) -> None:
    """Scaled to a measured share of volume, a pool of the base has a supply and no fill rate any more."""
    base = market_with({"dark_pools": [DESK, *base_data["dark_pools"][1:]]}).config

    class Measured:
        source = "taq"

        class midpoint:
            identified, even_spread_frac = True, 0.02

    pools, told = _pools(Measured(), base.stocks[0], base.noise, base)  # type: ignore[arg-type]
    assert "measured in sum" in told
    assert all(p.fill_rate is None for p in pools)
    ratio = pools[1].supply_frac / base.dark_pools[1].supply_frac
    own = resolved_supply_frac(base.dark_pools[0], base.stocks[0], base)
    assert pools[0].supply_frac == pytest.approx(own * ratio, rel=2e-3)


@pytest.mark.parametrize(
    ("pool", "words"),
    [({"fill_rate": {60: 0.2}, "supply_frac": 0.01}, ("both", "one of them")), ({"fill_rate": {}}, ("empty",)),
     ({"fill_rate": {60: 1.0}}, ("less than 1",)), ({"fill_rate": {0: 0.1}}, ("greater than 0",)),
     ({"fill_rate": {600: 0.1}}, ("less than or equal to 300",)),
     ({"fill_rate": {10: 0.99}, "min_quantity_lots": 50}, ("asks for more", "min_quantity_lots")),
     ({"fill_rate": {60: 0.1}, "min_quantity_lots": 500}, ("asks for more", "would fill")),
     ({"fill_rate": {10: 0.3, 300: 0.31}}, ("one supply gives", "State one duration"))],
)  # fmt: skip
def test_fill_rates_that_cannot_be_are_refused(
    market_with: MarketWith, plain: dict[str, Any], pool: dict[str, Any], words: tuple[str, ...]
) -> None:
    with pytest.raises(ValidationError) as caught:
        market_with(plain, {"dark_pools": [{"name": "DESK", **pool}]})
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_one_shot_arrivals_have_no_fill_rate(market_with: MarketWith, plain: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="zero_prob"):
        market_with(plain, {"dark_pools": [DESK], "oracle": {"one_shot_arrivals": True}})
