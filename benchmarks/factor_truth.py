"""Do the founding document's four factors move a policy's dark weight as it says? -> benchmarks/factor_truth.md.

    python benchmarks/factor_truth.py RUN ... [--market base] > benchmarks/factor_truth.md

All else fixed: on states that each policy met on held-out orders, one feature is set to its 10th and then to its 90th
percentile there (of venue features: of all dark routes), and the mean weight of the dark routes before the
controls' cut is compared. The document: more dark for a large order and a liquid stock, less for high volatility and
for a pool whose fills revert. With several RUNs (training seeds), the interval is Student's t over them.
"""

from __future__ import annotations

import argparse
import os
import platform
from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray
from unguarded import unguarded

from glasspool.configs.loading import load_market
from glasspool.envs.controls import weights_from_scores
from glasspool.envs.features import GLOBAL_FEATURES, N_GLOBAL, N_ROUTE, ROUTE_FEATURES
from glasspool.envs.market import Market, step_proposals, stream_key
from glasspool.envs.state import POST
from glasspool.tca.statistics import mean_interval

Floats = NDArray[np.float64]
ORDERS, EVERY, SEED = 400, 7, 5_000


@dataclass(frozen=True)
class Factor:
    """A feature, the factor that it stands for, and the founding document's sign of the dark share in it."""

    feature: str
    factor: str
    sign: int


FACTORS = (
    Factor("log_pct_adv", "order size", +1),
    Factor("log_participation_pct", "order size", +1),
    Factor("log_adv_shares", "liquidity", +1),
    Factor("log_spread_bps", "liquidity (a wide spread is illiquid)", -1),
    Factor("log_spread_ratio", "liquidity (wider than usual)", -1),
    Factor("log_vol_ratio", "volatility", -1),
    Factor("log_move_per_spread", "volatility", -1),
    Factor("markout_hs", "reversion (less of it is a higher markout)", +1),
    Factor("log_fill_rate", "fill rate of the pools", +1),
)


def states(market: Market, run: str) -> tuple[Floats, NDArray[np.bool_]]:
    """Observations and masks that the policy of `run` met."""
    _, router = unguarded(run)
    b, obs = market.batch(ORDERS)
    market.reset(stream_key(SEED, "test"), np.arange(ORDERS), np.arange(ORDERS), b, obs, "test")
    work, weights = np.zeros(ORDERS), np.zeros((ORDERS, len(market.routes)))
    seen, masks, slot = [], [], 0
    while (active := b.order["active"] == 1).any():
        router.propose(market, b, obs, work, weights)
        if slot % EVERY == 0:
            seen.append(obs[active].copy())
            masks.append(b.masked[active].copy())
        step_proposals(market.rules, b, work, weights, obs)
        slot += 1
    return np.concatenate(seen), np.concatenate(masks)


def dark_weight(market: Market, run: str, obs: Floats, masked: NDArray[np.bool_]) -> float:
    """Mean softmax weight of the dark routes, before `weight_cut`."""
    scores = np.ascontiguousarray(unguarded(run)[0].scores(obs)[:, 1:])
    weights = np.zeros(scores.shape)
    weights_from_scores(scores, masked, market.rules.route_type, weights)
    return float(weights[:, market.rules.route_type > POST].sum(axis=1).mean())


def columns(market: Market, feature: str) -> list[int]:
    names = [f.name for f in GLOBAL_FEATURES]
    if feature in names:
        return [names.index(feature)]
    at = N_GLOBAL + [f.name for f in ROUTE_FEATURES].index(feature)
    return [at + int(r) * N_ROUTE for r in np.flatnonzero(market.rules.route_type > POST)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folder or bundle of a policy")
    parser.add_argument("--market", default="base")
    args = parser.parse_args()
    market = Market(load_market(args.market))
    moved: dict[str, list[float]] = {f.feature: [] for f in FACTORS}
    plain = []
    for run in args.runs:
        obs, masked = states(market, run)
        plain.append(dark_weight(market, run, obs, masked))
        for factor in FACTORS:
            at = columns(market, factor.feature)
            ends = []
            for end in np.quantile(obs[:, at], (0.1, 0.9)):
                turned = obs.copy()
                turned[:, at] = end
                ends.append(dark_weight(market, run, turned, masked))
            moved[factor.feature].append(ends[1] - ends[0])
    print("# Factor truth\n")
    where = f"{date.today()}, {os.cpu_count()} cores, {platform.machine()}"
    print(
        f"`python benchmarks/factor_truth.py {' '.join(args.runs)}`, {len(args.runs)} training seeds, "
        f"market `{args.market}`, {where}. "
        f"Mean dark weight before the controls' cut: {np.mean(plain):.2%}. Change of that weight, in percentage "
        "points, from the 10th to the 90th percentile of one feature, all else fixed; 95 % interval over training "
        "seeds.\n"
    )
    print("| feature | factor | the founding document | change, points | training seeds that agree | holds |")
    print("|---|---|---|---|---|---|")
    told: list[str] = []
    for factor in FACTORS:
        points = 100 * np.array(moved[factor.feature])
        agree = int((np.sign(points) == factor.sign).sum())
        if len(points) > 1:
            i = mean_interval(points, seed=0)
            shown, low, high = f"{i.mean:+.2f} [{i.lo:+.2f}, {i.hi:+.2f}]", i.lo, i.hi
        else:
            shown, low, high = f"{points[0]:+.2f}", points[0], points[0]
        holds = "yes" if factor.sign * (low if factor.sign > 0 else high) > 0 else "no"
        if holds == "no" and low <= 0 <= high:
            holds = "not told apart from no effect"
        told.append(holds)
        print(f"| {factor.feature} | {factor.factor} | {'more' if factor.sign > 0 else 'less'} dark | {shown} | "
              f"{agree} of {len(points)} | {holds} |")  # fmt: skip
    print(
        f"\n{told.count('yes')} of {len(told)} hold, {told.count('no')} go the other way, the rest is not told apart. "
        "The signs of `markout_hs` and `log_fill_rate` are built in (`agent.monotone`), so they say nothing. A weight "
        "below the controls' cut of 5 % moves no order."
    )


if __name__ == "__main__":
    main()
