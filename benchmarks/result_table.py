"""Evaluations of several policies on one market -> the result table with bounds and ladder, as Markdown.

    python benchmarks/result_table.py LABEL=FOLDER ... > benchmarks/results.md

Each FOLDER holds one `glasspool evaluate` on the same market, test seed and number of parents, so the same tapes; LABEL
is `additive`, `mlp`, `routing_only`, `venue_informed` or `all_latents`. Baselines are read from the first folder. All
differences are paired by parent, their intervals over training seeds and parents (`tca.statistics.paired_interval`).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import sys
from datetime import date
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from glasspool.configs.loading import load_market
from glasspool.tca.statistics import Interval, paired_interval, tail_mean

Floats = NDArray[np.float64]
LEARNED = ("additive", "mlp", "routing_only", "venue_informed", "all_latents")
LADDER = ("rule_sor", "tuned_sor", "sor_strong", "routing_only", "additive")
# Cost components by what a desk calls them; those whose simulation is least certain are marked.
GROUPS = {
    "spread": ("spread",), "fees and rebates": ("fee",), "timing": ("timing",),
    "impact": ("instantaneous", "transient", "permanent", "display"), "adverse selection": ("adverse",),
    "leakage": ("leak",), "leftover": ("leftover",),
}  # fmt: skip
# No fill of a real venue stands behind these; what a post earns and suffers is a law of the simulator too.
ARTEFACT_PRONE = ("spread", "adverse selection", "timing", "impact", "leakage")
CLOSED = 0.8  # share of the gap to the venue-informed bound that is asked for
TAIL_DRAWS = 1_000
NOT_WORSE_BPS = 0.1  # than the MLP


def read(folder: str) -> tuple[dict[str, pd.DataFrame], dict[str, object]]:
    """Parents by router, and what the evaluation says of itself."""
    frame = pd.read_parquet(Path(folder) / "episodes.parquet")
    return {str(k): g for k, g in frame.groupby("router")}, json.loads((Path(folder) / "evaluation.json").read_text())


def rows(parents: pd.DataFrame, column: str) -> Floats:
    """(seeds, parents) of one column."""
    if parents["training_seed"].isna().all():
        return parents.sort_values("episode")[column].to_numpy(float)[None]
    wide = parents.pivot_table(index="training_seed", columns="episode", values=column, sort=True)
    return wide.to_numpy(float)


def difference(a: pd.DataFrame, b: pd.DataFrame, column: str = "vwap_slippage_bps") -> Interval:
    """Router a minus router b, parent by parent; where both have several seeds, seed by seed over those that both
    have."""
    seeds = [set(x["training_seed"].dropna()) for x in (a, b)]
    if all(len(s) > 1 for s in seeds) and seeds[0] != seeds[1]:
        a, b = (x[x["training_seed"].isin(seeds[0] & seeds[1])] for x in (a, b))
    return paired_interval(rows(a, column) - rows(b, column), seed=0)


def tail_difference(a: pd.DataFrame, b: pd.DataFrame, unit: str = "bps") -> tuple[float, float, float]:
    """Worst 5 % of a minus that of b, mean over seeds, with a 95 % interval over seeds and parents.

    Variance of the seeds' gaps over their number, plus that of a bootstrap over parents; t with the degrees of freedom
    of Satterthwaite (1946), since a bootstrap of five seeds is too narrow.
    """
    x, y = rows(a, f"vwap_slippage_{unit}"), rows(b, f"vwap_slippage_{unit}")
    rng = np.random.default_rng(0)
    k, n = x.shape

    def gaps(picked: NDArray[np.int64]) -> Floats:
        return np.array([tail_mean(v[picked]) for v in x]) - np.mean([tail_mean(v[picked]) for v in y])

    seen = gaps(np.arange(n))
    of_parents = float(np.var([gaps(rng.integers(0, n, n)).mean() for _ in range(TAIL_DRAWS)], ddof=1))
    of_seeds = float(seen.var(ddof=1)) / k if k > 1 else 0.0
    freedom = (of_seeds + of_parents) ** 2 / (of_seeds**2 / max(1, k - 1) + of_parents**2 / (n - 1))
    half = float(stats.t.ppf(0.975, freedom)) * math.sqrt(of_seeds + of_parents)
    return float(seen.mean()), float(seen.mean()) - half, float(seen.mean()) + half


def weighted(routers: dict[str, pd.DataFrame], market: str) -> list[str]:
    """The additive policy minus each SOR, every parent alike, by its shares, and by its notional."""
    prices = {stock.name: stock.price_usd for stock in load_market(market).stocks}
    ours = routers["additive"]
    one = routers["sor_strong"].sort_values("episode")
    shares = one["ordered_shares"].to_numpy(float)
    notional = shares * one["stock"].map(prices).to_numpy(float)
    out = [line(["parents weighted by", *(f"minus {n}, bps" for n in LADDER[:3])]), line(["---"] * 4)]
    for name, weight in (("parent", np.ones(len(one))), ("shares", shares), ("notional", notional)):
        w = weight / weight.mean()
        cells = []
        for router in LADDER[:3]:
            gap = rows(ours, "vwap_slippage_bps") - rows(routers[router], "vwap_slippage_bps")
            cells.append(shown(paired_interval(gap * w, seed=0)))
        out.append(line([name, *cells]))
    return out


def grid(routers: dict[str, pd.DataFrame]) -> list[str]:
    """The additive policy minus sor_strong in each class at each length, bps, with the cell's share of all shares."""
    ours, strong = routers["additive"], routers["sor_strong"]
    lengths, total = sorted(strong["horizon_s"].unique()), strong["ordered_shares"].sum()
    out = [line(["class", *(f"{x / 60:g} minutes" for x in lengths)]), line(["---"] * (1 + len(lengths)))]
    for stock in sorted(strong["stock"].unique()):
        cells = []
        for length in lengths:
            mine, theirs = (f[(f["stock"] == stock) & (f["horizon_s"] == length)] for f in (ours, strong))
            part = theirs["ordered_shares"].sum() / total
            cells.append(f"{shown(difference(mine, theirs))}; {part:.1%} of shares")
        out.append(line([str(stock), *cells]))
    return out


def of_shares(parents: pd.DataFrame, kind: str) -> float:
    """Share of all shares that went `kind`; the mean over parents counts a small order as a large one."""
    return float((parents[f"{kind}_frac"] * parents["ordered_shares"]).sum() / parents["ordered_shares"].sum())


def shown(i: Interval) -> str:
    return f"{i.mean:+.3f} [{i.lo:+.3f}, {i.hi:+.3f}]"


def line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def costs(routers: dict[str, pd.DataFrame]) -> list[str]:
    head = ["router", "seeds", "slippage, bps", "affected VWAP, bps", "half spreads", "sd, bps", "worst 5 %, bps"]
    head += ["dark / post / take, mean of parents", "dark / post / take of all shares", *(f"{g}, bps" for g in GROUPS)]
    out = [line(head), line(["---"] * len(head))]
    order = sorted(routers, key=lambda n: float(rows(routers[n], "vwap_slippage_bps").mean()))
    for name in order:
        p = routers[name]
        bps = rows(p, "vwap_slippage_bps")
        parts = [sum(rows(p, f"{c}_bps").mean() for c in columns) for columns in GROUPS.values()]
        out.append(line([
            name, str(len(bps)), f"{bps.mean():.3f}", f"{rows(p, 'vwap_affected_bps').mean():.3f}",
            f"{rows(p, 'vwap_slippage_hs').mean():.3f}", f"{bps.std(axis=1, ddof=1).mean():.1f}",
            f"{np.mean([tail_mean(x) for x in bps]):.1f}",
            " / ".join(f"{rows(p, f'{kind}_frac').mean():.1%}" for kind in ("dark", "post", "take")),
            " / ".join(f"{of_shares(p, kind):.1%}" for kind in ("dark", "post", "take")),
            *(f"{x:+.3f}" for x in parts),
        ]))  # fmt: skip
    return out


def ladder(routers: dict[str, pd.DataFrame]) -> list[str]:
    steps = [n for n in LADDER if n in routers]
    head = ["step", "bps", *GROUPS, "remark"]
    out = [line(head), line(["---"] * len(head))]
    for before, after in pairwise(steps):
        step = difference(routers[after], routers[before])
        parts = {
            g: sum(rows(routers[after], f"{c}_bps").mean() - rows(routers[before], f"{c}_bps").mean() for c in cs)
            for g, cs in GROUPS.items()
        }
        gains = {g: -x for g, x in parts.items() if x < 0}
        remark = "" if step.excludes_zero else "not told apart"
        largest = max(gains, key=lambda g: gains[g]) if gains else ""
        if step.hi < 0 and largest in ARTEFACT_PRONE and gains[largest] > 0.5 * sum(gains.values()):
            remark = f"**over half of the gain is {largest}, which hangs on the model**"
        out.append(line([f"{before} → {after}", shown(step), *(f"{x:+.3f}" for x in parts.values()), remark]))
    return out


def closed(routers: dict[str, pd.DataFrame], bound: str) -> tuple[str, float, bool]:
    """In words; the share of the gap from the tuned SOR to a bound that the additive policy closes; whether the bound
    counts."""
    ours, tuned, best = (rows(routers[n], "vwap_slippage_bps").mean() for n in ("additive", "tuned_sor", bound))
    seeing = [n for n in routers if n not in ("venue_informed", "all_latents")]
    beaten = all(difference(routers[bound], routers[n]).hi < 0 for n in seeing)
    share = (tuned - ours) / (tuned - best) if best < tuned else float("nan")
    counts = "beats every policy with its interval" if beaten else "does **not** beat every policy, so it is no bound"
    strong = rows(routers["sor_strong"], "vwap_slippage_bps").mean()
    from_strong = (strong - ours) / (strong - best) if best < strong else float("nan")
    text = (
        f"{bound}: {best:.3f} bps, {counts}; the additive policy closes {share:.0%} of the gap from tuned_sor to what "
        f"the same search reaches with that knowledge ({from_strong:.0%} of the gap from sor_strong)"
    )
    return text, share, beaten


def breakdown(routers: dict[str, pd.DataFrame]) -> list[str]:
    """The additive policy minus sor_strong by class of stock and by horizon."""
    ours, strong = routers["additive"], routers["sor_strong"]
    out = [line(["orders", "parents", "bps", "half spreads"]), line(["---"] * 4)]
    for column, unit in (("stock", ""), ("horizon_s", " minutes")):
        for value in sorted(strong[column].unique()):
            mine, theirs = ours[ours[column] == value], strong[strong[column] == value]
            name = f"{value / 60:g}{unit}" if unit else str(value)
            cells = [shown(difference(mine, theirs, f"vwap_slippage_{u}")) for u in ("bps", "hs")]
            out.append(line([name, f"{len(theirs):,}", *cells]))
    return out


def verdicts(routers: dict[str, pd.DataFrame]) -> list[str]:
    """What the project asks of the default policy on its own market, line by line."""
    ours = routers["additive"]
    baselines = [n for n in routers if n not in LEARNED]
    worst = max((difference(ours, routers[n]) for n in baselines), key=lambda i: i.hi)
    name = next(n for n in baselines if difference(ours, routers[n]) == worst)
    checks: list[tuple[str, bool | None, str]] = [
        ("beats every baseline, interval below 0", worst.hi < 0, f"nearest: {name}, {shown(worst)} bps")
    ]
    tails = {
        (name, unit): tail_difference(ours, routers[name], unit)
        for name, unit in (("sor_strong", "bps"), ("sor_strong", "hs"), ("tuned_sor", "bps"), ("rule_sor", "bps"))
    }
    told = "; ".join(f"{n}: {x:+.2f} [{lo:+.2f}, {hi:+.2f}] {u}" for (n, u), (x, lo, hi) in tails.items())
    tail = tails["sor_strong", "bps"]
    checks.append(("its worst 5 % is not dearer than sor_strong's", tail[2] < 0 or tail[0] <= 0, told))
    missing = "not measured"
    asked = "routes better: routing only beats sor_strong"
    if "routing_only" in routers:
        routing = [difference(routers["routing_only"], routers[n]) for n in ("sor_strong", "tuned_sor")]
        text = f"{shown(routing[0])} bps; against tuned_sor, whose pace it has, {shown(routing[1])}"
        checks.append((asked, routing[0].hi < 0, text))
    else:
        checks.append((asked, None, missing))
    asked = f"at most {NOT_WORSE_BPS} bps worse than the MLP"
    if "mlp" in routers:
        network = difference(ours, routers["mlp"])
        told = f"{shown(network)} bps; the MLP by PPO alone, so not the same method"
        checks.append((asked, network.mean <= NOT_WORSE_BPS, told))
    else:
        checks.append((asked, None, missing))
    asked = f"closes {CLOSED:.0%} of the gap to the venue-informed bound"
    if "venue_informed" in routers:
        text, share, counts = closed(routers, "venue_informed")
        checks.append((asked, counts and share >= CLOSED, text))
    else:
        checks.append((asked, None, missing))
    words = {True: "yes", False: "**no**", None: "**?**"}
    return [line(["asked", "holds", "seen"]), line(["---"] * 3),
            *(line([what, words[holds], seen]) for what, holds, seen in checks)]  # fmt: skip


def main() -> None:
    routers: dict[str, pd.DataFrame] = {}
    facts: list[str] = []
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("evaluations", nargs="+", metavar="LABEL=FOLDER", help="evaluation folder of a policy")
    for argument in parser.parse_args().evaluations:
        label, folder = argument.split("=", 1)
        found, e = read(folder)
        for name, parents in found.items():
            routers.setdefault(label if name == "learned" else name, parents)
        facts.append(f"- {label}: seeds {', '.join(map(str, e['seeds']))}; `{e['command']}`")  # type: ignore[arg-type]
        what = (e["market"], e["episodes"], e["test_seed"])
        if label == sys.argv[1].split("=", 1)[0]:
            first = what
        elif what != first:
            sys.exit(f"{folder}: market, parents or test seed {what} are not those of the first folder, {first}.")
    market, episodes, seed = first
    print(f"# Results on {market}: {episodes:,} held-out parents, test seed {seed}\n")
    print(f"{date.today().isoformat()}, {os.cpu_count()} cores, {platform.machine()}. + = cost; the same tapes for "
          "every router; 95 % intervals over training seeds and parents. `venue_informed` and `all_latents` see what "
          "nobody can: bounds, not routers.\n")  # fmt: skip
    print("\n".join([*facts, "", "## What was asked", "", *verdicts(routers), "", "## Costs", "", *costs(routers), "",
                     "## The ladder: what each step is worth", "",
                     "Router after minus router before, negative = cheaper; then the same by component.", "",
                     *ladder(routers), ""]))  # fmt: skip
    bounds = [closed(routers, n)[0] for n in ("venue_informed", "all_latents") if n in routers]
    print("\n".join(f"- {b}" for b in bounds))
    print("\n## Against sor_strong, by class of stock and by horizon\n\nEach interval alone, without a correction for "
          "their number.\n\n" + "\n".join(breakdown(routers)))  # fmt: skip
    print("\n## Weighted\n\n" + "\n".join(weighted(routers, market)))
    print("\n## Against sor_strong, each class at each length\n\n" + "\n".join(grid(routers)))
    print("\n## The additive policy against every router\n\nAdditive minus router.\n\n"
          + line(["router", "bps", "half spreads"]) + "\n" + line(["---"] * 3))  # fmt: skip
    for name in routers:
        if name != "additive":
            gaps = [difference(routers["additive"], routers[name], f"vwap_slippage_{u}") for u in ("bps", "hs")]
            print(line([name, *map(shown, gaps)]))


if __name__ == "__main__":
    main()
