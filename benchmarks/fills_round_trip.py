"""Own fills simulated from known pools, written as a file, read back by `calibrate --fills`: do the intervals cover?

    python benchmarks/fills_round_trip.py [worlds] [parents]

Each world: orders of an hour in the large class of the base market, its five archetypes under their own names, one
route at random in every slot with two lots. Writes benchmarks/fills_round_trip.md.
"""

from __future__ import annotations

import argparse
import tempfile
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from glasspool.agents.fills_file import write_fills
from glasspool.configs.loading import load_market
from glasspool.configs.market import MarketConfig
from glasspool.envs.market import Market
from glasspool.envs.state import Batch
from glasspool.tca.fills import read_fills
from glasspool.tca.pool_fit import fit_pools

ROOT = Path(__file__).resolve().parent.parent
PARAMETERS = ("supply_frac", "gamma_fast_bps", "gamma_slow_bps", "leak_weight")
Floats = NDArray[np.float64]


class OneRoute:
    """One route at random in every slot, always so many shares."""

    name = "one_route"

    def __init__(self, seed: int, shares: int) -> None:
        self._rng, self._shares = np.random.default_rng(seed), shares

    def propose(self, market: Market, b: Batch, obs: Floats, work: Floats, weights: Floats) -> None:
        work[:], weights[:] = self._shares, 0.0
        weights[np.arange(len(work)), self._rng.integers(0, len(market.routes), len(work))] = 1.0


def known_market() -> Market:
    """The large class alone, archetypes as they are, nothing drawn anew from order to order."""
    data = load_market("base").model_dump()
    data |= {"stocks": [{**data["stocks"][0], "probability": 1.0}], "randomisation": None, "dark_slots": []}
    data["orders"] = {**data["orders"], "horizon_minutes": {60.0: 1.0}}
    return Market(MarketConfig.model_validate(data))


def world(seed: int, parents: int) -> list[tuple[str, str, float, float, float, float]]:
    """(pool, parameter, truth, value, lo, hi) of one world."""
    market = known_market()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fills.csv"
        write_fills(market, OneRoute(seed, 200), parents, seed, path)
        fits = fit_pools(read_fills(path), market.config, market.config.stocks[0])
    stock, found = market.config.stocks[0], []
    for fit in fits:
        pool = next(p for p in market.config.dark_pools if p.name == fit.venue)
        truth = {
            "supply_frac": pool.supply_frac, "gamma_fast_bps": pool.kappa_fast * stock.sigma_fast_bps,
            "gamma_slow_bps": pool.kappa_slow * stock.sigma_slow_bps, "leak_weight": pool.leak_weight,
        }  # fmt: skip
        for name in PARAMETERS:
            e = getattr(fit, name)
            if e.lo is not None:
                found.append((fit.venue, name, truth[name], e.value, e.lo, e.hi))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("worlds", nargs="?", type=int, default=20, help="worlds, each with a seed [%(default)s]")
    parser.add_argument("parents", nargs="?", type=int, default=300, help="orders of a world [%(default)s]")
    given = parser.parse_args()
    worlds, parents = given.worlds, given.parents
    with ProcessPoolExecutor(2) as pool:
        rows = [row for part in pool.map(world, range(1, worlds + 1), [parents] * worlds) for row in part]
    lines = [
        "# Own fills, out and back",
        "",
        f"`python benchmarks/fills_round_trip.py {worlds} {parents}`, {date.today().isoformat()}, seeds 1 to {worlds}. "
        + " ".join((__doc__ or "").split("\n\n")[2].split()).removesuffix(" Writes benchmarks/fills_round_trip.md.")
        + f" {parents} orders a world.",
        "",
        "Covered: worlds whose printed 95 % interval holds the truth; *chance*: how often as few or fewer would be "
        "covered if the intervals were exact.",
        "",
        "| pool | parameter | truth | mean estimate | mean half width | covered | chance |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in PARAMETERS:
        held = [r for r in rows if r[1] == name]
        for venue in [*sorted({r[0] for r in held}), "all pools"]:
            own = [r for r in held if venue in (r[0], "all pools")]
            covered = sum(r[4] <= r[2] <= r[5] for r in own)
            width = np.mean([(r[5] - r[4]) / 2 for r in own])
            middle = f"{own[0][2]:.4g} | {np.mean([r[3] for r in own]):.4g} | {width:.2g}"
            middle = "| |" if venue == "all pools" else middle
            chance = binom.cdf(covered, len(own), 0.95)
            lines.append(f"| {venue} | {name} | {middle} | {covered} of {len(own)} | {chance:.2g} |")
    text = "\n".join(lines) + "\n"
    (ROOT / "benchmarks" / "fills_round_trip.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
