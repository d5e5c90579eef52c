"""The page's charts as plotly figures. Costs: + = cost. Every text from outside is HTML-escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import plotly.graph_objects as go

from .inputs import COMPONENTS, Comparison, Evaluation, PolicyFeature, PolicyTables, Training
from .words import number, span

INK, GRID, SUBJECT, OTHER = "#1e293b", "#e2e8f0", "#1d4ed8", "#64748b"
GOOD, BAD = "#15803d", "#b91c1c"
KIND_COLOURS = {"take": "#c2410c", "post": "#2563eb", "ping": "#9333ea", "rest": "#0f766e", "pace": "#475569"}
EXTRA_COLOURS = ("#be185d", "#a16207", "#0369a1", "#4d7c0f")
COMPONENT_COLOURS = dict(
    zip(
        COMPONENTS,
        ("#2563eb", "#f59e0b", "#dc2626", "#7c2d12", "#9333ea", "#db2777", "#65a30d", "#0d9488", "#94a3b8"),
        strict=True,
    )
)
SEED_COLOURS = ("#1d4ed8", "#c2410c", "#0f766e", "#9333ea", "#a16207", "#be185d", "#0369a1", "#4d7c0f")


def kind_colour(kind: str, kinds: Sequence[str]) -> str:
    others = [k for k in kinds if k not in KIND_COLOURS]
    return KIND_COLOURS.get(kind) or EXTRA_COLOURS[others.index(kind) % len(EXTRA_COLOURS)]


def cost_chart(evaluation: Evaluation, order: Sequence[str], subject: str, *, intervals: bool) -> go.Figure:
    """Mean cost of each router with its 95 % interval, cheapest on top."""
    figure = go.Figure()
    for name in reversed(order):
        cost = evaluation.routers[name].vwap_slippage_bps
        lo, hi = cost.ci95
        bars = {"type": "data", "array": [hi - cost.mean], "arrayminus": [cost.mean - lo], "thickness": 2, "width": 5}
        colour = SUBJECT if name == subject else OTHER
        shown = f"<br>{number(lo)} to {number(hi)}" if intervals else ""
        figure.add_scatter(
            x=[cost.mean],
            y=[escape(name)],
            error_x=bars if intervals else None,
            mode="markers",
            marker={"size": 11, "color": colour},
            hovertemplate=f"{escape(name)}: {number(cost.mean)} bps{shown}<extra></extra>",
        )
    _layout(figure, 60 + 34 * len(order), "VWAP slippage, bps (+ = cost)")
    return figure


def difference_chart(comparisons: Sequence[Comparison]) -> go.Figure:
    """Paired difference to each baseline with its interval; dots are single training seeds. Left of 0 = cheaper."""
    figure = go.Figure()
    for c in reversed(comparisons):
        label = "vs " + escape(c.baseline)
        lo, hi = c.ci95_bps
        colour = GOOD if hi < 0 else BAD if lo > 0 else OTHER
        seeds = [s.mean_difference_bps for s in c.per_seed] if len(c.per_seed) > 1 else []
        figure.add_scatter(
            x=seeds,
            y=[label] * len(seeds),
            mode="markers",
            marker={"size": 7, "color": "rgba(217,119,6,.65)"},
            text=[f"seed {s.seed}" for s in c.per_seed] if seeds else [],
            hovertemplate="%{text}: %{x:.2f} bps<extra></extra>",
        )
        figure.add_scatter(
            x=[c.mean_difference_bps],
            y=[label],
            error_x={
                "type": "data",
                "array": [hi - c.mean_difference_bps],
                "arrayminus": [c.mean_difference_bps - lo],
                "thickness": 2,
                "width": 5,
            },
            mode="markers",
            marker={"size": 10, "color": colour, "symbol": "diamond"},
            hovertemplate=f"{label}: {number(c.mean_difference_bps)} bps<br>{span(c.ci95_bps)}<extra></extra>",
        )
    _layout(figure, 60 + 34 * len(comparisons), "difference, bps (\N{MINUS SIGN} = cheaper)")
    figure.update_xaxes(zeroline=True, zerolinecolor=INK, zerolinewidth=1)
    return figure


def component_chart(rows: Mapping[str, Mapping[str, float]], axis: str) -> go.Figure:
    """Stacked components per row (router, or difference to a baseline), with the sum as a black mark."""
    figure = go.Figure()
    upward = list(rows)[::-1]  # plotly draws the first row at the bottom
    labels = [escape(label) for label in upward]
    for component in COMPONENTS:
        values = [rows[label].get(component, 0.0) for label in upward]
        if any(values):
            figure.add_bar(
                x=values,
                y=labels,
                orientation="h",
                name=component,
                marker={"color": COMPONENT_COLOURS[component]},
                hovertemplate=f"{component}: %{{x:.2f}} bps<extra>%{{y}}</extra>",
            )
    totals = [sum(rows[label].get(c, 0.0) for c in COMPONENTS) for label in upward]
    figure.add_scatter(
        x=totals,
        y=labels,
        mode="markers",
        name="sum",
        marker={"symbol": "line-ns-open", "size": 20, "color": INK, "line": {"width": 3}},
        hovertemplate="sum: %{x:.2f} bps<extra>%{y}</extra>",
    )
    _layout(figure, 130 + 36 * len(rows), axis, legend=True)
    figure.update_layout(barmode="relative", bargap=0.35)
    figure.update_xaxes(zeroline=True, zerolinecolor=INK, zerolinewidth=1)
    return figure


def curve_charts(trainings: Sequence[Training]) -> dict[str, go.Figure]:
    """Learning curves by title: difference to the SOR, cost, routing mix, fill rates; one line a training seed."""
    compare, cost, mix, fills = go.Figure(), go.Figure(), go.Figure(), go.Figure()
    for at, run in enumerate(trainings):
        colour = SEED_COLOURS[at % len(SEED_COLOURS)]
        first = at == 0  # one legend entry a quantity; colours are seeds throughout
        banded = [p for p in run.curve if p.validation_vs_sor_ci95_bps is not None]
        x = [p.step for p in banded]
        los = [p.validation_vs_sor_ci95_bps[0] for p in banded if p.validation_vs_sor_ci95_bps]
        his = [p.validation_vs_sor_ci95_bps[1] for p in banded if p.validation_vs_sor_ci95_bps]
        compare.add_scatter(
            x=x + x[::-1],
            y=his + los[::-1],
            fill="toself",
            fillcolor=_faint(colour),
            line={"width": 0},
            hoverinfo="skip",
            showlegend=False,
            mode="lines",
        )
        _line(compare, run, "validation_vs_sor_bps", f"seed {run.seed}", colour)
        _line(cost, run, "validation_slippage_bps", "validation", colour, legend=first)
        _line(cost, run, "train_slippage_bps", "training", colour, dash="dot", legend=first)
        for field, name, dash in (("dark_frac", "dark", "solid"), ("post_frac", "lit post", "dot")):
            _line(mix, run, field, name, colour, dash=dash, legend=first)
        for field, name, dash in (
            ("fill_rate_ping", "ping", "solid"),
            ("fill_rate_rest", "rest", "dash"),
            ("fill_rate_post", "post", "dot"),
        ):
            _line(fills, run, field, name, colour, dash=dash, legend=first)
    charts = {
        "Validation against the rule-based SOR, bps (\N{MINUS SIGN} = cheaper; band: 95 % interval)": compare,
        "VWAP slippage, bps (+ = cost)": cost,
        "Where the shares go (fraction of executed shares)": mix,
        "Fill rate of child orders (fraction)": fills,
    }
    for figure in charts.values():
        _layout(figure, 300, "training steps", legend=True)
    compare.update_yaxes(zeroline=True, zerolinecolor=INK, zerolinewidth=1)
    return {title: figure for title, figure in charts.items() if any(t.y for t in figure.data)}


def shape_chart(policy: PolicyTables, feature: PolicyFeature, y_range: tuple[float, float]) -> go.Figure | None:
    """Contribution to the score against one feature, a line for each kind of route and pace; None: no effect."""
    figure = go.Figure()
    tables = {kind: policy.shapes_e9.get(kind, {}) for kind in policy.kinds}
    if policy.pace is not None:
        tables["pace"] = policy.pace.shapes_e9
    for kind, shapes in tables.items():
        values = shapes.get(feature.name)
        if values and any(values):
            figure.add_scatter(
                x=feature.knots,
                y=[v / 1e9 for v in values],
                mode="lines+markers",
                name=escape(kind),
                line={
                    "color": kind_colour(kind, policy.kinds),
                    "width": 2,
                    "dash": "dot" if kind == "pace" else "solid",
                },
                marker={"size": 4},
                hovertemplate=f"{escape(kind)}: %{{y:.3f}} at %{{x}}<extra></extra>",
            )
    if not figure.data:
        return None
    _layout(figure, 190, escape(feature.unit))
    figure.update_yaxes(range=list(y_range), zeroline=True, zerolinecolor="#94a3b8", zerolinewidth=1)
    figure.update_layout(margin={"l": 40, "r": 10, "t": 8, "b": 38})
    return figure


def waterfall_chart(steps: Sequence[tuple[str, float]], total: float, x_range: tuple[float, float]) -> go.Figure:
    """Bias and contributions, top to bottom, adding up to the score."""
    labels = [escape(name) for name, _ in steps] + ["score"]
    values = [value for _, value in steps]
    figure = go.Figure(
        go.Waterfall(
            orientation="h",
            measure=["relative"] * len(steps) + ["total"],
            y=labels,
            x=[*values, total],
            text=[number(v, 3, sign=True) for v in values] + [number(total, 3)],
            textposition="outside",
            cliponaxis=False,
            connector={"line": {"color": "#cbd5e1", "width": 1}},
            increasing={"marker": {"color": "#0f766e"}},
            decreasing={"marker": {"color": "#c2410c"}},
            totals={"marker": {"color": SUBJECT}},
            hovertemplate="%{y}: %{text}<extra></extra>",
        )
    )
    _layout(figure, 70 + 27 * len(labels), "score")
    figure.update_yaxes(autorange="reversed")
    figure.update_xaxes(range=list(x_range), zeroline=True, zerolinecolor=INK, zerolinewidth=1)
    return figure


def _line(
    figure: go.Figure, run: Training, field: str, name: str, colour: str, dash: str = "solid", *, legend: bool = True
) -> None:
    points = [(p.step, getattr(p, field)) for p in run.curve if getattr(p, field) is not None]
    if points:
        figure.add_scatter(
            x=[step for step, _ in points],
            y=[value for _, value in points],
            mode="lines" if len(points) > 1 else "markers",
            name=name,
            showlegend=legend,
            line={"color": colour, "width": 2, "dash": dash},
            hovertemplate=f"{name}: %{{y:.3f}}<extra>seed {run.seed}</extra>",
        )


def _faint(colour: str) -> str:
    r, g, b = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({r},{g},{b},.12)"


def _layout(figure: go.Figure, height: int, x_title: str, *, legend: bool = False) -> None:
    axis = {
        "gridcolor": GRID,
        "zeroline": False,
        "automargin": True,
        "tickfont": {"size": 11},
        "title": {"font": {"size": 11}, "standoff": 6},
    }
    figure.update_layout(
        template="none",
        height=height,
        autosize=True,
        margin={"l": 10, "r": 16, "t": 44 if legend else 10, "b": 40},
        font={"family": "system-ui, -apple-system, 'Segoe UI', 'Liberation Sans', Arial, sans-serif", "color": INK},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        showlegend=legend,
        legend={
            "orientation": "h",
            "y": 1.02,
            "yanchor": "bottom",
            "x": 0,
            "font": {"size": 11},
            "traceorder": "normal",
        },
        hovermode="closest",
        dragmode=False,
    )
    figure.update_xaxes(**axis)
    figure.update_yaxes(**axis)
    figure.update_xaxes(title_text=x_title)
