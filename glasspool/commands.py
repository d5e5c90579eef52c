"""The commands about policies. Each reads its options, calls one function of the packages below, prints what came."""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from .cli import MAX_SEED, Json, app

Out = Annotated[
    Path | None, typer.Option("--out", help="Folder to write to; default: one under runs/, named after its inputs.")
]
Overrides = Annotated[list[str] | None, typer.Option("--set", help="Override a setting: a.b=c. May be repeated.")]


def _command_line() -> str:
    return shlex.join(["glasspool", *sys.argv[1:]])


@app.command()
def train(
    config: Annotated[str, typer.Argument(help="An experiment: a YAML file, or a packaged name such as `default`.")],
    set_: Overrides = None,
    seed: Annotated[int | None, typer.Option(min=0, max=MAX_SEED, help="Training seed; default: the config's.")] = None,
    out: Out = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the folder's last checkpoint.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a run that lies in the folder.")] = False,
) -> None:
    """Train a routing policy from a config: policy.zip, training.json, TensorBoard curves, checkpoints."""
    from .agents.jobs.training import outcome, train_job
    from .configs.errors import UserError

    if resume and overwrite:
        raise UserError("--resume goes on with the folder's run and --overwrite replaces it. Leave one out.")
    folder = train_job(config, set_ or [], seed, out, resume=resume, overwrite=overwrite)
    typer.echo(
        f"{outcome(folder)}\npolicy: {folder / 'policy.zip'}\ncurves: tensorboard --logdir {folder / 'tensorboard'}"
    )


def _refuse_bundle(out: Path | None) -> None:
    """Results written among a bundle's files would break its hashes."""
    from .configs.errors import UserError

    if out is not None and (out / "manifest.json").is_file():
        raise UserError(f"--out {out}: this folder is a bundle. Name another, such as {out / 'evaluation'}.")


@app.command()
def evaluate(
    policies: Annotated[
        list[str],
        typer.Argument(
            help="Run folders or bundles of one or several training seeds, a baseline's name, or your own router as "
            "module:Class or cmd:COMMAND."
        ),
    ],
    against: Annotated[
        list[str] | None,
        typer.Option(
            help="A baseline to compare with, or your own router as module:Class or cmd:COMMAND; may be repeated. "
            "Default: the config's (unless it says otherwise random, vwap_lit, rule_sor, tuned_sor, sor_strong)."
        ),
    ] = None,
    episodes: Annotated[int | None, typer.Option(min=2, help="Held-out parent orders; default: the config's.")] = None,
    market: Annotated[str | None, typer.Option(help="Another market: a YAML file or a packaged name.")] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, max=MAX_SEED, help="Seed of the held-out stream; default: the config's.")
    ] = None,
    decisions: Annotated[int, typer.Option(min=0, help="Log every decision of the first N orders.")] = 0,
    out: Out = None,
    json_file: Json = None,
) -> None:
    """Compare a policy with baselines on the same held-out tapes: paired differences with 95 % intervals."""
    from .agents.jobs.evaluation import evaluate_job
    from .evaluation_tables import print_evaluation

    _refuse_bundle(out)
    folder, payload = evaluate_job(
        policies, against=against, episodes=episodes, market=market, seed=seed, decisions=decisions, out=out,
        command=_command_line(), json_file=json_file,
    )  # fmt: skip
    print_evaluation(payload, json_file)
    if json_file != "-":
        typer.echo(f"written: {folder / 'evaluation.json'} (page: glasspool report {folder})")


@app.command()
def tune(
    market: Annotated[str, typer.Argument(help="Market to tune on: a YAML file or a packaged name.")] = "base",
    router: Annotated[
        str,
        typer.Option(
            help="rule_sor, sor_strong, or an allocator: ganchev, agarwal, llp, thompson, and each with _markout."
        ),
    ] = "rule_sor",
    samples: Annotated[
        int | None, typer.Option(min=1, help="Settings to try; default: 200, or as many as --minutes allow.")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(min=0.01, max=10_000.0, help="Time to search; the finals come on top.")
    ] = None,
    orders: Annotated[int, typer.Option(min=2, help="Training parents a setting at most.")] = 900,
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Seed of the search and of the training stream.")] = 1,
    start: Annotated[
        list[Path] | None,
        typer.Option(help="Settings to try first, beside the defaults: a YAML file or packaged name; may be repeated."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="YAML file to write; default: ROUTER.yaml.")] = None,
) -> None:
    """Search settings of a rule-based router on training markets (Optuna) and write the best as YAML."""
    from .agents.jobs.tuning import tune_job

    file = out or Path(f"{router}.yaml")
    result = tune_job(
        market, router, samples=200 if samples is None and minutes is None else samples, minutes=minutes,
        orders=orders, seed=seed, start=start or [], out=file, command=_command_line(),
    )  # fmt: skip
    typer.echo(
        f"{result.cost_hs:.3f} half spreads against {result.default_cost_hs:.3f} of the default, on "
        f"{result.final_orders} training parents ({result.samples} settings tried, {result.pruned} stopped early)\n"
        f"written: {file}"
    )


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    out: Annotated[Path, typer.Option(help="Bundle folder to write.")],
    orders: Annotated[
        int, typer.Option(min=0, help="Sample parents whose every decision is logged in the bundle; 0: no log.")
    ] = 3,
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Seed of the sample parents.")] = 1_000,
) -> None:
    """Export a trained policy: tables or ONNX, manifest with hashes, model card, and decisions with explanations."""
    from .agents.bundle import export_bundle

    typer.echo(f"bundle: {export_bundle(run, out, orders=orders, seed=seed)}")


@app.command()
def explain(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder, or a run folder.")],
    market: Annotated[str | None, typer.Option(help="Another market: a YAML file or a packaged name.")] = None,
    orders: Annotated[int, typer.Option(min=1, help="Parents to work and log.")] = 3,
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Seed of the held-out stream.")] = 1_000,
    shapes: Annotated[
        bool, typer.Option("--shapes", help="Print the one-feature functions as tables; plots in shapes.html.")
    ] = False,
    validate: Annotated[
        bool, typer.Option("--validate", help="Measure the explanations on that log; exit 1 when a check fails.")
    ] = False,
    beside: Annotated[
        list[Path] | None, typer.Option(help="Another training seed's run or bundle, for --validate; may be repeated.")
    ] = None,
    out: Out = None,
    json_file: Json = None,
) -> None:
    """Log every decision of sample orders with its explanation (decisions.jsonl and .parquet); plot; validate."""
    from .agents.jobs.explaining import explain_job, shapes_job, validate_job
    from .configs.errors import UserError

    _refuse_bundle(out)
    if not validate and (beside or json_file is not None):
        raise UserError("--beside and --json belong to --validate. Add it, or leave them out.")
    if shapes:
        typer.echo(f"plots: {shapes_job(bundle, out)}")
        if out is None and not validate:
            return
    if validate:
        from .agents.validation_page import validation_page
        from .console import write_json

        folder, payload = validate_job(
            bundle, market=market, orders=orders, seed=seed, beside=beside or [], out=out, command=_command_line()
        )
        if json_file is not None:
            write_json(json_file, payload)
        if json_file != "-":
            typer.echo(validation_page(payload))
            typer.echo(f"written: {folder / 'validation.json'}, {folder / 'validation.md'}")
        if any(row["holds"] is False for row in payload["faithfulness"]):
            raise typer.Exit(1)
        return
    path = explain_job(bundle, market=market, orders=orders, seed=seed, out=out)
    again = f" --bundle {bundle}" if (bundle / "manifest.json").is_file() else ""
    typer.echo(
        f"log: {path}\ncheck it: glasspool audit verify {path}{again}\n"
        f"one decision as a page: glasspool audit show {path} P-0-0000 --out case.html"
    )


@app.command()
def report(folder: Annotated[Path, typer.Argument(help="Evaluation folder.")]) -> None:
    """Write report.html, one self-contained page, from an evaluation folder."""
    from .tca.report import write_report

    typer.echo(f"open: {write_report(folder)}")


@app.command()
def oracle(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            help="O1, O2-1, O2-3, O3-0, O3-1, O9-M1 ... O9-M4, O10-seen, O10-fills, O10-never; O2, O3, O9, O10 for "
            "all of theirs; all (twelve problems, one to two hours on two cores)."
        ),
    ] = None,
    policy: Annotated[str, typer.Option(help="additive or mlp.")] = "additive",
    seeds: Annotated[int, typer.Option(min=1, help="Training seeds.")] = 5,
    solve: Annotated[
        list[Path] | None, typer.Option(help="Solve problem files exactly instead; may be repeated.")
    ] = None,
    problem: Annotated[
        list[Path] | None, typer.Option(help="Train on the parameters of a problem file; may be repeated.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for finished seeds (a stopped suite resumes).")] = Path(
        "runs/oracles"
    ),
    json_file: Json = None,
) -> None:
    """Train on problems whose optimum is known exactly and print the gap; exit 1 past the pass mark."""
    from .agents import oracle_problems, oracle_runs
    from .configs.errors import UserError
    from .console import print_table, write_json

    if solve and (names or problem):
        raise UserError("--solve solves its problem files and trains nothing. Leave out the names and --problem.")
    if not (solve or names or problem):
        raise UserError("no problem named. Give one such as O1, several, or all; or a file with --problem or --solve.")
    if solve:
        write_json(json_file or "-", oracle_problems.solve_files(solve))
        return
    rows: list[dict[str, Any]] = oracle_runs.oracle_table(
        [*(names or []), *map(str, problem or [])], policy, list(range(1, seeds + 1)), out, _tell_seed
    )
    columns = ["problem", "policy", "optimum", "learned_mean", "gap_percent", "gap_ci95_percent", "pass_mark_percent",
               "best_simple_rule", "action_regret_percent", "seconds_per_seed", "passed"]  # fmt: skip
    shown = [
        r | {name: f"{r[name]:.7g}" for name in ("optimum", "learned_mean", "best_simple_rule")} | {
            "gap_ci95_percent": "one seed" if (ci := r["gap_ci95_percent"]) is None else f"{ci[0]:.3f} to {ci[1]:.3f}",
            "passed": "yes" if r["passed"] else "NO",
        }
        for r in rows
    ]  # fmt: skip
    cells = [[r[c] for c in columns] for r in shown]
    print_table("gap to the optimum", columns, cells)
    if json_file is not None:
        write_json(json_file, rows)
    if not all(r["passed"] for r in rows):
        raise typer.Exit(1)


def _tell_seed(result: dict[str, Any]) -> None:
    typer.echo(
        f"{result['problem']}, {result['policy']}, seed {result['seed']}: {result['gap_percent']:.3f} % above the "
        f"optimum, trained in {result['seconds']:.0f} s"
    )


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything.")] = Path("runs/demo"),
    minutes: Annotated[float, typer.Option(min=0.1, max=60, help="Training time limit, minutes.")] = 3.0,
) -> None:
    """Train, evaluate, export, explain and report in one go on an embedded market; print verdict and what to open."""
    from .agents.jobs.demo import demo_job
    from .evaluation_tables import print_evaluation, verdict

    started = time.perf_counter()
    page, bundle, payload, trained = demo_job(out, minutes, _command_line())
    print_evaluation(payload)
    typer.echo(f"trained: {trained}\n{verdict(payload)}")
    typer.echo(
        f"{time.perf_counter() - started:.0f} s in all\n"
        f"open:   {page}\nbundle: {bundle}\n"
        f"check:  glasspool audit verify {bundle}/explanations/decisions.jsonl --bundle {bundle}"
    )
