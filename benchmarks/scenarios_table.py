"""Evaluation folders -> one Markdown page: `python benchmarks/scenarios_table.py TITLE SCRIPT FOLDER ...`."""

from __future__ import annotations

import argparse
import json
import os
import platform
from datetime import date
from pathlib import Path
from typing import Any


def difference(e: dict[str, Any], baseline: str, unit: str) -> str:
    (c,) = [c for c in e["comparisons"] if c["baseline"] == baseline]
    lo, hi = c[f"ci95_{unit}"]
    return f"{c[f'mean_difference_{unit}']:+.2f} [{lo:+.2f}, {hi:+.2f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("title")
    parser.add_argument("script", help="that made the evaluations, for the page")
    parser.add_argument("folders", nargs="+", metavar="FOLDER", help="evaluation folder")
    given = parser.parse_args()
    title, script, folders = given.title, given.script, given.folders
    evaluations = [json.loads((Path(f) / "evaluation.json").read_text()) for f in folders]
    first = evaluations[0]
    print(f"# {title}\n")
    print(
        f"`{script}`, {date.today().isoformat()}, {os.cpu_count()} cores, {platform.machine()}. "
        f"Training seeds {', '.join(map(str, first['seeds']))}, {first['episodes']:,} held-out parents a market, "
        f"test seed {first['test_seed']}. Nothing was retrained or retuned. A difference is router minus baseline, "
        "negative = cheaper; 95 % intervals over seeds and parents, each alone, without a correction for their number. "
        "Fallback: decisions left to the rule SOR because a feature was outside what training met.\n"
    )
    columns = ["market", "learned, bps", "strong SOR", "tuned SOR", "rule SOR", "lit VWAP", "learned − strong, bps",
               "half spreads", "learned − tuned, bps", "half spreads", "worst 5 %, learned / strong",
               "dark share, learned / strong", "fallback"]  # fmt: skip
    print("| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|")
    for e in evaluations:
        names = ("learned", "sor_strong", "tuned_sor", "rule_sor", "vwap_lit")
        means = [f"{e['routers'][r]['vwap_slippage_bps']['mean']:.2f}" for r in names]
        gaps = [difference(e, router, unit) for router in ("sor_strong", "tuned_sor") for unit in ("bps", "hs")]
        fallback = f"{e['routers']['learned']['fallback']['fallback_frac']:.2%}"
        both = [e["routers"][r] for r in ("learned", "sor_strong")]
        tails = " / ".join(f"{r['tail5_bps']:.1f}" for r in both)
        dark = " / ".join(f"{r['dark_frac']:.1%}" for r in both)
        print("| " + " | ".join([e["market"], *means, *gaps, tails, dark, fallback]) + " |")


if __name__ == "__main__":
    main()
