"""Tuning the rule-based routers: Optuna's TPE over their own keys on training markets, paired and pruned by stages.

Every setting works the same training parents. It starts on few; one that is not in the best third of those that were
there before it stops, the others go on to more (successive halving). The best are run again on parents that the search
never met, and with them the settings that it started from, so that the winner is not merely the luckiest.

Source: Bergstra et al. (2011), Algorithms for hyper-parameter optimization, NeurIPS 24 (TPE); Li et al. (2020), A
system for massively parallel hyperparameter tuning, MLSys 2 (asynchronous successive halving).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import optuna

from ..configs.allocator import ALLOCATOR_CONFIGS, AllocatorConfig
from ..configs.model import Model
from ..configs.rule_sor import RuleSorConfig
from ..configs.strong_sor import StrongSorConfig, as_strong
from ..envs.market import Market
from .allocators.router import RULES, AllocatorRouter, Rule
from .evaluation import run_router
from .router import Router
from .rule_based import RuleSor
from .strong_sor import StrongSor

STAGES = 3
STAGE_FACTOR = 3
RANDOM_FIRST = 20  # settings drawn before the sampler trusts what it has seen
FINALISTS = 10
FINAL_ORDERS = 2_000


@dataclass(frozen=True)
class Range:
    """Values that a key may take in the search. `above`: the key holds this number on top of another key's."""

    low: float
    high: float
    log: bool = False
    whole: bool = False
    above: str | None = None


Space = Mapping[str, Range | tuple[str, ...]]

RULE_SPACE: Space = {
    "size_small_pct_adv": Range(0.02, 1.0, log=True),
    "size_large_pct_adv": Range(0.01, 20.0, log=True, above="size_small_pct_adv"),
    "liquid_adv_shares": Range(1e5, 1e7, log=True, whole=True),
    "tight_spread_bps": Range(2.0, 40.0, log=True),
    "wide_spread_bps": Range(1.0, 200.0, log=True, above="tight_spread_bps"),
    "vol_calm_ratio": Range(1.0, 2.0),
    "vol_high_ratio": Range(0.1, 4.0, above="vol_calm_ratio"),
    "ping_fill_good": Range(0.005, 0.1, log=True),
    "rest_fill_good": Range(0.01, 0.2, log=True),
    "venue_markout_poor_hs": Range(-1.4, 0.2),
    "venue_markout_good_hs": Range(0.0, 0.6, above="venue_markout_poor_hs"),
    "min_net_votes": Range(-2, 2, whole=True),
    "rank_by": ("fill_rate", "net_value"),
    "dark_fraction": Range(0.0, 1.0),
    "post_by": ("fee", "net_value"),
    "post_saving_hs": Range(0.0, 6.0),
    "final_take_frac": Range(0.002, 0.08, log=True),
    "behind_s": Range(20.0, 1200.0, log=True),
    "max_slices": Range(1.0, 40.0, log=True),
}  # what a good desk has fixed (illiquid_adv_shares, samples that are too small, poor fill rates) stays

STRONG_SPACE: Space = {
    **RULE_SPACE,
    "scorecard": ("raw", "shrunk"),
    "order_type_by": ("size", "net_value"),
    "rest_bonus_ratio": Range(0.25, 4.0, log=True),
    "max_pools": Range(1, 2, whole=True),
    "dark_saving_hs": Range(0.0, 6.0),
    "dark_share_by": ("fixed", "net_value"),
    "max_posts": Range(1, 3, whole=True),
    "ahead_frac": Range(0.0, 0.05),
    "behind_left_frac": Range(0.05, 1.0, log=True),
    "behind_vol_power": Range(-1.0, 1.0),
    "catch_up_frac": Range(0.02, 1.0, log=True),
    "take_spread_power": Range(-1.0, 2.0),
    "imbalance_against": Range(0.0, 1.0),
    "against_take_ratio": Range(1.0, 4.0),
    "against_take_slices": Range(0.0, 2.0),
    "imbalance_with": Range(0.0, 1.0),
    "with_take_ratio": Range(0.0, 1.0),
}


PATIENCE_SPACE: Space = {key: RULE_SPACE[key] for key in ("behind_s", "max_slices")}
ALLOCATOR_SPACES: dict[str, Space] = {
    "ganchev": {"history_attempts": Range(10.0, 5_000.0, log=True), "least_tries": Range(1.0, 200.0, log=True)},
    "thompson": {"history_attempts": Range(10.0, 5_000.0, log=True)},
    "agarwal": {"rate_ratio": Range(0.1, 10.0, log=True)},
    "llp": {"explore_frac": Range(0.0, 0.5)},
}


@dataclass(frozen=True)
class Tunable:
    """A parametrised router: its settings, their search space, and how to make it."""

    config: type[Model]
    space: Space
    make: Callable[[Any], Router]
    started_as: Callable[[Any], Model]  # settings of the rule SOR or its own, as its own


def _as_own_strong(config: RuleSorConfig) -> Model:
    return config if isinstance(config, StrongSorConfig) else as_strong(config)


def _allocator(rule: Rule, aware: bool) -> Tunable:
    """With the rule SOR it shares how patient it is."""
    own = ALLOCATOR_CONFIGS[rule]

    def started_as(config: Model) -> Model:
        return own(**config.model_dump(include=set(PATIENCE_SPACE))) if isinstance(config, RuleSorConfig) else config

    return Tunable(own, {**PATIENCE_SPACE, **ALLOCATOR_SPACES[rule]}, partial(_make, rule, aware), started_as)


def _make(rule: Rule, aware: bool, config: AllocatorConfig) -> Router:
    return AllocatorRouter(rule, config, aware=aware)


TUNABLE: dict[str, Tunable] = {
    "rule_sor": Tunable(RuleSorConfig, RULE_SPACE, RuleSor, lambda c: c),
    "sor_strong": Tunable(StrongSorConfig, STRONG_SPACE, StrongSor, _as_own_strong),
    **{f"{rule}{form}": _allocator(rule, form != "") for rule in RULES for form in ("", "_markout")},
}


@dataclass(frozen=True)
class TuningResult:
    """The winner and how it was found. Costs in half spreads, + = cost, on training parents not met in the search."""

    config: Model
    cost_hs: float
    default_cost_hs: float
    samples: int
    pruned: int
    finalists: int
    orders: int
    final_orders: int
    search_s: float


def suggest(trial: optuna.Trial, tunable: Tunable) -> Model:
    """A setting of the space; numbers have four digits, as the file shows them."""
    values: dict[str, Any] = {}
    for key, domain in tunable.space.items():
        if not isinstance(domain, Range):
            values[key] = trial.suggest_categorical(key, domain)
            continue
        if domain.whole:
            x: float = trial.suggest_int(key, int(domain.low), int(domain.high), log=domain.log)
        else:
            x = _digits(trial.suggest_float(key, domain.low, domain.high, log=domain.log))
        values[key] = x if domain.above is None else _digits(values[domain.above] + x)
    return tunable.config(**values)


def parameters(config: Model, space: Space) -> dict[str, Any]:
    """A setting as parameters of the search, moved to the edge of the space where it lies outside."""
    out: dict[str, Any] = {}
    for key, domain in space.items():
        value = getattr(config, key)
        if isinstance(domain, Range):
            value = value if domain.above is None else value - getattr(config, domain.above)
            value = min(max(value, domain.low), domain.high)
            value = int(value) if domain.whole else float(value)
        out[key] = value
    return out


def _digits(x: float) -> float:
    return float(f"{x:.4g}")


def tune(
    market: Market, router: str, seed: int, *, samples: int | None = 200, seconds: float | None = None,
    orders: int = 900, start: Sequence[Model] = (), report: Callable[[int, float, float], None] | None = None,
) -> TuningResult:  # fmt: skip
    """Search until `samples` settings are tried or `seconds` are over, whichever is first; then run the finals.

    Args:
        router: a key of TUNABLE.
        orders: training parents of the last stage; the first has a ninth of them.
        start: settings to try first, beside the default and the rule SOR's.
        report: called after each setting with their number, the best cost so far (half spreads) and the part done.

    The same arguments without `seconds` give the same result.
    """
    tunable, began = TUNABLE[router], time.perf_counter()
    stages = sorted({max(2, orders // STAGE_FACTOR**k) for k in range(STAGES)})

    def cost(config: Model, first: int, n: int) -> float:
        return float(run_router(market, tunable.make(config), n, seed, "train", first=first).denoised_hs.sum())

    def objective(trial: optuna.Trial) -> float:
        config, total, done = suggest(trial, tunable), 0.0, 0
        for n in stages:
            total += cost(config, done, n - done)
            done = n
            trial.report(total / n, n)
            if n < stages[-1] and trial.should_prune():
                raise optuna.TrialPruned
        trial.set_user_attr("config", config.model_dump(mode="json"))
        return total / done

    def tell(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        if report is not None:
            n, spent = trial.number + 1, time.perf_counter() - began
            parts = [n / samples if samples else 0.0, spent / seconds if seconds else 0.0]
            report(n, study.best_value, min(1.0, max(parts)))

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=RANDOM_FIRST),
        pruner=optuna.pruners.SuccessiveHalvingPruner(stages[0], STAGE_FACTOR),
    )
    first = [tunable.config(), tunable.started_as(RuleSorConfig()), *(tunable.started_as(c) for c in start)]
    for params in _distinct([parameters(config, tunable.space) for config in first]):
        study.enqueue_trial(params)
    study.optimize(objective, n_trials=samples, timeout=seconds, callbacks=[tell])
    search_s = time.perf_counter() - began

    complete = _complete(study)
    best = sorted(complete, key=lambda t: (t.value or 0.0, t.number))[:FINALISTS]
    finals = _distinct([*first, *(tunable.config(**t.user_attrs["config"]) for t in best)])
    costs = np.array([cost(config, orders, FINAL_ORDERS) for config in finals]) / FINAL_ORDERS
    winner = int(costs.argmin())
    return TuningResult(
        finals[winner], float(costs[winner]), float(costs[0]), len(study.trials), len(study.trials) - len(complete),
        len(finals), orders, FINAL_ORDERS, search_s,
    )  # fmt: skip


def _complete(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    return study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))


def _distinct(items: Sequence[Any]) -> list[Any]:
    return [x for i, x in enumerate(items) if x not in items[:i]]


__all__ = ["RULE_SPACE", "STRONG_SPACE", "TUNABLE", "Range", "TuningResult", "parameters", "suggest", "tune"]
