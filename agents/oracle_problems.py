"""Problems with a known optimum by name or by file, what the optimum costs, and what the best simple rule costs."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ..configs.errors import UserError
from ..configs.loading import read_yaml
from .oracle_markets import OracleParams
from .oracle_solvers import (
    DarkFillQuadraticParams,
    LotRoutingParams,
    best_simple_rule,
    evaluate_dark_fill_policy,
    solve_dark_fill_quadratic,
    solve_lot_routing,
)

KINDS: dict[str, type[DarkFillQuadraticParams] | type[LotRoutingParams]] = {
    "dark_fill_quadratic": DarkFillQuadraticParams,
    "lot_routing": LotRoutingParams,
}


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem with a name, and the mean gap to its optimum that a learned policy may have at most."""

    name: str
    params: OracleParams
    mark_percent: float


def _lots(adverse_a: float, adverse_b: float, tracking: float = 0.0) -> LotRoutingParams:
    pools = [
        {"p0": 0.6, "beta": 0.5, "m": 8, "max": 8, "fee": 0.10, "adverse": adverse_a},
        {"p0": 0.8, "beta": 0.2, "m": 8, "max": 8, "fee": 0.05, "adverse": adverse_b},
    ]
    return LotRoutingParams.model_validate(
        {
            "lots": 16, "u": (1.6, 1.0, 0.8, 0.6, 0.6, 0.8, 1.0, 1.6), "tracking": tracking, "pools": pools,
            "lit": {"linear": 1.0, "quadratic": 0.15, "max": 4}, "leftover": {"linear": 1.0, "quadratic": 0.6},
        }
    )  # fmt: skip


PROBLEMS: dict[str, Problem] = {
    problem.name: problem
    for problem in (
        Problem("O1", DarkFillQuadraticParams(q=0.1, p=0.5, n_slots=5, lam=1.0, x0=1.0), 1.0),
        Problem("O9-M1", _lots(0.3, 0.9), 0.5),
        Problem("O9-M2", _lots(0.0, 0.0), 0.5),
        Problem("O9-M3", _lots(1.2, 1.6), 0.25),
        Problem("O9-M4", _lots(0.3, 0.9, tracking=0.05), 0.5),
    )
}


def problems_of(names: Sequence[str]) -> list[Problem]:
    """Problems by name (`O1`, `O9-M1`; `O9` for all its cases; `all`), or by the path of a problem file.

    Raises:
        UserError: a name that is neither; the message lists the names. A file with a mistake in it.
    """
    found: dict[str, Problem] = {}
    for name in names:
        if name.endswith((".yaml", ".yml")):
            params = read_problem(Path(name))
            mark = PROBLEMS["O1" if isinstance(params, DarkFillQuadraticParams) else "O9-M1"].mark_percent
            found[Path(name).stem] = Problem(Path(name).stem, params, mark)
            continue
        plain = re.sub("[^A-Z0-9]", "", name.upper())
        of_name = [p for p in PROBLEMS if plain == "ALL" or plain in (p.replace("-", ""), p.split("-")[0])]
        if not of_name:
            raise UserError(f"{name}: no such problem. Give all, O9, {', '.join(PROBLEMS)}, or a problem file (.yaml).")
        found |= {p: PROBLEMS[p] for p in of_name}
    return list(found.values())


def read_problem(path: Path) -> OracleParams:
    """A problem file: one flat YAML mapping with its `kind` and parameters.

    Raises:
        UserError: no such file, or a kind that is not solved here (the message names those that are).
        ValidationError: a wrong parameter; its note names the file.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file. Give the path of a problem file, one YAML mapping with its kind.")
    data = read_yaml(path)
    kind = data.get("kind")
    if kind not in KINDS:
        raise UserError(f"{path}: kind {kind!r} is not known. Kinds: {', '.join(KINDS)}.")
    try:
        return KINDS[kind].model_validate(data)
    except ValidationError as error:
        error.add_note(str(path))
        raise


def solve_files(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """The exact optimum of each problem file, in their order: `{"value", "kind", "file"}`.

    Raises:
        UserError: as `read_problem`.
    """
    problems = [(path, read_problem(Path(path))) for path in paths]
    return [{"value": optimum_of(params), "kind": params.kind, "file": str(path)} for path, params in problems]


def optimum_of(params: OracleParams) -> float:
    """The least expected cost, in the problem's unit."""
    if isinstance(params, LotRoutingParams):
        return solve_lot_routing(params).value
    return solve_dark_fill_quadratic(params).value


def best_simple_cost(params: OracleParams) -> float:
    """Exact cost of the best simple rule; O1: an even schedule, lit only or caught up lit with the rest dark."""
    if isinstance(params, LotRoutingParams):
        return best_simple_rule(params).cost

    def catch_up(dark: bool) -> Callable[[int, float], tuple[float, float]]:
        def rule(slot: int, remaining: float) -> tuple[float, float]:
            lit = min(remaining, max(0.0, remaining - params.x0 * (1 - (slot + 1) / params.n_slots)))
            return lit, remaining - lit if dark else 0.0

        return rule

    return min(evaluate_dark_fill_policy(params, catch_up(dark)) for dark in (False, True))
