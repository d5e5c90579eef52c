"""Who decides: baselines, policies, training, evaluation, export and the live router."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .live import load_router

__all__ = ["load_router"]


def __getattr__(name: str) -> Any:
    """`load_router` on first use: importing a reader of files does not load torch."""
    if name == "load_router":
        from .live import load_router

        return load_router
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
