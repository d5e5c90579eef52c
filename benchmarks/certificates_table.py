"""Certificates (JSON of `glasspool certify`) -> one Markdown page: `python benchmarks/certificates_table.py FOLDER`."""

from __future__ import annotations

import argparse
import json
import os
import platform
from datetime import date
from pathlib import Path


def cell(text: str) -> str:
    return text.replace("|", "\\|")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="certificates as JSON")
    certificates = [json.loads(p.read_text()) for p in parser.parse_args().folder.glob("*.json")]
    certificates.sort(key=lambda c: (c["market"] != "base", c["market"]))
    print("# Certificates of the packaged markets\n")
    print(
        f"`benchmarks/certification.sh`, {date.today().isoformat()}, {os.cpu_count()} cores, {platform.machine()}. "
        "What each line claims and its false-alarm rate: [docs/certification.md](../docs/certification.md).\n"
    )
    print(
        "Lines *as drawn* hold fills to the laws as the market draws its venues, regimes and events; the other lines "
        "of a law stand in a laboratory without them, the same for scenarios that differ in such draws alone.\n"
    )
    print("| market | lines | hold | fail | do not apply | orders | seed | s |\n|---|---|---|---|---|---|---|---|")
    for c in certificates:
        verdicts = [x["passed"] for x in c["checks"]]
        failed = ", ".join(x["name"] for x in c["checks"] if x["passed"] is False) or "none"
        print(f"| {c['market']} | {len(verdicts)} | {verdicts.count(True)} | {failed} | {verdicts.count(None)} | "
              f"{c['orders']:,} | {c['seed']} | {c['seconds']:.0f} |")  # fmt: skip
    for c in certificates:
        print(f"\n## {c['market']}\n\n| verdict | check | measured |\n|---|---|---|")
        for x in c["checks"]:
            verdict = {True: "holds", False: "**FAILS**", None: "n/a"}[x["passed"]]
            print(f"| {verdict} | {cell(x['name'])} | {cell(x['measured'])} |")


if __name__ == "__main__":
    main()
