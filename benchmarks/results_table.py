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
        "Training starts from an imitation of tuned_sor (`training.teacher`), so part of the gain over rule_sor is "
        "there before reinforcement learning. Denoised difference from rule_sor on 500 validation parents, "
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
    print("# Result tables, market by market\n\nWritten by `benchmarks/results_table.py` on", machine + ".\n")
    notes = Path(__file__).with_name("first_table_notes.md")
    print(notes.read_text() + "\n" + start_and_end(Path(sys.argv[1])) + "\n")
    print("\n\n".join(section(e) for e in evaluations))


if __name__ == "__main__":
    main()
