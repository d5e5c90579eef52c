"""Did the reason come true? Fill chances against fills, and expected savings against those realised on the same tape.

Saving of a dark decision, a share sent, in $0.000001, + = dark was cheaper than lit. A way costs, a share sent,

    filled x cost + (1 - filled) x later,        later = a take's spread, instantaneous part and fee by the model

over the mid 10 s later; what did not fill is taken then. Expected: the chance of a fill from the scorecard and the
model's costs; realised: shares filled and costs of `lit_outcome`. The own mark on what is left of the parent is in
neither, since outcomes hold the own impact. Intervals are clustered by parent; a decision counts under every reason
that it gave.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ..tca.statistics import mean_interval

MIN_DECISIONS, MIN_PARENTS = 1_000, 20
BINS = 10
Body = Mapping[str, Any]


def outcome_tables(records: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """{"reasons", "calibration", "disagreements"} of one log, read once, in order."""
    decisions: dict[str, dict[str, Any]] = {}
    savings: dict[tuple[str, str], list[tuple[float, float, str]]] = defaultdict(list)
    sent: dict[str, tuple[str, float]] = {}
    filled: set[str] = set()
    worth: dict[tuple[str, str], list[tuple[float, str]]] = defaultdict(list)
    for record in records:
        kind, body = record["type"], record["body"]
        if kind == "decision":
            decisions[body["decision_id"]] = {
                "parent": body["parent_id"], "codes": list(dict.fromkeys(r["code"] for r in body["reasons"])),
                "lit": body["lit_alternative"], "rule": body["baseline"]["rule"], "agrees": body["agrees"],
            }  # fmt: skip
            chance = {c["route"]: c["p_fill_ppm"] / 1e6 for c in body["candidates"][1:]}
            for child in body["released"]:
                if not child["route"].endswith(":take"):
                    sent[child["child_id"]] = (child["route"].partition(":")[2], chance[child["route"]])
        elif kind == "fill":
            filled.add(body["child_id"])
        elif kind == "lit_outcome":
            told = decisions[body["decision_id"]]
            for way in ("take", "post"):
                if way in body and "take" in told["lit"]:
                    pair = (expected_saving(told["lit"], way), realised_saving(told["lit"], body, way))
                    for code in ["(all dark decisions)", *told["codes"]]:
                        savings[code, way].append((*pair, told["parent"]))
        elif kind == "baseline_outcome":
            told = decisions[body["decision_id"]]
            for key in ("(all)", told["rule"]):
                worth[key, told["agrees"]].append((body["worth_e6"] / 1e6, told["parent"]))
    return {
        "reasons": [_reason_row(code, way, found) for (code, way), found in sorted(savings.items())],
        "calibration": _calibration(sent, filled),
        "disagreements": [_worth_row(rule, agrees, found) for (rule, agrees), found in sorted(worth.items())],
    }


def _way_cost(filled: float, cost_e6: float, later_e6: float) -> float:
    return filled * cost_e6 + (1.0 - filled) * later_e6


def _later(lit: Body) -> float:
    return float(lit["take"]["spread_e6"] + lit["take"]["instant_e6"] + lit["take"]["fee_e6"])


def expected_saving(lit: Body, way: str) -> float:
    """In $0.000001 a share sent dark, by the model of `lit_alternative`; + = dark is cheaper."""
    later = _later(lit)
    dark, other = (
        _way_cost(lit[w]["p_fill_ppm"] / 1e6, lit[w]["cost_e6"] - lit[w]["impact_e6"], later) for w in ("dark", way)
    )
    return other - dark


def realised_saving(lit: Body, outcome: Body, way: str) -> float:
    """The same from `lit_outcome`, on the same tape."""
    later = _later(lit)
    dark, other = (
        _way_cost(outcome[w]["filled_shares"] / outcome[w]["shares"], outcome[w]["cost_e6"] or 0.0, later)
        for w in ("dark", way)
    )
    return other - dark


def _reason_row(code: str, way: str, found: list[tuple[float, float, str]]) -> dict[str, Any]:
    expected, realised = np.array([f[0] for f in found]), np.array([f[1] for f in found])
    parents = np.array([f[2] for f in found])
    body: dict[str, Any] = {
        "reason": code, "against": way, "n": len(found), "parents": len(set(parents.tolist())),
        "expected_e6_per_share": float(expected.mean()), "realised_e6_per_share": float(realised.mean()),
        "difference_e6_per_share": float((realised - expected).mean()), "ci95": None, "agrees": None,
    }  # fmt: skip
    if body["parents"] >= MIN_PARENTS:
        i = mean_interval(realised - expected, parents, seed=1)
        body["ci95"] = [i.lo, i.hi]
        if len(found) >= MIN_DECISIONS:
            body["agrees"] = not i.excludes_zero
    return body


def _calibration(sent: Mapping[str, tuple[str, float]], filled: set[str]) -> list[dict[str, Any]]:
    """By order type: Brier score beside that of always saying the mean, and a reliability table in equal-count bins."""
    found = []
    for kind in sorted({k for k, _ in sent.values()}):
        own = [(p, child in filled) for child, (k, p) in sent.items() if k == kind]
        chance, hit = np.array([p for p, _ in own]), np.array([h for _, h in own], float)
        order = np.argsort(chance, kind="stable")
        bins = [b for b in np.array_split(order, BINS) if b.size]
        found.append({
            "order_type": kind, "estimator": "scorecard rate of child orders with a fill, shrunk by attempts",
            "n": len(own), "brier": float(((chance - hit) ** 2).mean()),
            "brier_of_the_mean": float(hit.mean() * (1 - hit.mean())),
            "bins": [{"n": int(b.size), "predicted": float(chance[b].mean()), "observed": float(hit[b].mean())}
                     for b in bins],
        })  # fmt: skip
    return found


def _worth_row(rule: str, agrees: str, found: list[tuple[float, str]]) -> dict[str, Any]:
    values, parents = np.array([f[0] for f in found]), np.array([f[1] for f in found])
    enough = len(set(parents.tolist())) >= MIN_PARENTS
    i = mean_interval(values, parents, seed=1) if enough else None
    return {
        "rule": rule, "agrees": agrees, "n": len(found), "parents": len(set(parents.tolist())),
        "worth_usd_per_decision": float(values.mean()), "ci95": None if i is None else [i.lo, i.hi],
    }  # fmt: skip
