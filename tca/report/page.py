"""Evaluation folder in, `report.html` out: one file, no network, the same bytes for the same inputs."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from . import charts
from .decision import Decision, tell_decision
from .inputs import COMPONENTS, Evaluation, PolicyFeature, PolicyTables, ReportInputs, read_inputs
from .words import (
    MIN_FILLS,
    MIN_PARENTS,
    STATE_WORDS,
    detectable_bps,
    headline,
    nice,
    number,
    percent,
    span,
    state_of,
    subject,
    verdict,
)

REPORT_NAME = "report.html"
_HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Chart:
    """A figure as the page embeds it: `json` is safe inside a script element."""

    id: str
    json: str
    label: str
    height: int


class ChartBook:
    """Numbers the charts in the order in which the page shows them."""

    def __init__(self) -> None:
        self._count = 0

    def add(self, figure: go.Figure, label: str) -> Chart:
        self._count += 1
        # plotly writes <, > and / as \u escapes, so no text in a figure can end the script element it stands in.
        text = figure.to_json(validate=False, engine="json")
        return Chart(f"chart-{self._count}", text, label, int(figure.layout.height))


@dataclass(frozen=True, slots=True)
class ShapePanel:
    feature: PolicyFeature
    factor: str
    chart: Chart
    rows: list[tuple[str, list[str]]]  # (kind, contribution at each knot)
    knots: list[str]


def write_report(folder: Path) -> Path:
    """Write `folder/report.html` from the evaluation folder and return its path.

    Reads evaluation.json and, where they exist, training*.json, policy.json and decisions.jsonl. The page appears
    whole or not at all; an older page stays when anything goes wrong.

    Raises:
        UserError: evaluation.json is missing, or a file does not fit its format (file, row or field, and the mend).
    """
    folder = Path(folder)
    write_page(folder / REPORT_NAME, render(read_inputs(folder)))
    return folder / REPORT_NAME


def write_page(path: Path, html: str) -> None:
    """The page appears at `path` whole or not at all."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".report-", suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(html)
        os.chmod(name, 0o644)  # mkstemp makes 0600, but a report is there to be passed on
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def render(inputs: ReportInputs) -> str:
    """The page as text."""
    return render_template("template.html.j2", context(inputs))


def render_template(name: str, values: Mapping[str, Any]) -> str:
    """A template of this folder with style and plotly inside."""
    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters |= {"num": number, "pct": percent, "span": span, "nice": nice}
    template = env.get_template(name)
    css = (_HERE / "style.css").read_text(encoding="utf-8")
    # plotly.min.js is one classic script; only "</script" could end it early, and it does not hold that.
    return template.render(css=css, plotly_js=get_plotlyjs(), **values)


def context(inputs: ReportInputs) -> dict[str, Any]:
    """Everything the template prints, as plain values."""
    evaluation, book = inputs.evaluation, ChartBook()
    name = subject(evaluation)
    judged = evaluation.episodes >= MIN_PARENTS
    order = list(evaluation.routers)
    if judged:  # no rank on too few orders
        order.sort(key=lambda r: evaluation.routers[r].vwap_slippage_bps.mean)
    decision = tell_decision(inputs.records) if inputs.records is not None else None
    return {
        "e": evaluation,
        "subject": name,
        "order": order,
        "judged": judged,
        "min_parents": MIN_PARENTS,
        "min_fills": MIN_FILLS,
        "headline": headline(evaluation),
        "verdict": verdict(evaluation),
        "state_of": state_of,
        "state_words": STATE_WORDS,
        "detectable_bps": detectable_bps,
        "components": COMPONENTS,
        "hashes": {**evaluation.hashes, **_run_hashes(inputs)},
        "file_sha256": inputs.file_sha256,
        "trainings": inputs.trainings,
        **_cost_context(evaluation, name, order, judged, book),
        "curves": [(t, book.add(f, t)) for t, f in charts.curve_charts(inputs.trainings).items()],
        "policy": inputs.policy,
        **_shape_context(inputs.policy, book),
        "has_log": inputs.records is not None,
        "decision": decision,
        "waterfalls": waterfalls(decision, book),
    }


def _cost_context(
    evaluation: Evaluation, name: str, order: Sequence[str], judged: bool, book: ChartBook
) -> dict[str, Any]:
    mine = [c for c in evaluation.comparisons if c.router == name and c.metric == "vwap_slippage_bps"]
    others = [c for c in evaluation.comparisons if c not in mine]
    per_router = {r: evaluation.routers[r].components_bps for r in order}
    split = {f"vs {c.baseline}": c.components_bps for c in mine if c.components_bps}
    cost = charts.cost_chart(evaluation, order, name, intervals=judged)
    return {
        "comparisons": mine,
        "other_comparisons": others,
        "cost_chart": book.add(cost, "Mean VWAP slippage by router with 95 % intervals"),
        "difference_chart": book.add(charts.difference_chart(mine), "Paired differences with 95 % intervals")
        if mine and judged
        else None,
        "component_chart": book.add(
            charts.component_chart(per_router, "bps of the benchmark (+ = cost)"), "Cost components by router"
        ),
        "split_chart": book.add(
            charts.component_chart(split, "difference, bps (\N{MINUS SIGN} = cheaper)"), "Difference split by component"
        )
        if split
        else None,
        "split": split,
    }


def _shape_context(policy: PolicyTables | None, book: ChartBook) -> dict[str, Any]:
    if policy is None:
        return {"panels": [], "idle_features": [], "kind_colours": {}}
    tables = dict(policy.shapes_e9)
    if policy.pace is not None:
        tables["pace"] = policy.pace.shapes_e9
    values = [v / 1e9 for shapes in tables.values() for column in shapes.values() for v in column]
    low, high = min([0.0, *values]), max([0.0, *values])
    pad = 0.06 * ((high - low) or 1.0)
    panels: list[ShapePanel] = []
    idle = []
    factors = [f.factor for f in policy.features]  # panels of one decision factor stand together
    for feature in sorted(policy.features, key=lambda f: factors.index(f.factor)):
        # One scale for all panels: a flat line then means a feature that matters little.
        figure = charts.shape_chart(policy, feature, (low - pad, high + pad))
        if figure is None:
            idle.append(feature.name)
            continue
        rows = [
            (k, [number(v / 1e9, 3) for v in t[feature.name]])
            for k, t in tables.items()
            if any(t.get(feature.name, []))
        ]
        chart = book.add(figure, f"Contribution of {feature.name}")
        panels.append(
            ShapePanel(feature, feature.factor.replace("_", " "), chart, rows, [nice(k) for k in feature.knots])
        )
    colours = {
        kind: charts.kind_colour(kind, policy.kinds) for kind in [*policy.kinds, *(["pace"] if policy.pace else [])]
    }
    return {"panels": panels, "idle_features": idle, "kind_colours": colours}


def waterfalls(decision: Decision | None, book: ChartBook) -> list[Chart]:
    """The chosen route's score and its rival's, on one scale."""
    if decision is None:
        return []
    ends = []
    for score in decision.scores:
        level = 0.0
        for _, value in score.steps:
            level += value
            ends.append(level)
        ends.append(score.total)
    low, high = min([0.0, *ends]), max([0.0, *ends])
    pad = 0.2 * ((high - low) or 1.0)  # room for the numbers beside the bars
    return [
        book.add(charts.waterfall_chart(s.steps, s.total, (low - pad, high + pad)), f"Score of {s.route} taken apart")
        for s in decision.scores
    ]


def _run_hashes(inputs: ReportInputs) -> dict[str, str]:
    run: Mapping[str, Any] = next((r["body"] for r in inputs.records or [] if r["type"] == "run"), {})
    wanted = {k: v for k, v in run.items() if k.endswith("_sha256") or k in ("code_commit", "rule_table_version")}
    return {k: str(v) for k, v in wanted.items() if v is not None}
