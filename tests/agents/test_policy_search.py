"""Policy search in pairs: its gradient is that of the exact cost, pairs share their tapes, and it can be stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th

from glasspool.agents.additive import ScorePolicy
from glasspool.agents.oracle_evaluation import exact_cost
from glasspool.agents.oracle_markets import OracleParams, market_of
from glasspool.agents.oracle_problems import PROBLEMS
from glasspool.agents.oracle_views import ProblemView
from glasspool.agents.policies import snapshot
from glasspool.agents.policy_search import (
    PairedSearch,
    actor_parameters,
    each_by_its_own,
    parameter_noise_gradient,
    rounds_of,
    score_noise_gradient,
)
from glasspool.configs.errors import UserError
from glasspool.configs.experiment import SearchConfig
from glasspool.configs.loading import load_market
from glasspool.envs.market import Market
from glasspool.envs.vector_env import EpisodeBatch, spaces_of

SMALL = {"noise": "scores", "rounds": 6, "pairs": 16, "learning_rate": 0.05, "tail_frac": 0.5}


def policy_of(market: Market, kind: str, seed: int = 3) -> ScorePolicy:
    """A policy whose scores differ by state and route; float32, as trained ones are."""
    th.manual_seed(seed)
    types = [int(k) for k in market.rules.route_type]
    policy = ScorePolicy(*spaces_of(market), lambda _: 1e-3, route_types=types, policy=kind, share_venues=False,
                         monotone=False)  # fmt: skip
    with th.no_grad():
        for value in actor_parameters(policy):
            value += 0.3 * th.randn_like(value)
    return policy


def search_of(params: OracleParams, kind: str = "additive", **changes: Any) -> PairedSearch:
    market = Market(market_of(params))
    config = SearchConfig.model_validate(SMALL | changes)
    return PairedSearch(market, policy_of(market, kind), config, 5, new_view=lambda: ProblemView(market.rules, params))


def gradient_of(noise: str, core: EpisodeBatch, policy: ScorePolicy, view: Any, seed: int) -> list[th.Tensor]:
    """One round's estimate, by `actor_parameters`."""
    rng, numbers = np.random.default_rng(seed), np.arange(4_000)
    if noise == "parameters":
        return parameter_noise_gradient(core, policy, lambda: view, 0.005, rng, numbers)[0]
    seen, weights = score_noise_gradient(core, policy, view, 0.05, rng, numbers)
    scores = policy.mlp_extractor.forward_actor(seen)
    return list(th.autograd.grad((scores * weights).sum(), actor_parameters(policy)))


@pytest.mark.parametrize("kind", ["additive", "mlp"])
@pytest.mark.parametrize("noise", ["scores", "parameters"])
def test_the_gradient_is_the_slope_of_the_exact_cost(noise: str, kind: str) -> None:
    """O1, whose cost is smooth: along the direction of another estimate, against differences of the exact cost."""
    params = PROBLEMS["O1"].params
    market = Market(market_of(params))
    policy = policy_of(market, kind)
    values = actor_parameters(policy)
    core = EpisodeBatch(market, 8_000, 1, in_half_spreads=True)
    estimates = [gradient_of(noise, core, policy, ProblemView(market.rules, params), round_) for round_ in range(9)]
    length = float(np.sqrt(sum(float((g * g).sum()) for g in estimates[0])))
    direction = [g / length for g in estimates[0]]
    slopes = [float(sum((g * d).sum() for g, d in zip(e, direction, strict=True))) for e in estimates[1:]]

    def cost_at(step: float) -> float:
        with th.no_grad():
            for value, d in zip(values, direction, strict=True):
                value += step * d
        cost = exact_cost(params, snapshot(policy))
        with th.no_grad():
            for value, d in zip(values, direction, strict=True):
                value -= step * d
        return cost

    slope, error = np.mean(slopes), np.std(slopes, ddof=1) / np.sqrt(len(slopes))
    exact = (cost_at(0.02) - cost_at(-0.02)) / 0.04
    assert abs(exact) > 12 * error  # the comparison has power
    assert abs(slope - exact) < 4.5 * error + 0.02 * abs(exact)


@pytest.mark.parametrize("kind", ["additive", "mlp"])
def test_each_row_is_scored_by_its_own_parameters(kind: str) -> None:
    market = Market(market_of(PROBLEMS["O9-M1"].params))
    policy = policy_of(market, kind)
    _, obs = market.batch(6)
    seen = th.from_numpy(np.random.default_rng(0).uniform(-1, 1, obs.shape).astype(np.float32))
    start = [value.detach().clone() for value in actor_parameters(policy)]
    own = [th.stack([value + 0.1 * i for i in range(6)]) for value in start]
    rows = np.array([5, 0, 3])
    together = each_by_its_own(policy, own)(rows, seen.numpy()[rows])
    for scores, row in zip(together, rows, strict=True):
        with th.no_grad():
            for value, rowwise in zip(actor_parameters(policy), own, strict=True):
                value.copy_(rowwise[row])
            alone = policy.mlp_extractor.forward_actor(seen[row : row + 1]).numpy()[0]
        assert scores == pytest.approx(alone, abs=1e-5)
    assert np.abs(together[0] - together[1]).max() > 0.01


def test_twins_meet_the_same_tape() -> None:
    """Noise too small to move a lot changes no cost, so no decision has any weight."""
    params = PROBLEMS["O9-M1"].params
    search = search_of(params)
    core = EpisodeBatch(search.market, 64, 1, in_half_spreads=True)
    for std, moved in ((1e-9, False), (0.5, True)):
        view = ProblemView(search.market.rules, params)
        _, weights = score_noise_gradient(core, search.policy, view, std, np.random.default_rng(0), np.arange(32))
        assert bool((weights != 0).any()) == moved
    assert len(np.unique(core.batch.episode["key"])) == 32


def test_every_round_works_new_orders_with_their_twins(monkeypatch: pytest.MonkeyPatch) -> None:
    met: list[Any] = []
    step = PairedSearch._step

    def watching(search: PairedSearch, core: EpisodeBatch, std: float) -> None:
        step(search, core, std)
        met.append(core.batch.episode["key"].copy())

    monkeypatch.setattr(PairedSearch, "_step", watching)
    search_of(PROBLEMS["O9-M1"].params).run()
    assert len(met) == 6 and all((keys[:16] == keys[16:]).all() for keys in met)
    assert len(np.unique(met)) == 6 * 16


@pytest.mark.parametrize(("kind", "noise"), [("additive", "scores"), ("mlp", "scores"), ("additive", "parameters")])
def test_a_stopped_search_goes_on_to_the_same_end(
    kind: str, noise: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params, path = PROBLEMS["O9-M1"].params, tmp_path / "a.search"
    whole = search_of(params, kind, noise=noise)
    whole.run()
    stopped, step = search_of(params, kind, noise=noise), PairedSearch._step

    def stopping(search: PairedSearch, core: EpisodeBatch, std: float) -> None:
        if search.round == 4:
            raise KeyboardInterrupt
        step(search, core, std)

    monkeypatch.setattr(PairedSearch, "_step", stopping)
    with pytest.raises(KeyboardInterrupt):
        stopped.run(path)
    monkeypatch.setattr(PairedSearch, "_step", step)
    resumed = search_of(params, kind, noise=noise)
    resumed.run(path)
    assert resumed.decisions == whole.decisions > 0
    for a, b, start in zip(whole.parameters, resumed.parameters, search_of(params, kind).parameters, strict=True):
        assert th.equal(a, b) and not th.equal(a, start)


def test_a_file_of_another_search_is_refused(tmp_path: Path) -> None:
    params, path = PROBLEMS["O9-M1"].params, tmp_path / "a.search"
    search_of(params).save(path)
    for other in (search_of(params, pairs=8), search_of(params, "mlp"), search_of(PROBLEMS["O1"].params)):
        with pytest.raises(UserError, match="another policy, seed or settings"):
            other.run(path)
    path.write_text("nonsense")
    with pytest.raises(UserError, match="is no saved search"):
        search_of(params).run(path)


def test_rounds_cover_the_decisions_asked_for() -> None:
    assert rounds_of(10_000, 512, 8) == 2 and rounds_of(8192, 512, 8) == 1 and rounds_of(1, 512, 8) == 1


def test_a_search_that_is_told_to_stop_keeps_its_state(tmp_path: Path) -> None:
    search = search_of(PROBLEMS["O9-M1"].params)
    search.run(tmp_path / "a.search", lambda: search.round < 3)
    again = search_of(PROBLEMS["O9-M1"].params)
    again.load(tmp_path / "a.search")
    assert search.round == again.round == 3 and again.decisions == search.decisions > 0


def test_pairs_worked_in_groups_of_one_length_have_the_gradient_of_all_together() -> None:
    """Orders of 15 to 60 minutes, in an odd number, so that the last group is smaller."""
    market = Market(load_market("base", ["orders.horizon_minutes={15: 0.5, 30: 0.3, 60: 0.2}"]))
    policy, numbers = policy_of(market, "additive"), 7 + np.arange(21)
    estimates = [
        parameter_noise_gradient(
            EpisodeBatch(market, 2 * pairs, 1, in_half_spreads=True), policy, lambda: lambda b, obs: obs, 0.1,
            np.random.default_rng(4), numbers,
        )
        for pairs in (21, 8)
    ]  # fmt: skip
    (together, decisions), (grouped, same_decisions) = estimates
    assert decisions == same_decisions > 2 * 21 * 90
    assert all(th.equal(a, b) for a, b in zip(together, grouped, strict=True))
    assert any(bool((g != 0).any()) for g in together)
