"""The model card of a bundle: one page that says what the policy is for, how it was made, and what is known of it."""

from __future__ import annotations

from typing import Any

from ..configs.experiment import ExperimentConfig
from .onnx_policy import OnnxMlp
from .runtime import AdditiveRuntime


def model_card(
    policy_id: str, config: ExperimentConfig, seed: int, runtime: AdditiveRuntime | OnnxMlp, training: dict[str, Any],
    evaluation: dict[str, Any], log: dict[str, int], command: str, created: str,
) -> str:  # fmt: skip
    """Markdown. `training` and `evaluation` are the run's JSON files; {} where there is none."""
    market = config.market
    prices = "recorded days, simulated fills" if market.replay else "synthetic, every fill simulated"
    stocks = ", ".join(s.name for s in market.stocks)
    if config.training.extra_stocks:
        stocks += f" (in training also {', '.join(s.name for s in config.training.extra_stocks)})"
    wider = " Venues of training were drawn from ranges of its own (`training.randomisation` in config.yaml)."
    wider = wider if config.training.randomisation else ""
    venues = ", ".join(v.name for v in market.lit_venues)
    pools = ", ".join(market.dark_slots or [p.name for p in market.dark_pools]) or "none"
    horizons = (config.training.orders or market.orders).horizon_minutes
    lines = [
        f"# Model card: {policy_id} (SIMULATED)", "",
        f"Made {created} by `{command}`.", "",
        "## Purpose",
        "Routes the child orders of a VWAP parent over lit and dark venues: how many shares to work in an interval, "
        "and with which venue and order type.", "",
        "- Permitted: research, simulation, comparison with a rule-based router, review by a committee.",
        "- Prohibited: live orders without recalibration to the venues and names in question and an independent "
        "review. The policy has seen a simulator only.", "",
        "## Data",
        f"Market `{market.name}`: {prices}. Stocks: {stocks}. Lit venues: {venues}. Dark venues: {pools}. "
        f"Intervals of {market.interval_s:g} s; orders of {', '.join(f'{h:g}' for h in sorted(horizons))} minutes."
        + wider, "",
        "## Model",
        _form(runtime, config), "",
        "## Training",
        *_training(config, seed, training), "",
        "## Outcomes",
        *_outcomes(evaluation), "",
        "## Explanations",
        _log(log),
        "",
        "## Limits",
        "- Fills, impact and adverse selection come from a model whose constants are assumed or calibrated.",
        "- Where a feature is outside what training saw, or no number, the rule SOR decides instead.",
        *_unseen_horizons(config),
        "- The log is tamper-evident as long as a copy of its checkpoints is kept elsewhere.", "",
    ]  # fmt: skip
    return "\n".join(lines)


def _unseen_horizons(config: ExperimentConfig) -> list[str]:
    """Of the market's orders, those that training left out."""
    trained = config.training.orders or config.market.orders
    unseen = sorted(set(config.market.orders.horizon_minutes) - set(trained.horizon_minutes))
    if not unseen:
        return []
    minutes = ", ".join(f"{h:g}" for h in unseen)
    text = "minutes are in the outcomes and were not in training; no control stops the policy there."
    return [f"- Orders of {minutes} {text}"]


def _form(runtime: AdditiveRuntime | OnnxMlp, config: ExperimentConfig) -> str:
    if isinstance(runtime, OnnxMlp):
        return (
            f"Neural network, hidden layers of {', '.join(map(str, runtime.hidden))} tanh units, for the "
            f"{runtime.n_routes} routes of training only. ONNX Runtime decides. Explanations are Integrated Gradients, "
            "which add up but for a residual that every record holds; nothing bounds the direction in which a feature "
            "acts."
        )
    kinds = runtime.kind_names[1:]
    return (
        "Additive: every score is a bias plus a sum of one-feature functions. "
        f"{len(kinds)} kinds of route ({', '.join(kinds)}), {runtime.knots} knots a function; venue-shared functions: "
        f"{_yes(config.agent.share_venues)}; monotone in venue quality: {_yes(config.agent.monotone)}. Decided in "
        "whole numbers of 1e-9, so explanations add up exactly."
    )


def _log(log: dict[str, int]) -> str:
    if not log["orders"]:
        return "No sample log in this bundle; `glasspool explain` on it writes one."
    return (
        f"`explanations/decisions.jsonl` holds {log['decisions']:,} decisions over {log['orders']} sample orders "
        f"({log['children']:,} child orders, {log['fills']:,} fills; {log['fallbacks']:,} decisions by the rule SOR, "
        f"because a feature was outside training) and what came of them, {log['records']:,} records in all, "
        "hash-chained: `glasspool audit verify`."
    )


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _training(config: ExperimentConfig, seed: int, training: dict[str, Any]) -> list[str]:
    t = config.training
    search = "" if t.search is None else f", then {t.search.rounds} rounds of policy search over {t.search.pairs} pairs"
    lines = [
        f"Seed {seed}. Started from: {t.teacher or 'nothing'}. PPO (Stable-Baselines3), {t.steps:,} steps{search}."
    ]
    if training:
        lines.append(
            f"Ran {training.get('steps')} decisions in {training.get('seconds')} s; the best policy on the validation "
            f"markets, at decision {training.get('best_step')}, is kept (validation slippage "
            f"{training.get('best_validation_hs')} half spreads)."
        )
    return lines


def _outcomes(evaluation: dict[str, Any]) -> list[str]:
    comparisons = evaluation.get("comparisons") or []
    if not comparisons:
        return ["Not evaluated: no evaluation.json lay in the run folder when the bundle was made."]
    lines = [
        f"{evaluation.get('episodes')} held-out parents of market `{evaluation.get('market')}`, test seed "
        f"{evaluation.get('test_seed')}, paired; difference router minus baseline, negative is cheaper. The "
        "interval is over parents, of this one training seed. `tuned_sor` and `sor_strong` are tuned on market `base`, "
        "whichever this one is.", "",
        "| router | baseline | metric | difference bps | 95 % interval |", "|---|---|---|---|---|",
    ]  # fmt: skip
    for c in comparisons:
        lo, hi = c["ci95_bps"]
        lines.append(
            f"| {c['router']} | {c['baseline']} | {c['metric']} | {c['mean_difference_bps']:+.3f} | "
            f"{lo:+.3f} to {hi:+.3f} |"
        )
    return lines
