"""The bar that every job shows."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ...configs.market import MarketConfig
from ...configs.pool_knowledge import notes
from ...envs.compiled import nothing_compiled

_STDERR = Console(stderr=True)


def progress_bar(description: str, market: MarketConfig) -> Progress:
    """A bar with ETA, under what was decided for the user in reading the market."""
    for note in notes(market):
        _STDERR.print(note, highlight=False, soft_wrap=True)
    if nothing_compiled():
        _STDERR.print("first use of this version: compiling takes one to four minutes, once, before the bar moves")
    return Progress(
        TextColumn(description), BarColumn(), TextColumn("{task.percentage:>3.0f} %"), TimeElapsedColumn(),
        TextColumn("ETA"), TimeRemainingColumn(), TextColumn("{task.fields[note]}"), console=_STDERR, transient=False,
    )  # fmt: skip
