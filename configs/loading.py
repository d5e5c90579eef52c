"""Reading YAML configs: names resolve as a path, then as a packaged file; `--set a.b=c` overrides validate alike."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from .errors import UserError, near_miss
from .experiment import ExperimentConfig
from .market import MarketConfig
from .rule_sor import RuleSorConfig

PACKAGED = Path(__file__).parent
_MAX_BYTES, _MAX_VALUES = 5_000_000, 1_000_000
M = TypeVar("M", bound=BaseModel)


class _OneOfEach(yaml.SafeLoader):
    """YAML where a key stands once: of two the last would win, and nobody would be told."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)  # keys as written: what is merged with << comes later
        first: dict[Any, yaml.Node] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                read = self.yaml_constructors.get(key.tag)
                value = read(self, key) if read is not None else key.value  # 60 and 60.0 are one key
                if (before := first.setdefault(value, key)) is not key:
                    raise UserError(
                        f"line {key.start_mark.line + 1}: {key.value!r} stands in line {before.start_mark.line + 1} "
                        "too. Keep one of them."
                    )
        return node


def find_config(name: str | Path, folder: str = "") -> Path:
    """A path if it exists, else `<folder>/<name>.yaml` among the packaged configs.

    Raises:
        UserError: neither exists; the message lists the packaged names.
    """
    path = Path(name)
    if path.is_file():
        return path
    packaged = PACKAGED / folder / f"{path.name.removesuffix('.yaml')}.yaml"
    if path.parent == Path(".") and packaged.is_file():
        return packaged
    known = sorted(p.stem for p in (PACKAGED / folder).glob("*.yaml"))
    raise UserError(
        f"{name}: no such file, nor a packaged config of that name. {near_miss(path.stem, known)}Packaged: "
        f"{', '.join(known)}."
    )


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping; `${NAME}` in texts is replaced by the environment variable."""
    if path.stat().st_size > _MAX_BYTES:
        raise UserError(
            f"{path}: has {path.stat().st_size:,} bytes, more than a config of {_MAX_BYTES:,}. Name another."
        )
    try:
        data = _parsed(path.read_text(encoding="utf-8"), str(path))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        error.add_note(str(path))
        raise
    if not isinstance(data, dict):
        raise UserError(f"{path}: holds {type(data).__name__}, not a mapping of settings. Write `key: value` lines.")
    return data


def _parsed(text: str, where: str) -> Any:
    """YAML values of a text. Raises yaml.YAMLError, or UserError for what YAML allows and nothing here can hold."""
    try:
        data = yaml.load(text, _OneOfEach)
        _refuse_too_many(data)
        return data
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    except RecursionError:
        raise UserError(f"{where}: nested too deep. Flatten it.") from None
    except (ValueError, OverflowError) as error:  # a date that does not exist, a number of thousands of digits
        raise UserError(f"{where}: holds a value that cannot be read ({error}). Mend or quote it.") from None


def _refuse_too_many(data: Any) -> None:
    """A few lines of aliases (*name) can stand for more values than a machine holds, or for themselves."""
    left, waiting = _MAX_VALUES, [data]
    while waiting:
        value = waiting.pop()
        children = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
        left -= len(children)
        if left < 0:
            raise UserError(f"aliases and lists stand for more than {_MAX_VALUES:,} values. Write them out.")
        waiting.extend(children)


def _expand(value: Any, path: Path) -> Any:
    if isinstance(value, dict):
        return {k: _expand(v, path) for k, v in value.items()}
    if isinstance(value, list):
        return [_expand(v, path) for v in value]
    if isinstance(value, str) and "${" in value:
        expanded = os.path.expandvars(value)
        if "${" in expanded:
            missing = expanded[expanded.index("${") + 2 :].split("}")[0]
            raise UserError(f"{path}: environment variable {missing} is not set. Set it to the folder with the data.")
        return expanded
    return value


def apply_overrides(data: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """`a.b=c` sets data["a"]["b"] to the YAML value c; list items by their index."""
    for text in overrides:
        key, eq, value = text.partition("=")
        if not eq or not key:
            raise UserError(f"--set {text}: write it as key.subkey=value, for example --set training.steps=1000000")
        node: Any = data
        *parents, last = key.split(".")
        for part in parents:
            if isinstance(node, list) and part.isdigit() and int(part) < len(node):
                node = node[int(part)]
            elif isinstance(node, dict):
                node = node.setdefault(part, {})
            else:
                raise UserError(f"--set {text}: there is no {part!r} to set in")
        try:
            parsed = _parsed(value, f"--set {key}")
        except yaml.YAMLError as error:
            error.add_note(f"--set {text}")
            raise
        if isinstance(node, list) and last.isdigit() and int(last) < len(node):
            node[int(last)] = parsed
        elif isinstance(node, dict):
            node[last] = parsed
        else:
            raise UserError(f"--set {text}: there is no {last!r} to set")
    return data


def _build(model: type[M], data: dict[str, Any], path: Path | str) -> M:
    try:
        return model.model_validate(data)
    except ValidationError as error:
        error.add_note(str(path))
        raise


def load_market(name: str | Path, overrides: Sequence[str] = ()) -> MarketConfig:
    """A market by path or packaged name; `base: NAME` in the file starts from another market and replaces its keys."""
    path = find_config(name, "markets")
    return _build(MarketConfig, apply_overrides(market_data(path), overrides), path)


def market_data(path: Path, children: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The settings of a market file over those of its `base`, if it names one."""
    if path.resolve() in children:
        raise UserError(f"{path}: is its own `base`, directly or over others. Name another market there.")
    data: dict[str, Any] = _expand(read_yaml(path), path)
    if isinstance(data.get("base"), str):
        base = data.pop("base")
        parent = path.parent / base
        found = parent if parent.is_file() else find_config(base, "markets")
        start = market_data(found, (*children, path.resolve()))
        data = {**start, **data}
    return data


def base_key(base: str | Path, out: Path) -> str:
    """What to write as `base:` of a market file `out`: a packaged name as it is, a path as seen from that file.

    Raises:
        UserError: `out` is the base.
    """
    path = find_config(base, "markets")
    if path.resolve() == out.resolve():
        raise UserError(f"--out {out}: is the base itself, which would be lost. Name another file.")
    return str(base) if path.is_relative_to(PACKAGED) else Path(os.path.relpath(path, out.parent)).as_posix()


def load_experiment(name: str | Path, overrides: Sequence[str] = ()) -> ExperimentConfig:
    """An experiment by path or packaged name. Its `market` may be a name, a path, or the market itself."""
    path = find_config(name)
    data = _expand(read_yaml(path), path)
    data["market"] = _market_of(data.get("market", "base"), path)
    data.setdefault("name", path.stem)
    data = apply_overrides(data, overrides)
    data["market"] = _market_of(data["market"], path)  # --set market=NAME
    return _build(ExperimentConfig, data, path)


def _market_of(market: Any, experiment: Path) -> Any:
    """The settings of an experiment's market: a name, a path (beside the experiment first), or the market itself."""

    def data_of(name: str) -> dict[str, Any]:
        beside = experiment.parent / name
        return market_data(beside if beside.is_file() else find_config(name, "markets"))

    if isinstance(market, str):
        return data_of(market)
    if isinstance(market, dict) and isinstance(market.get("base"), str):
        return {**data_of(market["base"]), **{k: v for k, v in market.items() if k != "base"}}
    return market


def load_router_settings(config: type[M], name: str | Path) -> M:
    """Settings of a router from a YAML file (only the keys that differ)."""
    path = find_config(name, "routers")
    return _build(config, read_yaml(path), path)


def load_rule_sor(name: str | Path) -> RuleSorConfig:
    """Settings of the rule-based SOR."""
    return load_router_settings(RuleSorConfig, name)


def dump_yaml(model: BaseModel) -> str:
    """The resolved config as YAML."""
    return yaml.safe_dump(model.model_dump(mode="json"), sort_keys=False, width=120, allow_unicode=True)
