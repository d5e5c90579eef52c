"""One page for a calibration: what was measured, what the market has instead, curve by curve. Works offline."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from .calibration import MARKOUT_HORIZONS_S, CalibratedClass
from .fit_targets import TargetRow
from .venue_groups import LIT_VENUE

_MEASURED, _MARKET = "#1f4e79", "#c55a11"
_CURVES = (("volume_curve", "volume, share of the day"), ("spread_curve", "half spread, mean 1"),
           ("vol_curve", "volatility, root mean square 1"))  # fmt: skip
_HALF_HOURS = [f"{(570 + 30 * k) // 60:02d}:{(570 + 30 * k) % 60:02d}" for k in range(13)]


def fit_page(
    title: str, curves: Mapping[str, Sequence[float]], rows: Sequence[TargetRow], achieved: Mapping[str, float],
    measured: CalibratedClass | None,
) -> str:  # fmt: skip
    """HTML with the three intraday curves, markouts with bands of two standard errors, and the table of targets.

    Args:
        curves: measured (13,) curves by name; those missing are left out.
        rows: the targets; may be empty.
        achieved: statistics of generated days; empty where none were generated.
        measured: the tape's statistics, for markouts; None for bars.
    """
    parts = [_curves(curves, achieved).to_html(full_html=False, include_plotlyjs="inline")]
    if measured is not None and measured.markouts:
        parts.append(_markouts(measured, achieved).to_html(full_html=False, include_plotlyjs=False))
    parts.append(_table(rows))
    return (
        f"<!DOCTYPE html><html lang='en'><head><meta charset='utf-8'><title>{html.escape(title)}</title><style>"
        "body{font:14px sans-serif;margin:2em;max-width:1200px}table{border-collapse:collapse}"
        "td,th{padding:.2em .7em;border-bottom:1px solid #ddd;text-align:right}td:first-child,td:last-child,"
        "th:first-child,th:last-child{text-align:left}.missed{background:#fbe5d6}</style></head><body>"
        f"<h1>{html.escape(title)}</h1>{''.join(parts)}</body></html>\n"
    )


def _curves(curves: Mapping[str, Sequence[float]], achieved: Mapping[str, float]) -> go.Figure:
    shown = [(name, label) for name, label in _CURVES if name in curves]
    figure = make_subplots(rows=1, cols=len(shown), subplot_titles=[label for _, label in shown])
    for column, (name, _) in enumerate(shown, start=1):
        figure.add_scatter(x=_HALF_HOURS, y=list(curves[name]), name="measured", line_color=_MEASURED, row=1,
                           col=column,
                           showlegend=column == 1, mode="lines+markers")  # fmt: skip
        if achieved:
            generated = [achieved[f"{name}[{k}]"] for k in range(13)]
            figure.add_scatter(x=_HALF_HOURS, y=generated, name="generated", line_color=_MARKET, row=1, col=column,
                               showlegend=column == 1, mode="lines+markers", line_dash="dot")  # fmt: skip
    return figure.update_layout(height=380, template="plotly_white", margin={"t": 60, "b": 40})


def _markouts(c: CalibratedClass, achieved: Mapping[str, float]) -> go.Figure:
    venue = LIT_VENUE if c.venue_groups else {"visible": LIT_VENUE["lowest"]}
    figure = make_subplots(rows=1, cols=len(venue), subplot_titles=[f"P&L of posts, {group}" for group in venue])
    x = [f"{h} s" for h in MARKOUT_HORIZONS_S]
    for column, (group, mic) in enumerate(venue.items(), start=1):
        known = {m.horizon_s: m for m in c.markouts if m.group == group}
        y = [known[h].passive_pnl_bps if h in known else None for h in MARKOUT_HORIZONS_S]
        band = [2 * known[h].passive_pnl_se_bps if h in known else 0.0 for h in MARKOUT_HORIZONS_S]
        figure.add_scatter(x=x, y=y, error_y={"type": "data", "array": band}, name="measured, 2 standard errors",
                           line_color=_MEASURED, row=1, col=column, showlegend=column == 1)  # fmt: skip
        if achieved:
            market = [achieved[f"passive_pnl_bps:{mic}@{h}s"] for h in MARKOUT_HORIZONS_S]
            figure.add_scatter(x=x, y=market, name="generated (1 s: by law)", line_color=_MARKET, row=1, col=column,
                               showlegend=column == 1, line_dash="dot")  # fmt: skip
    figure.update_yaxes(title_text="bps", col=1)
    return figure.update_layout(height=380, template="plotly_white", margin={"t": 60, "b": 40})


def _table(rows: Sequence[TargetRow]) -> str:
    if not rows:
        return "<p>No day was generated from this market.</p>"
    head = "".join(
        f"<th>{name}</th>" for name in ("statistic", "target", "tolerance", "achieved", "error", "holds", "standing")
    )
    body = []
    for row in rows:
        cells = [f"{x:.5g}" if isinstance(x, float) else html.escape(str(x or "–")) for x in row.as_row().values()]
        missed = " class='missed'" if row.holds is False else ""
        body.append(f"<tr{missed}>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"
