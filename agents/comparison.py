"""The evaluation of a policy against baselines: every router on the same held-out parents, paired intervals, files."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..configs.experiment import ExperimentConfig
from ..configs.pool_knowledge import notes
from ..envs.market import Market
from ..envs.state import COMPONENTS
from ..tca.statistics import Interval, paired_interval, tail_mean
from .evaluation import RouterResult, run_router
from .router import Router

POOLED = "learned"  # the name under which the runs of several training seeds are pooled


@dataclass(frozen=True)
class Learned:
    """A learned policy, the seed that trained it, and where it came from."""

    router: Router
    seed: int
    config: ExperimentConfig
    folder: Path | None = None  # of a run; None for a bundle
    policy_sha256: str | None = None  # of the file that decides in a bundle; None for an MLP that is not in one
    config_sha256: str | None = None  # as a bundle has it


def compare(
    market: Market, learned: Sequence[Learned], baselines: Sequence[Router], *, orders: int, seed: int,
    fills_orders: int, stream: str = "test", progress: Callable[[str, int, int], None] | None = None,
) -> tuple[dict[str, RouterResult], dict[str, list[RouterResult]]]:  # fmt: skip
    """Run everything; returns the baselines by name, and the learned policies' results, one a training seed.

    Routers run side by side, a thread a core: compiled code lets go of the interpreter's lock, and no router's result
    depends on another (a user's own module must be able to take calls of several routers at once).
    `progress(name, parents done, of)` is called from those threads.
    """
    items: list[tuple[str, Router]] = [(f"{POOLED} (seed {item.seed})", item.router) for item in learned]
    items += [(router.name, router) for router in baselines]
    total, done, stop = len(items) * orders, Counter[str](), Event()

    def run(name: str, router: Router) -> RouterResult:
        def count(parents: int) -> None:
            if stop.is_set():
                raise CancelledError
            done[name] = parents
            if progress is not None:
                progress(name, done.total(), total)

        return run_router(market, router, orders, seed, stream, fills_orders=fills_orders, after_chunk=count)

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with ThreadPoolExecutor(cores) as pool:
        futures = [pool.submit(run, name, router) for name, router in items]
        try:
            for future in as_completed(futures):
                future.result()
            results = [future.result() for future in futures]
        except BaseException:  # one router's error or Ctrl-C ends all at their next chunk
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    runs = results[: len(learned)]
    by_name = {router.name: result for router, result in zip(baselines, results[len(learned) :], strict=True)}
    return by_name, {POOLED: runs} if runs else {}


def _clusters(result: RouterResult) -> NDArray[np.int64] | None:
    """Parents of a replay share recorded minutes, so their blocks are the units; synthetic parents are independent."""
    return None if result.block[0] < 0 else result.block


def _summary(values: NDArray[np.float64], clusters: NDArray[np.int64] | None) -> dict[str, Any]:
    """Mean, sd over parents and interval of (seeds, n) costs."""
    rows = np.atleast_2d(values)
    interval = paired_interval(rows, clusters=clusters, seed=0)
    return {"mean": interval.mean, "sd": float(rows.std(axis=1, ddof=1).mean()), "ci95": [interval.lo, interval.hi]}


def _own_method(results: Sequence[RouterResult]) -> str:
    """How a router's own intervals are made."""
    return paired_interval(np.stack([r.cost_bps for r in results]), clusters=_clusters(results[0]), seed=0).method


def _router_entry(results: Sequence[RouterResult], market: Market) -> dict[str, Any]:
    stacked = {
        f: np.stack([getattr(r, f) for r in results])
        for f in ("cost_bps", "cost_hs", "denoised_bps", "arrival_bps", "affected_bps")
    }
    clusters = _clusters(results[0])
    kinds = np.stack([r.kind_frac.mean(axis=0) for r in results]).mean(axis=0)
    return {
        "vwap_slippage_bps": _summary(stacked["cost_bps"], clusters),
        "vwap_slippage_hs": _summary(stacked["cost_hs"], clusters),
        "vwap_slippage_denoised_bps": _summary(stacked["denoised_bps"], clusters),
        "arrival_cost_bps": _summary(stacked["arrival_bps"], clusters),
        "vwap_affected_bps": _summary(stacked["affected_bps"], clusters),
        "components_bps": _components(np.mean([r.components_bps.mean(axis=0) for r in results], axis=0)),
        "take_frac": float(kinds[0]),
        "post_frac": float(kinds[1]),
        "dark_frac": float(kinds[2]),
        "tail5_bps": float(np.mean([tail_mean(r.cost_bps, 0.05) for r in results])),
        "completion_frac": float(np.mean([r.completion_frac.mean() for r in results])),
        "venues": _venue_rows(results, market),
    }


def _components(values: NDArray[np.float64]) -> dict[str, float]:
    return {name: float(x) for name, x in zip(COMPONENTS, values, strict=True)}


def _venue_rows(results: Sequence[RouterResult], market: Market) -> list[dict[str, Any]]:
    rows = []
    for i, route in enumerate(market.routes):
        attempts, filled, routed, shares = (int(x) for x in sum(r.totals[i] for r in results))
        marks = sum(r.marks[i] for r in results)
        per_share = [float(m / marks[0]) if marks[0] else None for m in marks[1:4]]
        rows.append({
            "venue": route.venue, "kind": "lit" if route.order_type in ("take", "post") else "dark",
            "order_type": route.order_type, "attempts": attempts, "filled_orders": filled, "routed_shares": routed,
            "filled_shares": shares, "fill_rate_orders": filled / attempts if attempts else None,
            "fill_rate_shares": shares / routed if routed else None, "improvement_bps": per_share[0],
            "markout_10s_bps": per_share[1], "markout_300s_bps": per_share[2], "n_fills": int(marks[4]),
        })  # fmt: skip
    return rows


def _comparison(
    name: str, baseline: str, mine: Sequence[RouterResult], seeds: Sequence[int], other: RouterResult
) -> dict[str, Any]:
    clusters = _clusters(other)

    def interval(field: str) -> Interval:
        differences = np.stack([getattr(r, field) - getattr(other, field) for r in mine])
        return paired_interval(differences, seeds=list(seeds), clusters=clusters, seed=0)

    bps = np.stack([r.cost_bps - other.cost_bps for r in mine])
    hs = np.stack([r.cost_hs - other.cost_hs for r in mine])
    pooled_bps, pooled_hs = interval("cost_bps"), interval("cost_hs")
    quiet, quiet_hs = interval("denoised_bps"), interval("denoised_hs")
    per_seed = []
    for s, row, row_hs in zip(seeds, bps, hs, strict=True):
        one, one_hs = (paired_interval(x, clusters=clusters, seed=0) for x in (row, row_hs))
        per_seed.append({
            "seed": int(s), "mean_difference_bps": one.mean, "ci95_bps": [one.lo, one.hi],
            "mean_difference_hs": one_hs.mean, "ci95_hs": [one_hs.lo, one_hs.hi],
        })  # fmt: skip
    parts = np.mean([r.components_bps.mean(axis=0) for r in mine], axis=0) - other.components_bps.mean(axis=0)
    return {
        "router": name, "baseline": baseline, "metric": "vwap_slippage_bps", "mean_difference_bps": pooled_bps.mean,
        "ci95_bps": [pooled_bps.lo, pooled_bps.hi], "mean_difference_hs": pooled_hs.mean,
        "ci95_hs": [pooled_hs.lo, pooled_hs.hi], "denoised_difference_bps": quiet.mean,
        "denoised_ci95_bps": [quiet.lo, quiet.hi], "denoised_difference_hs": quiet_hs.mean,
        "denoised_ci95_hs": [quiet_hs.lo, quiet_hs.hi], "interval_method": pooled_bps.method,
        "episodes": int(bps.shape[1]), "components_bps": _components(parts), "per_seed": per_seed,
    }  # fmt: skip


def evaluation_payload(
    market: Market, baselines: dict[str, RouterResult], learned: dict[str, list[RouterResult]], seeds: Sequence[int], *,
    policy: str, seed: int, command: str,
) -> dict[str, Any]:  # fmt: skip
    """`evaluation.json`: units in the names, seeds, method and command in it. A difference is router minus baseline."""
    runs = learned.get(POOLED, [])
    routers = {POOLED: _router_entry(runs, market)} if runs else {}
    routers |= {name: _router_entry([r], market) for name, r in baselines.items()}
    if runs:
        comparisons = [_comparison(POOLED, name, runs, seeds, r) for name, r in baselines.items()]
    else:
        first, *rest = baselines
        comparisons = [_comparison(first, name, [baselines[first]], [0], baselines[name]) for name in rest]
    method = comparisons[0]["interval_method"] if comparisons else _own_method(runs or list(baselines.values())[:1])
    orders = len(next(iter(baselines.values())).cost_bps) if baselines else len(runs[0].cost_bps)
    return {
        "policy": policy, "market": market.config.name, "simulated": True, "seeds": [int(s) for s in seeds],
        "test_seed": seed, "episodes": orders, "interval_s": market.config.interval_s,
        "interval_method": method,
        "command": command, "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "price_paths": "replayed" if market.replay is not None else "synthetic",
        "market_notes": notes(market.config), "routers": routers, "comparisons": comparisons,
    }  # fmt: skip


def episodes_frame(
    baselines: dict[str, RouterResult], learned: dict[str, list[RouterResult]], seeds: Sequence[int], market: Market
) -> pd.DataFrame:
    """One row a router, training seed and parent."""
    named: list[tuple[str, int | None, RouterResult]] = [(name, None, r) for name, r in baselines.items()]
    named += [(POOLED, int(s), r) for s, r in zip(seeds, learned.get(POOLED, []), strict=False)]
    frames = []
    stocks = np.array([s.name for s in market.config.stocks])
    for name, train_seed, r in named:
        frame = pd.DataFrame({
            "router": name, "training_seed": train_seed, "episode": np.arange(len(r.cost_bps)),
            "stock": stocks[r.stock], "side": r.side, "ordered_shares": r.shares, "horizon_s": r.horizon_s,
            "block": r.block,  # the unit of an interval where it is not -1
            "vwap_slippage_bps": r.cost_bps, "vwap_slippage_hs": r.cost_hs,
            "arrival_cost_bps": r.arrival_bps, "vwap_affected_bps": r.affected_bps,
            "take_frac": r.kind_frac[:, 0], "post_frac": r.kind_frac[:, 1], "dark_frac": r.kind_frac[:, 2],
            "completion_frac": r.completion_frac,
        })  # fmt: skip
        for i, component in enumerate(COMPONENTS):
            frame[f"{component}_bps"] = r.components_bps[:, i]
        frames.append(frame)
    return pd.concat(frames, ignore_index=True).astype({"training_seed": "Int64"})


def fills_frame(
    baselines: dict[str, RouterResult], learned: dict[str, list[RouterResult]], seeds: Sequence[int]
) -> pd.DataFrame:
    """Fills of the first parents of every router; prices in dollars, exclusive of fees; quotes as at the fill."""
    named: list[tuple[str, int | None, RouterResult]] = [(name, None, r) for name, r in baselines.items()]
    named += [(POOLED, int(s), r) for s, r in zip(seeds, learned.get(POOLED, []), strict=False)]
    frames = []
    for name, train_seed, r in named:
        if not r.fills:
            continue
        frame = pd.DataFrame(np.concatenate(r.fills))
        frame.insert(0, "training_seed", train_seed)
        frame.insert(0, "router", name)
        frame["route"] = np.array(r.routes)[frame["route"]]
        frame["price_usd"] = (frame["arrival_usd"] * (1 + 1e-4 * frame["price_bps"])).round(6)
        frames.append(frame)
    if not frames:
        return pd.DataFrame({"router": pd.Series(dtype=str)})
    return pd.concat(frames, ignore_index=True).astype({"training_seed": "Int64"})


def write_evaluation(folder: Path, payload: dict[str, Any], episodes: pd.DataFrame, fills: pd.DataFrame) -> None:
    """Write the three files; each appears whole or not at all, evaluation.json last."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, frame in (("episodes", episodes), ("fills", fills)):
        partial = folder / f".{name}.partial"
        frame.to_parquet(partial, compression="zstd", index=False)
        partial.replace(folder / f"{name}.parquet")
    partial = folder / ".evaluation.partial"
    partial.write_text(json.dumps(payload, indent=1))
    partial.replace(folder / "evaluation.json")
