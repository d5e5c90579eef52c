"""Explain a policy: log its decisions, measure the explanations, draw its functions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ...configs.errors import UserError
from ...configs.experiment import ExperimentConfig
from ...configs.loading import load_market
from ...envs.market import Market
from ...explain.decision_log import read_log
from ...explain.facts import Body
from ...explain.monotonicity import monotone_breaks
from ...explain.shape_page import write_shape_page
from ..bundle import load_bundle
from ..explaining import write_decision_log
from ..faithfulness import Sample, faithfulness_rows
from ..fallback import FeatureRanges
from ..integrated_gradients import MlpScorer
from ..reason_outcomes import outcome_tables
from ..runs import is_bundle, load_run, refuse_bounds
from ..runtime import AdditiveRuntime
from ..validation_page import validation_page
from .policies import fitted, of_bundle, of_run, ranges_of, scorer_of


@dataclass(frozen=True)
class _Explained:
    market: Market
    policy: AdditiveRuntime | MlpScorer  # for the market's routes
    ranges: FeatureRanges | None
    config: ExperimentConfig
    facts: Body  # of the `run` record


def _explained(path: Path, market: str | None) -> _Explained:
    """Of a bundle or a run folder."""
    if is_bundle(path) or not path.is_dir() or not (path / "policy.zip").is_file():
        item = of_bundle(path)
    else:
        run = load_run(path)
        refuse_bounds(run, "explained")
        item = of_run(run)
    facts: Body = {"policy_sha256": item.policy_sha256, "config_sha256": item.config_sha256}
    venue = Market(load_market(market) if market is not None else item.config.market)
    item = fitted(item, venue)
    return _Explained(venue, scorer_of(item), ranges_of(item), item.config, facts)


def _explain_folder(out: Path | None, config: ExperimentConfig, venue: str) -> Path:
    folder = out or Path("runs") / f"explain-{config.name}-s{config.seed}-{venue}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def explain_job(bundle: Path, *, market: str | None, orders: int, seed: int, out: Path | None) -> Path:
    """Work sample orders with the policy of a bundle or a run and log every decision."""
    x = _explained(bundle, market)
    path = _explain_folder(out, x.config, x.market.config.name) / "decisions.jsonl"
    write_decision_log(
        x.market, x.policy, path, orders=orders, seed=seed, stream="test", ranges=x.ranges,
        policy_id=f"{x.config.name}-s{x.config.seed}", run_facts=x.facts,
    )  # fmt: skip
    return path


def validate_job(
    bundle: Path, *, market: str | None, orders: int, seed: int, beside: Sequence[Path], out: Path | None, command: str
) -> tuple[Path, dict[str, Any]]:
    """Log sample orders, then measure: faithfulness, calibration of fill chances, whether reasons came true.

    Args:
        beside: runs or bundles of other training seeds, additive or MLP, with the same routes.
    """
    path = explain_job(bundle, market=market, orders=orders, seed=seed, out=out)
    mine = _explained(bundle, market)
    policy, config = mine.policy, mine.config
    groups: dict[str, list[AdditiveRuntime | MlpScorer]] = {"additive" if policy.exact else "mlp": [policy]}
    for other in beside:
        more = _explained(other, market).policy
        if more.n_routes != policy.n_routes:
            raise UserError(f"{other}: scores {more.n_routes} routes, {bundle} {policy.n_routes}. Name runs alike.")
        groups.setdefault("additive" if more.exact else "mlp", []).append(more)
    decisions = (r["body"] for r in read_log(path) if r["type"] == "decision")
    sample = Sample.of(decisions, 1_000)
    payload = {
        "policy": f"{config.name}-s{config.seed}", "orders": orders, "seed": seed, "command": command,
        "log": str(path), "sampled_decisions": len(sample.obs),
        "faithfulness": faithfulness_rows(groups, sample, config.agent.monotone), **outcome_tables(read_log(path)),
    }  # fmt: skip
    for name, text in (("validation.md", validation_page(payload)), ("validation.json", json.dumps(payload, indent=1))):
        partial = path.parent / f".{name}.partial"
        partial.write_text(text + "\n", encoding="utf-8")
        partial.replace(path.parent / name)
    return path.parent, payload


def shapes_job(bundle: Path, out: Path | None) -> Path:
    """Print the functions as tables and write them as one page, shapes.html."""
    loaded = load_bundle(bundle)
    runtime = loaded.additive()
    print_shapes(bundle)
    folder = _explain_folder(out, loaded.config, loaded.config.market.name)
    breaks = monotone_breaks(runtime.table_e9, runtime.kind_names)
    said = f"Checked at every knot: {len(breaks)} places go against a stated direction."
    return write_shape_page(runtime.to_json(), folder / "shapes.html", f"Every function of {loaded.policy_id}", said)


def print_shapes(bundle: Path) -> None:
    """The one-feature functions as tables, a feature a table, a kind of route a column."""
    tables = load_bundle(bundle).additive().to_json()
    console = Console()
    for feature in tables["features"]:
        table = Table(title=f"{feature['name']} ({feature['unit']}): {feature['description']}")
        table.add_column(feature["name"], justify="right")
        kinds = [*tables["kinds"], *(["pace"] if feature["scope"] == "global" else [])]
        for kind in kinds:
            table.add_column(kind, justify="right")
        for i, knot in enumerate(feature["knots"]):
            shapes = [tables["pace"]["shapes_e9"] if k == "pace" else tables["shapes_e9"][k] for k in kinds]
            values = [shape[feature["name"]][i] for shape in shapes]
            table.add_row(f"{knot:.3g}", *(f"{v / 1e9:+.3f}" for v in values))
        console.print(table)
