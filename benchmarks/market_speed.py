"""Speed of the market: what a step costs and how that grows, on one core. Writes benchmarks/market_speed.md.

    python benchmarks/market_speed.py

A *market step* is one interval of one parent order from its released children to fills, impact, scorecards and accounts
(`work_rows`), with its share of drawing the episode and its tape (`Market.reset`). What stands around it in an
environment step is timed beside it: proposals of the rule SOR, pre-trade controls, observation. All routers' children
are the rule SOR's on the same episodes, 1,024 orders side by side unless said otherwise, orders of all horizons; an
order that is done is replaced at once, as in training.
"""

from __future__ import annotations

import argparse
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from glasspool.agents.rule_based import RuleSor
from glasspool.configs.loading import find_config, load_market, market_data
from glasspool.configs.market import MarketConfig
from glasspool.envs.compiled import compiled
from glasspool.envs.controls import release_rows
from glasspool.envs.features import observe_rows
from glasspool.envs.market import Market, stream_key
from glasspool.envs.market_step import work_rows
from glasspool.envs.state import Batch
from glasspool.envs.venues import Rules

REPEATS = 7
SLOTS = 240  # of a pass
ROOT = Path(__file__).resolve().parent.parent


@compiled
def _work(rules: Rules, b: Batch) -> None:
    work_rows(rules, b, 0, b.order.shape[0])


@compiled
def _observe(rules: Rules, b: Batch, obs: np.ndarray) -> None:
    observe_rows(rules, b, 0, b.order.shape[0], obs, 0)


def play(market: Market, n: int, b: Batch, obs: np.ndarray) -> dict[str, float]:
    """SLOTS slots of `n` orders under the rule SOR: ns a step by part, children a step. An order that is done is
    replaced at once, as the vector environment does. The batch's memory is in use already, as it is in training: only
    a first pass pays for the operating system's pages."""
    router, spent = RuleSor(), dict.fromkeys(("tape", "step", "controls", "observation", "rule SOR"), 0.0)

    def timed(part: str, call: Callable[..., Any], *args: Any) -> None:
        started = time.perf_counter()
        call(*args)
        spent[part] += time.perf_counter() - started

    timed("tape", market.reset, stream_key(1, "test"), np.arange(n), np.arange(n), b, obs)
    work, weights = np.zeros(n), np.zeros((n, len(market.routes)))
    drawn, orders, children = float(b.episode["n_slots"].sum()), n, 0
    for _ in range(SLOTS):
        timed("rule SOR", router.propose, market, b, obs, work, weights)
        timed("controls", release_rows, market.rules, b, work, weights)
        children += int((b.child_shares > 0).sum())
        timed("step", _work, market.rules, b)
        timed("observation", _observe, market.rules, b, obs)
        done = np.flatnonzero(b.order["active"] == 0)
        if len(done):
            timed("tape", market.reset, stream_key(1, "test"), done, orders + np.arange(len(done)), b, obs)
            orders += len(done)
            drawn += float(b.episode["n_slots"][done].sum())
    steps = SLOTS * n
    out = {part: 1e9 * seconds / (drawn if part == "tape" else steps) for part, seconds in spent.items()}
    return out | {"children": children / steps, "bytes": sum(a.nbytes for a in b) / n, "slots": drawn / orders}


def best(market: Market, n: int) -> dict[str, float]:
    """The fastest of REPEATS passes, part by part, after one that compiles: what neighbours of a shared machine take
    is not the market's."""
    b, obs = market.batch(n)
    play(market, n, b, obs)
    runs = [play(market, n, b, obs) for _ in range(REPEATS)]
    passes = [run["tape"] + run["step"] for run in runs]
    fastest = {part: min(run[part] for run in runs) for part in runs[0]}
    return fastest | {"median": float(np.median(passes)), "slowest": max(passes)}


def single_env_steps_per_s() -> float:
    env = gym.make("glasspool:glasspool/VwapRouting-v0", config="base")
    action = np.zeros(env.action_space.shape or (), np.float32)
    fastest = 0.0
    for _ in range(REPEATS):
        env.reset(seed=1)
        started = time.perf_counter()
        for _ in range(5_000):
            _, _, terminated, _, _ = env.step(action)
            if terminated:
                env.reset()
        fastest = max(fastest, 5_000 / (time.perf_counter() - started))
    return fastest


def first_use_s(cold: bool) -> float:
    """Seconds of a fresh process from import to the first step; cold: nothing compiled before, from a copy of the
    code."""
    code = (
        "import time; t = time.perf_counter()\n"
        "import numpy as np\nfrom glasspool.envs import make_vec\n"
        "v = make_vec('base', 4, 1); v.reset(); v.step(np.zeros(v.action_space.shape, np.float32))\n"
        "print(time.perf_counter() - t)"
    )
    if not cold:
        return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    with tempfile.TemporaryDirectory() as folder:
        copied = Path(folder) / "glasspool"
        shutil.copytree(ROOT / "glasspool", copied, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("configs", "envs", "agents", "explain", "tca", "checkpoints"):
            shutil.copytree(ROOT / name, copied / name, ignore=shutil.ignore_patterns("__pycache__", "numba-*"))
        before = (
            f"import sys; sys.path.insert(0, {folder!r})\n"
            "sys.meta_path[:] = [f for f in sys.meta_path if 'editable' not in repr(f)]\n"
        )
        code = before + code
        return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def with_venues(n_lit: int, n_dark: int) -> Market:
    """The base market with so many venues: its own, repeated under other names."""
    data = market_data(find_config("base", "markets"))
    lit, pools = data["lit_venues"], data["dark_pools"]
    data["lit_venues"] = [{**lit[i % len(lit)], "name": f"XQL{i:02d}"} for i in range(n_lit)]
    data["dark_pools"] = [{**pools[i % len(pools)], "name": f"pool{i}"} for i in range(max(n_dark, len(pools)))]
    data["dark_slots"] = [f"XQD{i:02d}" for i in range(n_dark)]
    return Market(MarketConfig.model_validate(data))


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    base = Market(load_market("base"))
    rows = best(base, 1_024)
    total = rows["tape"] + rows["step"]
    n_venues = len(base.venues)
    single = single_env_steps_per_s()
    env_ns = total + rows["controls"] + rows["observation"]
    lines = [
        "# Speed of the market",
        "",
        f"`python benchmarks/market_speed.py`, one run, one core of {platform.processor() or platform.machine()}, "
        f"{date.today().isoformat()}, fastest of {REPEATS} passes, part by part. "
        f"{' '.join(__doc__.split(chr(10) * 2)[2].split())}",
        "",
        "| what, 1,024 orders on the base market (3 lit, 4 dark) | ns | a second |",
        "|---|---|---|",
        f"| tape, a slot | {rows['tape']:.0f} | {1e9 / rows['tape']:,.0f} |",
        f"| step, {rows['children']:.2f} children on average | {rows['step']:.0f} | {1e9 / rows['step']:,.0f} |",
        f"| **market step: tape and step** | **{total:.0f}** | **{1e9 / total:,.0f}**; "
        f"{1e9 / total * n_venues:,.0f} venue-steps |",
        f"| the same, median of the passes | {rows['median']:.0f} | {1e9 / rows['median']:,.0f} |",
        f"| the same, slowest pass | {rows['slowest']:.0f} | {1e9 / rows['slowest']:,.0f} |",
        f"| pre-trade controls | {rows['controls']:.0f} | |",
        f"| observation ({base.n_obs} numbers) | {rows['observation']:.0f} | |",
        f"| environment step: all of these | {env_ns:.0f} | {1e9 / env_ns:,.0f} |",
        f"| the rule SOR's decision | {rows['rule SOR']:.0f} | |",
        f"| single `gymnasium.Env`, with its wrappers | {1e9 / single:,.0f} | {single:,.0f} |",
        "",
        f"Ratios in this run: market step over single environment {1e9 / total / single:.0f} times. First use of a "
        f"fresh process, import to first step: {first_use_s(True):.0f} s cold (everything compiled), "
        f"{first_use_s(False):.1f} s from the cache on disk, which is named after the code.",
        "",
        "## Growth",
        "",
        "| market | tape ns a slot | step ns | a slot and venue, ns | KB an order |",
        "|---|---|---|---|---|",
    ]
    cases: list[tuple[str, Market, int]] = [
        (f"orders of {m} minutes", Market(load_market("base", [f"orders.horizon_minutes={{{m}: 1.0}}"])), 1_024)
        for m in (15, 60, 120, 390)
    ]
    cases += [
        (f"{lit} lit, {dark} dark", with_venues(lit, dark), 1_024) for lit, dark in ((1, 2), (3, 4), (6, 8), (9, 12))
    ]
    cases += [(f"{n:,} orders", base, n) for n in (64, 256, 1_024, 4_096)]
    cases.append(
        (
            "interval 1 s, orders of 15 minutes",
            Market(load_market("base", ["interval_s=1", "orders.horizon_minutes={15: 1.0}"])),
            1_024,
        )
    )
    for name, market, n in cases:
        r = best(market, n)
        per_venue = (r["tape"] + r["step"]) / len(market.venues)
        lines.append(f"| {name} | {r['tape']:.0f} | {r['step']:.0f} | {per_venue:.0f} | {r['bytes'] / 1e3:,.0f} |")
        print(lines[-1], flush=True)
    text = "\n".join(lines) + "\n"
    (ROOT / "benchmarks" / "market_speed.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
