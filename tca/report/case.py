"""One decision of a log as a page of its own: what was known, why, what came of it, and proof that it is in the log."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...configs.errors import UserError
from .decision import explain_decision
from .page import ChartBook, render_template, waterfalls, write_page
from .story import Record


def write_case(
    out: Path, records: Sequence[Record], record: Record, *, proof: Mapping[str, Any], verdict: str
) -> Path:  # fmt: skip
    """Write the page and return its path.

    Args:
        records: the whole log, in order.
        record: the decision among them.
        proof: index, size, root, path (hex, from the leaf up) and line (the raw record).
        verdict: what verification of the log said.

    Raises:
        UserError: `out` is no name of an HTML file, or its folder does not exist.
    """
    out = Path(out)
    if out.suffix not in (".html", ".htm"):  # a slip would write the page over the log
        raise UserError(f"{out}: a page is an HTML file. Name it so, such as case.html.")
    if out.is_dir() or not out.resolve().parent.is_dir():
        raise UserError(f"{out}: name a file in a folder that exists, such as case.html.")
    body = record["body"]
    decision = explain_decision(records, record, "")
    child_ids = {c.get("child_id") for c in body.get("released", [])}
    own = [r for r in records if r["body"].get("decision_id") == body["decision_id"]]
    execs = {r["body"]["exec_id"] for r in records if r["type"] == "fill" and r["body"].get("child_id") in child_ids}
    later = [
        r for r in records
        if r["type"] in ("route_event", "fill", "markout", "lit_outcome", "baseline_outcome", "review")
        and (r in own or r["body"].get("child_id") in child_ids or r["body"].get("exec_id") in execs)
    ]  # fmt: skip
    book = ChartBook()
    values = {
        "decision": decision, "waterfalls": waterfalls(decision, book), "body": body, "ts_ns": record["ts_ns"],
        "nbbo": body.get("nbbo") or {}, "events": [_event(r) for r in later], "proof": proof, "verdict": verdict,
        "sentence": body.get("sentence") or "", "hash": record.get("hash", ""),
    }  # fmt: skip
    write_page(out, render_template("case.html.j2", values))
    return out


def _event(record: Record) -> tuple[int, str, str]:
    """Number, type and content of a later record, as the log holds it."""
    parts = {k: v if isinstance(v, str) else json.dumps(v) for k, v in record["body"].items() if v is not None}
    return record["seq"], record["type"], ", ".join(f"{k} {v}" for k, v in parts.items())
