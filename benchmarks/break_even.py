"""How wrong the market may be before the learned policy loses its lead -> benchmarks/break_even.md.

    python benchmarks/break_even.py RUN ... [--parents N] > benchmarks/break_even.md

Each axis turns one number of the base market for all routers alike. Nothing is retrained or retuned, and the policies
decide without the fallback, which would hand far-off decisions to the rule SOR. Every point: the RUNs (one a training
seed) beside the tuned and the strong SOR on the same tapes; intervals over training seeds and parents
(`tca.statistics.paired_interval`).
"""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from itertools import pairwise

import numpy as np
from unguarded import unguarded

from glasspool.agents.evaluation import paired_costs
from glasspool.agents.registry import named_router
from glasspool.agents.router import Router
from glasspool.configs.loading import load_market
from glasspool.configs.market import MarketConfig
from glasspool.envs.market import Market
from glasspool.tca.statistics import Interval, paired_interval

SEED = 3_000  # of the test parents: not those of the result table
BASELINES = ("tuned_sor", "sor_strong")


@dataclass(frozen=True)
class Axis:
    """One number of the market, and the values it takes; `neutral` is the base market's."""

    title: str
    what: str
    neutral: float
    values: tuple[float, ...]
    turned: Callable[[MarketConfig, float], MarketConfig]


def _drawn(market: MarketConfig, **update: object) -> MarketConfig:
    assert market.randomisation is not None
    return market.model_copy(update={"randomisation": market.randomisation.model_copy(update=update)})


def _flow(market: MarketConfig, factor: float) -> MarketConfig:
    assert market.randomisation is not None
    lo, hi = market.randomisation.flow_factor
    return _drawn(market, flow_factor=(lo * factor, hi * factor))


def _supply(market: MarketConfig, factor: float) -> MarketConfig:
    assert market.randomisation is not None
    lo, hi = market.randomisation.supply_factor
    return _drawn(market, supply_factor=(lo * factor, hi * factor))


def _toxicity(market: MarketConfig, factor: float) -> MarketConfig:
    assert market.randomisation is not None
    r = market.randomisation
    pools = tuple(
        p.model_copy(update={"kappa_fast": p.kappa_fast * factor, "kappa_slow": p.kappa_slow * factor})
        for p in market.dark_pools
    )
    ranges = {name: tuple(factor * x for x in getattr(r, name)) for name in ("kappa_fast", "kappa_slow")}
    return _drawn(market.model_copy(update={"dark_pools": pools}), **ranges)


def _post_pnl(market: MarketConfig, shift_hs: float) -> MarketConfig:
    venues = tuple(v.model_copy(update={"post_pnl_hs": v.post_pnl_hs + shift_hs}) for v in market.lit_venues)
    return market.model_copy(update={"lit_venues": venues})


def _impact(market: MarketConfig, factor: float) -> MarketConfig:
    i = market.impact
    lo, hi = i.transient_weights
    update = {"eta": i.eta * factor, "transient_weights": (lo * factor, hi * factor), "gamma": i.gamma * factor}
    return market.model_copy(update={"impact": i.model_copy(update=update)})


FACTORS = (0.125, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 4.0)
AXES = (
    Axis("Fills of posts", "flow that meets a post, times; the scorecards know it", 1.0, FACTORS, _flow),
    Axis("P&L of posts", "half spreads added to what a post earns at 10 s; the scorecards know it", 0.0,
         (-0.8, -0.6, -0.4, -0.2, 0.0, 0.2, 0.4), _post_pnl),
    Axis("Scorecard: fill rates", "historical over true fill rate, every venue, not known to the routers", 1.0,
         FACTORS, lambda m, x: _drawn(m, scorecard_fill_factor=x)),
    Axis("Scorecard: markouts", "half spreads by which every historical scorecard flatters, not known to the routers",
         0.0, (-1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 1.0), lambda m, x: _drawn(m, scorecard_markout_bias_hs=x)),
    Axis("Impact", "instantaneous, transient and permanent, times; no router is told", 1.0, FACTORS, _impact),
    Axis("Dark supply", "contra flow in the pools, times; the scorecards know it", 1.0,
         (0.25, 0.5, 1.0, 2.0, 4.0, 8.0), _supply),
    Axis("Toxicity of the pools", "times; the scorecards know it", 1.0, (0.0, 0.25, 0.5, 1.0), _toxicity),
)  # fmt: skip


def differences(config: MarketConfig, learned: list[Router], parents: int) -> tuple[dict[str, Interval], float, float]:
    """Learned minus each baseline in bps, and the dark shares of the learned (mean of seeds) and of the strong SOR."""
    named = [named_router(name) for name in BASELINES]
    costs = paired_costs(Market(config), [*learned, *named], parents, SEED, "test")
    mine = [costs[router.name] for router in learned]
    stacked = np.stack([c.denoised_bps for c in mine])
    gaps = {name: paired_interval(stacked - costs[name].denoised_bps, seed=0) for name in BASELINES}
    dark = float(np.mean([c.kind_frac[:, 2].mean() for c in mine]))
    return gaps, dark, float(costs["sor_strong"].kind_frac[:, 2].mean())


def crossings(values: tuple[float, ...], gaps: list[float]) -> list[float]:
    """Where the difference changes sign, by a straight line between the two points beside it."""
    pairs = pairwise(zip(values, gaps, strict=True))
    return [a + (b - a) * x / (x - y) for (a, x), (b, y) in pairs if (x < 0) != (y < 0)]


def _shown(i: Interval) -> str:
    return f"{i.mean:+.2f} [{i.lo:+.2f}, {i.hi:+.2f}]"


def _chart(axis: Axis, rows: list[dict[str, Interval]]) -> list[str]:
    """Mermaid, which GitHub and most Markdown viewers draw."""
    means = {name: [row[name].mean for row in rows] for name in BASELINES}
    every = [x for line in means.values() for x in line]
    lo, hi = min(*every, 0.0), max(*every, 0.0)
    return [
        "```mermaid", "xychart-beta", f'    title "{axis.title}: learned minus tuned SOR and minus strong SOR, bps"',
        f"    x-axis [{', '.join(f'{x:g}' for x in axis.values)}]",
        f'    y-axis "bps" {lo - 0.2:.1f} --> {hi + 0.2:.1f}',
        *[f"    line [{', '.join(f'{x:.2f}' for x in line)}]" for line in means.values()],
        f"    line [{', '.join('0' for _ in axis.values)}]", "```",
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folder or bundle of a policy")
    parser.add_argument("--parents", type=int, default=1000)
    args = parser.parse_args()
    learned: list[Router] = []
    for number, folder in enumerate(args.runs):
        _, router = unguarded(folder)
        router.name = f"learned_{number}"
        learned.append(router)
    base = load_market("base")
    summary, parts = [], []
    for axis in AXES:
        rows, lines = [], []
        for value in axis.values:
            gaps, dark, strong_dark = differences(axis.turned(base, value), learned, args.parents)
            rows.append(gaps)
            here = " (the base market)" if value == axis.neutral else ""
            both = " | ".join(_shown(gaps[name]) for name in BASELINES)
            lines.append(f"| {value:g}{here} | {both} | {dark:.1%} | {strong_dark:.1%} |")
        found = [crossings(axis.values, [row[name].mean for row in rows]) for name in BASELINES]
        shown = [", ".join(f"{x:.2g}" for x in f) or "none in the range" for f in found]
        summary.append(f"| {axis.title} | {axis.values[0]:g} to {axis.values[-1]:g} | {shown[0]} | {shown[1]} |")
        parts += ["", f"## {axis.title}", "", f"{axis.what[0].upper()}{axis.what[1:]}.", "",
                  "| value | learned − tuned SOR, bps | learned − strong SOR, bps | dark share, learned | strong SOR |",
                  "|---|---|---|---|---|", *lines, "", *_chart(axis, rows)]  # fmt: skip
    print("# Break-even: how wrong the market may be\n")
    where = f"{date.today()}, {os.cpu_count()} cores, {platform.machine()}"
    print(
        f"`python benchmarks/break_even.py {' '.join(args.runs)}`, {len(learned)} training seeds, "
        f"{args.parents:,} parents a point (seed "
        f"{SEED}), {where}. Policies (without the fallback) and SORs stay as trained and tuned on the base market. "
        "Negative = the learned policy is cheaper; costs less their martingale part; 95 % intervals over seeds and "
        "parents, each alone, without a correction for their number.\n"
    )
    print("| turned | range | breaks even with the tuned SOR at | with the strong SOR at |\n|---|---|---|---|")
    print("\n".join(summary + parts))


if __name__ == "__main__":
    main()
