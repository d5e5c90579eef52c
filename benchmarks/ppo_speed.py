"""PPO steps a second: SB3 out of the box, the native vector environment, and the same settings on an environment that
does nothing. One run on one machine; the ratios are what counts. `python benchmarks/ppo_speed.py` rewrites
ppo_speed.md.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch as th
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv

from glasspool.agents.training import make_ppo, training_market
from glasspool.configs.loading import load_experiment
from glasspool.envs.market import Market
from glasspool.envs.routing_env import VwapRoutingEnv
from glasspool.envs.vector_env import EpisodeBatch, RoutingVecEnv


class DoNothing(RoutingVecEnv):
    """The same spaces and batch, no market: constant observations, zero rewards, no episode ends."""

    def step_wait(self) -> tuple[Any, ...]:  # type: ignore[override]
        n = self.num_envs
        return self._still, np.zeros(n, np.float32), np.zeros(n, bool), [self._nothing] * n

    def reset(self) -> Any:
        self._still = super().reset()
        return self._still


def steps_per_second(model: PPO, steps: int) -> float:
    model.learn(model.n_steps * model.n_envs)  # compile and warm up
    started = time.perf_counter()
    model.learn(steps)
    return model.num_timesteps / (time.perf_counter() - started)


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    th.set_num_threads(1)
    config = load_experiment("default")
    market = Market(training_market(config))

    def batch() -> EpisodeBatch:
        return EpisodeBatch(market, config.training.n_envs, 1, in_half_spreads=True, reduce_variance=True)

    plain = PPO("MlpPolicy", DummyVecEnv([lambda: VwapRoutingEnv(market=market)] * 8), device="cpu", seed=1)
    out_of_the_box = "SB3 out of the box: 8 single environments in DummyVecEnv, MlpPolicy, default hyperparameters"
    rows = {
        out_of_the_box: steps_per_second(plain, 16_384),
        "native vector environment, default config (additive policy, 1,024 orders)": steps_per_second(
            make_ppo(config, RoutingVecEnv(batch()), 1, None), 655_360
        ),
        "the same settings on an environment that does nothing": steps_per_second(
            make_ppo(config, DoNothing(batch()), 1, None), 655_360
        ),
    }
    box, native, nothing = rows.values()
    lines = [
        "# PPO end to end", "",
        f"`python benchmarks/ppo_speed.py`, one run, torch on one thread; {os.cpu_count()} cores, "
        f"{platform.machine()}, {date.today().isoformat()}.", "", "| what | steps/s |", "|---|---|",
        *(f"| {name} | {value:,.0f} |" for name, value in rows.items()), "",
        f"Native over out of the box: **{native / box:.1f}** times. Native over doing nothing: {native / nothing:.0%}.",
        "",
    ]  # fmt: skip
    text = "\n".join(lines)
    Path(__file__).with_name("ppo_speed.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
