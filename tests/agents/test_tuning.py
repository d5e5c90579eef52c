"""Tuning: every setting that the search can draw is legal, the search repeats by seed, and the winner earned it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from pydantic import ValidationError

from glasspool.agents import tuning
from glasspool.agents.allocators.router import RULES
from glasspool.agents.evaluation import run_router
from glasspool.agents.router import Router
from glasspool.agents.rule_based import RuleSor
from glasspool.agents.strong_sor import StrongSor
from glasspool.agents.tuning import TUNABLE, Range, parameters, suggest, tune
from glasspool.configs.allocator import GanchevConfig
from glasspool.configs.loading import load_router_settings, load_rule_sor
from glasspool.configs.model import Model
from glasspool.configs.rule_sor import RuleSorConfig
from glasspool.configs.strong_sor import StrongSorConfig
from glasspool.envs.market import Market

MarketWith = Callable[..., Market]
each_router = pytest.mark.parametrize("router", TUNABLE)


@pytest.fixture(scope="module")
def short(market_with: MarketWith, plain: dict[str, Any]) -> Market:
    return market_with(plain)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Finals of 60 parents."""
    monkeypatch.setattr(tuning, "FINAL_ORDERS", 60)


@each_router
def test_whatever_is_drawn_is_a_legal_setting(router: str) -> None:
    """The bands are in order by construction; the corners of the space are legal as well."""
    tunable = TUNABLE[router]
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    drawn = [suggest(study.ask(), tunable) for _ in range(300)]
    assert all(type(c) is tunable.config for c in drawn)
    for end in ("low", "high"):
        corner = {k: getattr(d, end) if isinstance(d, Range) else d[0] for k, d in tunable.space.items()}
        suggest(optuna.trial.FixedTrial(corner), tunable)  # type: ignore[arg-type]
    assert len({c.model_dump_json() for c in drawn}) == 300


@each_router
def test_the_space_searches_keys_of_the_router(router: str) -> None:
    assert set(TUNABLE[router].space) <= set(TUNABLE[router].config.model_fields)
    own = set(TUNABLE[router].config.model_fields) - set(RuleSorConfig.model_fields)
    assert own <= set(TUNABLE[router].space)


@pytest.mark.parametrize(
    ("router", "config"),
    [("rule_sor", RuleSorConfig()), ("sor_strong", StrongSorConfig()), ("rule_sor", load_rule_sor("tuned_sor")),
     ("ganchev", GanchevConfig())],
)  # fmt: skip
def test_a_setting_of_the_space_is_found_again_from_its_parameters(router: str, config: Model) -> None:
    space = TUNABLE[router].space
    trial = optuna.trial.FixedTrial(parameters(config, space))
    again = suggest(trial, TUNABLE[router])  # type: ignore[arg-type]
    for key, domain in space.items():
        value, low = getattr(config, key), getattr(domain, "low", None)
        if low is None or isinstance(value, str):
            assert getattr(again, key) == value
        else:
            assert getattr(again, key) == pytest.approx(value, rel=1e-3), key


def test_the_search_repeats_by_seed(short: Market, small: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every setting tried, the sampler's own included, and the one found."""
    monkeypatch.setattr(tuning, "RANDOM_FIRST", 4)

    def search(seed: int) -> list[Model]:
        tried: list[Model] = []

        def note(trial: optuna.Trial, tunable: tuning.Tunable) -> Model:
            tried.append(suggest(trial, tunable))
            return tried[-1]

        monkeypatch.setattr(tuning, "suggest", note)
        found = tune(short, "sor_strong", seed, samples=12, orders=27).config
        return [found, *tried]

    first, again, other = search(1), search(1), search(2)
    assert first == again and len(first) == 13
    assert first[1:3] == other[1:3]  # the default and the rule SOR
    assert all(a != b for a, b in zip(first[3:], other[3:], strict=True))


def test_the_winner_is_as_cheap_as_it_says_on_parents_that_the_search_did_not_meet(short: Market, small: None) -> None:
    seen: list[tuple[int, float, float]] = []
    found = tune(short, "rule_sor", 3, samples=30, orders=90, report=lambda *now: seen.append(now))
    costs = [
        float(run_router(short, RuleSor(c), 60, 3, "train", first=90).denoised_hs.mean())
        for c in (found.config, RuleSorConfig())
    ]
    assert [found.cost_hs, found.default_cost_hs] == pytest.approx(costs, abs=1e-12)
    assert found.cost_hs <= found.default_cost_hs
    assert (found.samples, found.orders, found.final_orders) == (30, 90, 60)
    assert 0 < found.pruned < 30  # most stop at a stage before the last
    assert [n for n, _, _ in seen] == list(range(1, 31)) and seen[-1][2] == 1.0
    best = [b for _, b, _ in seen]
    assert best == sorted(best, reverse=True)


def test_a_start_takes_part_in_the_finals(short: Market, small: None) -> None:
    """Tried with one sample, which is the default: the better start wins all the same. A rule SOR may start the strong
    one."""
    never = RuleSorConfig(behind_s=0.0, dark_fraction=0.0, max_slices=0.0)  # takes nearly all
    from_tuned = tune(short, "sor_strong", 1, samples=1, orders=9, start=[load_rule_sor("tuned_sor"), never])
    cost = run_router(short, StrongSor(from_tuned.config), 60, 1, "train", first=9).denoised_hs.mean()
    for config in (load_rule_sor("tuned_sor"), never, RuleSorConfig()):
        assert cost <= run_router(short, RuleSor(config), 60, 1, "train", first=9).denoised_hs.mean()


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("form", ["", "_markout"])
def test_an_allocator_is_tuned_from_its_published_settings_and_the_rule_sors_patience(
    rule: str, form: str, short: Market, small: None
) -> None:
    name, tunable = f"{rule}{form}", TUNABLE[f"{rule}{form}"]
    tried: list[Model] = []

    def make(config: Any) -> Router:
        tried.append(config)
        return tunable.make(config)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(TUNABLE, name, replace(tunable, make=make))
        found = tune(short, name, 1, samples=4, orders=9)
    published = tunable.config()
    assert tried[0] == published and tunable.make(published).name == name
    patient = published.model_copy(update={"behind_s": 60.0, "max_slices": 3.0})
    assert patient in tried and found.config in tried
    assert found.cost_hs <= found.default_cost_hs


def test_every_setting_of_an_allocator_changes_what_it_does(base_market: Market) -> None:
    changed = {"behind_s": 20.0, "max_slices": 1.0, "history_attempts": 10.0, "least_tries": 200.0, "rate_ratio": 10.0,
               "explore_frac": 0.5}  # fmt: skip
    for rule in RULES:
        usual = TUNABLE[rule].config()
        cost = run_router(base_market, TUNABLE[rule].make(usual), 40, 1, "train").cost_bps
        for key in type(usual).model_fields:
            other = TUNABLE[rule].make(usual.model_copy(update={key: changed[key]}))
            assert (run_router(base_market, other, 40, 1, "train").cost_bps != cost).any(), (rule, key)


def test_a_key_that_another_rule_has_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "llp.yaml"
    path.write_text("least_tries: 5\n")
    with pytest.raises(ValidationError, match="least_tries"):
        load_router_settings(TUNABLE["llp"].config, path)


def test_episodes_of_a_later_part_are_those_of_the_whole(short: Market) -> None:
    whole, part = (run_router(short, RuleSor(), n, 1, "train", first=f) for n, f in ((30, 0), (10, 20)))
    assert part.cost_bps.tobytes() == whole.cost_bps[20:].tobytes()


def test_time_ends_a_search(short: Market, small: None) -> None:
    found = tune(short, "rule_sor", 1, samples=None, seconds=0.5, orders=9)
    assert found.samples >= 1 and found.search_s < 20


def glasspool(*args: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([Path(sys.executable).with_name("glasspool"), *args], capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    return done


@pytest.mark.parametrize("router", ["rule_sor", "sor_strong", "llp_markout"])
def test_the_command_writes_settings_with_the_command_that_found_them(router: str, tmp_path: Path) -> None:
    out, market = tmp_path / "found.yaml", tmp_path / "short.yaml"
    market.write_text("base: base\nname: short\norders: {horizon_minutes: {15: 1.0}}\n")
    line = ["tune", str(market), "--router", router, "--samples", "2", "--orders", "2", "--out", str(out)]
    done = glasspool(*line)
    assert "half spreads against" in done.stdout and str(out) in done.stdout
    assert f"# command: glasspool {' '.join(line)}" in out.read_text()
    load_router_settings(TUNABLE[router].config, out)
    assert sorted(tmp_path.iterdir()) == [out, market]


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--router", "random"], "cannot be tuned. Those with settings of their own: rule_sor, sor_strong, ganchev, "),
        (["--minutes", "0"], "--minutes"),
        (["--samples", "0"], "--samples"),
        (["--orders", "1"], "--orders"),
        (["--start", "nosuch"], "nosuch: no such file"),
        (["--start", "wrong.yaml"], "behind_sec"),
        (["--start", "sor_strong"], "max_pools"),  # the rule SOR has no such key
        (["--out", "."], "is a folder"),
    ],
)
def test_wrong_input_is_refused(args: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wrong.yaml").write_text("behind_sec: 5\n")
    done = glasspool("tune", "base", *args, code=2)
    assert says in " ".join(done.stderr.split())
    assert [p.name for p in tmp_path.iterdir()] == ["wrong.yaml"]
