"""The jobs behind the command line: train from a config, evaluate against the rule-based SOR, tune, explain, demo."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from ..configs.errors import UserError
from ..configs.experiment import ExperimentConfig
from ..configs.loading import (
    dump_yaml,
    find_config,
    load_experiment,
    load_market,
    load_router_settings,
    read_yaml,
)
from ..configs.market import MarketConfig, Model
from ..configs.pool_knowledge import notes
from ..configs.rule_sor import RuleSorConfig
from ..envs.compiled import nothing_compiled
from ..envs.market import Market
from ..explain.decision_log import read_log
from ..explain.facts import Body
from ..explain.monotonicity import monotone_breaks
from ..explain.shape_page import write_shape_page
from .bundle import export_bundle, load_bundle
from .certification import certify
from .comparison import POOLED, Learned, compare, episodes_frame, evaluation_payload, fills_frame, write_evaluation
from .explaining import write_decision_log
from .faithfulness import Sample, faithfulness_rows
from .fallback import FallbackRouter, FeatureRanges, fallback_entry
from .integrated_gradients import MlpScorer
from .onnx_policy import OnnxMlp
from .policies import MlpPolicy
from .reason_outcomes import outcome_tables
from .registry import named_router
from .router import Router, ScoreRouter, ScoringRouter
from .runs import (
    RANGES,
    default_folder,
    is_bundle,
    load_run,
    read_config,
    refuse_bounds,
    training_summary,
    write_config,
)
from .runtime import AdditiveRuntime
from .training import train, training_market
from .tuning import TUNABLE, TuningResult, tune
from .user_router import is_user_router
from .validation_page import validation_page
from .views import router_of

_STDERR = Console(stderr=True)


def _bar(description: str, market: MarketConfig) -> Progress:
    """A bar with ETA, under what was decided for the user in reading the market."""
    for note in notes(market):
        _STDERR.print(note, highlight=False, soft_wrap=True)
    if nothing_compiled():
        _STDERR.print("first use of this version: compiling takes one to four minutes, once, before the bar moves")
    return Progress(
        TextColumn(description), BarColumn(), TextColumn("{task.percentage:>3.0f} %"), TimeElapsedColumn(),
        TextColumn("ETA"), TimeRemainingColumn(), TextColumn("{task.fields[note]}"), console=_STDERR, transient=False,
    )  # fmt: skip


def train_job(
    config: str, overrides: Sequence[str], seed: int | None, out: Path | None, *, resume: bool = False
) -> Path:
    """Train one seed into its folder, with a progress bar; returns the folder."""
    if resume and out is not None and (out / "config.yaml").is_file():
        experiment = read_config(out)
        seed = experiment.seed if seed is None else seed
    else:
        experiment = load_experiment(config, overrides)
    seed = experiment.seed if seed is None else seed
    # refuse what cannot be trained or evaluated before anything is written or replaced
    Market(experiment.market)
    Market(training_market(experiment))
    if experiment.training.teacher is not None:
        named_router(experiment.training.teacher)
    folder = out or default_folder(experiment, seed)
    if folder.exists() and not resume and (folder / "training.json").is_file():
        files = ("best.zip", "checkpoint.zip", "search.pt", "policy.zip", RANGES, "training.json", "evaluation.json")
        for name in ("tensorboard", *files):
            target = folder / name
            shutil.rmtree(target) if target.is_dir() else target.unlink(missing_ok=True)
    write_config(folder, experiment, seed)
    run_training(experiment, seed, folder, resume=resume)
    return folder


def run_training(experiment: ExperimentConfig, seed: int, folder: Path, *, resume: bool) -> None:
    """Train with a bar that shows ETA, training slippage and the last validation against the rule SOR."""
    limit = experiment.training.max_seconds
    with _bar("training", experiment.market) as bar:
        task = bar.add_task("", total=1.0, note="starting")
        started = time.perf_counter()

        def report(done: float, train_bps: float, curve: Any) -> None:
            if limit is not None:
                done = max(done, (time.perf_counter() - started) / limit)
            note = f"slippage {train_bps:+.2f} bps"
            if curve.points:
                note += f", validation {curve.points[-1]['validation_vs_sor_bps']:+.2f} bps against rule_sor"
            bar.update(task, completed=min(done, 1.0), note=note)

        train(experiment, seed, folder, resume=resume, report=report)
        bar.update(task, completed=1.0)


def _resolve(policies: Sequence[str]) -> tuple[list[Learned], list[Router]]:
    """Learned policies (run folders and bundles) and baselines among the names."""
    learned: list[Learned] = []
    named: list[Router] = []
    for name in policies:
        path = Path(name)
        if is_bundle(path):
            bundle = load_bundle(path)
            router = _guarded(bundle.runtime, bundle.ranges, bundle.config)
            learned.append(Learned(router, bundle.config.seed, bundle.config, policy_sha256=bundle.policy_sha256))
        elif path.is_dir():
            run = load_run(path)
            training_summary(path)
            learned.append(Learned(_guarded(run.policy, run.ranges, run.config), run.seed, run.config, path))
        elif not is_user_router(name) and ("/" in name or name.endswith((".yaml", ".zip"))):
            raise UserError(
                f"{name}: no such run folder or bundle. `glasspool train` and `glasspool export` make them."
            )
        else:
            named.append(named_router(name))
    if len({item.seed for item in learned}) < len(learned):
        raise UserError("two of the runs have the same training seed; name the runs of different seeds of one config.")
    if len({item.config.model_copy(update={"seed": 0}).model_dump_json() for item in learned}) > 1:
        raise UserError(
            "the runs come from different configs, so they cannot be pooled as training seeds of one policy. Evaluate "
            "them one by one."
        )
    return learned, named


def _writable(folder: Path, json_file: str | None) -> None:
    """Refuse places that cannot be written before anything is computed."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file where a folder was expected. Name a folder with --out.")
    if json_file not in (None, "-") and not Path(json_file).resolve().parent.is_dir():
        raise UserError(f"{json_file}: its folder does not exist. Make it, or name another file with --json.")


def evaluate_job(
    policies: Sequence[str], *, against: Sequence[str] | None, episodes: int | None, market: str | None,
    seed: int | None, decisions: int, out: Path | None, command: str, json_file: str | None = None,
) -> tuple[Path, dict[str, Any]]:  # fmt: skip
    """Paired comparison; writes the evaluation folder and returns it with the payload."""
    learned, named = _resolve(policies)
    config = learned[0].config if learned else load_experiment("default")
    venue = Market(load_market(market) if market is not None else config.market)
    learned = [_fitted(item, venue) for item in learned]
    wanted = list(against) if against is not None else list(config.evaluation.against)
    baselines = named + [named_router(n) for n in wanted if n not in {r.name for r in named}]
    orders = episodes if episodes is not None else config.evaluation.orders
    test_seed = seed if seed is not None else config.evaluation.seed
    of = config.name if learned else re.sub(r"[^\w.-]+", "-", policies[0])  # of a user's router: cmd:./our_sor
    folder = out or Path("runs") / f"evaluation-{of}-{venue.config.name}"
    _writable(folder, json_file)
    explained = bool(learned) and learned[0].config.agent.privileged == "none"  # a bound never is
    scorer = _scorer(learned[0]) if explained else None
    if decisions and scorer is None:
        raise UserError("--decisions logs a learned policy: name a run (not a bound) or a bundle first.")
    with _bar("evaluating", venue.config) as bar:
        task = bar.add_task("", total=1.0, note="")
        by_name, runs = compare(
            venue, learned, baselines, orders=orders, seed=test_seed, fills_orders=config.evaluation.fills_orders,
            progress=lambda name, i, n: bar.update(task, completed=i / n, note=name),
        )  # fmt: skip
        bar.update(task, completed=1.0, note="")
    seeds = [item.seed for item in learned]
    policy = config.agent.policy if learned else policies[0]
    payload = evaluation_payload(venue, by_name, runs, seeds, policy=policy, seed=test_seed, command=command)
    if guarded := [item.router for item in learned if isinstance(item.router, FallbackRouter)]:
        payload["routers"][POOLED]["fallback"] = fallback_entry(guarded)
    folder.mkdir(parents=True, exist_ok=True)
    for item in learned:
        if item.folder is not None:
            shutil.copyfile(item.folder / "training.json", folder / f"training-s{item.seed}.json")
    if isinstance(scorer, AdditiveRuntime):
        (folder / "policy.json").write_text(json.dumps(scorer.to_json(), indent=1))
    if decisions and scorer is not None:
        write_decision_log(
            venue, scorer, folder / "decisions.jsonl", orders=decisions, seed=test_seed, stream="test",
            policy_id=f"{config.name}-s{seeds[0]}", ranges=_ranges(learned[0]),
            run_facts={"policy_sha256": learned[0].policy_sha256, "command": command},
        )  # fmt: skip
    write_evaluation(folder, payload, episodes_frame(by_name, runs, seeds, venue), fills_frame(by_name, runs, seeds))
    return folder, payload


def _policy(item: Learned) -> object:
    return getattr(item.router, "policy", None)


def _fitted(item: Learned, market: Market) -> Learned:
    """The policy for this market's routes: venue-shared tables work on any venues, others need those of training."""
    policy = getattr(item.router, "policy", None)
    if isinstance(policy, AdditiveRuntime) and policy.shared:
        return replace(
            item, router=_guarded(policy.for_routes(market.rules.route_type, policy.name), _ranges(item), item.config)
        )
    routes = getattr(policy, "n_routes", len(market.routes))
    if routes != len(market.routes):
        raise UserError(
            f"the policy of seed {item.seed} scores {routes} routes, market {market.config.name!r} has "
            f"{len(market.routes)}. Name a market with the venues of training, or train an additive policy with "
            "share_venues: true."
        )
    return item


def _scorer(item: Learned) -> AdditiveRuntime | MlpScorer:
    """The policy as explanations see it; a network by Integrated Gradients."""
    policy = _policy(item)
    if isinstance(policy, MlpPolicy | OnnxMlp):
        return MlpScorer(policy)
    if not isinstance(policy, AdditiveRuntime):
        raise UserError(f"only additive and MLP policies can be explained, this is {type(policy).__name__}.")
    return policy


def _ranges(item: Learned) -> FeatureRanges | None:
    return item.router.ranges if isinstance(item.router, FallbackRouter) else None


def _guarded(
    policy: ScoringRouter, ranges: FeatureRanges | None, config: ExperimentConfig
) -> ScoreRouter | FallbackRouter:
    """The policy as a router, under the fallback where the ranges of its features are known. Bounds have none."""
    router = router_of(policy, config.agent)
    return router if ranges is None or config.agent.privileged != "none" else FallbackRouter(router, ranges)


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
    with _bar("tuning", venue.config) as bar:
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


def certify_job(market: str, orders: int, seed: int) -> dict[str, Any]:
    """Run every check with a progress bar; the certificate as numbers and words."""
    config = load_market(market)
    started = time.perf_counter()
    with _bar("certifying", config) as bar:
        task = bar.add_task("", total=1.0, note="")
        checks = certify(
            config, orders=orders, seed=seed,
            progress=lambda name, i, n: bar.update(task, completed=i / n, note=name),
        )  # fmt: skip
        bar.update(task, completed=1.0, note="")
    return {
        "market": config.name, "orders": orders, "seed": seed, "seconds": time.perf_counter() - started,
        "passed": all(c.passed is not False for c in checks), "unjudged": [c.name for c in checks if c.unjudged],
        "checks": [asdict(c) for c in checks],
    }  # fmt: skip


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
        loaded = load_bundle(path)
        item = Learned(_guarded(loaded.runtime, loaded.ranges, loaded.config), loaded.config.seed, loaded.config)
        facts: Body = {"policy_sha256": loaded.policy_sha256}
    else:
        run = load_run(path)
        refuse_bounds(run, "explained")
        item = Learned(_guarded(run.policy, run.ranges, run.config), run.seed, run.config)
        facts = {}
    venue = Market(load_market(market) if market is not None else item.config.market)
    item = _fitted(item, venue)
    return _Explained(venue, _scorer(item), _ranges(item), item.config, facts)


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


def demo_job(out: Path, minutes: float, command: str) -> tuple[Path, Path, dict[str, Any]]:
    """Everything in one go into `out`: run/, evaluation/ and bundle/; returns report page, bundle, evaluation."""
    from ..tca.report import write_report

    run, evaluation, bundle = out / "run", out / "evaluation", out / "bundle"
    train_job("demo", [f"training.max_seconds={minutes * 60:g}"], None, run)
    folder, payload = evaluate_job(
        [str(run)], against=None, episodes=None, market=None, seed=None, decisions=2, out=evaluation, command=command
    )
    shutil.copyfile(folder / "evaluation.json", run / "evaluation.json")
    export_bundle(run, bundle, orders=2, seed=1_000)
    return write_report(evaluation), bundle, payload
