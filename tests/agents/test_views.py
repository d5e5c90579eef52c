"""What a policy is shown and may set: privileged columns, a critic that sees more, routing under another's pace."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch as th

from glasspool.agents.additive import AdditiveScores
from glasspool.agents.bundle import export_bundle
from glasspool.agents.layout import layout_of
from glasspool.agents.policies import snapshot
from glasspool.agents.registry import named_router
from glasspool.agents.router import ScoreRouter
from glasspool.agents.runs import load_run, write_config
from glasspool.agents.training import make_ppo, train
from glasspool.agents.views import PACER, PrivilegedRouter, RoutingOnlyBatch, RoutingOnlyRouter, training_columns
from glasspool.configs.errors import UserError
from glasspool.configs.experiment import AgentConfig, ExperimentConfig, SearchConfig, TrainingConfig
from glasspool.envs.features import GLOBAL_FEATURES, observation_names
from glasspool.envs.market import Market, step_proposals, stream_key
from glasspool.envs.privileged import Level, privileged_names
from glasspool.envs.vector_env import EpisodeBatch, RoutingVecEnv

_IMBALANCE = [f.name for f in GLOBAL_FEATURES].index("imbalance_signed")


@pytest.mark.parametrize("level", ["none", "venue", "all"])
def test_a_layout_names_the_columns_of_the_observation(base_market: Market, level: Level) -> None:
    routes = base_market.routes
    names = observation_names(routes) + privileged_names(routes, level)
    layout = layout_of(len(routes), level)
    own = layout.features[len(layout.global_at) :]
    assert [names[i] for i in layout.global_at] == [f.name for f in layout.features[: len(layout.global_at)]]
    for r, route in enumerate(routes):
        assert [names[i] for i in layout.route_at[r]] == [f"{route.name}.{f.name}" for f in own]
    assert layout.width == len(names)


@pytest.mark.parametrize("level", ["none", "venue", "all"])
def test_scores_are_the_sum_of_the_layouts_functions(base_market: Market, level: Level) -> None:
    th.manual_seed(0)
    actor = AdditiveScores(base_market.rules.route_type, 5, True, False, level)
    th.nn.init.normal_(actor.raw, std=0.1)
    layout = actor.layout
    obs = np.random.default_rng(1).uniform(-1, 1, (7, layout.width)).astype(np.float32)
    with th.no_grad():
        found, (table, bias) = actor(th.from_numpy(obs)).numpy(), actor.tables()

    def at(k: int, f: int, x: np.ndarray) -> np.ndarray:
        knots = layout.low[f] + layout.span[f] * np.linspace(0, 1, 5)
        return np.interp(x, knots, table[k, f].numpy())

    for column, k in enumerate([0, *actor.kind]):
        score = float(bias[k]) + sum(at(k, f, obs[:, c]) for f, c in enumerate(layout.global_at))
        if column:
            for j, c in enumerate(layout.route_at[column - 1]):
                score = score + at(k, len(layout.global_at) + j, obs[:, c])
        assert found[:, column] == pytest.approx(score, abs=2e-5)


class _Record:
    """Scores nothing and keeps what it was shown."""

    name = "recorder"

    def __init__(self, routes: int) -> None:
        self.routes, self.shown = routes, []  # type: ignore[var-annotated]

    def scores(self, obs: np.ndarray) -> np.ndarray:
        self.shown.append(obs.copy())
        return np.zeros((len(obs), 1 + self.routes))


@pytest.mark.parametrize("level", ["venue", "all"])
def test_a_privileged_router_sees_what_training_shows(base_market: Market, level: Level) -> None:
    n, slots, routes = 6, 40, len(base_market.routes)
    core = EpisodeBatch(base_market, n, 3, "test", privileged=level)
    trained = [core.reset().copy()]
    for _ in range(slots):
        core.step(np.zeros((n, 1 + routes)))
        trained.append(core.obs.copy())
    policy = _Record(routes)
    router = PrivilegedRouter(policy, level)
    b, obs = base_market.batch(n)
    base_market.reset(stream_key(3, "test"), np.arange(n), np.arange(n), b, obs)
    work, weights = np.zeros(n), np.zeros((n, routes))
    for _ in range(slots):
        router.propose(base_market, b, obs, work, weights)
        step_proposals(base_market.rules, b, work, weights, obs)
    assert np.array_equal(np.array(policy.shown), np.array(trained[:slots]))
    assert policy.shown[0].shape[1] == base_market.n_obs + len(privileged_names(base_market.routes, level))


def test_routing_only_works_what_the_tuned_sor_would_and_sees_no_imbalance(base_market: Market) -> None:
    n, routes = 8, len(base_market.routes)
    policy = _Record(routes)
    router, pacer = RoutingOnlyRouter(policy), named_router(PACER)
    core = RoutingOnlyBatch(base_market, n, 3, "test")
    b, obs = base_market.batch(n)
    base_market.reset(stream_key(3, "test"), np.arange(n), np.arange(n), b, obs)
    shown = [core.reset().copy()]
    work, weights = np.zeros(n), np.zeros((n, routes))
    theirs, scratch = np.zeros(n), np.zeros((n, routes))
    for _ in range(30):
        router.propose(base_market, b, obs, work, weights)
        pacer.propose(base_market, b, obs, theirs, scratch)
        assert work == pytest.approx(theirs) and weights[0].sum() == pytest.approx(1.0)
        step_proposals(base_market.rules, b, work, weights, obs)
        core.step(np.random.default_rng(0).normal(size=(n, 1 + routes)) * [20.0, *[0.0] * routes])  # any pace score
        shown.append(core.obs.copy())
    assert np.array_equal(np.array(policy.shown), np.array(shown[:30]))  # the same episodes went the same way
    assert not np.array(policy.shown)[:, :, _IMBALANCE].any() and obs[:, _IMBALANCE].any()


def _experiment(base_market: Market, **agent: object) -> ExperimentConfig:
    training = TrainingConfig(
        steps=2_048, n_envs=64, steps_per_rollout=16, batch_size=512, epochs=1, teacher_orders=16,
        validation_orders=8, validations=1, search=SearchConfig(rounds=1, pairs=8),
    )  # fmt: skip
    return ExperimentConfig(
        name="views", market=base_market.config, agent=AgentConfig(**agent), training=training  # type: ignore[arg-type]
    )  # fmt: skip


@pytest.mark.parametrize("policy", ["additive", "mlp"])
def test_what_only_the_critic_sees_does_not_move_the_actor(base_market: Market, policy: str) -> None:
    config = _experiment(base_market, policy=policy, critic_privileged="all")
    assert training_columns(config.agent) == "all"
    env = RoutingVecEnv(EpisodeBatch(base_market, 64, 1, privileged="all"))
    model = make_ppo(config, env, 1, None)
    th.nn.init.normal_(next(p for n, p in model.policy.mlp_extractor.named_parameters() if "critic" not in n), std=0.1)
    wide = env.reset()
    other = wide.copy()
    other[:, base_market.n_obs :] += 0.3
    actor, critic = model.policy.mlp_extractor.forward_actor, model.policy.mlp_extractor.forward_critic
    assert th.equal(actor(th.from_numpy(wide)), actor(th.from_numpy(other)))
    assert not th.equal(critic(th.from_numpy(wide)), critic(th.from_numpy(other)))
    plain = snapshot(model.policy).scores(wide[:, : base_market.n_obs].astype(np.float64))
    assert plain == pytest.approx(actor(th.from_numpy(wide)).detach().numpy(), abs=1e-5)


@pytest.mark.parametrize(
    "agent", [{"privileged": "all"}, {"privileged": "venue", "policy": "mlp"}, {"routing_only": True}],
    ids=["all latents", "venue informed network", "routing only"],
)  # fmt: skip
def test_bounds_are_trained_and_evaluated_but_never_exported(
    base_market: Market, tmp_path: Path, agent: dict[str, object]
) -> None:
    config = _experiment(base_market, **agent)
    write_config(tmp_path, config, 1)
    train(config, 1, tmp_path)
    run = load_run(tmp_path)
    assert isinstance(run.router, ScoreRouter) and type(run.router) is not ScoreRouter
    with pytest.raises(UserError, match="cannot be exported"):
        export_bundle(tmp_path, tmp_path / "bundle", orders=2, seed=1)
