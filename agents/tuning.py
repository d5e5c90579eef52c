"""Tuning the rule-based SOR: random search over its own keys on training markets, paired, the finalists run longer."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from pydantic import ValidationError

from ..configs.rule_sor import RuleSorConfig
from ..envs.market import Market
from .evaluation import run_router
from .rule_based import RuleSor


@dataclass(frozen=True)
class TuningResult:
    """The winner and how it was found. Costs in half spreads of the training markets."""

    config: RuleSorConfig
    cost_hs: float
    default_cost_hs: float
    samples: int
    finalists: int
    orders: int
    final_orders: int


def draw_config(rng: np.random.Generator) -> RuleSorConfig | None:
    """One random setting; None when its bands are out of order."""

    def log_uniform(lo: float, hi: float) -> float:
        return float(np.exp(rng.uniform(math.log(lo), math.log(hi))))

    good = rng.uniform(-0.8, 0.2)
    try:
        return RuleSorConfig(
            size_large_pct_adv=round(log_uniform(0.5, 20.0), 3),
            size_small_pct_adv=round(log_uniform(0.02, 1.0), 3),
            liquid_adv_shares=int(log_uniform(1e5, 1e7)),
            illiquid_adv_shares=100_000,
            tight_spread_bps=round(log_uniform(2.0, 40.0), 2),
            wide_spread_bps=round(log_uniform(10.0, 200.0), 2),
            vol_calm_ratio=round(rng.uniform(1.0, 2.0), 3),
            vol_high_ratio=round(rng.uniform(1.5, 5.0), 3),
            ping_fill_good=round(log_uniform(0.005, 0.1), 4),
            rest_fill_good=round(log_uniform(0.01, 0.2), 4),
            venue_markout_good_hs=round(good, 3),
            venue_markout_poor_hs=round(good - rng.uniform(0.0, 0.6), 3),
            min_net_votes=int(rng.integers(-2, 3)),
            rank_by=str(rng.choice(["fill_rate", "net_value"])),  # type: ignore[arg-type]
            dark_fraction=round(rng.uniform(0.1, 1.0), 3),
            post_by=str(rng.choice(["fee", "net_value"])),  # type: ignore[arg-type]
            post_saving_hs=round(rng.uniform(0.5, 4.0), 3),
            final_take_frac=round(log_uniform(0.002, 0.08), 4),
            behind_s=round(log_uniform(20.0, 1200.0), 1),
            max_slices=round(log_uniform(1.0, 40.0), 2),
        )
    except ValidationError:
        return None


def tune_rule_sor(
    market: Market, seed: int, *, samples: int = 200, orders: int = 300, finalists: int = 10, final_orders: int = 2_000,
    report: Callable[[int, float], None] | None = None,
) -> TuningResult:  # fmt: skip
    """Random search on the training stream: `samples` settings on `orders` parents, the best `finalists` on more."""
    rng = np.random.default_rng(seed)

    def cost(config: RuleSorConfig, n: int) -> float:
        return float(run_router(market, RuleSor(config), n, seed, "train").denoised_hs.mean())

    tried: list[tuple[float, RuleSorConfig]] = []
    while len(tried) < samples:
        config = draw_config(rng)
        if config is None:
            continue
        tried.append((cost(config, orders), config))
        if report is not None:
            report(len(tried), min(c for c, _ in tried))
    best = sorted(tried, key=lambda t: t[0])[:finalists]
    finals = [(cost(config, final_orders), config) for _, config in best]
    cost_hs, winner = min(finals, key=lambda t: t[0])
    default = cost(RuleSorConfig(), final_orders)
    return TuningResult(winner, cost_hs, default, samples, finalists, orders, final_orders)
