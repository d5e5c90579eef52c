"""Every stated counterfactual of a log, applied: does it turn the decision, and not a step nearer? Writes
counterfactuals.md beside itself.

glasspool explain BUNDLE --orders 40 --out DIR; python benchmarks/counterfactuals.py BUNDLE DIR/decisions.jsonl ...
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import numpy as np

from glasspool.agents.bundle import load_bundle
from glasspool.agents.redecision import Redecider
from glasspool.explain.decision_log import read_log

WANTED = 10_000  # decisions


def main(folder: str, *logs: str) -> None:
    bundle = load_bundle(folder)
    redecider = Redecider(bundle)
    decisions = 0
    told, turned, held, moved = (Counter[tuple[str, str]]() for _ in range(4))
    none: Counter[str] = Counter()
    far: dict[tuple[str, str], list[float]] = {}
    for redecider, record in ((r, record) for log in logs for r in [Redecider(bundle)] for record in read_log(log)):
        body = record["body"]
        if record["type"] in ("run", "parent"):
            assert redecider(record) is None
        if record["type"] != "decision":
            continue
        if decisions == WANTED:
            break
        decisions += 1
        if not body["flips"]:
            none[
                "last slot" if body["last_slot"] else "nothing within the ranges, or no route that was open or led"
            ] += 1
            continue
        for flip in body["flips"]:
            key = (flip["to"], flip["lever"])
            told[key] += 1
            turned[key] += redecider.turned(body, flip, flip["value"]) == flip["to"]
            # of a decision to send nothing, None (nothing is sent) is what it was
            held[key] += redecider.turned(body, flip, flip["before"]) not in (
                flip["to"],
                None if flip["to"] != "sent" else "",
            )
            sent: Counter[str] = Counter()
            for child in body["released"]:
                sent[child["route"]] += child["shares"]
            moved[key] += dict(sent) != flip["orders"]
            far.setdefault(key, []).append(flip["distance_ppm"] / 1e6)
    lines = [
        "# Counterfactuals applied", "",
        f"`python benchmarks/counterfactuals.py BUNDLE LOG ...`: policy {bundle.policy_id} on {len(logs)} logs. "
        f"{decisions:,} decisions, {told.total():,} counterfactuals; each was decided again in full with its one "
        "quantity at the stated value, and a step of its last digit nearer to what it was.", "",
        "| largest order to | if changed | stated | turned when applied | not turned a step nearer | "
        "other orders sent | median distance |",
        "|---|---|---:|---:|---:|---:|---:|",
        *(f"| {k[0]} | `{k[1]}` | {n:,} | {turned[k]:,} | {held[k]:,} | {moved[k]:,} | {np.median(far[k]):.3f} |"
          for k, n in sorted(told.items())),
        f"| all | | {told.total():,} | {turned.total():,} | {held.total():,} | {moved.total():,} | |", "",
        "`sent`: nothing was, and then something. Distance: fraction of the feature's range. Without one: "
        + ", ".join(f"{n:,} ({why})" for why, n in none.items()) + ".",
    ]  # fmt: skip
    Path(__file__).with_suffix(".md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("logs", nargs="+", metavar="LOG", help="decisions.jsonl of `glasspool explain`")
    given = parser.parse_args()
    main(given.bundle, *given.logs)
