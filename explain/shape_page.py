"""The whole policy on one page: every one-feature function as a plot, with its table below. No network, no scripts of
ours; plotly's own library stands in the file."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

COLOURS = {"take": "#c2410c", "post": "#2563eb", "ping": "#9333ea", "rest": "#0f766e", "pace": "#475569"}
_MORE = ("#be185d", "#a16207", "#0369a1", "#4d7c0f", "#7c2d12", "#1e293b")
_OPTIONS = "{responsive:true,displayModeBar:false}"
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;color:#1e293b;max-width:1080px;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:13px;display:block;overflow-x:auto}"
    "td,th{padding:2px 10px;text-align:right;border-bottom:1px solid #e2e8f0}h2{margin-top:2.5rem}"
    ".chart{width:100%;height:320px}nav a{margin-right:.8rem;white-space:nowrap}"
)


def write_shape_page(policy: Mapping[str, Any], path: Path, title: str, monotone: str) -> Path:
    """Write the page, whole or not at all.

    Args:
        policy: the readable tables, as policy.json holds them.
        title: of the policy; `monotone`: one sentence on what was checked.
    """
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        partial.write_text(shape_page(policy, title, monotone), encoding="utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def shape_page(policy: Mapping[str, Any], title: str, monotone: str) -> str:
    """The page as text, the same for the same policy."""
    kinds = list(policy["kinds"])
    biases = ", ".join(f"{escape(k)} {policy['bias_e9'][k] / 1e9:+.3f}" for k in kinds)
    sections, links = [], []
    for i, feature in enumerate(policy["features"]):
        name = escape(feature["name"])
        links.append(f'<a href="#f{i}">{name}</a>')
        sections.append(
            f'<h2 id="f{i}">{name} <small>({escape(feature["unit"])}; {escape(feature["factor"])})</small></h2>'
            f"<p>{escape(feature['description'])}{_promise(feature['monotone'])}</p>"
            f'<div class="chart" id="c{i}"></div>'
            f"<script>Plotly.newPlot('c{i}',{_figure(policy, feature)},{_OPTIONS})</script>"
            f"{_table(policy, feature)}"
        )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style><script>{get_plotlyjs()}</script></head><body><h1>{escape(title)}</h1>"
        "<p>The score of a route is its type's bias plus one term from each of these functions, and nothing else. "
        "A higher score gets more shares. Dots are the knots; between them the functions are straight, and beyond the "
        f"range they stay flat.</p><p>Biases: {biases}; pace {policy['pace']['bias_e9'] / 1e9:+.3f}. "
        f"{escape(monotone)}</p><nav>{' '.join(links)}</nav>{''.join(sections)}</body></html>\n"
    )


def _promise(monotone: int) -> str:
    return {1: " A higher value never lowers a score.", -1: " A higher value never raises a score."}.get(monotone, "")


def _shapes(policy: Mapping[str, Any], feature: Mapping[str, Any]) -> dict[str, list[int]]:
    shapes = {kind: policy["shapes_e9"][kind][feature["name"]] for kind in policy["kinds"]}
    return shapes | ({"pace": policy["pace"]["shapes_e9"][feature["name"]]} if feature["scope"] == "global" else {})


def _figure(policy: Mapping[str, Any], feature: Mapping[str, Any]) -> str:
    figure = go.Figure()
    others = [k for k in policy["kinds"] if k not in COLOURS]
    for kind, values in _shapes(policy, feature).items():
        colour = COLOURS.get(kind) or _MORE[others.index(kind) % len(_MORE)]
        figure.add_scatter(
            x=feature["knots"], y=[v / 1e9 for v in values], name=escape(kind), mode="lines+markers",
            line={"color": colour, "dash": "dot" if kind == "pace" else "solid"},
        )  # fmt: skip
    figure.update_layout(
        margin={"l": 60, "r": 10, "t": 10, "b": 50}, template="plotly_white", height=320,
        xaxis_title=escape(f"{feature['name']} ({feature['unit']})"), yaxis_title="adds to the score",
    )  # fmt: skip
    # plotly writes <, > and / as \\u escapes, so no text in a figure can end the script element it stands in
    return str(figure.to_json(validate=False, engine="json"))


def _table(policy: Mapping[str, Any], feature: Mapping[str, Any]) -> str:
    shapes = _shapes(policy, feature)
    head = "".join(f"<th>{escape(k)}</th>" for k in shapes)
    rows = (
        f"<tr><th>{knot:.4g}</th>{''.join(f'<td>{v[i] / 1e9:+.3f}</td>' for v in shapes.values())}</tr>"
        for i, knot in enumerate(feature["knots"])
    )
    return f"<table><tr><th>{escape(feature['name'])}</th>{head}</tr>{''.join(rows)}</table>"
