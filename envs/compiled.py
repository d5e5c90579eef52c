"""How hot-path functions are compiled: cached on disk, and inlined into their caller.

Inlining matters because a batch travels as a tuple of some thirty arrays: numba counts references to each at every call
that is not inlined, which made a step three times slower (benchmarks/speed.md).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """numba's njit, cached and force-inlined; the function stays readable as plain Python (`.py_func`)."""
    return cast(F, njit(cache=True, forceinline=True)(function))
