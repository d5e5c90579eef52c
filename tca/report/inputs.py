"""What the page reads: the files of an evaluation folder, checked before anything is drawn.

Unknown keys are let through (writers may know more than this page); a missing or wrong key is refused with file and
field.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ...configs.errors import UserError

COMPONENTS = ("spread", "instantaneous", "transient", "permanent", "leak", "display", "fee", "adverse", "timing")
MAX_LOG_RECORDS = 20_000  # the page shows one decision: it looks for a telling one near the start of the log

Pair = Annotated[list[float], Field(min_length=2, max_length=2)]


class _Input(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Metric(_Input):
    """One cost of one router over all episodes. + = cost."""

    mean: float
    sd: float
    ci95: Pair


class VenueRow(_Input):
    """One venue x order type. improvement and markouts: + = benefit; null where nothing was measured."""

    venue: str
    kind: Literal["dark", "lit"]
    order_type: str
    attempts: int
    filled_orders: int
    routed_shares: int
    filled_shares: int
    fill_rate_orders: float | None
    fill_rate_shares: float | None
    improvement_bps: float | None
    markout_10s_bps: float | None
    markout_300s_bps: float | None
    n_fills: int


class Fallback(_Input):
    """Decisions that the rule SOR took in the policy's place, a feature being outside training. By feature: counts."""

    decisions: int
    fallback_frac: float
    by_feature: dict[str, int]


class RouterResult(_Input):
    """One router: costs (+ = cost), shares by kind of route (fractions), completion (fraction)."""

    vwap_slippage_bps: Metric
    vwap_slippage_hs: Metric
    arrival_cost_bps: Metric
    vwap_affected_bps: Metric
    components_bps: dict[str, float]
    dark_frac: float
    post_frac: float
    take_frac: float
    tail5_bps: float
    completion_frac: float
    venues: list[VenueRow] = []
    fallback: Fallback | None = None  # None: no policy that could fall back


class SeedDifference(_Input):
    seed: int
    mean_difference_bps: float
    ci95_bps: Pair


class Comparison(_Input):
    """Router minus baseline on the same episodes: - is cheaper."""

    router: str
    baseline: str
    metric: str
    mean_difference_bps: float
    ci95_bps: Pair
    mean_difference_hs: float
    ci95_hs: Pair
    episodes: int
    components_bps: dict[str, float] = {}
    per_seed: list[SeedDifference] = []


class Evaluation(_Input):
    policy: str
    market: str
    simulated: Literal[True]  # this page never shows real fills: its banner and title say SIMULATED
    seeds: list[int]
    test_seed: int
    episodes: int
    interval_s: float
    interval_method: str
    command: str
    created: str
    price_paths: Literal["synthetic", "replayed"]
    routers: Annotated[dict[str, RouterResult], Field(min_length=1)]
    comparisons: list[Comparison]
    hashes: dict[str, str] = {}
    market_notes: list[str] = []  # what was decided for the user in reading the market

    @model_validator(mode="after")
    def _comparisons_name_known_routers(self) -> Self:
        for c in self.comparisons:
            for name in (c.router, c.baseline):
                if name not in self.routers:
                    raise ValueError(
                        f"a comparison names {name!r}, which is not among the routers {list(self.routers)}"
                    )
        return self


class CurvePoint(_Input):
    step: int
    seconds: float
    train_slippage_bps: float | None = None
    validation_slippage_bps: float | None = None
    validation_vs_sor_bps: float | None = None
    validation_vs_sor_ci95_bps: Pair | None = None
    dark_frac: float | None = None
    post_frac: float | None = None
    fill_rate_ping: float | None = None
    fill_rate_rest: float | None = None
    fill_rate_post: float | None = None


class Training(_Input):
    seed: int
    config: Any
    seconds: float
    steps: int
    curve: list[CurvePoint]


class PolicyFeature(_Input):
    name: str
    unit: str
    factor: str
    description: str
    scope: Literal["global", "route"]
    knots: list[float]


class PaceTable(_Input):
    bias_e9: int
    shapes_e9: dict[str, list[int]]


class PolicyTables(_Input):
    """The additive policy as tables: score = bias + sum of one-feature piecewise-linear functions, in units of 1e-9."""

    kinds: list[str]
    features: list[PolicyFeature]
    bias_e9: dict[str, int]
    shapes_e9: dict[str, dict[str, list[int]]]
    pace: PaceTable | None = None

    @model_validator(mode="after")
    def _one_value_per_knot(self) -> Self:
        knots = {f.name: len(f.knots) for f in self.features}
        pace = {"pace": self.pace.shapes_e9} if self.pace else {}
        for kind, shapes in {**self.shapes_e9, **pace}.items():
            for name, values in shapes.items():
                if name not in knots:
                    raise ValueError(f"shapes_e9.{kind} has {name!r}, which is not among the features")
                if len(values) != knots[name]:
                    raise ValueError(f"shapes_e9.{kind}.{name} has {len(values)} values for {knots[name]} knots")
        return self


@dataclass(frozen=True, slots=True)
class ReportInputs:
    evaluation: Evaluation
    trainings: list[Training]
    policy: PolicyTables | None
    records: list[Mapping[str, Any]] | None  # the first MAX_LOG_RECORDS of the decision log; None: no log
    file_sha256: dict[str, str]


_Model = TypeVar("_Model", bound=_Input)


def read_inputs(folder: Path) -> ReportInputs:
    """Read evaluation.json and whatever optional files stand beside it.

    Raises:
        UserError: no folder, no evaluation.json, or a file that does not fit its format (file, row or field, mend).
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder. Give the folder that `glasspool evaluate --out` wrote.")
    if not (folder / "evaluation.json").is_file():
        lies = "It is a bundle. " if (folder / "manifest.json").is_file() else ""
        raise UserError(
            f"{folder}: no evaluation.json in it. {lies}Give a folder that `glasspool evaluate POLICY --out FOLDER` "
            "wrote."
        )
    evaluation = _read(folder / "evaluation.json", Evaluation)
    training_files = sorted(folder.glob("training*.json"))
    trainings = sorted((_read(p, Training) for p in training_files), key=lambda t: t.seed)
    policy_file, log_file = folder / "policy.json", folder / "decisions.jsonl"
    policy = _read(policy_file, PolicyTables) if policy_file.is_file() else None
    records = _read_log(log_file) if log_file.is_file() else None
    read = [folder / "evaluation.json", *training_files, policy_file, log_file]
    return ReportInputs(evaluation, trainings, policy, records, {p.name: _sha256(p) for p in read if p.is_file()})


def _read(path: Path, model: type[_Model]) -> _Model:
    try:
        return model.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text (byte {error.start}). Write the file again.") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: row {error.lineno}: not JSON ({error.msg}). Write the file again.") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "(file)"
        more = f" ({error.error_count()} fields are wrong)" if error.error_count() > 1 else ""
        raise UserError(
            f"{path}: field {field}: {first['msg']}{more}. Write the file again with this version."
        ) from None


def _read_log(path: Path) -> list[Mapping[str, Any]]:
    records: list[Mapping[str, Any]] = []
    with path.open(encoding="utf-8", errors="replace") as lines:
        for row, line in enumerate(islice(lines, MAX_LOG_RECORDS), start=1):
            try:
                record = json.loads(line)
            except json.JSONDecodeError as error:
                raise UserError(
                    f"{path}: row {row}: not JSON ({error.msg}). Check it with `glasspool audit verify`."
                ) from None
            if not (isinstance(record, dict) and isinstance(record.get("body"), dict) and "type" in record):
                raise UserError(
                    f"{path}: row {row}: not a log record (no type or body). Check it with `glasspool audit verify`."
                )
            records.append(record)
    return records


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
