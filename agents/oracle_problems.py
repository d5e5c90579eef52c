"""Problems with a known optimum by name or by file, what the optimum costs, and what the best simple rule costs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from ..configs.errors import UserError
from ..configs.loading import read_yaml
from .oracle_markets import OracleParams, market_of
from .oracles.dark_adverse import DarkFillAdverseParams
from .oracles.dark_fill import DarkFillQuadraticParams
from .oracles.fill_paths import best_catch_up_cost
from .oracles.kinds import KINDS, optimum_of
from .oracles.lot_problem import LotRoutingParams, RegimeParams
from .oracles.lot_rules import best_simple_rule
from .oracles.parameters import Params
from .oracles.vwap_tracking import VwapTrackingParams

_TRAINABLE = (DarkFillQuadraticParams, DarkFillAdverseParams, VwapTrackingParams, LotRoutingParams)


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


def _regimes(seen: Literal["before_acting", "fills_only", "never"]) -> LotRoutingParams:
    regimes = RegimeParams(adverse=((0.3, 0.1), (0.3, 1.7)), stay=0.9, seen=seen)
    return _lots(0.3, 0.9).model_copy(update={"regimes": regimes})


_CURVE = (0.24, 0.14, 0.12, 0.12, 0.14, 0.24)


def _adverse(gamma: float) -> DarkFillAdverseParams:
    return DarkFillAdverseParams(q=0.1, p=0.5, gamma=gamma, n_slots=5, lam=1.0, x0=1.0)


PROBLEMS: dict[str, Problem] = {
    problem.name: problem
    for problem in (
        Problem("O1", DarkFillQuadraticParams(q=0.1, p=0.5, n_slots=5, lam=1.0, x0=1.0), 1.0),
        Problem("O2-1", _adverse(0.1), 1.0),
        Problem("O2-3", _adverse(0.3), 1.0),
        Problem("O3-0", VwapTrackingParams(u=_CURVE, eta=0.2, p=0.4, gamma=0.25, phi=0.0), 1.0),
        Problem("O3-1", VwapTrackingParams(u=_CURVE, eta=0.2, p=0.4, gamma=0.10, phi=1.0), 1.0),
        Problem("O9-M1", _lots(0.3, 0.9), 0.5),
        Problem("O9-M2", _lots(0.0, 0.0), 0.5),
        Problem("O9-M3", _lots(1.2, 1.6), 0.25),
        Problem("O9-M4", _lots(0.3, 0.9, tracking=0.05), 0.5),
        Problem("O10-seen", _regimes("before_acting"), 0.5),
        Problem("O10-fills", _regimes("fills_only"), 0.7194),  # half of what fills can tell: a cost of 11.6886
        Problem("O10-never", _regimes("never"), 0.5),
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
            if not isinstance(params, _TRAINABLE):
                raise UserError(
                    f"{name}: a problem of this kind is solved (--solve), not trained on. Kinds to train on: "
                    "dark_fill_quadratic, dark_fill_adverse, vwap_tracking, lot_routing."
                )
            market_of(params)
            mark = 0.5 if isinstance(params, LotRoutingParams) else 1.0
            found[Path(name).stem] = Problem(Path(name).stem, params, mark)
            continue
        plain = re.sub("[^A-Z0-9]", "", name.upper())
        of_name = [p for p in PROBLEMS if plain == "ALL" or plain in (p.replace("-", "").upper(), p.split("-")[0])]
        if not of_name:
            raise UserError(
                f"{name}: no such problem. Give {', '.join(PROBLEMS)}; O2, O3, O9 or O10 for all of theirs; all; or a "
                "problem file (.yaml)."
            )
        found |= {p: PROBLEMS[p] for p in of_name}
    return list(found.values())


def read_problem(path: Path) -> Params:
    """A problem file: one flat YAML mapping with its `kind` and parameters.

    Raises:
        UserError: no such file, or a kind that is not solved here (the message names those that are).
        ValidationError: a wrong parameter; its note names the file.
    """
    if not path.is_file():
        if str(path) in PROBLEMS:
            raise UserError(f"{path}: no such file. To train on {path}, give its name without an option.")
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
    return [
        {"value": optimum_of(params), "kind": params.model_dump()["kind"], "file": str(path)}
        for path, params in problems
    ]


def best_simple_cost(params: OracleParams) -> float:
    """Exact cost of the best simple rule: a schedule lit only, or caught up lit with the rest dark; no rule looks at a
    regime, so the mean charge decides."""
    if isinstance(params, LotRoutingParams):
        return best_simple_rule(params.in_regime(0.5)).cost
    return best_catch_up_cost(params.fill_problem())


__all__ = [
    "KINDS", "PROBLEMS", "Problem", "best_simple_cost", "optimum_of", "problems_of", "read_problem", "solve_files",
]  # fmt: skip
