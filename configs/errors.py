"""The one exception for what a user can cause; the command line turns it into one message and exit code 2."""

from __future__ import annotations


class UserError(ValueError):
    """Input that glasspool refuses. The message says what is wrong, where, and how to mend it."""
