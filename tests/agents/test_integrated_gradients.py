"""Integrated Gradients: exact on what is linear, complete but for a small residual that every record holds."""

from __future__ import annotations

from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch as th

from glasspool.agents.additive import ScorePolicy
from glasspool.agents.explaining import write_decision_log
from glasspool.agents.integrated_gradients import MlpScorer, by_feature, integrated_gradients
from glasspool.agents.policies import MlpPolicy
from glasspool.configs.loading import load_market
from glasspool.envs.features import FEATURES, N_GLOBAL, N_ROUTE, observation_bounds
from glasspool.envs.market import Market
from glasspool.explain.decision_log import read_log

TYPES = [0, 1, 2, 3, 3]


def mlp(types: list[int], seed: int = 1) -> MlpScorer:
    th.manual_seed(seed)
    low, high = (a.astype(np.float32) for a in observation_bounds(len(types)))
    policy = ScorePolicy(
        gym.spaces.Box(low, high), gym.spaces.Box(-20, 20, (1 + len(types),)), lambda _: 1e-3,
        route_types=types, policy="mlp", hidden=[16, 16],
    )  # fmt: skip
    th.nn.init.normal_(policy.mlp_extractor.mlp[-1].weight, std=0.3)
    return MlpScorer(MlpPolicy(policy))


def observations(n: int) -> np.ndarray:
    low, high = observation_bounds(len(TYPES))
    return np.random.default_rng(2).uniform(low, high, (n, low.size))


def test_of_a_linear_function_they_are_weight_times_distance() -> None:
    weights, x, reference = (th.from_numpy(np.random.default_rng(i).normal(size=7)) for i in range(3))
    found = integrated_gradients(lambda way: way @ weights, x[None], reference)
    assert found[0].numpy() == pytest.approx((weights * (x - reference)).numpy(), abs=1e-12)


def test_of_a_product_each_factor_gets_half() -> None:
    """f = x y from (0, 0) to (2, 3): the integral of y along the straight way is 3/2, of x 1: both parts are 3."""
    found = integrated_gradients(lambda way: way[:, 0] * way[:, 1], th.tensor([[2.0, 3.0]]), th.zeros(2))
    assert found[0].tolist() == pytest.approx([3.0, 3.0], abs=1e-6)


def test_parts_reference_and_residual_make_the_score() -> None:
    scorer, obs = mlp(TYPES), observations(50)
    residual = scorer.scores_e9(obs) - scorer.biases_e9 - scorer.contributions_e9(obs).sum(axis=2)
    assert np.abs(residual).max() < 10_000  # 1e-5 of a score
    assert np.abs(scorer.contributions_e9(obs)).max() > 10**7


def test_a_route_feature_gets_the_sum_over_the_routes() -> None:
    parts = by_feature(np.arange(N_GLOBAL + 2 * N_ROUTE, dtype=float)[None])
    assert parts.shape == (1, len(FEATURES))
    assert parts[0, N_GLOBAL] == 2 * N_GLOBAL + N_ROUTE


def test_a_log_of_an_mlp_keeps_the_residual_and_adds_up(tmp_path: Path) -> None:
    market = Market(load_market("base", ["orders.horizon_minutes={15: 1.0}"]))
    scorer = mlp([int(k) for k in market.rules.route_type])
    path = tmp_path / "decisions.jsonl"
    write_decision_log(market, scorer, path, orders=1, seed=1, stream="test", policy_id="mlp")
    bodies = [r["body"] for r in read_log(path) if r["type"] == "decision"]
    scored = [c for body in bodies for c in body["candidates"] if c["score_e9"] is not None]
    assert len(scored) > 300
    for c in scored:
        assert c["bias_e9"] + sum(c["feature_attr_e9"].values()) + c["residual_e9"] == c["score_e9"]
        assert c["bias_e9"] + sum(c["attr_e9"].values()) + c["residual_e9"] == c["score_e9"]
    assert any(c["residual_e9"] for c in scored)
