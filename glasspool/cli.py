"""The command line. Exit 0: done; 1: a check did not hold; 2: the user's input is wrong; 70: a defect of glasspool.

Commands import what they need when they run, so that ``glasspool --help`` answers at once.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer

EXIT_USER_ERROR = 2
MAX_SEED = 2**32 - 1
EXIT_DEFECT = 70  # sysexits.h EX_SOFTWARE; Python's own 1 would read as "a check did not hold"

app = typer.Typer(
    help="A glass box for dark pools: train order routers, prove what they save, explain and audit every decision.",
    no_args_is_help=True,
    add_completion=False,
)
audit = typer.Typer(help="Check and read decision logs.", no_args_is_help=True)
app.add_typer(audit, name="audit")


def _place_for_json(destination: str | None) -> str | None:
    """Refused before the work, not after it."""
    from pathlib import Path

    from .console import STANDARD_OUTPUT, folder_of

    if destination is not None and destination != STANDARD_OUTPUT:
        folder_of(Path(destination))
    return destination


Json = Annotated[
    str | None,
    typer.Option(
        "--json", callback=_place_for_json, help="Also write the table's numbers to this file (- for stdout)."
    ),
]


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"glasspool {version('glasspool')}")
        raise typer.Exit()


@app.callback()
def _options_of_every_command(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    pass


def main(args: Sequence[str] | None = None) -> None:
    """Run one command; this is the ``glasspool`` script.

    Args:
        args: the words after ``glasspool``; None takes them from ``sys.argv``.

    Raises:
        SystemExit: always, with the codes of the module docstring. What the user caused is one message on standard
            error; a traceback means a defect.
    """
    try:
        app(args=args, prog_name="glasspool")
    except Exception as error:
        from rich.console import Console

        from .user_messages import user_message

        message = user_message(error)
        stderr = Console(stderr=True)
        if message is None:
            traceback.print_exception(error)
            stderr.print("This is a defect in glasspool, not in your input: please report it with the lines above.")
            sys.exit(EXIT_DEFECT)
        stderr.print("error:", style="bold red", end=" ")
        # One logical line a sentence, whatever the terminal's width: logs and grep see the whole message.
        stderr.print(message, markup=False, highlight=False, soft_wrap=True)
        sys.exit(EXIT_USER_ERROR)


from . import audit_commands, commands, market_commands  # noqa: E402  the commands register themselves on `app` and `audit`

__all__ = ["MAX_SEED", "Json", "app", "audit", "audit_commands", "commands", "main", "market_commands"]
