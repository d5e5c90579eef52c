"""How fast decisions are explained, on one core; writes explain_speed.md beside itself. Random policies: no training.

python benchmarks/explain_speed.py
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import platform
import time
from collections.abc import Callable
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch as th

from glasspool.agents.additive import ScorePolicy, route_kinds
from glasspool.agents.integrated_gradients import STEPS, MlpScorer
from glasspool.agents.policies import MlpPolicy
from glasspool.agents.runtime import E9, AdditiveRuntime
from glasspool.envs.features import FEATURES, observation_bounds
from glasspool.explain.attribution import explain

ROUTE_TYPES = np.repeat(np.arange(4), (4, 4, 4, 3))  # 15 routes
BATCH, REPEATS = 20_000, 5


def seconds(work: Callable[[], object]) -> float:
    """The fastest of REPEATS passes, after one that compiles."""
    work()
    found = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        work()
        found.append(time.perf_counter() - started)
    return min(found)


def mlp() -> MlpScorer:
    """64 x 64, random weights, the head's too."""
    th.manual_seed(1)
    low, high = (a.astype(np.float32) for a in observation_bounds(len(ROUTE_TYPES)))
    policy = ScorePolicy(
        gym.spaces.Box(low, high), gym.spaces.Box(-20, 20, (1 + len(ROUTE_TYPES),)), lambda _: 1e-3,
        route_types=ROUTE_TYPES.tolist(), policy="mlp",
    )  # fmt: skip
    th.nn.init.normal_(policy.mlp_extractor.mlp[-1].weight)
    return MlpScorer(MlpPolicy(policy))


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    th.set_num_threads(1)
    rng = np.random.default_rng(1)
    kind, names = route_kinds(ROUTE_TYPES, True)
    table = rng.integers(-E9, E9, (len(names), len(FEATURES), 9))
    runtime = AdditiveRuntime(table, rng.integers(-E9, E9, len(names)), kind, tuple(names))
    low, high = observation_bounds(len(ROUTE_TYPES))
    obs = rng.uniform(low, high, (BATCH, low.size))
    room = np.empty((BATCH, 1 + len(kind), len(FEATURES)), np.int64)
    routes = [f"V{i}:take" for i in range(len(kind))]
    exact = bool((runtime.contributions_e9(obs).sum(axis=2) + runtime.biases_e9 == runtime.scores_e9(obs)).all())
    few, one = obs[:2_000], obs[:1]
    network = mlp()
    scores = network.policy.scores(few)[:, 1:]
    best = np.argsort(-scores, axis=1, kind="stable")[:, :2]
    mix = np.zeros((len(few), 1 + len(kind)))
    rows = np.arange(len(few))
    mix[rows, 1 + best[:, 0]], mix[rows, 1 + best[:, 1]] = 1.0, -1.0

    def residual(steps: int) -> str:
        scorer = MlpScorer(network.policy, steps)
        ends = [np.einsum("er,er->e", network.policy.scores(x), mix) for x in (few, scorer.reference[None])]
        gap = np.abs(ends[0] - ends[1] - scorer.attributions(few, mix).sum(axis=1))
        return f"{np.median(gap):.1e} / {gap.max():.1e}"

    lines: list[tuple[str, int, float, str]] = [
        ("additive, batch: parts of all 16 scores by 19 features", BATCH,
         seconds(lambda: runtime.contributions_e9(obs, room)), "500,000"),
        ("the same, memory asked for anew each time", BATCH, seconds(lambda: runtime.contributions_e9(obs)), "500,000"),
        ("additive, batch: scores alone", BATCH, seconds(lambda: runtime.scores_e9(obs)), "-"),
        ("additive, one decision a call: parts", 1, seconds(lambda: runtime.contributions_e9(one)), "-"),
        ("additive, one decision as Python objects by name", 1, seconds(lambda: explain(runtime, one[0], routes)), "-"),
        (f"Integrated Gradients, {STEPS} steps: the leader's lead over the second", len(few),
         seconds(lambda: network.attributions(few, mix)), "2,000"),
        (f"Integrated Gradients, {STEPS} steps: all 16 scores", 200,
         seconds(lambda: network.contributions_e9(few[:200])), "-"),
    ]  # fmt: skip
    text = [
        "# Speed of explanations", "",
        "`python benchmarks/explain_speed.py`, 15 routes, 19 features, 9 knots; MLP 64 x 64; one core of "
        f"{platform.machine()}, {os.cpu_count()} cores, shared with other work. The fastest of {REPEATS} passes.", "",
        "| what | decisions a second | budget |", "|---|---:|---:|",
        *(f"| {what} | {n / took:,.0f} | {budget} |" for what, n, took, budget in lines), "",
        f"Parts and biases add up to the scores to the last digit in all {BATCH:,} decisions: {exact}. "
        "One decision and a batch run the same compiled function.", "",
        "Residual of Integrated Gradients of a lead, 2,000 random states, median / largest:", "",
        "| steps | residual |", "|---:|---:|", *(f"| {n} | {residual(n)} |" for n in (8, 16, 32, 64)),
    ]  # fmt: skip
    Path(__file__).with_suffix(".md").write_text("\n".join(text) + "\n", encoding="utf-8")
    print("\n".join(text))


if __name__ == "__main__":
    main()
