"""A fitted market as YAML: what differs from its base, each block under what it stands on. Statistics only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any

import yaml
from pydantic import BaseModel

from ..configs.market import MarketConfig
from .market_fit import MarketFit


def market_yaml(
    fit: MarketFit, *, base: str, name: str, trade_date: date, header: Sequence[str], market: MarketConfig
) -> str:
    """The market's file: `base` and the keys that differ from it in `market`, the base as it is loaded.

    A top-level key of a market file replaces that of its base, so noise and impact are written with all that differs
    from the defaults, and venue lists whole.
    """
    lines = [*(f"# {line}".rstrip() for line in header), f"base: {base}", f"name: {name}"]
    if trade_date != market.trade_date:
        lines += [*_comment("rules in force: round lot, tick, access fee cap", 0), f"trade_date: {trade_date}"]
    lines.append("stocks:")
    lines += _stock_lines(fit)
    for key, venues in (("lit_venues", fit.lit_venues), ("dark_pools", fit.dark_pools)):
        if venues != getattr(market, key):
            lines += [*_comment(fit.standing.get(key, ""), 0), f"{key}:"]
            lines += [f"  - {_flow(_different(venue, ('name',)))}" for venue in venues]
    for key, part in (("noise", fit.noise), ("impact", fit.impact)):
        if part != getattr(market, key):
            lines += [f"{key}:", *_field_lines(_different(part), fit.standing, f"{key}.", 2)]
    return "\n".join(lines) + "\n"


def _stock_lines(fit: MarketFit) -> list[str]:
    fields = _different(
        fit.stock, tuple(key.removeprefix("stock.") for key in fit.standing if key.startswith("stock."))
    )
    fields.pop("name")
    return [f"  - name: {fit.stock.name}", *_field_lines(fields, fit.standing, "stock.", 4)]


def _field_lines(fields: Mapping[str, Any], standing: Mapping[str, str], prefix: str, indent: int) -> list[str]:
    """Fields grouped by their standing, in the order of its first appearance."""
    groups: dict[str, list[str]] = {}
    for field in fields:
        groups.setdefault(standing.get(prefix + field, "the base market's"), []).append(field)
    lines = []
    for text, members in groups.items():
        lines += _comment(text, indent)
        lines += [f"{' ' * indent}{field}: {_flow(fields[field])}" for field in members]
    return lines


def _comment(text: str, indent: int) -> list[str]:
    return [f"{' ' * indent}# {text}"] if text else []


def _different(model: BaseModel, kept: Iterable[str] = ()) -> dict[str, Any]:
    """Fields that are not at their default, and those to keep whatever they are, in the model's order."""
    changed = model.model_dump(mode="json", exclude_defaults=True)
    return {key: value for key, value in model.model_dump(mode="json").items() if key in changed or key in set(kept)}


def _flow(value: Any) -> str:
    """One line of YAML."""
    text: str = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10**6)
    return text.removesuffix("\n").removesuffix("...").strip()


__all__ = ["market_yaml"]
