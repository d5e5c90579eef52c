"""Ten decisions of a bundle's log, as different as it holds them, as pages for readers who have not seen the project.

    python scripts/fresh_reader_cases.py runs/demo/bundle --out runs/fresh-readers

writes case-01.html to case-10.html (`glasspool audit show`), questions.md for the readers, and key.json: what the log
says, for whoever compares their answers. Nobody reads the key before the pages.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from glasspool.configs.errors import UserError
from glasspool.explain.decision_log import read_log
from glasspool.explain.proof import find_case
from glasspool.explain.verification import verify_log
from glasspool.tca.report import write_case

Body = dict[str, Any]
CASES = 10
QUESTIONS = """# Ten decisions

Each page is one decision of an order router. All of it is simulated. For every page, from the page alone:

1. Who decided: the policy, or the rule-based router in its place? How do you know?
2. What was sent, where, and how many shares?
3. Why there and not elsewhere? Name the two reasons that weighed most.
4. Did a control change the decision? Which, and what was its limit?
5. What would the rule-based router have done?
6. What would have made the policy decide otherwise? (Or: the page does not say.)
7. What came of it: how many shares were filled?
8. What would the shares sent dark have been expected to cost lit? (Or: none were sent dark.)
9. Is the record really in the log? What would you do to make sure?
10. What on the page did you not understand?
"""


def leads_with(kind: str) -> Callable[[Body, int], bool]:
    return lambda body, filled: bool(body["released"]) and body["released"][0]["route"].endswith(kind)


KINDS: dict[str, Callable[[Body, int], bool]] = {
    "the fallback decided": lambda b, n: b["fallback"] is not None,
    "every route was masked": lambda b, n: all(c["masks"] for c in b["candidates"][1:]),
    "the last interval": lambda b, n: b["last_slot"],
    "nothing was sent": lambda b, n: not b["released"],
    "a control clipped it": lambda b, n: any(c["outcome"] == "clip" for c in b["controls"]),
    "dark, without a fill": lambda b, n: b["lit_alternative"] is not None and n == 0,
    "a pool was shut for toxicity": lambda b, n: any("MASKED_TOXICITY" in c.get("masks", []) for c in b["candidates"]),
    "the rule SOR would have gone elsewhere": lambda b, n: b["agrees"] == "no",
    "the rule SOR agrees": lambda b, n: b["agrees"] == "route",
    "a change would have sent it dark": lambda b, n: "dark" in [flip["to"] for flip in b["flips"]],
    "a rest": leads_with(":rest"), "a ping": leads_with(":ping"), "a post": leads_with(":post"),
    "a take": leads_with(":take"), "several routes": lambda b, n: len({c["route"] for c in b["released"]}) > 2,
}  # fmt: skip


def pick(bodies: list[Body], filled: dict[str, int]) -> list[tuple[str, Body]]:
    """(why it was picked, decision): the first of each kind that is not taken yet, then evenly spread over the log."""
    found: list[tuple[str, Body]] = []
    taken: set[str] = set()
    step = max(1, len(bodies) // CASES)
    spread = {f"decision {i}": (lambda b, n, at=i: b is bodies[at]) for i in range(step // 2, len(bodies), step)}
    for why, fits in {**KINDS, **spread}.items():
        body = next((b for b in bodies if b["decision_id"] not in taken and fits(b, filled[b["decision_id"]])), None)
        if body is not None and len(found) < CASES:
            found.append((why, body))
            taken.add(body["decision_id"])
    return found


def write_cases(log: Path, out: Path) -> list[Path]:
    """Pages, questions and key. Raises UserError: a log that is not whole, or with fewer than ten decisions."""
    verdict = verify_log(log)
    if not verdict.ok:
        raise UserError(f"{log}: {verdict.message}. Only a whole log is shown.")
    records = list(read_log(log))
    bodies = [r["body"] for r in records if r["type"] == "decision"]
    if len(bodies) < CASES:
        raise UserError(f"{log}: holds {len(bodies)} decisions. Log more orders (glasspool explain --orders).")
    decision_of = {c["child_id"]: b["decision_id"] for b in bodies for c in b["released"]}
    filled = dict.fromkeys((b["decision_id"] for b in bodies), 0)
    for record in records:
        if record["type"] == "fill":
            filled[decision_of[record["body"]["child_id"]]] += record["body"]["shares"]
    out.mkdir(parents=True, exist_ok=True)
    pages, key = [], {}
    for i, (why, body) in enumerate(pick(bodies, filled), start=1):
        case = find_case(log, body["decision_id"])
        proof = asdict(case.proof) | {"steps": case.proof.steps()}
        page = out / f"case-{i:02d}.html"
        pages.append(write_case(page, case.records, case.record, proof=proof, verdict=verdict.message))
        key[page.name] = {
            "picked_because": why, "decision_id": body["decision_id"],
            "decided_by": body["fallback"]["proposed_by"] if body["fallback"] else body["policy_id"],
            "released": [(c["route"], c["shares"]) for c in body["released"]], "reasons": body["reasons"],
            "controls": body["controls"], "baseline_top": body["baseline"]["top"], "agrees": body["agrees"],
            "counterfactual": body["counterfactual"], "filled_shares": filled[body["decision_id"]],
            "lit_alternative": body["lit_alternative"],
        }  # fmt: skip
    (out / "questions.md").write_text(QUESTIONS, encoding="utf-8")
    (out / "key.json").write_text(json.dumps(key, indent=1) + "\n", encoding="utf-8")
    return pages


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, nargs="?", default=Path("runs/demo/bundle"))
    parser.add_argument("--out", type=Path, default=Path("runs/fresh-readers"))
    args = parser.parse_args()
    log = args.bundle if args.bundle.is_file() else args.bundle / "explanations" / "decisions.jsonl"
    try:
        for page in write_cases(log, args.out):
            print(page)
    except UserError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
