"""The market: everything up to a fill."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .vector_env import make_vec

__all__ = ["make_vec"]


def __getattr__(name: str) -> Any:
    """`make_vec` on first use: importing a reader of files does not load the compiled market."""
    if name == "make_vec":
        from .vector_env import make_vec

        return make_vec
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
