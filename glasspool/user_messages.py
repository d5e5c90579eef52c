"""Turns an exception that the user's input caused into one message: what is wrong, where, and how to mend it."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterator, Sequence
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from .configs.errors import UserError, near_miss

_MAX_SETTINGS_SHOWN = 10
_KNOWN = "Known here: "


def user_message(error: BaseException) -> str | None:
    """The message for an error that the user can mend, or None where the error is a defect of ours.

    Notes on the exception (``error.add_note(str(path))``) are read as the place, so a reader of files can name the file
    of an error that does not know it.
    """
    place = "".join(f"{note}: " for note in getattr(error, "__notes__", ()))
    if isinstance(error, ValidationError):
        return place + _validation_message(error)
    if isinstance(error, UserError):
        return place + str(error)
    if isinstance(error, yaml.YAMLError):
        return place + _yaml_message(error)
    if isinstance(error, UnicodeDecodeError):
        return place + f"not UTF-8 text (byte {error.start}: {error.reason}). Name the right file, or save it as UTF-8."
    if isinstance(error, OSError) and error.filename is not None:
        return place + _file_message(error)
    return None


def _file_message(error: OSError) -> str:
    name = str(error.filename)
    match error:
        case FileNotFoundError():
            return f"{name}: no such file or folder. Check the spelling and the folder that you run this in."
        case PermissionError():
            return f"{name}: permission denied. Change the file's permissions or name another place."
        case IsADirectoryError():
            return f"{name}: is a folder, a file was expected. Name the file inside it."
        case NotADirectoryError():
            return f"{name}: is a file where a folder was expected. Name a folder."
        case FileExistsError():
            return f"{name}: exists already. Name another place or remove it."
        case _:
            return f"{name}: {error.strerror}. Name another place."


def _yaml_message(error: yaml.YAMLError) -> str:
    mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
    if mark is None:
        return f"not valid YAML: {' '.join(str(error).split())}. Mend that line, or write the file again as UTF-8 text."
    problem = getattr(error, "problem", None) or "cannot be read"
    where = "" if mark.name.startswith("<") else f"{mark.name}: "  # <unicode string>: a note names the file
    return (
        f"{where}line {mark.line + 1}, column {mark.column + 1}: not valid YAML: {problem}. "
        f"Check the indentation, the colons and the quotes there and on the line above."
    )


def _validation_message(error: ValidationError) -> str:
    details = error.errors(include_url=False)
    model = next((m for m in _subclasses(BaseModel) if m.__name__ == error.title), None)
    lines = [_setting_line(detail, model) for detail in details[:_MAX_SETTINGS_SHOWN]]
    told: set[str] = set()  # a list of the known keys once
    for i, line in enumerate(lines):
        said, mark, known = line.partition(_KNOWN)
        if mark and known in told:
            lines[i] = said.rstrip()
        told.add(known)
    if len(lines) == 1:
        return lines[0]
    if hidden := len(details) - len(lines):
        lines.append(f"and {hidden} more.")
    return "\n  ".join([f"{len(details)} settings are wrong:", *lines])


def _setting_line(detail: Any, model: type[BaseModel] | None) -> str:
    loc: tuple[str | int, ...] = detail["loc"]
    if not loc:  # of several settings together: the sentence names them, and the whole config would bury it
        return f"{detail['msg'].removeprefix('Value error, ').rstrip('.')}."
    key = ".".join(str(part) for part in loc)
    value = reprlib.repr(detail["input"])
    match detail["type"]:
        case "missing":
            return f"{key}: missing. Add this key."
        case "extra_forbidden":
            known = _keys_beside(model, loc) if model else []
            return f"{key} = {value}: unknown key. {_near_miss(str(loc[-1]), known) or 'Remove it or mend its name.'}"
        case "literal_error":
            known = re.findall(r"'([^']+)'", detail["ctx"]["expected"])
            return f"{key} = {value}: {detail['msg']}. {_near_miss(str(detail['input']), known)}".rstrip()
        case "dict_type":
            return f"{key} = {value}: a mapping was expected here, written {{key: value}}."
        case "list_type" | "tuple_type":
            return f"{key} = {value}: a list was expected here, written [first, second]."
        case _:
            said = f"{key} = {value}: {detail['msg'].removeprefix('Value error, ').rstrip('.')}."
            return said + _of_percent(detail)


def _of_percent(detail: Any) -> str:
    """The share that a percentage stands for, where a share was expected."""
    value, context = detail["input"], detail.get("ctx", {})
    if detail["type"] == "float_parsing" and (text := re.fullmatch(r"(\d+(?:\.\d+)?) ?%", str(value))):
        return f" {value} is written {float(text[1]) / 100:g}."
    of_share = any(word in str(part) for part in detail["loc"] for word in ("frac", "prob", "fill_rate"))
    if of_share and isinstance(value, int | float) and 1 < value <= 100 and 1 in (context.get("lt"), context.get("le")):
        return f" It is a share: {value:g} % is written {value / 100:g}."
    return ""


def _near_miss(word: str, known: Sequence[str]) -> str:
    if question := near_miss(word, known):
        return question.rstrip()
    return f"{_KNOWN}{', '.join(sorted(known))}." if known else ""


def _keys_beside(model: type[BaseModel], loc: Sequence[str | int]) -> list[str]:
    """The keys that the models at the place of ``loc[-1]`` know; list indices and union tags lead nowhere new."""
    models = {model}
    for part in loc[:-1]:
        children = {
            child
            for parent in models
            for name, field in parent.model_fields.items()
            if part in (name, field.alias)
            for child in _models_in(field.annotation)
        }
        models = children or models
    return sorted({field.alias or name for m in models for name, field in m.model_fields.items()})


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)


def _subclasses(root: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for child in root.__subclasses__():
        yield child
        yield from _subclasses(child)
