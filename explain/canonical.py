"""Canonical JSON: one record, one sequence of bytes, so that a hash of the bytes is a hash of the record."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal, NoReturn

from ..configs.errors import UserError

Record = dict[str, Any]

MAX_INTEGER = 2**53 - 1  # beyond it a reader that holds numbers as doubles would see another number (RFC 8785, 3.2.2.3)
MAX_DEPTH = 64  # deeper input would meet the interpreter's recursion limit at a depth that depends on the caller


class CanonicalError(UserError):
    """A line that is not one canonical record; `code` is BAD_JSON or NOT_CANONICAL."""

    def __init__(self, code: Literal["BAD_JSON", "NOT_CANONICAL"], detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code: Literal["BAD_JSON", "NOT_CANONICAL"] = code


class _RefusedValue(Exception):
    """What canonical JSON cannot hold; every level on the way out adds its key or index to `place`."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.place: list[str] = []


def canonical_bytes(record: Record) -> bytes:
    """The one byte form of a record: UTF-8, no spaces, keys sorted, no line feed at the end.

    Args:
        record: JSON object of None, bool, int, str, list, tuple (written as a list) and dict with ASCII str keys.
            Times and features travel as strings: `str(ts_ns)`, `repr(x)` of a float.

    Raises:
        UserError: a float, an integer beyond +-(2^53 - 1), a key that is not an ASCII string, a lone surrogate, another
            type (numpy scalars too), or more than 64 levels. The message names the field.

    Source: RFC 8785 (JSON Canonicalization Scheme), narrowed: number formatting and UTF-16 key order are never needed.
    """
    try:
        if not isinstance(record, dict):
            raise _RefusedValue(f"is {type(record).__name__}, not an object. Pass a dict")
        _refuse(record, depth=1)
        return _dump(record)
    except _RefusedValue as refused:
        place = "".join(reversed(refused.place)).lstrip(".") or "the record"
        raise UserError(f"{place} {refused.problem}.") from None


def record_hash(record: Record) -> str:
    """SHA-256, as 64 lower-case hex digits, of the canonical record without its `hash` field."""
    return hashlib.sha256(canonical_bytes({key: value for key, value in record.items() if key != "hash"})).hexdigest()


def parse_canonical(line: bytes) -> Record:
    """Read one record and insist that `line` (without its line feed) is exactly its canonical form.

    Raises:
        CanonicalError: BAD_JSON for what is not one JSON object in UTF-8 (NaN and Infinity are not JSON);
            NOT_CANONICAL for JSON that canonical_bytes would refuse or write otherwise: spaces, key order, duplicate
            keys, floats, large integers, lone surrogates, other escapes.
    """
    try:
        record = json.loads(
            line.decode("utf-8"),
            parse_int=_integer,
            parse_constant=_no_constant,
        )
    except UnicodeDecodeError as error:
        raise CanonicalError("BAD_JSON", f"byte {error.start} is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise CanonicalError("BAD_JSON", f"{error.msg} at character {error.pos}") from None
    except RecursionError:
        raise CanonicalError("NOT_CANONICAL", f"nested deeper than {MAX_DEPTH} levels") from None
    if not isinstance(record, dict):
        raise CanonicalError("BAD_JSON", f"a record is a JSON object, this is {type(record).__name__}")
    try:
        canonical = canonical_bytes(record)
    except UserError as error:
        raise CanonicalError("NOT_CANONICAL", str(error)) from None
    if canonical != line:
        raise CanonicalError(
            "NOT_CANONICAL", "spaces, key order, a repeated key or escapes differ from the canonical form"
        )
    return record


def parse_line(raw_line: bytes) -> Record:
    """`parse_canonical` for a line as it lies in a file: it must also end with its line feed.

    Raises:
        CanonicalError: as parse_canonical; NOT_CANONICAL too when the line feed is missing.
    """
    record = parse_canonical(raw_line.removesuffix(b"\n"))
    if not raw_line.endswith(b"\n"):
        raise CanonicalError("NOT_CANONICAL", "the line does not end with a line feed")
    return record


def _dump(record: Record) -> bytes:
    return json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode("utf-8")


def _refuse(value: object, depth: int) -> None:
    """Raise _RefusedValue at the first part of `value` that canonical JSON cannot hold."""
    if value is None or isinstance(value, bool):
        return
    if isinstance(value, str):
        _refuse_surrogates(value)
    elif isinstance(value, int):
        if not -MAX_INTEGER <= value <= MAX_INTEGER:
            raise _RefusedValue("is an integer beyond +-(2^53 - 1). Write it as a decimal string")
    elif isinstance(value, dict):
        _refuse_depth(depth)
        for key, item in value.items():
            if not isinstance(key, str) or not key.isascii():
                raise _RefusedValue(f"has the key {key!a}: keys are ASCII strings. Rename it")
            try:
                _refuse(item, depth + 1)
            except _RefusedValue as refused:
                refused.place.append(f".{key}")
                raise
    elif isinstance(value, (list, tuple)):
        _refuse_depth(depth)
        for index, item in enumerate(value):
            try:
                _refuse(item, depth + 1)
            except _RefusedValue as refused:
                refused.place.append(f"[{index}]")
                raise
    elif isinstance(value, float):
        raise _RefusedValue(
            f"= {float(value)!r} is a float, which the log does not hold. Write an integer with its unit "
            f"(_e6, _e9, _ppm), or repr(x) as a string"
        )
    else:
        kind = type(value)
        raise _RefusedValue(f"is {kind.__module__}.{kind.__qualname__}, not JSON. Convert it to int, str, list or dict")


def _refuse_depth(depth: int) -> None:
    if depth > MAX_DEPTH:
        raise _RefusedValue(f"is nested deeper than {MAX_DEPTH} levels. Flatten the record")


def _refuse_surrogates(text: str) -> None:
    if text.isascii():
        return
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise _RefusedValue(f"holds a lone surrogate at character {error.start}. Pass well-formed text") from None


def _integer(digits: str) -> int:
    if len(digits) > len(str(-MAX_INTEGER)):  # also keeps int() away from its limit on very long numbers
        raise CanonicalError("NOT_CANONICAL", "an integer beyond +-(2^53 - 1)")
    return int(digits)


def _no_constant(name: str) -> NoReturn:
    raise CanonicalError("BAD_JSON", f"{name} is not JSON")
