"""The result tables as one picture: the default policy minus `sor_strong` on every market -> docs/images/results.png.

    python benchmarks/results_picture.py [PNG]

Reads what the committed pages of benchmarks/ say (results, scenarios, shifts, replays), half spreads and bps; needs the
`dev` extra and Chromium with its driver on the PATH.
"""

from __future__ import annotations

import argparse
import re
import shutil
import tempfile
from pathlib import Path
from typing import NamedTuple

import plotly.graph_objects as go
from plotly.subplots import make_subplots
from selenium import webdriver

HERE = Path(__file__).resolve().parent
COLUMNS = ("half spreads", "bps")
GROUPS = {
    "the market it was trained on": "#1d4ed8", "scenarios": "#0f766e", "other pools and mechanisms": "#9333ea",
    "calibrated names": "#c2410c", "replayed days": "#475569",
}  # fmt: skip
WIDTH, ROW = 1100, 21
_NUMBER = r"([+-−]?\d+\.\d+)"
_INTERVAL = re.compile(rf"{_NUMBER} \[{_NUMBER}, {_NUMBER}\]")


class Gap(NamedTuple):
    """Learned minus sor_strong with its 95 % interval, in half spreads and in bps; negative = cheaper."""

    group: str
    market: str
    half_spreads: tuple[float, float, float]
    bps: tuple[float, float, float]


def cells(text: str) -> list[list[str]]:
    """Rows of every table of a page."""
    return [[c.strip() for c in row.strip().strip("|").split("|")] for row in text.splitlines() if row.startswith("|")]


def interval(text: str) -> tuple[float, float, float]:
    found = _INTERVAL.search(text)
    if found is None:
        raise SystemExit(f"no interval in {text!r}. Make that table again.")
    mean, lo, hi = (float(x.replace("−", "-")) for x in found.groups())
    return mean, lo, hi


def of_results(text: str) -> list[Gap]:
    """The whole market, then its classes."""
    group, rows = "the market it was trained on", cells(text)
    (whole,) = [r for r in rows if r[0] == "sor_strong" and len(r) == 3]
    found = [Gap(group, "base", interval(whole[2]), interval(whole[1]))]
    return found + [
        Gap(group, f"base, {r[0]} names", interval(r[3]), interval(r[2]))
        for r in rows if r[0] in ("large", "mid", "small") and len(r) == 4
    ]  # fmt: skip


def of_markets(text: str) -> list[Gap]:
    """Scenarios or shifts."""
    found = []
    for row in cells(text):
        if len(row) == 13 and _INTERVAL.search(row[6]):
            name = row[0]
            group = "calibrated names" if re.search(r"_20\d\d$", name) else "other pools and mechanisms"
            found.append(Gap(group, name.replace("_", " "), interval(row[7]), interval(row[6])))
    return found


def of_replays(text: str) -> list[Gap]:
    found = []
    for section in re.split(r"^## (?=replay_)", text, flags=re.M)[1:]:
        (row,) = [r for r in cells(section.partition("\n## ")[0]) if r[:2] == ["learned", "sor_strong"] and len(r) == 8]
        gaps = [interval(f"{row[at]} [{row[at + 1].replace(' … ', ', ')}]") for at in (2, 6)]
        found.append(Gap("replayed days", section.split(":")[0].replace("_", " "), gaps[1], gaps[0]))
    return found


def picture(gaps: list[Gap]) -> go.Figure:
    figure = make_subplots(1, 2, shared_yaxes=True, horizontal_spacing=0.03, subplot_titles=COLUMNS)
    for group, colour in GROUPS.items():
        for at in (1, 2):
            rows = [g for g in gaps if g.group == group]
            values = [g.half_spreads if at == 1 else g.bps for g in rows]
            figure.add_scatter(
                x=[v[0] for v in values], y=[g.market for g in rows], mode="markers", name=group, showlegend=at == 1,
                marker={"color": colour, "size": 8}, row=1, col=at,
                error_x={"type": "data", "array": [v[2] - v[0] for v in values],
                         "arrayminus": [v[0] - v[1] for v in values], "thickness": 2, "width": 4},
            )  # fmt: skip
    figure.add_vline(x=0, line={"color": "#1e293b", "width": 1})
    figure.update_yaxes(range=[len(gaps) - 0.3, -0.7], gridcolor="#e2e8f0")
    figure.update_xaxes(gridcolor="#e2e8f0", zeroline=False)
    figure.update_layout(
        width=WIDTH, height=150 + ROW * len(gaps), plot_bgcolor="white", margin={"l": 170, "r": 20, "t": 110, "b": 30},
        font={"family": "DejaVu Sans, sans-serif", "size": 13, "color": "#1e293b"},
        title={"text": "Learned policy minus sor_strong, 95 % intervals: left of 0 = cheaper", "x": 0.02, "y": 0.97,
               "yanchor": "top"},
        legend={"orientation": "h", "yref": "container", "y": 0.93, "yanchor": "top", "xref": "container", "x": 0.02},
    )  # fmt: skip
    return figure


def photographed(figure: go.Figure, file: Path) -> None:
    browser_file, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if not (browser_file and driver):
        raise SystemExit("no chromium with chromedriver on the PATH. Install both.")
    options = webdriver.ChromeOptions()
    options.binary_location = browser_file
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(flag)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        page = Path(folder) / "page.html"
        figure.write_html(page, config={"staticPlot": True}, include_plotlyjs=True)
        browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
        try:
            browser.set_window_size(WIDTH + 40, int(figure.layout.height) + 200)
            browser.get(page.as_uri())
            browser.find_element("css selector", ".plot-container").screenshot(str(file))
        finally:
            browser.quit()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("png", nargs="?", type=Path, default=HERE.parent / "docs" / "images" / "results.png")
    file = parser.parse_args().png
    results, scenarios, shifts, replays = (
        (HERE / f"{name}.md").read_text() for name in ("results", "scenarios", "shifts", "replays")
    )
    gaps = [*of_results(results), *(g._replace(group="scenarios") for g in of_markets(scenarios)),
            *of_markets(shifts), *of_replays(replays)]  # fmt: skip
    photographed(picture(sorted(gaps, key=lambda g: list(GROUPS).index(g.group))), file)
    print(f"{file}: {len(gaps)} markets")


if __name__ == "__main__":
    main()
