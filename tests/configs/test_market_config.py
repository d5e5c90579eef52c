"""Market configs: what is refused, with the key named, and that every packaged file loads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from glasspool.agents.tuning import TUNABLE
from glasspool.configs.errors import UserError
from glasspool.configs.loading import (
    PACKAGED,
    apply_overrides,
    base_key,
    dump_yaml,
    find_config,
    load_experiment,
    load_market,
    load_router_settings,
    read_yaml,
)
from glasspool.configs.market import MarketConfig
from glasspool.configs.model import Model
from glasspool.configs.rule_sor import RuleSorConfig
from glasspool.configs.stock import StockConfig
from glasspool.envs.market import Market, stream_key

MARKETS = sorted((PACKAGED / "markets").glob("*.yaml"))
ROUTERS = sorted((PACKAGED / "routers").glob("*.yaml"))
EXPERIMENTS = sorted(PACKAGED.glob("*.yaml"))


def refused(overrides: list[str], *words: str) -> str:
    """The base market with overrides is refused, and the message holds every word."""
    with pytest.raises((ValidationError, UserError)) as caught:
        load_market("base", overrides)
    text = str(caught.value)
    assert all(word in text for word in words), text
    return text


@pytest.mark.parametrize("path", MARKETS, ids=lambda p: p.stem)
def test_every_packaged_market_loads_and_synthetic_ones_run(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLASSPOOL_DATA", str(tmp_path))  # a replay names its days; loading it does not open them
    config = load_market(path)
    if config.replay is None:
        market = Market(config)
        b, obs = market.batch(1)
        market.reset(stream_key(1, "test"), [0], [0], b, obs)
        assert b.order[0]["remaining_shares"] > 0


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda p: p.stem)
def test_every_packaged_experiment_loads(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLASSPOOL_DATA", str(tmp_path))
    assert load_experiment(path).name


@pytest.mark.parametrize("path", ROUTERS, ids=lambda p: p.stem)
def test_every_packaged_router_loads(path: Path) -> None:
    assert isinstance(load_router_settings(TUNABLE.get(path.stem, TUNABLE["rule_sor"]).config, path), Model)


def test_the_base_market_is_packaged() -> None:
    assert [p.stem for p in MARKETS].count("base") == 1
    assert load_market("base").name == load_market("base.yaml").name == "base"


# --- unknown keys and misspelt values


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("interval=10", "interval"),  # the unit is missing
        ("interval_ms=10000", "interval_ms"),
        ("lot_size=100", "lot_size"),
        ("orders.sides=buy", "orders.sides"),
        ("impact.etta=0.1", "impact.etta"),
        ("controls.max_child_lots=5", "controls.max_child_lots"),
        ("dark_pools.0.latency=3", "dark_pools.0.latency"),
        ("stocks.1.adv=5", "stocks.1.adv"),
        ("randomisation.spread_sd=0.3", "randomisation.spread_sd"),
    ],
)
def test_an_unknown_key_is_refused_by_name(override: str, key: str) -> None:
    refused([override], key, "Extra inputs are not permitted")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("orders.side=long", ("orders.side", "buy")),
        ("benchmark=twap", ("benchmark", "vwap")),
        ("interval_s=10 s", ("interval_s", "10 s")),
        ("interval_s=-10", ("interval_s",)),
        ("lot_shares=0", ("lot_shares",)),
        ("lot_shares=100.5", ("lot_shares",)),
        ("lit_venues.0.order_types=[hit]", ("lit_venues.0.order_types", "take")),
        ("dark_pools.2.kappa_fast=3", ("dark_pools.2.kappa_fast", "2.5")),
        ("dark_pools.0.life_s=0", ("dark_pools.0.life_s",)),
        ("impact.dark_weight=1.5", ("impact.dark_weight",)),
        ("noise.regime_factors=[0.5, -2]", ("noise.regime_factors.1", "greater than or equal to 0")),
        ("controls.weight_cut=-0.1", ("controls.weight_cut",)),
        ("stocks.0.price_usd=free", ("stocks.0.price_usd",)),
    ],
)
def test_a_wrong_value_is_refused_by_name(override: str, words: tuple[str, ...]) -> None:
    refused([override], *words)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.parametrize("key", ["interval_s", "stocks.0.daily_vol_bps", "impact.eta", "lit_venues.0.take_fee_mils"])
def test_not_a_number_and_infinity_are_refused(key: str, value: str) -> None:
    refused([f"{key}=.{value.removeprefix('-')}" if value[0] != "-" else f"{key}=-.inf"], key)


# --- rules over several keys


def test_probabilities_of_stocks_sum_to_one() -> None:
    refused(["stocks.0.probability=0.5"], "probabilities sum to 0.9", "not 1")


def test_probabilities_of_horizons_sum_to_one() -> None:
    refused(["orders.horizon_minutes={15: 0.5, 30: 0.4}"], "horizon_minutes", "0.9")


@pytest.mark.parametrize("minutes", [0, -5, 391])
def test_an_order_lives_inside_one_session(minutes: int) -> None:
    refused([f"orders.horizon_minutes={{{minutes}: 1.0}}"], "horizon_minutes", str(minutes))


def test_an_order_lasts_at_least_one_interval() -> None:
    refused(["orders.horizon_minutes={0.05: 1.0}"], "horizon_minutes")


def test_an_order_that_starts_at_a_stated_time_ends_before_the_close() -> None:
    refused(["orders.start_s=23000", "orders.horizon_minutes={60: 1.0}"], "start_s")


def test_alphas_may_not_move_the_mid_more_than_its_volatility() -> None:
    """rho_f^2 + rho_s^2 <= 1 at the quietest moment; the base large class is at 0.92."""
    refused(["stocks.0.sigma_fast_bps=0.6"], "large", "sigma_fast_bps", "vol_floor_frac", "> 1")
    refused(["stocks.0.vol_floor_frac=0.3"], "large")
    assert load_market("base", ["stocks.0.sigma_fast_bps=0.51"]).stocks[0].sigma_fast_bps == 0.51


def test_alpha_bound_at_its_boundary() -> None:
    """sigma_d / sqrt(23,400) x floor = 1 bp per sqrt(s): sigma_f^2 / 2 + sigma_s^2 / 200 may reach 1 exactly."""
    stock = {"name": "x", "price_usd": 10, "adv_shares": 1_000, "spread_bps": 1, "depth_shares": 1,
             "daily_vol_bps": 2.5 * 23_400**0.5, "vol_floor_frac": 0.4, "tau_fast_s": 1, "tau_slow_s": 100}  # fmt: skip
    StockConfig.model_validate({**stock, "sigma_fast_bps": 1.0, "sigma_slow_bps": 10.0})
    with pytest.raises(ValidationError, match="rho_f"):
        StockConfig.model_validate({**stock, "sigma_fast_bps": 1.001, "sigma_slow_bps": 10.0})


def test_participation_above_the_cap_is_refused() -> None:
    refused(["orders.participation_frac=[0.02, 0.2]"], "participation_frac", "20%", "max_participation_frac", "15%")
    raised = ["orders.participation_frac=[0.02, 0.2]", "orders.max_participation_frac=0.2"]
    assert load_market("base", raised).orders.participation_frac == (0.02, 0.2)


@pytest.mark.parametrize("value", ["[0.1, 0.05]", "[0, 0.1]", "[-0.1, 0.1]"])
def test_a_participation_range_is_positive_and_ordered(value: str) -> None:
    refused([f"orders.participation_frac={value}"], "participation_frac", "low")


def test_venue_names_are_distinct() -> None:
    refused(["lit_venues.1.name=XQLA"], "XQLA", "must differ")
    refused(["dark_slots=[XQDA, XQLA]"], "XQLA", "must differ")


def test_more_dark_slots_than_archetypes_are_refused() -> None:
    refused(["dark_slots=[A, B, C, D, E, F]"], "6 dark_slots", "5 dark_pools")


def test_an_order_must_be_completable() -> None:
    posts = [f"lit_venues.{i}.order_types=[post]" for i in range(3)]
    refused(posts, "take")


@pytest.mark.parametrize(("seconds", "word"), [(7, "divide"), (90, "divide")])
def test_an_interval_must_divide_the_session(seconds: int, word: str) -> None:
    refused([f"interval_s={seconds}"], "interval_s", word)


@pytest.mark.parametrize("n", [12, 14, 77])
def test_curves_fit_the_session(n: int) -> None:
    refused([f"stocks.0.volume_curve={[1.0] * n}"], "volume_curve", str(n), "13", "78")


def test_a_volume_curve_has_volume() -> None:
    refused([f"stocks.0.volume_curve={[0.0] * 13}"], "volume_curve", "0")


@pytest.mark.parametrize(
    ("override", "mode", "words"),
    [
        ("dark_pools.1.zero_prob=0.3", "one_shot_arrivals", ("zero_prob 0.3 would do nothing",)),
        ("dark_pools.1.adverse_charge_bps=-2", "expected_accounting", ("adverse_charge_bps -2 would do nothing",)),
        ("oracle.queue_shares=500", "one_shot_arrivals", ("queue_shares is a variant",)),
    ],
)
def test_a_switch_of_a_mode_that_is_off_is_refused(override: str, mode: str, words: tuple[str, ...]) -> None:
    text = refused([override], f"{mode}: true, or leave", *words)
    assert "queue" in override or f"pool {load_market('base').dark_pools[1].name!r}" in text
    load_market("base", [override, f"oracle.{mode}=true"])


@pytest.mark.parametrize(
    ("override", "whole", "words"),
    [
        (
            "oracle.leftover_quadratic_bps=0.5",
            "oracle.leftover_linear_bps=0",
            "leftover_quadratic_bps 0.5 would do nothing",
        ),
        ("oracle.track_to_zero=true", "oracle.tracking_bps=1", "track_to_zero would do nothing"),
    ],
)
def test_a_part_without_its_whole_is_refused(override: str, whole: str, words: str) -> None:
    refused([override], words, "or leave")
    load_market("base", [override, whole])


# --- files, overrides, round trip


def test_a_file_lists_only_what_differs(tmp_path: Path) -> None:
    path = tmp_path / "quiet.yaml"
    path.write_text("base: base\nname: quiet\nnoise: {supply_log_sd: 0.0}\n", encoding="utf-8")
    market = load_market(path)
    assert (market.name, market.noise.supply_log_sd) == ("quiet", 0.0)
    assert market.stocks == load_market("base").stocks


def test_an_unknown_market_lists_the_packaged_ones() -> None:
    with pytest.raises(UserError, match=r"no-such-market.*base"):
        find_config("no-such-market", "markets")


@pytest.mark.parametrize("text", ["- 1\n- 2\n", "just words\n", ""])
def test_a_file_that_is_no_mapping_is_refused_by_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "list.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"list\.yaml.*mapping"):
        load_market(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("base: base\ndark_slots: []\nbase: base\n", "line 3: 'base' stands in line 1 too"),
        (
            "dark_pools:\n  - {name: A, supply_frac: 0.1, supply_frac: 0.2}\n",
            "line 2: 'supply_frac' stands in line 2 too",
        ),
        ("dark_pools:\n  - {name: A, fill_rate: {60: 0.1, 60.0: 0.2}}\n", "line 2: '60.0' stands in line 2 too"),
    ],
)
def test_a_key_written_twice_is_refused_by_line(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "m.yaml"
    file.write_text(text)
    with pytest.raises(UserError, match=words) as error:
        load_market(file)
    assert str(error.value).startswith(f"{file}: ")


def test_what_was_merged_may_be_merged_again(tmp_path: Path) -> None:
    file = tmp_path / "e.yaml"
    file.write_text("a: &a {x: 1}\nouter: {b: &b {<<: *a, x: 2}}\nc: {<<: *b}\n")
    assert read_yaml(file) == {"a": {"x": 1}, "outer": {"b": {"x": 2}}, "c": {"x": 2}}


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("leak_weight=[0, 0.3]", r"leak_weight \[0, 0.3\]: give \[lowest, highest\], above 0"),
        ("supply_factor=[2, 1]", "supply_factor"),
        ("kappa_fast=[2, 0.1]", r"kappa_fast \[2, 0.1\]: give \[lowest, highest\], at least 0"),
    ],
)
def test_a_range_that_cannot_be_drawn_from_is_refused(override: str, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        load_market("base", [f"randomisation.{override}"])


def test_an_experiments_market_may_be_named_by_set_and_lie_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "desk.yaml").write_text("base: base\nname: desk\n")
    (tmp_path / "mine" / "e.yaml").write_text("market: {base: desk.yaml, dark_slots: []}\n")
    monkeypatch.chdir("/")
    assert load_experiment(tmp_path / "mine" / "e.yaml").market.name == "desk"
    assert load_experiment("default", ["market=toxic"]).market.name == "toxic"


def test_a_base_is_not_overwritten_by_what_is_fitted_on_it(tmp_path: Path) -> None:
    file = tmp_path / "desk.yaml"
    file.write_text("base: base\n")
    with pytest.raises(UserError, match="is the base itself"):
        base_key(str(file), file)


def test_a_key_over_a_merged_one_is_no_second(tmp_path: Path) -> None:
    file = tmp_path / "m.yaml"
    file.write_text(
        "base: base\ndark_slots: []\ndark_pools:\n  - &a {name: A, supply_frac: 0.1}\n  - {<<: *a, name: B}\n"
    )
    assert [(p.name, p.supply_frac) for p in load_market(file).dark_pools] == [("A", 0.1), ("B", 0.1)]


def test_a_written_base_is_found_from_the_file_that_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "desk.yaml").write_text("base: base\nname: desk\n")
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path)
    file = Path("out/fitted.yaml")
    file.write_text(f"base: {base_key('mine/desk.yaml', file)}\n")
    monkeypatch.chdir("/")
    assert load_market(tmp_path / file).name == "desk"
    assert base_key("base", file) == "base"


def test_an_unset_environment_variable_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GLASSPOOL_NOWHERE", raising=False)
    path = tmp_path / "env.yaml"
    path.write_text("base: base\nname: ${GLASSPOOL_NOWHERE}/x\n", encoding="utf-8")
    with pytest.raises(UserError, match="GLASSPOOL_NOWHERE"):
        load_market(path)
    monkeypatch.setenv("GLASSPOOL_NOWHERE", "here")
    assert load_market(path).name == "here/x"


@pytest.mark.parametrize("text", ["orders", "=5", "stocks.9.price_usd=1", "name.sub=1"])
def test_a_malformed_override_is_refused_with_its_text(text: str) -> None:
    with pytest.raises(UserError, match=text.split("=")[0] or "="):
        load_market("base", [text])


def test_overrides_set_nested_values_and_list_items() -> None:
    data: dict[str, Any] = {"a": {"b": 1}, "l": [{"x": 1}, {"x": 2}]}
    assert apply_overrides(data, ["a.b=[1, 2]", "l.1.x=3", "c.d=text"]) == {
        "a": {"b": [1, 2]}, "l": [{"x": 1}, {"x": 3}], "c": {"d": "text"},
    }  # fmt: skip


def test_the_resolved_config_reads_back_the_same() -> None:
    market = load_market("base")
    assert MarketConfig.model_validate(yaml.safe_load(dump_yaml(market))) == market


def test_configs_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load_market("base").name = "other"


# --- rule SOR


@pytest.mark.parametrize(
    "values",
    [
        {"size_small_pct_adv": 11.0},
        {"tight_spread_bps": 21.0},
        {"vol_calm_ratio": 2.5},
        {"ping_fill_poor": 0.04},
        {"venue_markout_poor_hs": -0.4},
    ],
)
def test_rule_bands_are_ordered(values: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match=next(iter(values))):
        RuleSorConfig.model_validate(values)


def test_unknown_rule_keys_are_refused_by_name() -> None:
    with pytest.raises(ValidationError, match="size_large_pct\n"):
        RuleSorConfig.model_validate({"size_large_pct": 10.0})
