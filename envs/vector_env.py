"""One batch core, two thin coats: Gymnasium's VectorEnv, Stable-Baselines3's VecEnv. No Python loop over episodes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray
from stable_baselines3.common.vec_env.base_vec_env import VecEnv

from ..configs.loading import load_market
from ..configs.market import MarketConfig
from .features import observation_bounds
from .market import Market, step_scores, stream_key
from .privileged import Level, privileged_bounds, write_privileged, write_truth
from .state import COMPONENTS

ACTION_BOUND = 20.0


def spaces_of(market: Market, privileged: Level = "none") -> tuple[gym.spaces.Box, gym.spaces.Box]:
    """Observation box (feature ranges, float32) and action box (pace score, then one score a route)."""
    extra = privileged_bounds(len(market.routes), privileged)
    low, high = (np.concatenate(pair) for pair in zip(observation_bounds(len(market.routes)), extra, strict=True))
    observation = gym.spaces.Box(low.astype(np.float32), high.astype(np.float32), dtype=np.float32)
    action = gym.spaces.Box(-ACTION_BOUND, ACTION_BOUND, (1 + len(market.routes),), np.float32)
    return observation, action


class EpisodeBatch:
    """`n` parent orders worked in lockstep; a finished one is replaced by the stream's next episode.

    Episode numbers are dealt out row by row: row i works i, i + n, i + 2n, ... so a batch's episodes do not depend on
    which orders finish first.

    Reward of a slot, in bps or (`in_half_spreads`) in half spreads of the episode: minus its part of the parent's cost,
    minus the tracking penalty. With `reduce_variance` the part of it that is a martingale increment by construction
    (the mid's noise times the deviation from the benchmark; zero mean whatever the router does) is taken out; the mean
    of the return is unchanged, its variance much smaller. It needs the latents, so it is for training only, and absent
    in replay and where slots have several sub-steps.

    `privileged` appends latent columns to the observation, for bounds only (`envs/privileged.py`).
    """

    def __init__(
        self, market: Market, n: int, seed: int, stream: str = "train", *,
        in_half_spreads: bool = False, reduce_variance: bool = False, numbers: Sequence[int] | None = None,
        privileged: Level = "none",
    ) -> None:  # fmt: skip
        self.market, self.n, self.privileged = market, n, privileged
        self.key, self.stream = stream_key(seed, stream), stream
        self.batch, self.obs = market.batch(n)
        self._bounds = privileged_bounds(len(market.routes), privileged)
        self._truth = np.zeros((n, len(market.routes), 4)) if privileged != "none" else None
        if privileged != "none":
            self.obs = np.zeros((n, market.n_obs + self._bounds[0].size))
        self._work = np.zeros(n)
        self._weights = np.zeros((n, len(market.routes)))
        self._in_half_spreads = in_half_spreads
        # in replay the fills depend on the recorded moves, so their noise has no zero mean
        self._reduce_variance = reduce_variance and market.replay is None
        self._first = np.arange(n, dtype=np.int64) if numbers is None else np.asarray(numbers, np.int64)
        self._next = self._first.copy()

    def reset(self) -> NDArray[np.float64]:
        self._next = self._first.copy()
        self._deal(np.arange(self.n))
        return self.obs

    def _deal(self, rows: NDArray[np.int64]) -> None:
        self.market.reset(self.key, rows, self._next[rows], self.batch, self.obs, self.stream)
        self._next[rows] += self.n
        if self._truth is not None:
            write_truth(self.market.rules, self.batch, rows, self._truth)
            self._reveal()

    def _reveal(self) -> None:
        """Write the privileged columns."""
        if self._truth is not None:
            rules, n_obs = self.market.rules, self.market.n_obs
            write_privileged(rules, self.batch, self._truth, *self._bounds, self.obs, n_obs)

    def replace(self, rows: NDArray[np.int64]) -> None:
        """Put the next episodes into finished rows."""
        self._deal(rows)

    def start(self, numbers: NDArray[np.int64]) -> None:
        """Put episodes `numbers` into the first rows; the others lie idle."""
        self._next[: len(numbers)] = numbers
        self.batch.order["active"][len(numbers) :] = 0
        self.replace(np.arange(len(numbers)))

    def step(self, actions: NDArray[np.floating[Any]]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """One slot from scores (n, 1 + R); returns rewards and which orders are done. `obs` is updated in place."""
        b = self.batch
        self.work(np.asarray(actions, np.float64))
        self._reveal()
        reward = b.order["reward_bps"] - b.order["penalty_bps"]
        if self._reduce_variance:
            reward = reward + b.order["martingale_bps"]
        if self._in_half_spreads:
            reward = reward / reward_unit_bps(b.episode["half_spread_bps"])
        return reward, b.order["active"] == 0

    def work(self, actions: NDArray[np.float64]) -> None:
        """Proposals from scores (n, 1 + R), released and worked; the next observation's plain columns."""
        step_scores(self.market.rules, self.batch, actions, self._work, self._weights, self.obs)

    def summary(self, rows: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
        """What finished parents came to: cost in bps and half spreads, shares by kind, components."""
        order, episode = self.batch.order[rows], self.batch.episode[rows]
        size = episode["shares"].astype(float)
        return {
            "vwap_slippage_bps": order["cost_bps"].copy(),
            "vwap_slippage_hs": order["cost_bps"] / reward_unit_bps(episode["half_spread_bps"]),
            **{f"{kind}_frac": order[f"{kind}_shares"] / size for kind in ("dark", "post", "take")},
            **{f"{name}_bps": self.batch.cost_bps[rows, i] for i, name in enumerate(COMPONENTS)},
        }


def reward_unit_bps(half_spread_bps: NDArray[np.float64]) -> NDArray[np.float64]:
    """The half spread, or 1 bp in markets without one."""
    return np.where(half_spread_bps > 0, half_spread_bps, 1.0)


class RoutingVecEnv(VecEnv):
    """Stable-Baselines3's coat. `finished` collects the summaries of parents done since it was last emptied."""

    def __init__(self, core: EpisodeBatch) -> None:
        observation, action = spaces_of(core.market, core.privileged)
        super().__init__(core.n, observation, action)
        self.core = core
        self.finished: list[dict[str, NDArray[np.float64]]] = []
        self._actions: NDArray[np.floating[Any]] = np.zeros((core.n, *action.shape))
        self._returns = np.zeros(core.n)
        self._lengths = np.zeros(core.n, np.int64)
        self._nothing: dict[str, Any] = {}

    def reset(self) -> NDArray[np.float32]:
        self._returns[:] = 0
        self._lengths[:] = 0
        return self.core.reset().astype(np.float32)

    def step_async(self, actions: NDArray[Any]) -> None:
        self._actions = actions

    def step_wait(self) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_], list[dict[str, Any]]]:
        reward, done = self.core.step(self._actions)
        self._returns += reward
        self._lengths += 1
        infos = [self._nothing] * self.num_envs
        rows = np.flatnonzero(done)
        if rows.size:
            self.finished.append(self.core.summary(rows))
            last = self.core.obs[rows].astype(np.float32)
            for row, observation in zip(rows, last, strict=True):
                episode = {"r": float(self._returns[row]), "l": int(self._lengths[row]), "t": 0.0}
                infos[row] = {"terminal_observation": observation, "episode": episode}
            self._returns[rows] = 0
            self._lengths[rows] = 0
            self.core.replace(rows)
        return self.core.obs.astype(np.float32), reward.astype(np.float32), done, infos

    def close(self) -> None:
        pass

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [getattr(self, attr_name, None)] * len(list(self._get_indices(indices)))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        setattr(self, attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        raise AttributeError(f"the orders of a batch have no method {method_name!r} of their own")

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        return [False] * len(list(self._get_indices(indices)))


class RoutingVectorEnv(VectorEnv):
    """Gymnasium's coat, autoreset in the same step; rewards in bps of the arrival mid."""

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012  Gymnasium declares it so

    def __init__(
        self, market: MarketConfig | Market, num_envs: int, seed: int = 0, *, privileged: Level = "none"
    ) -> None:
        self.market = market if isinstance(market, Market) else Market(market)
        self.num_envs, self.privileged = num_envs, privileged
        self.single_observation_space, self.single_action_space = spaces_of(self.market, privileged)
        self.observation_space = gym.vector.utils.batch_space(self.single_observation_space, num_envs)
        self.action_space = gym.vector.utils.batch_space(self.single_action_space, num_envs)
        self.core = EpisodeBatch(self.market, num_envs, seed, privileged=privileged)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        if seed is not None:
            if not isinstance(seed, (int, np.integer)):
                raise ValueError(
                    f"seed must be one whole number for the batch, got {type(seed).__name__}; rows differ by episode"
                )
            self.core = EpisodeBatch(self.market, self.num_envs, int(seed), privileged=self.privileged)
        return self.core.reset().astype(np.float32), {}

    def step(
        self, actions: NDArray[Any]
    ) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        reward, done = self.core.step(actions)
        info: dict[str, Any] = {}
        rows = np.flatnonzero(done)
        if rows.size:
            final = np.full(self.num_envs, None, object)
            for row in rows:
                final[row] = self.core.obs[row].astype(np.float32)
            info = {"final_obs": final, "_final_obs": done.copy(), "parents": self.core.summary(rows)}
            self.core.replace(rows)
        return self.core.obs.astype(np.float32), reward, done, np.zeros_like(done), info


def make_vec(
    config: str | Path | MarketConfig, num_envs: int, seed: int = 0, *, privileged: Level = "none"
) -> RoutingVectorEnv:
    """`num_envs` parent orders on a market (name, path or config) as a Gymnasium vector environment."""
    market = config if isinstance(config, MarketConfig) else load_market(config)
    return RoutingVectorEnv(market, num_envs, seed, privileged=privileged)
