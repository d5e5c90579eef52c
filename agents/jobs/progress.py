"""The bar that every job shows."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column

from ...configs.market import MarketConfig
from ...configs.pool_knowledge import notes
from ...envs.compiled import nothing_compiled

_STDERR = Console(stderr=True)
_LINE_EVERY_S = 30.0


class _Bar(Progress):
    """On a terminal a bar; in a file, where nothing can be redrawn, a line now and then."""

    def __init__(self, what: str) -> None:
        self._what, self._last_s = what, 0.0
        note = TextColumn("{task.fields[note]}", table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis"))
        super().__init__(
            TextColumn(what), BarColumn(16), TextColumn("{task.percentage:>3.0f} %"), TimeElapsedColumn(),
            TextColumn("ETA"), TimeRemainingColumn(), note, console=_STDERR, expand=True,
        )  # fmt: skip

    def update(self, task_id: TaskID, **given: Any) -> None:
        super().update(task_id, **given)
        now = time.monotonic()
        if not self.console.is_terminal and now - self._last_s >= _LINE_EVERY_S:
            self._last_s, task = now, self.tasks[task_id]
            line = f"{self._what} {task.percentage:.0f} %, {task.elapsed or 0.0:.0f} s, {task.fields['note']}"
            self.console.print(line.rstrip(", "), highlight=False, soft_wrap=True)


def progress_bar(what: str, market: MarketConfig) -> Progress:
    """A bar with ETA, under what was decided for the user in reading the market."""
    for note in notes(market):
        _STDERR.print(note, highlight=False, soft_wrap=True)
    if nothing_compiled():
        _STDERR.print("first use of this version: compiling takes one to four minutes, once, before the bar moves")
    return _Bar(what)
