"""What each setting of training is worth -> benchmarks/settings_study.md.

    python benchmarks/settings_study.py [--seeds 3] [--workers 2] [--part ppo|recipe] [--out runs/study]

Two parts, each a default and one change at a time, every run short and whole (rates fall to their ends):

- *PPO alone*, from scratch: no imitation and no search, PPO_STEPS steps. What its own settings do shows here.
- *The recipe*: imitation, PPO_SHORT steps of PPO, ROUNDS rounds of search, of 1 million and 160.

A setting's worth is the cost of its policies minus that of the default's, same training seed, on the same PARENTS
development parents (validation stream, seed SEED), half spreads; intervals over training seeds and parents. A run is
kept as JSON in the folder of --out and not made again; one process a worker. A part without runs keeps its table.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import date
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from glasspool.agents.evaluation import run_router
from glasspool.agents.policies import snapshot
from glasspool.agents.registry import named_router
from glasspool.agents.training import train
from glasspool.agents.views import router_of
from glasspool.configs.loading import load_experiment
from glasspool.envs.market import Market
from glasspool.tca.statistics import paired_interval

PPO_STEPS, PPO_SHORT, ROUNDS = 1_000_000, 100_000, 12
PARENTS, SEED = 2_000, 500
ROOT = Path(__file__).resolve().parent.parent
_ONCE = ("training.validations=1", "training.validation_orders=200")  # what is judged is the end


@dataclass(frozen=True)
class Part:
    """A default and what is changed in it, one at a time: label -> `--set` overrides."""

    title: str
    default: tuple[str, ...]
    changes: dict[str, tuple[str, ...]]


PARTS = {
    "ppo": Part(
        f"PPO alone from scratch, {PPO_STEPS / 1e6:g} million steps",
        ("training.teacher=null", "training.search=null", f"training.steps={PPO_STEPS}"),
        {
            "256 parallel orders, for 1,024": ("training.n_envs=256", "training.batch_size=2048"),
            "4,096 parallel orders": ("training.n_envs=4096",),
            "batch 2,048, for 8,192": ("training.batch_size=2048",),
            "batch 32,768": ("training.batch_size=32768",),
            "1 epoch, for 4": ("training.epochs=1",),
            "10 epochs": ("training.epochs=10",),
            "learning rate 0.001, for 0.003": ("training.learning_rate=0.001",),
            "learning rate 0.01": ("training.learning_rate=0.01",),
            "learning rate constant, for falling to a tenth": ("training.final_learning_rate_frac=1.0",),
            "rollouts of 128 slots, for 32": ("training.steps_per_rollout=128", "training.n_envs=256"),
            "discount 0.99, for 1": ("training.discount=0.99",),
            "advantages over few slots (lambda 0.7, for 0.95)": ("training.gae_lambda=0.7",),
            "noise of 1, for 0.3 and 0.1 (pace)": ("agent.start_std=1.0", "agent.start_pace_std=1.0"),
            "critic without privileged features": ("agent.critic_privileged=none",),
            "no variance reduction of the reward": ("training.reduce_variance=false",),
            "MLP, for additive": ("agent.policy=mlp", "training.learning_rate=0.0005"),
        },
    ),
    "recipe": Part(
        f"The recipe, {ROUNDS} rounds of search",
        (f"training.steps={PPO_SHORT}", f"training.search.rounds={ROUNDS}"),
        {
            "no imitation": ("training.teacher=null",),
            "no search (PPO alone for as long)": ("training.search=null", f"training.steps={5 * PPO_STEPS // 2}"),
            "512 pairs, twice the rounds": ("training.search.pairs=512", f"training.search.rounds={2 * ROUNDS}"),
            "half the noise": ("training.search.start_std=0.1", "training.search.end_std=0.05"),
            "twice the noise": ("training.search.start_std=0.4", "training.search.end_std=0.2"),
            "half the learning rate": ("training.search.learning_rate=0.02",),
            "twice the learning rate": ("training.search.learning_rate=0.08",),
            "functions of each route's own, for shared by order type": ("agent.share_venues=false",),
            "free functions, for monotone in venue quality": ("agent.monotone=false",),
            "orders of 15 and 30 minutes alone": ("training.orders={horizon_minutes: {15: 0.5, 30: 0.5}}",),
            "the market's own pools, for up to four times as rich": ("training.randomisation=null",),
        },
    ),
}


def run(part: str, label: str, seed: int, out: Path) -> dict[str, Any]:
    """Train and judge one policy, or read what an earlier call found."""
    changes = PARTS[part].changes[label] if label else ()
    name = "".join(c if c.isalnum() else "-" for c in f"{part} {label or 'default'} {seed}")
    path = out / f"{name}.json"
    overrides = [*PARTS[part].default, *_ONCE, *changes]
    if path.is_file():
        found: dict[str, Any] = json.loads(path.read_text())
        if found["overrides"] == overrides:
            return found
    config = load_experiment("default", overrides)
    started = time.perf_counter()
    model, _ = train(config, seed, None)
    seconds = time.perf_counter() - started
    router = router_of(snapshot(model.policy), config.agent)  # type: ignore[arg-type]
    result = run_router(Market(config.market), router, PARENTS, SEED, "validation")
    found = {
        "part": part, "label": label, "seed": seed, "overrides": overrides, "seconds": seconds,
        "cost_hs": result.denoised_hs.tolist(),
    }  # fmt: skip
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(found))
    partial.replace(path)
    print(f"{name}: {result.denoised_hs.mean():.3f} half spreads, {seconds:.0f} s", flush=True)
    return found


def table(part: str, found: list[dict[str, Any]], before: str) -> list[str]:
    """Rows sorted by worth, the default among them, each by the seeds that it and the default have; without runs, the
    table of the page `before`."""
    title = f"## {PARTS[part].title}"
    if not any(f["part"] == part for f in found):
        _, _, kept = before.partition(f"\n{title}\n")
        return ["", title, kept.partition("\n## ")[0].rstrip()]
    costs = {(f["label"], f["seed"]): np.array(f["cost_hs"]) for f in found if f["part"] == part}
    seconds = {(f["label"], f["seed"]): f["seconds"] for f in found if f["part"] == part}
    rows = []
    for label in ("", *PARTS[part].changes):
        seeds = sorted(s for (name, s) in costs if name == label and ("", s) in costs)
        if not seeds:
            continue
        mean = float(np.mean([costs[label, s].mean() for s in seeds]))
        by_seed = ", ".join(f"{costs[label, s].mean():.3f}" for s in seeds)
        wall = np.mean([seconds[label, s] for s in seeds])
        gap, said = 0.0, ""
        if label:
            interval = paired_interval(np.stack([costs[label, s] - costs["", s] for s in seeds]), seed=1)
            gap, said = interval.mean, f"{interval.mean:+.3f} [{interval.lo:+.3f}, {interval.hi:+.3f}]"
        rows.append((gap, f"| {label or '**the default**'} | {said} | {mean:.3f} | {by_seed} | {wall:.0f} |"))
    head = ["| changed | minus the default, half spreads | cost, half spreads | by training seed | seconds a seed |",
            "|---|---|---|---|---|"]  # fmt: skip
    return ["", title, "", *head, *(row for _, row in sorted(rows, key=lambda r: r[0]))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--part", choices=PARTS, help="make the runs of this part only")
    parser.add_argument("--table-only", action="store_true", help="of the runs that are there; train nothing")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "study")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    seeds, parts = list(range(1, 1 + args.seeds)), [args.part] if args.part else list(PARTS)
    jobs = [(part, label, seed) for seed in seeds for part in parts for label in ("", *PARTS[part].changes)]
    if args.table_only:
        found = [json.loads(path.read_text()) for path in sorted(args.out.glob("*.json"))]
    else:
        with ProcessPoolExecutor(args.workers, get_context("spawn")) as pool:
            found = list(pool.map(run, *zip(*jobs, strict=True), [args.out] * len(jobs)))
    market = Market(load_experiment("default").market)
    sors = {n: run_router(market, named_router(n), PARENTS, SEED, "validation").denoised_hs.mean()
            for n in ("rule_sor", "tuned_sor", "sor_strong")}  # fmt: skip
    page = ROOT / "benchmarks" / "settings_study.md"
    before = page.read_text() if page.is_file() else ""
    lines = [
        "# What each setting of training is worth",
        "",
        f"`python benchmarks/settings_study.py`, {date.today()}, {os.cpu_count()} cores, "
        f"{platform.machine()}. {' '.join((__doc__ or '').split(chr(10) * 2)[2].split())}",
        "",
        f"PPO_STEPS {PPO_STEPS:,}, PPO_SHORT {PPO_SHORT:,}, ROUNDS {ROUNDS}, PARENTS {PARENTS:,}, SEED {SEED}. A worth "
        "is cost minus the default's, same training seed and parents; negative = cheaper than it. Each interval "
        "(95 %) alone, without a correction for their number: with three training seeds one setting in twenty that "
        "changes nothing looks as if it did; with one seed many do, since nothing tells a setting from the luck of a "
        "training. The SORs on the same parents: "
        + ", ".join(f"{name} {cost:.3f}" for name, cost in sors.items())
        + " half spreads.",
        *table("ppo", found, before),
        *table("recipe", found, before),
    ]
    notes = ROOT / "benchmarks" / "settings_study_notes.md"
    text = "\n".join(lines) + "\n" + ("\n" + notes.read_text() if notes.is_file() else "")
    page.write_text(text)


if __name__ == "__main__":
    main()
