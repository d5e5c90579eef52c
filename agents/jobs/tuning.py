"""Tune a baseline and write its settings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...configs.errors import UserError
from ...configs.loading import dump_yaml, find_config, load_market, load_router_settings, read_yaml
from ...configs.model import Model
from ...configs.rule_sor import RuleSorConfig
from ...envs.market import Market
from ..tuning import TUNABLE, TuningResult, tune
from .progress import progress_bar


def tune_job(
    market: str, router: str, *, samples: int | None, minutes: float | None, orders: int, seed: int,
    start: Sequence[Path], out: Path, command: str,
) -> TuningResult:  # fmt: skip
    """Tune, then write the YAML with the command in its head."""
    if router not in TUNABLE:
        raise UserError(f"--router {router}: cannot be tuned. Those with settings of their own: {', '.join(TUNABLE)}.")
    if not out.resolve().parent.is_dir():
        raise UserError(f"{out}: its folder does not exist. Make it, or name another file with --out.")
    if out.is_dir():
        raise UserError(f"{out}: is a folder, a file was expected. Name a YAML file with --out.")
    begun = [_start_of(path, TUNABLE[router].config) for path in start]
    venue = Market(load_market(market))
    with progress_bar("tuning", venue.config) as bar:
        task = bar.add_task("", total=1.0, note="")
        result = tune(
            venue, router, seed, samples=samples,
            seconds=None if minutes is None else 60.0 * minutes, orders=orders, start=begun,
            report=lambda n, best, done: bar.update(
                task, completed=done, note=f"{n} settings, best {best:.3f} half spreads"
            ),
        )  # fmt: skip
        bar.update(task, completed=1.0)
    head = (
        f"# {router} tuned on training markets only, by Optuna's TPE.\n# command: {command}\n"
        f"# {result.samples} settings in {result.search_s:.0f} s on up to {result.orders} parents each "
        f"({result.pruned} stopped early), {result.finalists} on {result.final_orders} other parents:\n"
        f"# {result.cost_hs:.4f} half spreads, the default {result.default_cost_hs:.4f}.\n"
    )
    partial = out.with_name(f".{out.name}.partial")
    partial.write_text(head + dump_yaml(result.config))
    partial.replace(out)
    return result


def _start_of(path: Path, own: type[Model]) -> Model:
    """Settings to start from: of the router's own keys, or of the rule SOR's alone."""
    keys = set(read_yaml(find_config(path, "routers")))
    return load_router_settings(RuleSorConfig if keys <= set(RuleSorConfig.model_fields) else own, path)
