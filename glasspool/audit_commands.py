"""The commands under `glasspool audit`: verify a decision log, show a decision, review it, compare two states."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .cli import Json, audit

Log = Annotated[Path, typer.Argument(help="decisions.jsonl")]


@audit.command("verify")
def audit_verify(
    log: Log,
    bundle: Annotated[Path | None, typer.Option(help="Also re-decide every record with this bundle.")] = None,
    json_file: Json = None,
) -> None:
    """Check a log's hash chain; with a bundle also re-decide and compare every record. Exit 1 names the bad one."""
    from dataclasses import asdict

    from .agents.bundle import load_bundle
    from .agents.redecision import Redecider
    from .explain.verification import refuse_other_files, verify_log

    refuse_other_files(log)
    verdict = verify_log(log)  # the chain first: a damaged log inside the bundle must be named, not refused with it
    decided = "decisions not decided again (no --bundle)"
    if verdict.ok and bundle is not None:
        loaded = load_bundle(bundle)
        verdict = verify_log(log, redecide=Redecider(loaded))
        decided = f"every decision made again by {loaded.policy_id}: equal"
    if json_file is not None:
        from .console import write_json

        write_json(json_file, asdict(verdict))
    if json_file != "-":
        typer.echo(f"{verdict.message}; {decided}" if verdict.ok else verdict.message)
    if not verdict.ok:
        raise typer.Exit(1)


@audit.command("show")
def audit_show(
    log: Log,
    decision_id: Annotated[str, typer.Argument(metavar="ID", help="Decision, such as P-0-0007.")],
    out: Annotated[Path, typer.Option(help="Page to write.")] = Path("case.html"),
) -> None:
    """Write one decision as a self-contained page, with proof that it is in the log. Exit 1: the log is not whole."""
    from dataclasses import asdict

    from .explain.proof import find_case
    from .explain.verification import refuse_other_files, verify_log
    from .tca.report import write_case

    refuse_other_files(log)
    verdict = verify_log(log)
    if not verdict.ok:  # a page from a damaged log would lend it credit
        typer.echo(verdict.message)
        raise typer.Exit(1)
    case = find_case(log, decision_id)
    proof = asdict(case.proof) | {"steps": case.proof.steps()}
    page = write_case(out, case.records, case.record, proof=proof, verdict=verdict.message)
    typer.echo(f"open: {page}")


@audit.command("review")
def audit_review(
    log: Log,
    about: Annotated[str, typer.Argument(metavar="ID", help="A decision (P-0-0007), a venue (XQDA) or the policy.")],
    verdict: Annotated[str, typer.Option(help="modify, or justify what was done.")],
    by: Annotated[str, typer.Option(help="Who answers for it.")],
    note: Annotated[str, typer.Option(help="Why; with modify, what is to change.")],
    due: Annotated[str | None, typer.Option(help="By when, YYYY-MM-DD; with modify it is needed.")] = None,
) -> None:
    """Append a committee's verdict to a log, chained and under a new checkpoint. Exit 1: the log is not whole."""
    from .explain.review import append_review
    from .explain.verification import verify_log

    before = verify_log(log)
    if not before.ok:  # nothing may be built on a broken chain
        typer.echo(before.message)
        raise typer.Exit(1)
    seq = append_review(log, about, verdict=verdict, owner=by, text=note, due_date=due)
    typer.echo(f"record {seq}: {verdict} {about}, by {by}\n{verify_log(log).message}")


@audit.command("consistency")
def audit_consistency(
    old: Annotated[Path, typer.Argument(help="An older copy of the log, or of its checkpoints.")],
    new: Annotated[Path, typer.Argument(help="The log as it is now.")],
    json_file: Json = None,
) -> None:
    """Prove that a log still begins with what an older copy or checkpoint held. Exit 1: it does not."""
    from dataclasses import asdict

    from .explain.proof import prove_consistency

    found = prove_consistency(old, new)
    if json_file is not None:
        from .console import write_json

        write_json(json_file, asdict(found))
    if json_file != "-":
        typer.echo(found.message)
    if not found.ok:
        raise typer.Exit(1)
