"""Evaluation folders -> one Markdown page of tables: `python benchmarks/results_table.py FOLDER ...`."""

from __future__ import annotations

import json
import os
import platform
import sys
from pathlib import Path
from typing import Any


def interval(pair: list[float]) -> str:
    return f"{pair[0]:+.3f} … {pair[1]:+.3f}"


def table(columns: list[str], rows: list[list[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


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
            ["router", "baseline", "bps", "95 %", "half spreads", "95 %", "denoised, half spreads", "95 %"],
            [
                [c["router"], c["baseline"], f"{c['mean_difference_bps']:+.3f}", interval(c["ci95_bps"]),
                 f"{c['mean_difference_hs']:+.3f}", interval(c["ci95_hs"]), f"{c['denoised_difference_hs']:+.3f}",
                 interval(c["denoised_ci95_hs"])]
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
    parts.append(f"Interval method: {e['interval_method']}.")
    return "\n\n".join(parts)


def main() -> None:
    evaluations = [json.loads((Path(f) / "evaluation.json").read_text()) for f in sys.argv[1:]]
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    print("# First result table\n\nWritten by `benchmarks/first_table.sh` on", machine + ".\n")
    print("\n\n".join(section(e) for e in evaluations))


if __name__ == "__main__":
    main()
