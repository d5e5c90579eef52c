"""A market in which the rule-based SOR is optimal: does a learned policy find that, or "beat" it? -> seed_world.md.

    for s in 1 2 3 4 5; do
      glasspool train benchmarks/seed_world/experiment.yaml --seed $s --out runs/seed_world-s$s
    done
    python benchmarks/seed_world.py runs/seed_world-s* > benchmarks/seed_world.md

The least that an order can cost here is known: every share at the lower of half the spread and its pool's charge, the
last slot at half the spread (market.yaml says why). A policy that came out below would show a fault of the simulator or
of its accounts. Exit 1 where one does, or where the mean is more than 2 % above the optimum.
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
from glasspool.envs.state import POST, Batch
from glasspool.tca.statistics import paired_interval

PARENTS, SEED = 2_000, 4_000
MARK_PERCENT = 2.0
ROUNDING_BPS = 1e-9
# The venue factor decides alone: the other three cannot outvote it, and what is due goes out as a whole.
OPTIMAL = RuleSorConfig(
    venue_markout_good_hs=-1.0, venue_markout_poor_hs=-1.0, min_net_votes=-3, vol_calm_ratio=1e6, vol_high_ratio=1e6,
    fast_nbbo_moves_10s=10**6, dark_fraction=1.0, final_take_frac=0.0, behind_s=1e6, max_slices=1e6,
)  # fmt: skip


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
    rule = FourFactors(OPTIMAL, "four factors, thresholds at the charges: the optimum")
    learned: list[Router] = []
    for number, folder in enumerate(folders, 1):
        router = load_run(Path(folder)).router
        router.name = f"learned, seed {number}"
        learned.append(router)
    others = [named_router(name) for name in ("rule_sor", "tuned_sor", "sor_strong", "vwap_lit", "random")]
    market = Market(load_market(Path(__file__).parent / "seed_world" / "market.yaml"))
    costs = paired_costs(market, [rule, *learned, *others], PARENTS, SEED, "test")
    best = costs[rule.name].cost_bps
    print("# A world of one threshold: accounting and selection checked against a known optimum\n")
    where = f"{date.today()}, {os.cpu_count()} cores, {platform.machine()}"
    print(
        f"`python benchmarks/seed_world.py`, {PARENTS:,} held-out parents, {where}. Market, and why no policy can be "
        "cheaper: `benchmarks/seed_world/market.yaml`. It checks the accounts and the choice dark or lit by the pool's "
        "record; posts, pace, impact and signals, where the gain on the base market is made, are not in it.\n"
    )
    print("| router | cost, bps | above the optimum, % | least difference of an order, bps | dark share |")
    print("|---|---|---|---|---|")
    for name, result in costs.items():
        over = 100 * (result.cost_bps.mean() / best.mean() - 1)
        least, dark = float((result.cost_bps - best).min()), result.kind_frac[:, 2].mean()
        print(f"| {name} | {result.cost_bps.mean():.4f} | {over:.2f} | {least:.2e} | {dark:.1%} |")
    gaps = np.stack([costs[r.name].cost_bps - best for r in learned]) / best.mean() * 100
    gap = paired_interval(gaps, seed=0)
    beaten = float(gaps.min()) < -ROUNDING_BPS
    print(
        f"\nMean of the seeds: {gap.mean:.2f} % above the optimum [{gap.lo:.2f}, {gap.hi:.2f}]; asked: at most "
        f"{MARK_PERCENT:g} %. {'An' if beaten else 'No'} order of a policy cost less than the optimum. (sor_strong "
        "may: it works ahead of a schedule that binds policies, and leaves less to the last slot, where all must take.)"
    )
    return 1 if beaten or gap.mean > MARK_PERCENT else 0


if __name__ == "__main__":
    sys.exit(main())
