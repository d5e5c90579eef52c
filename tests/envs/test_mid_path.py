"""The mid between nodes: the exact bridge of equation (1), met at both ends, and the markout law off the grid."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glasspool.configs.loading import load_market
from glasspool.envs.market import Market, stream_key
from glasspool.envs.mid_path import MidPath, noise, transition

SIGMA, TAU, VOL = (0.5, 2.0), (1.0, 120.0), 0.981


def started(overrides: list[str], n: int, seed: int = 5):
    market = Market(load_market("base", overrides))
    b, obs = market.batch(n)
    market.reset(stream_key(seed, "test"), np.arange(n), np.arange(n), b, obs)
    return market, b


@given(st.floats(0.01, 9.9), st.floats(10.0, 30.0))
def test_two_steps_are_one(u: float, d: float) -> None:
    """Chapman-Kolmogorov: F(d) = F(d-u) F(u) and Q(d) = F(d-u) Q(u) F(d-u)' + Q(d-u)."""
    rest = transition(d - u, TAU)
    np.testing.assert_allclose(rest @ transition(u, TAU), transition(d, TAU), atol=1e-12)
    two = rest @ noise(u, VOL, SIGMA, TAU) @ rest.T + noise(d - u, VOL, SIGMA, TAU)
    np.testing.assert_allclose(two, noise(d, VOL, SIGMA, TAU), atol=1e-10)


def test_nodes_are_the_tape_and_a_time_has_one_mid() -> None:
    _, b = started(["orders.horizon_minutes={15: 1.0}"], 3)
    for e in range(3):
        path = MidPath(b, e, 10.0)
        first = path.at(123.4)
        for n in (0, 12, 13, int(b.episode[e]["n_slots"]) + 29):
            assert path.at(10.0 * n) == b.tape[e, n]["mid_bps"]
        assert path.at(123.4) == first


@pytest.mark.parametrize("interval_s", [10, 2])
def test_increments_have_the_variance_of_a_martingale(interval_s: int) -> None:
    """Var(M(t+h) - M(t)) = sigma^2 h inside a slot and across slots; 4.6 standard errors (false alarm about 1e-4)."""
    quiet = ["noise.vol_log_sd=0.0", "randomisation=null", "orders.horizon_minutes={15: 1.0}"]
    market, b = started([f"interval_s={interval_s}", *quiet], 400)
    times = np.array([300.0, 300.5, 301.5, 305.0, 308.7, 317.3])
    z = []
    for e in range(400):
        path = MidPath(b, e, market.rules.interval_s)
        moves = np.diff([path.at(t) for t in times])
        n = (times[:-1] / market.rules.interval_s).astype(int)
        vol = b.tape[e, n]["vol_bps"]
        z.append(moves / (vol * np.sqrt(np.diff(times))))
    z = np.array(z)
    assert np.abs(np.mean(z**2, axis=0) - 1.0).max() < 4.6 * math.sqrt(2 / 400)
    assert np.abs(np.corrcoef(z.T) - np.eye(5)).max() < 4.6 / math.sqrt(400)


def test_moves_inside_a_slot_follow_the_alphas() -> None:
    """E[M(t+h) - M(t) | A] at a node is the law's sum of both alphas, also at 50 ms and 1 s."""
    market, b = started(["randomisation=null", "orders.horizon_minutes={15: 1.0}"], 1_500)
    for h in (0.05, 1.0, 7.0):
        got, said = [], []
        for e in range(1_500):
            ep, row = b.episode[e], b.tape[e, 20]
            path = MidPath(b, e, market.rules.interval_s)
            alphas = (row["fast_z"] * ep["sigma_fast_bps"], row["slow_z"] * ep["sigma_slow_bps"])
            taus = (ep["tau_fast_s"], ep["tau_slow_s"])
            expected = sum(a * -math.expm1(-h / tau) for a, tau in zip(alphas, taus, strict=True))
            scale = row["vol_bps"] * math.sqrt(h)
            got.append((path.at(200.0 + h) - path.at(200.0) - expected) / scale)
            said.append(expected / scale)
        got, said = np.array(got), np.array(said)
        slope = (got * said).sum() / (said**2).sum()  # 0 where the law is met; -1 where the path ignores the alphas
        assert abs(slope) < 4.0 * np.sqrt((got**2).mean() / (said**2).sum())
        assert np.sqrt((got**2).mean() / (said**2).sum()) < 0.2  # or the line above shows nothing


@settings(max_examples=20)
@given(st.floats(0.0, 9.99), st.floats(-3.0, 3.0))
def test_a_displaced_print_comes_back(into_s: float, displaced: float) -> None:
    _, b = started(["orders.horizon_minutes={15: 1.0}"], 1)
    path, base = MidPath(b, 0, 10.0), float(b.tape[0, 7]["base_bps"])
    time_s = 70.0 + into_s
    assert path.after_fill(time_s, base, displaced, 0.0) == pytest.approx(base + displaced, abs=1e-9)
    far = 80.0 - time_s + 30.0
    assert path.after_fill(time_s, base, displaced, far) == pytest.approx(path.at(time_s + far), abs=1e-9)


def test_replayed_paths_are_straight_lines() -> None:
    market, b = started(["orders.horizon_minutes={15: 1.0}"], 1)
    b.episode[0]["replayed"] = 1
    path = MidPath(b, 0, market.rules.interval_s)
    left, right = b.tape[0, 3]["mid_bps"], b.tape[0, 4]["mid_bps"]
    assert path.at(32.5) == pytest.approx(0.75 * left + 0.25 * right)
