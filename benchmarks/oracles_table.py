"""Gaps to known optima as a table in Markdown: `glasspool oracle all --json gaps.json`, then
`python benchmarks/oracles_table.py gaps.json ...`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

COLUMNS = (
    "problem", "policy", "optimum", "learned, mean", "gap %", "95 % interval", "mark %", "passed", "best simple rule",
    "worst regret %", "gap % by seed", "seconds a seed", "processor seconds a seed",
)  # fmt: skip


def cells(row: dict[str, Any]) -> list[str]:
    interval = row["gap_ci95_percent"]
    return [
        row["problem"], row["policy"], f"{row['optimum']:.9f}", f"{row['learned_mean']:.6f}",
        f"{row['gap_percent']:.3f}", "one seed" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}",
        f"{row['pass_mark_percent']:g}", "yes" if row["passed"] else "**no**", f"{row['best_simple_rule']:.6f}",
        f"{row['action_regret_percent']:.2f}", ", ".join(f"{gap:.2f}" for gap in row["gaps_percent"]),
        f"{row['seconds_per_seed']:.0f}", f"{row['cpu_seconds_per_seed']:.0f}",
    ]  # fmt: skip


def main(paths: list[str]) -> None:
    rows = [row for path in paths for row in json.loads(Path(path).read_text(encoding="utf-8"))]
    for line in (COLUMNS, ["---"] * len(COLUMNS), *map(cells, rows)):
        print("| " + " | ".join(line) + " |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gaps", nargs="+", metavar="JSON", help="of `glasspool oracle --json`")
    main(parser.parse_args().gaps)
