"""Do attributions follow what the optimum uses? Additive policies on problems whose optimum is known.

    python benchmarks/oracle_attributions.py [SEEDS] > benchmarks/oracle_attributions.md

Four variants of O9 and O10 (docs/oracles.md), SEEDS training seeds each (default 5), as `glasspool oracle` trains them:
a regime that is seen and changes nothing (an input that is noise), the same regime where it matters (O10-seen), a pool
that is worth nothing (O9-M3), and two pools that are the same. Attributions are taken over the states that the policy
comes to, weighted by how often it does, exactly (all fill paths).
"""

from __future__ import annotations

import argparse
import math
import os
import platform
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from multiprocessing import get_context
from typing import Any, cast

import numpy as np
from scipy import stats

from glasspool.agents.oracle_evaluation import exact_cost, regime_actions
from glasspool.agents.oracle_markets import LOT_SHARES, market_of
from glasspool.agents.oracle_problems import PROBLEMS, optimum_of
from glasspool.agents.oracle_training import train_policy
from glasspool.agents.oracle_views import SIGNAL
from glasspool.agents.oracles.lot_problem import LotRoutingParams, RegimeParams
from glasspool.agents.oracles.lot_regimes import belief_chain, propagate_lot_regimes
from glasspool.agents.runtime import AdditiveRuntime
from glasspool.envs.features import FEATURES, N_GLOBAL, observe_rows
from glasspool.envs.market import Market, stream_key

_PAYS_NOTHING = 1e-9  # a market shows a regime where its two charges differ; this difference moves no cost
_SIGNAL = [f.name for f in FEATURES].index("imbalance_signed")


def problems() -> dict[str, LotRoutingParams]:
    """The variants, all with a regime that is seen before acting, so that all policies see the same inputs."""
    m1 = cast(LotRoutingParams, PROBLEMS["O9-M1"].params)
    m3 = cast(LotRoutingParams, PROBLEMS["O9-M3"].params)
    twins = m1.model_copy(update={"pools": (m1.pools[0], m1.pools[0])})

    def seen(params: LotRoutingParams) -> LotRoutingParams:
        charges = [pool.adverse for pool in params.pools]
        other = [*charges[:-1], charges[-1] + _PAYS_NOTHING]
        regimes = RegimeParams(adverse=(tuple(charges), tuple(other)), stay=0.9, seen="before_acting")
        return params.model_copy(update={"regimes": regimes})

    return {
        "noise (O9-M1)": seen(m1), "worthless pool (O9-M3)": seen(m3), "two equal pools": seen(twins),
        "regime that matters (O10-seen)": cast(LotRoutingParams, PROBLEMS["O10-seen"].params),
    }  # fmt: skip


def measure(name: str, seed: int) -> dict[str, Any]:
    """Train one seed and take its attributions over the states it comes to."""
    params = problems()[name]
    policy = train_policy(params, "additive", seed)
    assert isinstance(policy, AdditiveRuntime)
    actions = regime_actions(params, policy)  # (slots, beliefs, lots + 1, routes)
    law = propagate_lot_regimes(params, actions)
    slots, beliefs, lots = (x for x in np.nonzero(law[:, :, 1:]))
    weight = law[:, :, 1:][slots, beliefs, lots]
    weight /= weight.sum()
    sent = actions[slots, beliefs, lots + 1]
    obs = observations(params, slots, lots + 1, belief_chain(params).prob[beliefs])
    parts = policy.contributions_e9(obs)[:, 1:] / 1e9  # (states, routes, features)
    parts = parts - parts.mean(1, keepdims=True)  # what all routes share moves no route against another
    spread = np.abs(parts - np.einsum("s,srf->rf", weight, parts)).sum(1)  # (states, features)
    share = weight @ spread
    share = share / share.sum()
    ends = obs[[0, 0]].copy()
    ends[:, SIGNAL] = -1.0, 1.0  # the second regime, the first
    tilt = np.diff(policy.contributions_e9(ends)[:, :, _SIGNAL] / 1e9, axis=0)[0]  # (1 + R,) pace, routes
    optimum = optimum_of(params)
    return {
        "problem": name, "seed": seed, "gap_percent": 100 * (exact_cost(params, policy) / optimum - 1),
        "share": share, "tilt": tilt - np.r_[0.0, np.full(len(tilt) - 1, tilt[1:].mean())],
        "sent": len(params.u) * weight @ sent,
    }  # fmt: skip


def observations(params: LotRoutingParams, slots: Any, lots: Any, first_prob: Any) -> np.ndarray:
    """(n, n_obs) what the policy sees in the states, as in `StateDecisions`."""
    market = Market(market_of(params))
    n = len(slots)
    b, obs = market.batch(n)
    market.reset(stream_key(0, "test"), np.arange(n), np.zeros(n, np.int64), b, obs)
    opening = obs[:, N_GLOBAL:].copy()
    b.order["slot"], b.order["remaining_shares"] = slots, lots * LOT_SHARES
    observe_rows(market.rules, b, 0, n, obs, 0)
    obs[:, N_GLOBAL:] = opening
    obs[:, SIGNAL] = 2 * first_prob - 1
    return np.asarray(obs)


def interval(values: Any) -> str:
    x = np.asarray(values, float)
    half = stats.t.ppf(0.975, len(x) - 1) * x.std(ddof=1) / math.sqrt(len(x)) if len(x) > 1 else math.nan
    return f"{x.mean():+.3f} [{x.mean() - half:+.3f}, {x.mean() + half:+.3f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seeds", nargs="?", type=int, default=5, help="training seeds of each problem [%(default)s]")
    seeds = range(1, 1 + parser.parse_args().seeds)
    jobs = [(name, seed) for name in problems() for seed in seeds]
    with ProcessPoolExecutor(min(os.cpu_count() or 1, len(jobs)), get_context("spawn")) as pool:
        found = list(pool.map(measure, *zip(*jobs, strict=True)))
    print("# Attributions on problems with a known optimum\n")
    print(
        f"`python benchmarks/oracle_attributions.py {len(seeds)}`, {len(seeds)} training seeds, {date.today()}, "
        f"{os.cpu_count()} cores, {platform.machine()}. Additive policies, trained as `glasspool oracle` trains them. "
        "Intervals: 95 %, Student's t over seeds.\n"
    )
    print(
        "*Share of the regime*: of all that moves one route's score against the others over the states that the "
        "policy comes to, the part of the regime's function, in %. *Tilt*: score in the first regime less that in the "
        "second, against the mean of the routes. *Lots sent*: over an order, by the policy.\n"
    )
    columns = ("problem", "gap to the optimum, %", "share of the regime, %", "tilt of lit", "tilt of A", "tilt of B",
               "tilt of pace", "lots sent: lit", "A", "B", "A less B")  # fmt: skip
    print("| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|")
    for name in problems():
        rows = [row for row in found if row["problem"] == name]
        tilt, sent = np.array([row["tilt"] for row in rows]), np.array([row["sent"] for row in rows])
        cells = [
            interval([row["gap_percent"] for row in rows]), interval([100 * row["share"][_SIGNAL] for row in rows]),
            *(interval(tilt[:, k]) for k in (1, 2, 3, 0)), *(f"{x:.2f}" for x in sent.mean(0)),
            interval(sent[:, 1] - sent[:, 2]),
        ]  # fmt: skip
        print(f"| {name} | " + " | ".join(cells) + " |")
    print("\nShare of each input, %, mean over seeds:\n")
    moving = [k for k in range(len(FEATURES)) if any(row["share"][k] > 1e-6 for row in found)]
    print("| problem | " + " | ".join(FEATURES[k].name for k in moving) + " |\n|---|" + "---|" * len(moving))
    for name in problems():
        mean = np.mean([row["share"] for row in found if row["problem"] == name], axis=0)
        print(f"| {name} | " + " | ".join(f"{100 * mean[k]:.1f}" for k in moving) + " |")


if __name__ == "__main__":
    main()
