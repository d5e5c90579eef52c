"""What every command prints with: tables for people, JSON for programs."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from .configs.errors import UserError

STANDARD_OUTPUT = "-"
# Rich cuts cells to 80 columns where it sees no terminal; a table in a pipe or a log must keep its numbers.
_WIDTH_WITHOUT_TERMINAL = 240

Cell = str | int | float | None


def console_beside(json_file: str | Path | None = None) -> Console:
    """The console for people: standard output, or standard error where ``--json -`` gives standard output to JSON."""
    to_stderr = json_file is not None and str(json_file) == STANDARD_OUTPUT
    console = Console(stderr=to_stderr)
    return console if console.is_terminal else Console(stderr=to_stderr, width=_WIDTH_WITHOUT_TERMINAL)


def print_table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[Cell]], *, json_file: str | Path | None = None
) -> None:
    """Print one table; columns that hold numbers are set flush right.

    Args:
        title: printed above the table; say the unit and the sign rule here or in the column names.
        columns: (n_columns,) headings.
        rows: each (n_columns,). Strings are printed as they are, integers with thousands separators, floats with two
            decimals, None and NaN as a dash.
        json_file: what the user gave as ``--json``; with "-" the table goes to standard error.

    Raises:
        ValueError: a row with another number of cells than columns.
    """
    table_rows = [tuple(row) for row in rows]
    for i, row in enumerate(table_rows):
        if len(row) != len(columns):
            raise ValueError(f"table {title!r}: row {i} has {len(row)} cells for {len(columns)} columns: {row!r}.")
    table = Table(title=title, title_justify="left")
    for j, heading in enumerate(columns):
        holds_numbers = any(not isinstance(row[j], str | None) for row in table_rows)
        table.add_column(heading, justify="right" if holds_numbers else "left")
    for row in table_rows:
        table.add_row(*(_cell_text(cell) for cell in row))
    console_beside(json_file).print(table, markup=False, highlight=False)


def folder_of(destination: Path) -> Path:
    """The folder that a file will be written to.

    Raises:
        UserError: it does not exist.
    """
    folder = destination.resolve().parent
    if not folder.is_dir():
        raise UserError(f"{destination}: the folder {folder} does not exist. Make it first.")
    return folder


def write_json(destination: str | Path, payload: Any) -> None:
    """Write JSON to a file, or to standard output for "-". A file appears whole or not at all.

    Args:
        destination: a path whose folder exists, or "-".
        payload: dicts, sequences, numbers, strings, paths, NumPy scalars and arrays. NaN and infinities, which JSON
            does not have, become null.

    Raises:
        UserError: the folder does not exist.
        OSError: the place cannot be written to.
        TypeError: a value that has no place in JSON.
    """
    text = json.dumps(_as_json(payload), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    if str(destination) == STANDARD_OUTPUT:
        print(text, end="", flush=True)
        return
    path = Path(destination)
    if path.exists() and not path.is_file():  # a device such as /dev/null is written to, never replaced
        path.write_text(text, encoding="utf-8")
        return
    path = path.resolve()  # a link stays a link: its target is replaced
    folder_of(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _cell_text(cell: Cell) -> str:
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return "–"
    if isinstance(cell, str):
        return cell
    return f"{cell:,.2f}" if isinstance(cell, float) else f"{cell:,}"


def _as_json(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):  # NumPy scalars and arrays, without importing NumPy
        return _as_json(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
