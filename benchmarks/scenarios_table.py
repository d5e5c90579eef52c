"""Evaluation folders of the scenarios -> one Markdown page: `python benchmarks/scenarios_table.py FOLDER ...`."""

from __future__ import annotations

import json
import os
import platform
import sys
from datetime import date
from pathlib import Path
from typing import Any


def difference(e: dict[str, Any], baseline: str, unit: str) -> str:
    (c,) = [c for c in e["comparisons"] if c["baseline"] == baseline]
    lo, hi = c[f"ci95_{unit}"]
    return f"{c[f'mean_difference_{unit}']:+.2f} [{lo:+.2f}, {hi:+.2f}]"


def main() -> None:
    evaluations = [json.loads((Path(f) / "evaluation.json").read_text()) for f in sys.argv[1:]]
    first = evaluations[0]
    print("# Policies trained on the base market, judged on the scenarios\n")
    print(
        f"`benchmarks/scenarios.sh`, {date.today().isoformat()}, {os.cpu_count()} cores, {platform.machine()}. "
        f"Training seeds {', '.join(map(str, first['seeds']))}, {first['episodes']:,} held-out parents a scenario, "
        f"test seed {first['test_seed']}. Neither policies nor tuned SORs have seen a scenario; the policies met "
        "one class of one-tick names in training, with other numbers than `one_tick` has. A difference is router minus "
        "baseline, negative = cheaper; 95 % intervals over seeds and parents. Fallback: decisions left "
        "to the rule SOR because a feature was outside what training met.\n"
    )
    columns = ["scenario", "learned, bps", "strong SOR", "tuned SOR", "rule SOR", "lit VWAP", "learned − strong, bps",
               "half spreads", "learned − tuned, bps", "half spreads", "fallback"]  # fmt: skip
    print("| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|")
    for e in evaluations:
        names = ("learned", "sor_strong", "tuned_sor", "rule_sor", "vwap_lit")
        means = [f"{e['routers'][r]['vwap_slippage_bps']['mean']:.2f}" for r in names]
        gaps = [difference(e, router, unit) for router in ("sor_strong", "tuned_sor") for unit in ("bps", "hs")]
        fallback = f"{e['routers']['learned']['fallback']['fallback_frac']:.2%}"
        print("| " + " | ".join([e["market"], *means, *gaps, fallback]) + " |")


if __name__ == "__main__":
    main()
