"""Environments: the checkers of Gymnasium and Stable-Baselines3, and one core behind three coats."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as gymnasium_check
from stable_baselines3 import PPO
from stable_baselines3.common.env_checker import check_env as sb3_check

from glasspool.envs.market import Market
from glasspool.envs.routing_env import VwapRoutingEnv
from glasspool.envs.vector_env import EpisodeBatch, RoutingVecEnv, RoutingVectorEnv

MarketWith = Callable[..., Market]
MAKE = "glasspool:glasspool/VwapRouting-v0"


@pytest.fixture(scope="module")
def short(market_with: MarketWith) -> Market:
    """Orders of five or ten minutes: 30 or 60 slots."""
    return market_with({"orders": {"horizon_minutes": {5.0: 0.5, 10.0: 0.5}}})


def actions(market: Market, n: int, slots: int, seed: int = 0) -> Any:
    """(slots, n, 1 + R) float32 scores, different for every slot and row."""
    draw = np.random.default_rng(seed).normal(0, 4, (slots, n, 1 + len(market.routes)))
    return np.clip(draw, -20, 20).astype(np.float32)


def test_gymnasium_finds_nothing_wrong() -> None:
    gymnasium_check(gym.make(MAKE).unwrapped, skip_render_check=True)


def test_stable_baselines3_finds_nothing_wrong() -> None:
    sb3_check(gym.make(MAKE).unwrapped)


def test_made_environments_run_to_their_end(short: Market) -> None:
    env = gym.make(MAKE, config=short.config)
    observation, info = env.reset(seed=4)
    assert info["slot"] == 0 and info["remaining_shares"] == info["ordered_shares"] > 0
    total, done = 0.0, False
    while not done:
        assert env.observation_space.contains(observation)
        observation, reward, done, truncated, info = env.step(env.action_space.sample())
        total += float(reward)
        assert not truncated
    assert total == pytest.approx(-info["vwap_slippage_bps"], abs=1e-9)
    assert info["remaining_shares"] == 0
    assert info["dark_frac"] + info["post_frac"] + info["take_frac"] == pytest.approx(1.0)


def test_the_default_config_is_the_base_market(base_market: Market) -> None:
    assert VwapRoutingEnv().market.config == base_market.config


def test_single_environment_equals_the_vector_environment(short: Market) -> None:
    """Twelve whole episodes, bit for bit: observations, rewards, ends, and the summary of the parent."""
    n, slots = 4, 200
    vector, scores = RoutingVectorEnv(short, n, seed=9), actions(short, n, slots)
    singles = [VwapRoutingEnv(market=short) for _ in range(n)]
    seen, _ = vector.reset()
    numbers = list(range(n))
    for row, env in enumerate(singles):
        assert (env.reset(seed=9, options={"episode": row})[0] == seen[row]).all()
    finished = 0
    for slot in range(slots):
        observations, rewards, terminated, truncated, info = vector.step(scores[slot])
        assert not truncated.any()
        parents = 0
        for row, env in enumerate(singles):
            o, r, done, _, i = env.step(scores[slot, row])
            assert r == rewards[row] and done == terminated[row]
            if not done:
                assert (o == observations[row]).all()
                continue
            assert (o == info["final_obs"][row]).all() and info["_final_obs"][row]
            assert i["vwap_slippage_bps"] == info["parents"]["vwap_slippage_bps"][parents]
            parents += 1
            finished += 1
            numbers[row] += n
            assert (env.reset(options={"episode": numbers[row]})[0] == observations[row]).all()
    assert finished >= 12


def test_both_vector_coats_show_the_same_play(short: Market) -> None:
    n, slots = 5, 130
    ours, theirs = RoutingVectorEnv(short, n, seed=3), RoutingVecEnv(EpisodeBatch(short, n, 3))
    assert (ours.reset()[0] == theirs.reset()).all()
    for scores in actions(short, n, slots):
        a_obs, a_reward, a_done, _, a_info = ours.step(scores)
        b_obs, b_reward, b_done, b_infos = theirs.step(scores)
        assert (a_obs == b_obs).all() and (a_done == b_done).all()
        assert (a_reward.astype(np.float32) == b_reward).all()
        for row in np.flatnonzero(a_done):
            assert (b_infos[row]["terminal_observation"] == a_info["final_obs"][row]).all()
    costs = np.concatenate([f["vwap_slippage_bps"] for f in theirs.finished])
    assert len(costs) >= 2 * n


def test_monitor_infos_add_up(short: Market) -> None:
    """Return and length of `info["episode"]` are those of the rewards given out."""
    venv = RoutingVecEnv(EpisodeBatch(short, 3, 3))
    venv.reset()
    totals, lengths = np.zeros(3), np.zeros(3, int)
    for scores in actions(short, 3, 130):
        _, rewards, dones, infos = venv.step(scores)
        totals += rewards
        lengths += 1
        for row in np.flatnonzero(dones):
            assert infos[row]["episode"]["r"] == pytest.approx(totals[row], rel=1e-4, abs=1e-4)
            assert infos[row]["episode"]["l"] == lengths[row]
            totals[row], lengths[row] = 0.0, 0
        assert all(not infos[row] for row in np.flatnonzero(~dones))


def test_finished_rows_get_the_next_episodes_of_the_stream(short: Market) -> None:
    """Row i works episodes i, i + n, i + 2n, ... whichever orders finish first."""
    n = 6
    core = EpisodeBatch(short, n, 2)
    core.reset()
    dealt: list[list[int]] = [[int(x)] for x in core.batch.episode["number"]]
    for scores in actions(short, n, 200):
        _, done = core.step(scores)
        rows = np.flatnonzero(done)
        core.replace(rows)
        for row in rows:
            dealt[row].append(int(core.batch.episode[row]["number"]))
            assert core.batch.order[row]["slot"] == 0 and core.batch.order[row]["active"] == 1
    assert min(len(d) for d in dealt) >= 3
    assert dealt == [[row + n * k for k in range(len(d))] for row, d in enumerate(dealt)]


def test_batch_size_does_not_change_an_episode(short: Market) -> None:
    """Episode 5 played with the same scores in a batch of 8 and alone."""
    scores = actions(short, 8, 60)
    together, alone = EpisodeBatch(short, 8, 1), EpisodeBatch(short, 1, 1, numbers=[5])
    together.reset(), alone.reset()
    for slot in range(60):
        rewards, done = together.step(scores[slot])
        reward, finished = alone.step(scores[slot, 5:6])
        assert reward[0] == rewards[5] and finished[0] == done[5]
        assert together.obs[5].tobytes() == alone.obs[0].tobytes()
        if finished[0]:
            break
    assert finished[0]


def test_the_seed_decides_everything(short: Market) -> None:
    def play(seed: int) -> list[bytes]:
        env = RoutingVectorEnv(short, 3, seed=0)
        first, _ = env.reset(seed=seed)
        return [first.tobytes()] + [env.step(a)[1].tobytes() for a in actions(short, 3, 70)]

    assert play(7) == play(7)
    assert play(7) != play(8)
    assert play(0) != play(1)  # 0 is a seed


def test_a_numpy_seed_is_a_seed(short: Market) -> None:
    """np.int64(7) and 7 name the same episodes."""
    env = RoutingVectorEnv(short, 3, seed=0)
    first = env.reset(seed=7)[0]
    env.reset(seed=1)
    assert (env.reset(seed=np.int64(7))[0] == first).all()  # type: ignore[arg-type]


def test_single_environment_goes_on_to_the_next_episode(short: Market) -> None:
    env = VwapRoutingEnv(market=short)
    numbers = [env.reset(seed=5)[1]["episode_number"]] + [env.reset()[1]["episode_number"] for _ in range(3)]
    assert numbers == [0, 1, 2, 3]
    assert env.reset(options={"episode": 17})[1]["episode_number"] == 17
    assert env.reset(seed=5)[1]["episode_number"] == 0


def test_training_stream_and_test_stream_share_no_episode(short: Market) -> None:
    cores = [EpisodeBatch(short, 20, 1, stream) for stream in ("train", "validation", "test")]
    for core in cores:
        core.reset()
    keys = np.concatenate([core.batch.episode["key"] for core in cores])
    assert len(set(keys.tolist())) == 60


def test_rewards_in_half_spreads_are_the_same_rewards(short: Market) -> None:
    bps, hs = EpisodeBatch(short, 10, 1), EpisodeBatch(short, 10, 1, in_half_spreads=True)
    bps.reset(), hs.reset()
    for scores in actions(short, 10, 20):
        a, b = bps.step(scores)[0], hs.step(scores)[0]
        assert b * bps.batch.episode["half_spread_bps"] == pytest.approx(a)


def test_routing_state_holds_the_exact_numbers(short: Market) -> None:
    env = VwapRoutingEnv(market=short)
    observation, info = env.reset(seed=1)
    state = env.routing_state()
    assert (state.ordered_shares, state.side, state.slot) == (info["ordered_shares"], info["side"], 0)
    assert state.ask_e6 - state.bid_e6 >= state.tick_e6 > 0
    assert state.bid_e6 % state.tick_e6 == state.ask_e6 % state.tick_e6 == 0
    assert state.observation.astype(np.float32).tobytes() == observation.tobytes()
    assert set(state.scorecard) == set(short.venues) and set(state.masked) == {r.name for r in short.routes}
    assert set(state.scorecard["XQLA"]) == {"post"} and set(state.scorecard["XQDA"]) == {"ping", "rest"}


def test_ppo_learns_on_the_batch(short: Market) -> None:
    venv = RoutingVecEnv(EpisodeBatch(short, 8, 1, in_half_spreads=True, reduce_variance=True))
    model = PPO("MlpPolicy", venv, n_steps=64, batch_size=256, n_epochs=1, seed=0, device="cpu")
    before = [p.detach().clone() for p in model.policy.parameters()]
    model.learn(512)
    assert model.num_timesteps == 512
    assert any((a != b).any() for a, b in zip(before, model.policy.parameters(), strict=True))
    assert len(model.ep_info_buffer or ()) >= 8
