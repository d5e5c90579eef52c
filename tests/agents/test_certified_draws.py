"""The certificate's lines of draws: correct markets hold, whatever their ranges; draws of another law are named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from glasspool.agents.certification import draws
from glasspool.agents.certification.check import Check
from glasspool.agents.certification.draw_laws import DrawLaws
from glasspool.configs.loading import load_market
from glasspool.configs.market import MarketConfig
from glasspool.envs.market import Market
from glasspool.envs.state import Batch

STILL: dict[str, Any] = {
    "spread_log_sd": 0.0, "vol_log_sd": 0.0, "supply_factor": (1, 1), "flow_factor": (1, 1), "regime_prob": 0.0,
    "independent_toxicity_prob": 0.0, "toxicity_jitter_frac": 0.0, "post_pnl_jitter_hs": 0.0, "leak_zero_prob": 0.0,
    "leak_weight": (0.1, 0.1), "size_beta_jitter": 0.0, "min_quantity_lots": (0,), "fee_jitter_mils": 0.0,
}  # fmt: skip


def failing(checks: list[Check]) -> list[Check]:
    return [c for c in checks if c.passed is not True]


def changed(config: MarketConfig, **ranges: Any) -> MarketConfig:
    """With other ranges."""
    assert config.randomisation is not None
    return config.model_copy(update={"randomisation": config.randomisation.model_copy(update=ranges)})


def drawing(monkeypatch: pytest.MonkeyPatch, other: MarketConfig) -> None:
    """The market draws as `other` says; the certificate reads the config."""
    monkeypatch.setattr(draws, "Market", lambda _config: Market(other))


RANGES: dict[str, tuple[dict[str, Any], str]] = {
    "fewer pools leak": ({"leak_zero_prob": 0.6}, "leaks"),
    "leaks of another range": ({"leak_weight": (0.02, 0.3)}, "leakage"),
    "leaks beyond the range": ({"leak_weight": (0.01, 0.4)}, "leakage lies outside"),
    "supply of another range": ({"supply_factor": (0.5, 2.5)}, "supply"),
    "flow of another range": ({"flow_factor": (0.7, 1.45)}, "flow"),
    "more pools with toxicity of their own": ({"independent_toxicity_prob": 0.35}, "toxicity"),
    "less jitter of a post's P&L": ({"post_pnl_jitter_hs": 0.16}, "post P&L"),
    "another choice of minimum quantities": ({"min_quantity_lots": (0, 5, 5, 50)}, "minimum quantity"),
    "fewer regimes": ({"regime_prob": 0.22}, "hidden regime"),
    "more jitter of fees": ({"fee_jitter_mils": 6.0}, "fee"),
    "tamer spreads": ({"spread_log_sd": 0.27}, "spread"),
    "wilder volatility": ({"vol_log_sd": 0.33}, "volatility"),
    "more empty histories": ({"scorecard_empty_prob": 0.25}, "history"),
    "flattering histories": ({"scorecard_markout_bias_hs": 0.2}, "markouts"),
}


@pytest.mark.parametrize("case", RANGES)
def test_episodes_drawn_from_other_ranges_are_named(
    case: str, base_data: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    other, named = RANGES[case]
    config = MarketConfig.model_validate(base_data)
    drawing(monkeypatch, changed(config, **other))
    (failed,) = failing(draws.draws(config, 1_500, 1))
    assert named in failed.measured


@pytest.mark.parametrize(
    "key", ["supply_factor", "flow_factor", "toxicity_jitter_frac", "post_pnl_jitter_hs", "leak_weight",
            "size_beta_jitter", "fee_jitter_mils"],
)  # fmt: skip
def test_what_the_config_fixes_and_the_market_draws_is_named(
    key: str, base_data: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    base = MarketConfig.model_validate(base_data)
    fixed = changed(base, **STILL)
    assert failing(draws.draws(fixed, 300, 1)) == []
    drawing(monkeypatch, changed(fixed, **{key: getattr(base.randomisation, key)}))
    assert [c.name for c in failing(draws.draws(fixed, 300, 1))] == ["venues as drawn"]


def _swapped(b: Batch) -> None:
    b.venue["archetype"][:, 4] = b.venue["archetype"][:, 5]


def _one_regime(b: Batch) -> None:
    b.venue["has_regime"][:, 5] = 1 - b.venue["has_regime"][:, 4]


def _longer(b: Batch) -> None:
    b.episode["n_slots"] -= 1


def _not_a_number(b: Batch) -> None:
    b.venue["supply_frac"][7, 1] = np.nan


def _negative(b: Batch) -> None:
    b.venue["supply_frac"][7, 4] *= -1.0


def _post_fee(b: Batch) -> None:
    b.venue["post_fee_bps"] *= 3.0


def _fast_part(b: Batch) -> None:
    b.venue["gamma_fast_bps"][:, 0] *= 1.5


def _down(b: Batch) -> None:
    b.venue["down_until"][3, 2] = 5


def _impossible_beta(b: Batch) -> None:
    b.venue["size_beta"][2, 4] = -9.0


def _impossible_class(b: Batch) -> None:
    b.venue["has_regime"][:, 3:] = 2


DEFECTS = [
    (_swapped, "venues as drawn"), (_one_regime, "venues as drawn"), (_longer, "orders as drawn"),
    (_not_a_number, "venues as drawn"), (_negative, "venues as drawn"), (_post_fee, "venues as drawn"),
    (_fast_part, "venues as drawn"), (_down, "venues as drawn"), (_impossible_beta, "venues as drawn"),
    (_impossible_class, "venues as drawn"),
]  # fmt: skip


@pytest.mark.parametrize(("defect", "named"), DEFECTS)
def test_draws_that_cannot_be_are_named(
    defect: Callable[[Batch], None], named: str, base_data: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    reset = Market.reset

    def broken(self: Market, key: Any, rows: Any, numbers: Any, b: Batch, obs: Any, **rest: Any) -> None:
        reset(self, key, rows, numbers, b, obs, **rest)
        defect(b)

    monkeypatch.setattr(Market, "reset", broken)
    assert named in [c.name for c in failing(draws.draws(MarketConfig.model_validate(base_data), 300, 1))]


def test_orders_of_another_size_or_side_and_pools_that_stay_in_their_places_are_named(
    base_data: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = MarketConfig.model_validate(base_data)
    for update in ({"participation_frac": (0.03, 0.15)}, {"participation_frac": (0.02, 0.12)}, {"side": "sell"},
                   {"horizon_minutes": {15.0: 0.3, 30.0: 0.15, 60.0: 0.25, 120.0: 0.2, 390.0: 0.1}}):  # fmt: skip
        drawing(monkeypatch, config.model_copy(update={"orders": config.orders.model_copy(update=update)}))
        assert [c.name for c in failing(draws.draws(config, 1_500, 1))] == ["orders as drawn"], update

    def unshuffled(c: MarketConfig) -> Market:
        market = Market(c)
        market.rules = market.rules.with_settings(permute=False)
        return market

    monkeypatch.setattr(draws, "Market", unshuffled)
    assert [c.name for c in failing(draws.draws(config, 1_500, 1))] == ["venues as drawn"]


ODD: dict[str, dict[str, Any]] = {
    "one toxicity": {"randomisation": {"kappa_fast": [0.5, 0.5]}},
    "no toxicity": {"randomisation": {"kappa_fast": [0, 0], "kappa_slow": [0, 0]}},
    "all toxicity drawn": {"randomisation": {"independent_toxicity_prob": 1.0}},
    "no jitter": {"randomisation": {"toxicity_jitter_frac": 0.0}},
    "nothing drawn": {"randomisation": None},
    "nothing drawn, pools by name": {"randomisation": None, "dark_slots": []},
    "one minimum quantity, twice": {"randomisation": {"min_quantity_lots": [5, 5]}},
    "all leak": {"randomisation": {"leak_zero_prob": 0.0}},
    "narrow sizes": {"orders": {"participation_frac": [0.1, 0.101]}},
    "buys at a fixed time": {"orders": {"side": "buy", "start_s": 3600, "horizon_minutes": {30: 1.0}}},
    "equal horizons": {"interval_s": 60, "orders": {"horizon_minutes": {15.0: 0.5, 15.2: 0.5}}},
    "odd lots": {"lot_shares": 1},
}


@pytest.mark.parametrize("case", ODD)
@pytest.mark.parametrize("seed", [1, 2])
def test_correct_markets_hold_whatever_their_ranges(case: str, seed: int, base_data: dict[str, Any]) -> None:
    data = {**base_data, **ODD[case]}
    if isinstance(ODD[case].get("orders"), dict):
        data["orders"] = {**base_data.get("orders", {}), **ODD[case]["orders"]}
    assert failing(draws.draws(MarketConfig.model_validate(data), 300, seed)) == []


def test_odd_venues_and_classes_hold(base_data: dict[str, Any]) -> None:
    """A venue that trades nothing at posts, a pool described by its reversion in classes with and without a fast alpha,
    a class without a spread."""
    data = {**base_data, "stocks": [dict(s) for s in base_data["stocks"]]}
    data["lit_venues"] = [{"name": "XQKA", "order_types": ["take"]}, *base_data["lit_venues"]]
    data["stocks"][1]["sigma_fast_bps"] = 0.0
    data["stocks"][2]["spread_bps"] = 0.0
    pool = {k: v for k, v in base_data["dark_pools"][0].items() if not k.startswith("kappa")}
    data["dark_pools"] = [{**pool, "reversion_bps": {1: -0.1}}, *base_data["dark_pools"][1:]]
    for ranges in (base_data.get("randomisation", {}), None):
        config = MarketConfig.model_validate({**data, "randomisation": ranges})
        assert [c.measured for c in failing(draws.draws(config, 600, 1))] == []


def test_sizes_cut_to_whole_shares_are_no_fault() -> None:
    """Seeds at which a size just above its least, cut to whole shares, once failed a correct market."""
    for name, seeds in (("base", (29, 63, 80, 128)), ("thin", (58, 85))):
        for seed in seeds:
            assert failing(draws.draws(load_market(name), 1_500, seed)) == []


def test_rare_outcomes_are_counted_together() -> None:
    rng = np.random.default_rng(1)
    laws = DrawLaws()
    laws.counts("rare", (rng.random(1_000) < 0.001).astype(np.int64), [0.999, 0.001])
    assert laws.p == {}  # one cell
    laws.counts("three", rng.choice(3, 1_000, p=[0.5, 0.49, 0.01]), [0.5, 0.49, 0.01])
    assert 0.001 < laws.p["three"] <= 1.0
    laws.counts("never", np.array([0, 1]), [1.0, 0.0])
    laws.counts("unknown", np.array([0, 2]), [0.5, 0.5])
    assert laws.impossible == ["never has an outcome that cannot be", "unknown has an outcome that cannot be"]
