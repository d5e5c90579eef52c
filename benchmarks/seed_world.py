"""A market in which the rule-based SOR is optimal: does a learned policy find that, or "beat" it? -> seed_world.md.

    for s in 2 3 4 5 6; do
      glasspool train benchmarks/seed_world/experiment.yaml --seed $s --out runs/seed_world-s$s
    done
    python benchmarks/seed_world.py runs/seed_world-s* > benchmarks/seed_world.md

The least that an order can cost here is known: every share at the lower of what a take costs and its pool's charge, the
last slot at a take's cost (market.yaml says why), less timing, which nobody can foresee. A policy that came out below
would show a fault of the simulator or of its accounts. Exit 1 where one does, or where the mean is more than 2 % above
the optimum. The rule without one of its factors, under the threshold that is then best, shows that each of the four
counts.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from datetime import date
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glasspool.agents.evaluation import paired_costs
from glasspool.agents.registry import named_router
from glasspool.agents.router import Router
from glasspool.agents.rule_based import RuleSor
from glasspool.agents.runs import load_run
from glasspool.configs.loading import load_market
from glasspool.configs.rule_sor import RuleSorConfig
from glasspool.envs.market import Market
from glasspool.envs.state import POST, TIMING, Batch
from glasspool.tca.statistics import paired_interval

PARENTS, SEED = 2_000, 4_000
MARK_PERCENT = 2.0
ROUNDING_BPS = 1e-9
# Thresholds between the levels of market.yaml; what is due goes out as a whole.
OPTIMAL = RuleSorConfig(
    size_large_pct_adv=0.02, size_small_pct_adv=0.005, liquid_adv_shares=2_000_000, illiquid_adv_shares=400_000,
    tight_spread_bps=10.0, wide_spread_bps=50.0, vol_calm_ratio=1e6, vol_high_ratio=1e6, fast_nbbo_moves_10s=30,
    venue_markout_good_hs=-1.56, venue_markout_poor_hs=-2.1, min_net_votes=3,
    dark_fraction=1.0, final_take_frac=0.0, behind_s=1e6, max_slices=1e6,
)  # fmt: skip
WITHOUT: dict[str, dict[str, float]] = {  # a factor whose vote is always the same
    "size": {"size_large_pct_adv": 1e9, "size_small_pct_adv": 0.0},
    "liquidity": {"liquid_adv_shares": 10**12, "illiquid_adv_shares": 0},
    "volatility": {"fast_nbbo_moves_10s": 10**9},
    "venue": {"venue_markout_good_hs": -99.0, "venue_markout_poor_hs": -99.0},
}


class FourFactors(RuleSor):
    """The rule's choice of dark or lit for all that is due; without its safeguard, which takes what is late.

    Here nothing is ever late, since pools fill what is sent, but the safeguard starts near the end of every order.
    """

    def propose(
        self, market: Market, b: Batch, obs: NDArray[np.float64], work: NDArray[np.float64],
        weights: NDArray[np.float64],
    ) -> None:  # fmt: skip
        super().propose(market, b, obs, work, weights)
        dark = market.rules.route_type > POST
        goes_dark = (weights[:, dark] > 0).any(axis=1)
        weights[np.ix_(goes_dark, ~dark)] = 0.0
        weights[goes_dark] /= weights[goes_dark].sum(axis=1, keepdims=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folder of a policy")
    folders: list[str] = parser.parse_args().runs
    rule = FourFactors(OPTIMAL, "four factors: the optimum")
    learned: list[Router] = []
    for folder in folders:
        run = load_run(Path(folder))
        router = run.router
        router.name = f"learned, seed {run.seed}"
        learned.append(router)
    others = [named_router(name) for name in ("rule_sor", "tuned_sor", "sor_strong", "vwap_lit", "random")]
    blind = {factor: [FourFactors(OPTIMAL.model_copy(update={**changed, "min_net_votes": votes}), f"{factor} {votes}")
                      for votes in range(5)] for factor, changed in WITHOUT.items()}  # fmt: skip
    market = Market(load_market(Path(__file__).parent / "seed_world" / "market.yaml"))
    routers = [rule, *learned, *others, *(router for some in blind.values() for router in some)]
    results = paired_costs(market, routers, PARENTS, SEED, "test")
    costs = {name: result.cost_bps - result.components_bps[:, TIMING] for name, result in results.items()}
    best, lit = costs[rule.name], costs["vwap_lit"].mean()
    print("# A world in which the four-factor rule is optimal\n")
    where = f"{date.today()}, {os.cpu_count()} cores, {platform.machine()}"
    print(
        f"`python benchmarks/seed_world.py {' '.join(folders)}`, "
        f"{PARENTS:,} held-out parents, {where}. Market, and why no policy can be "
        "cheaper: `benchmarks/seed_world/market.yaml`. Size, liquidity, volatility and the venue's record decide dark "
        "or lit; posts, pace, impact and signals, where the gain on the base market is made, are not in it. Costs less "
        "timing, which nobody can foresee here.\n"
    )
    print("| router | cost, bps | above the optimum, % | least difference of an order, bps | dark share |")
    print("|---|---|---|---|---|")

    def row(label: str, name: str) -> None:
        over = 100 * (costs[name].mean() / best.mean() - 1)
        least, dark = float((costs[name] - best).min()), results[name].kind_frac[:, 2].mean()
        print(f"| {label} | {costs[name].mean():.4f} | {over:.2f} | {least:.2e} | {dark:.1%} |")

    for router in (rule, *learned, *others):
        row(router.name, router.name)
    for factor, some in blind.items():
        row(
            f"four factors without {factor}, best of five thresholds",
            min((r.name for r in some), key=lambda n: costs[n].mean()),
        )
    gaps = np.stack([costs[r.name] - best for r in learned]) / best.mean() * 100
    gap = paired_interval(gaps, seed=0)
    closed = 100 * (1 - gap.mean * best.mean() / 100 / (lit - best.mean()))
    beaten = float(gaps.min()) < -ROUNDING_BPS
    print(
        f"\nMean of the seeds: {gap.mean:.2f} % above the optimum [{gap.lo:.2f}, {gap.hi:.2f}], {closed:.0f} % of the "
        f"gap from all lit to it closed; asked: at most {MARK_PERCENT:g} % above. {'An' if beaten else 'No'} order "
        "of a policy cost less than the optimum. How the learner's settings were chosen: "
        "`benchmarks/seed_world/experiment.yaml`."
    )
    return 1 if beaten or gap.mean > MARK_PERCENT else 0


if __name__ == "__main__":
    sys.exit(main())
