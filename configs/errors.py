"""The one exception for what a user can cause; the command line turns it into one message and exit code 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Input that glasspool refuses. The message says what is wrong, where, and how to mend it."""


def near_miss(word: str, known: Iterable[str]) -> str:
    """The question that mends a misspelt name, "Did you mean 'base'? ", or an empty string where none is near."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"Did you mean {close[0]!r}? " if close else ""
