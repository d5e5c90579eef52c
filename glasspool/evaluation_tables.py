"""What `evaluate` prints: costs by router, the share of decisions that the fallback took, paired differences."""

from __future__ import annotations

from typing import Any

from .agents.comparison import POOLED
from .console import console_beside, print_table, write_json


def print_evaluation(payload: dict[str, Any], json_file: str | None = None) -> None:
    """Tables of an evaluation's payload; with `json_file` the payload as JSON too."""
    if json_file is not None:
        write_json(json_file, payload)
    rows = []
    for name, r in payload["routers"].items():
        cost = r["vwap_slippage_bps"]
        shares = [f"{r[kind + '_frac']:.1%}" for kind in ("dark", "post", "take")]
        half_spreads = f"{r['vwap_slippage_hs']['mean']:.3f}"
        rows.append(
            [name, f"{cost['mean']:.3f} {interval(cost['ci95'], '.2f')}", half_spreads, f"{cost['sd']:.1f}",
             f"{r['tail5_bps']:.1f}", *shares]
        )  # fmt: skip
    what = f"{payload['price_paths']} prices, simulated fills"
    print_table(
        f"{payload['episodes']} held-out parents on {payload['market']} ({what}), + = cost",
        ["router", "cost bps [95 %]", "half spreads", "sd bps", "worst 5 %", "dark", "post", "take"],
        rows, json_file=json_file,
    )  # fmt: skip
    print_fallbacks(payload, json_file)
    print_table(
        "router minus baseline on the same parents [95 % interval], negative = cheaper",
        ["router", "baseline", "bps", "half spreads"],
        [
            [c["router"], c["baseline"], *(
                f"{c[f'mean_difference_{unit}']:+.3f} {interval(c[f'ci95_{unit}'], '+.3f')}" for unit in ("bps", "hs")
            )]
            for c in payload["comparisons"]
        ],
        json_file=json_file,
    )  # fmt: skip


def print_fallbacks(payload: dict[str, Any], json_file: str | None = None) -> None:
    """A line for every router that the rule SOR stands behind, and a warning where it decided much."""
    from .tca.report.words import MUCH_FALLBACK  # with the report's libraries, so only when there is a result

    for name, r in payload["routers"].items():
        if (fallback := r.get("fallback")) is not None:
            features = ", ".join(f"{feature} {n:,}" for feature, n in sorted(fallback["by_feature"].items())) or "none"
            console_beside(json_file).print(
                f"{name}: fallback to the rule SOR in {fallback['fallback_frac']:.2%} of {fallback['decisions']:,} "
                f"decisions (features outside training: {features})"
            )
            if fallback["fallback_frac"] > MUCH_FALLBACK:
                console_beside(json_file).print(
                    f"WARNING: the rule SOR, not the policy, took {fallback['fallback_frac']:.0%} of the decisions of "
                    f"{name!r}; its row says that much less of the policy. Train on a market like this one.",
                    style="bold",
                )


def interval(bounds: list[float], form: str) -> str:
    """Both ends of an interval in brackets."""
    return f"[{bounds[0]:{form}}, {bounds[1]:{form}}]"


def verdict(payload: dict[str, Any]) -> str:
    """One line a comparison with a rule-based SOR: cheaper, dearer, or no difference at 95 %."""
    lines = []
    for c in payload["comparisons"]:
        if c["router"] == POOLED and "sor" in c["baseline"]:
            lo, hi = c["ci95_hs"]
            word = "cheaper than" if hi < 0 else "dearer than" if lo > 0 else "not shown to differ from"
            lines.append(
                f"verdict: the learned policy is {word} {c['baseline']}: {c['mean_difference_bps']:+.2f} bps "
                f"[{c['ci95_bps'][0]:+.2f}, {c['ci95_bps'][1]:+.2f}], "
                f"{c['mean_difference_hs']:+.3f} half spreads [{lo:+.3f}, {hi:+.3f}]"
            )
    return "\n".join(lines)
