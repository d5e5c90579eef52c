"""One parent order as a Gymnasium environment: a batch of one, so it equals the vector environment bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from ..configs.loading import load_market
from ..configs.market import MarketConfig
from .market import Market, stream_key
from .privileged import Level
from .routing_state import RoutingState
from .vector_env import EpisodeBatch, spaces_of


class VwapRoutingEnv(gym.Env[NDArray[np.float32], NDArray[np.float32]]):
    """Route a VWAP parent order over lit and dark venues.

    Action: `Box(-20, 20, (1 + n_routes,))`, pace score then one score a route (`docs/environment.md`). Observation: the
    feature table, flat. Reward: minus the slot's part of the parent's cost in bps against the unaffected VWAP; rewards
    of an episode add to minus `info["vwap_slippage_bps"]` of the last step (to 1e-9). Ends (terminated) when the order
    is done.

    `reset(seed=s)` starts at episode 0 of stream s, so seed and count of resets fix the episode;
    `options={"episode": k}` asks for one. `privileged` appends latent columns, for bounds only (`envs/privileged.py`).
    """

    metadata = {"render_modes": []}  # noqa: RUF012  Gymnasium declares it so

    def __init__(
        self, config: str | Path | MarketConfig | None = None, *, market: Market | None = None,
        privileged: Level = "none",
    ) -> None:  # fmt: skip
        if market is None:
            market = Market(config if isinstance(config, MarketConfig) else load_market(config or "base"))
        self.market = market
        self.observation_space, self.action_space = spaces_of(market, privileged)  # type: ignore[assignment]  # a Box of either float
        self._core = EpisodeBatch(market, 1, 0, privileged=privileged)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        super().reset(seed=seed)
        core = self._core
        episode = (options or {}).get("episode")
        if seed is not None:
            core.key = stream_key(seed, "train")
            core.reset() if episode is None else None
        if episode is not None:
            core._next[0] = int(episode)
            core.replace(np.array([0]))
        elif seed is None:
            core.replace(np.array([0]))
        return core.obs[0].astype(np.float32), self._info()

    def step(self, action: NDArray[np.float32]) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        reward, done = self._core.step(np.asarray(action, np.float64)[None, :])
        info = self._info()
        if done[0]:
            info |= {k: float(v[0]) for k, v in self._core.summary(np.array([0])).items()}
        return self._core.obs[0].astype(np.float32), float(reward[0]), bool(done[0]), False, info

    def routing_state(self) -> RoutingState:
        """Raw integers and exact quantities of the current decision, beside the float64 features."""
        return RoutingState.from_batch(self.market, self._core.batch, 0, self._core.obs[0])

    def _info(self) -> dict[str, Any]:
        order, episode = self._core.batch.order[0], self._core.batch.episode[0]
        return {
            "episode_number": int(episode["number"]),  # `episode` belongs to Monitor wrappers
            "side": int(episode["side"]),
            "ordered_shares": int(episode["shares"]),
            "remaining_shares": int(order["remaining_shares"]),
            "slot": int(order["slot"]),
        }
