"""How hot-path functions are compiled: cached on disk, and inlined into their caller.

A batch travels as a tuple of some fifteen arrays, and numba counts references to each whenever one is taken out of the
tuple or handed to a function, inlined or not: that, not arithmetic, was nine tenths of an early step. So a kernel
takes its arrays out once,
loops over the rows itself, and calls functions of records and numbers (`leaf`), which have nothing to count. Where a
function does take the whole batch (`compiled`), it runs once an order or in a router, not once a slot and venue.

numba's own cache only watches the file that a function stands in, not the files of what it inlines. So the cache folder
here is named after the contents of all files that hold compiled code: edit one, and everything is compiled afresh.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

F = TypeVar("F", bound=Callable[..., Any])
_KEEP = 3  # caches of earlier contents
_CONSTANTS = (
    "state.py",
    "settings.py",
    "venues.py",
    "compiled.py",
)  # hold no compiled code, but what is frozen into it


@cache
def cache_folder() -> Path:
    """The folder for this state of the code; older ones beyond the last few are removed."""
    here = Path(__file__).resolve().parent
    digest = hashlib.sha256()
    for path in sorted([*here.glob("*.py"), *here.parent.glob("agents/**/*.py")]):
        content = path.read_bytes()
        if b"@compiled" in content or b"@leaf" in content or path.name in _CONSTANTS:
            digest.update(path.name.encode() + content)
    home = here / "__pycache__"
    if not os.access(home if home.exists() else here, os.W_OK):
        home = Path(tempfile.gettempdir()) / f"glasspool-{os.getuid()}"
    folder = home / f"numba-{digest.hexdigest()[:16]}"
    folder.mkdir(parents=True, exist_ok=True)
    others = sorted((p for p in home.glob("numba-*") if p != folder), key=lambda p: p.stat().st_mtime, reverse=True)
    for old in others[_KEEP:]:
        shutil.rmtree(old, ignore_errors=True)
    return folder


def nothing_compiled() -> bool:
    """This state of the code has not run here yet: its first use compiles for minutes."""
    return not any(cache_folder().rglob("*.nbi"))


def _jit(function: F, forceinline: bool) -> F:
    settings: Any = numba.config  # filled in when numba loads, so no type checker sees its names
    before = settings.CACHE_DIR
    settings.CACHE_DIR = str(cache_folder())
    try:
        return cast(F, njit(cache=True, forceinline=forceinline, nogil=True, error_model="numpy")(function))
    finally:
        settings.CACHE_DIR = before


def compiled(function: F) -> F:
    """numba's njit, cached and force-inlined; the function stays readable as plain Python (`.py_func`)."""
    return _jit(function, True)


def leaf(function: F) -> F:
    """For functions of records and numbers only: nothing to count references of, so inlining is left to LLVM."""
    return _jit(function, False)


def _prefetch(_context: Any, record: Any, n_lines: Any) -> Any:
    count = int(n_lines.literal_value)

    def emit(context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        pointer, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        law = ir.FunctionType(ir.VoidType(), [pointer, number, number, number])
        hint: Any = cgutils.get_or_insert_function(builder.module, law, "llvm.prefetch.p0")  # type: ignore[no-untyped-call]
        start = builder.bitcast(values[0], pointer)
        for line in range(count):  # to read, into every level of the cache, data
            builder.call(hint, [builder.gep(start, [number(64 * line)]), number(0), number(3), number(1)])
        return context.get_dummy_value()

    return types.none(record, n_lines), emit


# prefetch(record, n_lines): ask the processor for a record's first cache lines (64 bytes each, their number a literal).
# It changes no value. For loops over rows of a batch, which lie up to hundreds of kilobytes apart, where no hardware
# prefetcher follows: it makes a step a third faster.
prefetch = cast(Callable[[Any, int], None], intrinsic(prefer_literal=True)(_prefetch))
