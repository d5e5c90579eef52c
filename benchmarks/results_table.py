"""Evaluation folders -> one Markdown page of tables: `python benchmarks/results_table.py FOLDER ...`."""

from __future__ import annotations

import argparse
import json
import os
import platform
from pathlib import Path
from typing import Any

from glasspool.tca.statistics import minimum_detectable_effect

NOTES = """Price paths, spreads and volumes are recorded; **dark fills and fills of posts are simulated**. Parents of
one block of a date are one cluster, so intervals are over blocks within a day and say nothing of other days.
Detectable: the smallest true difference that these parents would have shown in four of five cases. Fallback: decisions
left to the rule SOR.
"""


def interval(pair: list[float]) -> str:
    return f"{pair[0]:+.3f} … {pair[1]:+.3f}"


def verdict(ci95: list[float]) -> str:
    return "cheaper that day" if ci95[1] < 0 else "dearer that day" if ci95[0] > 0 else "inconclusive"


def detectable(ci95: list[float]) -> float:
    """The smallest true difference that so many parents would have shown (5 %, power 80 %)."""
    return minimum_detectable_effect((ci95[1] - ci95[0]) / (2 * 1.959964))


def table(columns: list[str], rows: list[list[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def start_and_end(folder: Path) -> str:
    """What the policy did on its validation markets before any reinforcement learning, and at its best."""
    rows = []
    for path in sorted(folder.glob("training-s*.json")):
        training = json.loads(path.read_text())
        first = training["curve"][0]
        best = min(training["curve"], key=lambda p: p["validation_slippage_hs"])
        rows.append([
            str(training["seed"]), f"{first['validation_vs_sor_hs']:+.3f}", f"{best['validation_vs_sor_hs']:+.3f}",
            f"{best['step']:,}", f"{training['seconds']:.0f}",
        ])  # fmt: skip
    if not rows:
        return ""
    return (
        "Training starts from an imitation of a rule-based router (`training.teacher`), so part of the gain over "
        "rule_sor is there before reinforcement learning. Denoised difference from rule_sor on the validation parents, "
        "half spreads:\n\n"
        + table(["seed", "at step 0 (imitation)", "at the best step", "best step", "training s"], rows)
    )


def section(e: dict[str, Any]) -> str:
    replayed = e["price_paths"] == "replayed"
    paths = "real price paths, spreads and volumes; simulated fills" if replayed else "synthetic tapes"
    parts = [
        f"## {e['market']}: {e['episodes']} held-out parents, {paths}",
        f"Training seeds {', '.join(map(str, e['seeds']))}; test seed {e['test_seed']}; created {e['created']}.",
        f"Command: `{e['command']}`",
        "Costs, + = dearer (`denoised` leaves out the part of the mid's noise that has zero mean by construction):",
        table(
            ["router", "slippage, bps", "95 %", "half spreads", "sd, bps", "worst 5 %, bps", "dark", "post", "take"],
            [
                [name, f"{r['vwap_slippage_bps']['mean']:.3f}", interval(r["vwap_slippage_bps"]["ci95"]),
                 f"{r['vwap_slippage_hs']['mean']:.3f}", f"{r['vwap_slippage_bps']['sd']:.1f}", f"{r['tail5_bps']:.1f}",
                 *(f"{r[k + '_frac']:.1%}" for k in ("dark", "post", "take"))]
                for name, r in e["routers"].items()
            ],
        ),
        "Paired differences, router minus baseline, negative = cheaper:",
        table(
            ["router", "baseline", "bps", "95 %", "verdict", "detectable, bps", "half spreads", "95 %"],
            [
                [c["router"], c["baseline"], f"{c['mean_difference_bps']:+.3f}", interval(c["ci95_bps"]),
                 verdict(c["ci95_bps"]), f"{detectable(c['ci95_bps']):.2f}", f"{c['mean_difference_hs']:+.3f}",
                 interval(c["ci95_hs"])]
                for c in e["comparisons"]
            ],
        ),
    ]  # fmt: skip
    for c in e["comparisons"]:
        if c["baseline"] not in ("rule_sor", "tuned_sor"):
            continue
        components = ", ".join(f"{k} {v:+.3f}" for k, v in c["components_bps"].items() if abs(v) >= 0.0005)
        parts.append(f"Against {c['baseline']} by component, bps: {components}.")
        if len(c["per_seed"]) > 1:
            parts.append(table(
                ["seed", f"bps against {c['baseline']}", "95 %", "half spreads", "95 %"],
                [[str(s["seed"]), f"{s['mean_difference_bps']:+.3f}", interval(s["ci95_bps"]),
                  f"{s['mean_difference_hs']:+.3f}", interval(s["ci95_hs"])] for s in c["per_seed"]],
            ))  # fmt: skip
    if fallback := e["routers"].get("learned", {}).get("fallback"):
        features = ", ".join(f"{name} {n:,}" for name, n in fallback["by_feature"].items())
        parts.append(f"Fallback: {fallback['fallback_frac']:.2%} of {fallback['decisions']:,} decisions ({features}).")
    parts.append(f"Interval method: {e['interval_method']}.")
    return "\n\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", metavar="FOLDER", help="evaluation folder")
    folders = parser.parse_args().folders
    evaluations = [json.loads((Path(f) / "evaluation.json").read_text()) for f in folders]
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    print("# Replayed days\n\nWritten by `benchmarks/results_table.py` on", machine + ".\n")
    print(NOTES)
    for folder in map(Path, folders):
        if (text := start_and_end(folder)) and folder.name.endswith("a-day"):
            print(text + "\n")
    print("\n\n".join(section(e) for e in evaluations))


if __name__ == "__main__":
    main()
