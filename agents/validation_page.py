"""The tables of `glasspool explain --validate` as Markdown: what held, what did not, and on how much."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .reason_outcomes import MIN_DECISIONS, MIN_PARENTS

_VERDICT = {True: "holds", False: "**fails**", None: "measured"}
_AGREES = {True: "agrees", False: "**disagrees**", None: "too few"}


def validation_page(payload: Mapping[str, Any]) -> str:
    """The page as text, without a last line feed."""
    lines = [
        f"# Explanations of {payload['policy']}, measured", "",
        f"`{payload['command']}`: {payload['orders']} simulated parent orders, seed {payload['seed']}; faithfulness on "
        f"{payload['sampled_decisions']} of their decisions.", "", "## Faithfulness", "",
        *_table(
            ("check", "policy", "value", "claim", "verdict", "note"),
            ((r["check"], r["policy"], f"{r['value']:.4g}", r["claim"], _VERDICT[r["holds"]], r["note"])
             for r in payload["faithfulness"]),
        ), "", "## Did the reasons come true?", "",
        "Saving a share sent dark against sending it lit, in $0.0001, + = dark was cheaper; 95 % intervals clustered "
        f"by parent. Judged from {MIN_DECISIONS:,} decisions of {MIN_PARENTS} parents on. A decision counts under each "
        "of its reasons.", "",
        *_table(
            ("reason", "against", "decisions", "parents", "expected", "realised", "difference", "95 %", "verdict"),
            ((r["reason"], r["against"], f"{r['n']:,}", str(r["parents"]), _e4(r["expected_e6_per_share"]),
              _e4(r["realised_e6_per_share"]), _e4(r["difference_e6_per_share"]),
              "–" if r["ci95"] is None else f"{_e4(r['ci95'][0])} to {_e4(r['ci95'][1])}", _AGREES[r["agrees"]])
             for r in payload["reasons"]),
        ), "", "## Chances of a fill", "",
    ]  # fmt: skip
    for c in payload["calibration"]:
        lines += [
            f"{c['order_type']}: {c['n']:,} child orders, Brier score {c['brier']:.4f} (always saying the mean: "
            f"{c['brier_of_the_mean']:.4f}); estimator: {c['estimator']}.", "",
            *_table(("child orders", "predicted", "observed"),
                    ((str(b["n"]), f"{b['predicted']:.4f}", f"{b['observed']:.4f}") for b in c["bins"])), "",
        ]  # fmt: skip
    lines += [
        "## Where the rule SOR would have gone another way", "",
        "The same slot on the same tape. Dollars a decision, + = the policy was cheaper, at the mid 10 s later; shares "
        "that one way left undone are costed as a take then.", "",
        *_table(
            ("rule that fired", "same choice", "decisions", "parents", "worth $", "95 %"),
            ((r["rule"], r["agrees"], f"{r['n']:,}", str(r["parents"]), f"{r['worth_usd_per_decision']:+.2f}",
              "–" if r["ci95"] is None else f"{r['ci95'][0]:+.2f} to {r['ci95'][1]:+.2f}")
             for r in payload["disagreements"]),
        ),
    ]  # fmt: skip
    return "\n".join(lines)


def _e4(value_e6: float) -> str:
    return f"{value_e6 / 100:+.1f}"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (columns, ["---"] * len(columns), *rows)]
