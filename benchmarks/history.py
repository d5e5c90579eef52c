"""What a policy's memory of its own order is worth -> benchmarks/history.md

    python benchmarks/history.py benchmarks/policies/additive-s* > benchmarks/history.md

A policy reads its past in two places: the venue records, to which every own fill and markout is added as it becomes
known, and, by route, the time since its last visit and the filled share of its last child there. Here the same policies
work the same PARENTS parents of `base` (test seed SEED) with one or both as they stood when the order began, and
nothing else changed. A policy trained without its past could learn to do without, so the past is worth at most what is
lost here.
"""

from __future__ import annotations

import argparse
import os
import platform
from concurrent.futures import ThreadPoolExecutor
from datetime import date

import numpy as np
from numpy.typing import NDArray

from glasspool.agents.evaluation import RouterResult, run_router
from glasspool.agents.jobs.policies import fitted, resolve
from glasspool.agents.router import Router
from glasspool.configs.loading import load_market
from glasspool.envs.features import observation_names
from glasspool.envs.market import Market
from glasspool.envs.state import Batch
from glasspool.tca.statistics import paired_interval

PARENTS, SEED = 5_000, 6_000
RECORDS, VISITS = ("log_fill_rate", "markout_hs", "log_evidence"), ("visit_age", "last_filled_frac")
VARIANTS = {"own fills and markouts": RECORDS, "last visits": VISITS, "both": RECORDS + VISITS}
Floats = NDArray[np.float64]


class Forgetful:
    """A router to whom some route features look as they did when the order began."""

    name = "forgetful"

    def __init__(self, router: Router, market: Market, features: tuple[str, ...]) -> None:
        names = observation_names(market.routes)
        self._router = router
        self._columns = np.array([i for i, n in enumerate(names) if n.rpartition(".")[2] in features])
        self._first = np.zeros((0, len(self._columns)))

    def propose(self, market: Market, b: Batch, obs: Floats, work: Floats, weights: Floats) -> None:
        if len(self._first) != len(obs):
            self._first = np.zeros((len(obs), len(self._columns)))
        began = (b.order["slot"] == 0)[:, None]
        self._first = np.where(began, obs[:, self._columns], self._first)
        seen = obs.copy()
        seen[:, self._columns] = self._first
        self._router.propose(market, b, seen, work, weights)


def results(market: Market, routers: list[Router]) -> list[RouterResult]:
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return list(pool.map(lambda r: run_router(market, r, PARENTS, SEED, "test"), routers))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folder or bundle of a policy")
    market = Market(load_market("base"))
    folders: list[str] = parser.parse_args().runs
    runs = [fitted(item, market) for item in resolve(folders)[0]]
    plain = results(market, [run.router for run in runs])
    about = " ".join(x for x in (__doc__ or "").split("\n\n")[2].split())
    about = about.replace("PARENTS", f"{PARENTS:,}").replace("SEED", f"{SEED:,}")
    where = f"{date.today()}, {os.cpu_count()} cores, {platform.machine()}"
    print(f"# What memory is worth\n\n`python benchmarks/history.py {' '.join(folders)}`, {where}; training seeds "
          f"{', '.join(str(run.seed) for run in runs)}. {about}\n")  # fmt: skip
    print("Minus the policy as it is, + = dearer; 95 % intervals over training seeds and parents.\n")
    print("| as at the order's beginning | bps | half spreads | dark share, as it is / then |\n|---|---|---|---|")
    for name, features in VARIANTS.items():
        then = results(market, [Forgetful(run.router, market, features) for run in runs])
        cells = []
        for unit in ("bps", "hs"):
            costs = [np.stack([getattr(r, f"cost_{unit}") for r in rs]) for rs in (then, plain)]
            i = paired_interval(costs[0] - costs[1], seed=0)
            cells.append(f"{i.mean:+.3f} [{i.lo:+.3f}, {i.hi:+.3f}]")
        dark = [np.mean([r.kind_frac[:, 2].mean() for r in rs]) for rs in (plain, then)]
        print(f"| {name} | {cells[0]} | {cells[1]} | {dark[0]:.2%} / {dark[1]:.2%} |", flush=True)


if __name__ == "__main__":
    main()
