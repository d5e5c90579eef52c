"""A pool turns toxic while a desk is trading: how soon does each router leave it? -> benchmarks/degraded_pool.md

    python benchmarks/degraded_pool.py RUN ... > benchmarks/degraded_pool.md

DESKS desks work one half-hour order after another on the scenario `benign`, whose four pools keep their names and their
quality; each desk's scorecards go on from order to order: a history of HISTORY fills a pool, then every fill of its
own (but those not known yet at an order's end). From order FROM on, the pool POOL meets the most toxic flow that `base`
draws. Nobody is told; only a desk's own markouts show it. Every router meets the same orders and tapes.
"""

from __future__ import annotations

import argparse
import os
import platform
from datetime import date

import numpy as np
from numpy.typing import NDArray
from unguarded import unguarded

from glasspool.agents.registry import named_router
from glasspool.agents.router import Router
from glasspool.configs.loading import load_market
from glasspool.configs.market import MarketConfig
from glasspool.envs.features import observe_rows
from glasspool.envs.market import Market, step_proposals, stream_key
from glasspool.envs.state import Batch

DESKS, ORDERS, FROM, SEED = 200, 170, 20, 5_000
HISTORIES = (200, 2_000)
POOL = "midpoint"  # the richest
LEAST_SHARE = 0.01  # before the change: less than that has nothing to halve
TOXIC = {"kappa_fast": 2.4, "kappa_slow": 0.43}  # the most that `base` draws
KNOWN = ("attempts", "filled", "markouts", "markout_hs_sum")
Floats = NDArray[np.float64]


def desk_market(toxic_pool: str | None = None) -> MarketConfig:
    """`benign` with its pools under their own names, each of one quality for all orders of the mid class."""
    config = load_market("benign", ["orders.horizon_minutes={30: 1.0}"])
    pools = [p.model_copy(update=TOXIC) if p.name == toxic_pool else p for p in config.dark_pools]
    mid = next(s for s in config.stocks if s.name == "mid").model_copy(update={"probability": 1.0})
    return config.model_copy(
        update={"stocks": (mid,), "dark_pools": tuple(pools), "dark_slots": (), "randomisation": None}
    )


def shorten(b: Batch, history: int) -> None:
    """Opening scorecards that rest on `history` fills: what is known of a venue is right, but not certain."""
    card = b.card
    times = history / np.maximum(card["filled"], 1)
    card["markout_hs_sum"] *= times
    for name in KNOWN[:3]:
        card[name] = np.round(card[name] * times).astype(np.int64)


def play(router: Router, history: int, toxic_pool: str | None) -> tuple[Floats, Floats]:
    """(ORDERS, pools) filled shares over those of the parents, (ORDERS,) costs in half spreads; means of the desks."""
    markets = [Market(desk_market()), Market(desk_market(toxic_pool))]
    b, obs = markets[0].batch(DESKS)
    rows, key = np.arange(DESKS), stream_key(SEED, "test")
    routes = markets[0].routes
    pools = sorted(pool.name for pool in markets[0].config.dark_pools)
    into = np.array([[r.venue == pool for pool in pools] for r in routes], float)
    work, weights = np.zeros(DESKS), np.zeros((DESKS, len(routes)))
    shares, cost = np.zeros((ORDERS, len(pools))), np.zeros(ORDERS)
    known = None
    for order in range(ORDERS):
        market = markets[int(order >= FROM)]
        market.reset(key, rows, DESKS * order + rows, b, obs)
        if known is None:
            shorten(b, history)
        else:
            b.card[:] = known
        b.card["shown"] = 0
        observe_rows(market.rules, b, 0, DESKS, obs, 0)
        while b.order["active"].any():
            router.propose(market, b, obs, work, weights)
            step_proposals(market.rules, b, work, weights, obs)
        known = b.card.copy()
        filled = b.total["filled_shares"] @ into / b.episode["shares"][:, None]
        shares[order] = filled.mean(axis=0)
        half = np.maximum(b.episode["half_spread_bps"], 1e-9)
        cost[order] = ((b.order["cost_bps"] - b.order["martingale_sum_bps"]) / half).mean()
    return shares, cost


def halved_after(share: Floats) -> str:
    """Orders since the change until the share (mean of 5 orders) is half that of the 10 before; never; or a dash."""
    before = share[FROM - 10 : FROM].mean()
    if before < LEAST_SHARE:
        return "\N{EN DASH}"
    smooth = np.convolve(share[FROM:], np.full(5, 0.2), mode="valid")
    reached = np.flatnonzero(smooth <= 0.5 * before)
    return str(int(reached[0]) + 5) if reached.size else f"not in {ORDERS - FROM}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folder or bundle of a policy")
    folders: list[str] = parser.parse_args().runs
    routers: list[Router] = []
    for number, folder in enumerate(folders, 1):
        _, router = unguarded(folder)
        router.name = f"learned, seed {number}"
        routers.append(router)
    routers += [named_router(name) for name in ("rule_sor", "tuned_sor", "sor_strong")]
    where = f"{date.today()}, {os.cpu_count()} cores, {platform.machine()}"
    about = " ".join((__doc__ or "").split("\n\n")[2].split())
    print("# A pool that turns toxic\n")
    values = {"DESKS": DESKS, "FROM": FROM, "HISTORY": " or ".join(f"{h:,}" for h in HISTORIES), "POOL": POOL}
    for name, value in values.items():
        about = about.replace(name, str(value))
    print(f"`python benchmarks/degraded_pool.py {' '.join(folders)}`, seed {SEED}, {where}. {about}\n")
    print("| history, fills | router | the pool's share of the order before | orders until halved | share at the end | "
          "cost before, hs | first 10 after | last 10 | last 10, pool unchanged |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|")
    names = sorted(pool.name for pool in desk_market().dark_pools)  # the order of venues in a market
    for history in HISTORIES:
        for router in routers:
            _, calm_cost = play(router, history, None)
            shares, cost = play(router, history, POOL)
            share = shares[:, names.index(POOL)]
            print(
                f"| {history:,} | {router.name} | {share[FROM - 10 : FROM].mean():.1%} | {halved_after(share)} | "
                f"{share[-10:].mean():.1%} | "
                f"{cost[FROM - 10 : FROM].mean():.3f} | {cost[FROM : FROM + 10].mean():.3f} | "
                f"{cost[-10:].mean():.3f} | {calm_cost[-10:].mean():.3f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
