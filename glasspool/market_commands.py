"""The commands about markets: calibrate one, certify one, print the rules in force."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .cli import MAX_SEED, Json, app


@app.command()
def calibrate(
    out: Annotated[Path, typer.Option(help="Market YAML to write; table and plots go beside it.")],
    files: Annotated[
        list[Path] | None,
        typer.Argument(help="LOBSTER pairs or trade-and-quote files (or their folder), or bars of 1, 5 or 15 minutes."),
    ] = None,
    fills: Annotated[
        Path | None,
        typer.Option(help="Own child orders, fills and misses (docs/data.md): the pools are fitted to them."),
    ] = None,
    symbol: Annotated[str | None, typer.Option(help="The name, where the files hold several.")] = None,
    volume_curve: Annotated[
        Path | None, typer.Option(help="Volumes by bin (bin_start, then a column a day) for volume curve and noise.")
    ] = None,
    fees: Annotated[
        list[Path] | None,
        typer.Option(help="Own fees: venue,take_fee_mils,post_fee_mils or venue,fee_mils; may repeat."),
    ] = None,
    base: Annotated[str, typer.Option(help="Market that lends what the files cannot tell.")] = "base",
    check: Annotated[
        bool, typer.Option(help="Generate days from the market and compare them with the targets.")
    ] = True,
    json_file: Json = None,
) -> None:
    """Fit a market to recorded days, bars or own fills (statistics only) and check it: YAML, table, page of plots."""
    from .configs.errors import UserError
    from .console import console_beside, print_table, write_json
    from .envs.calibration_run import calibrate_files

    if out.suffix not in (".yaml", ".yml"):  # a slip would write the market over the data
        raise UserError(f"--out {out}: a market is a YAML file. Name it so, such as {out.with_suffix('.yaml').name}.")
    if not files:
        if fills is None:
            raise UserError("nothing to calibrate on. Name market files, or own fills with --fills FILE, or both.")
        if volume_curve is not None or fees:
            raise UserError(
                "--volume-curve and --fees need market files beside --fills. Name them, or leave these out."
            )
        if not check:
            raise UserError("--no-check is about generated days, which need market files. Leave it out.")
        found = _calibrate_fills(fills, out, base, None, json_file, symbol)
        if json_file is not None:
            write_json(json_file, found)
        return
    if fills is not None:
        from .agents.own_fills import read_own_fills

        read_own_fills(fills)  # a bad cell is named before the long part
    result = calibrate_files(
        files, out, base=base, symbol=symbol, volume_table=volume_curve, fees=fees or [], check=check
    )
    own = _calibrate_fills(fills, out, base, out, json_file, symbol) if fills is not None else {}
    if json_file != "-" and result.findings:
        columns = list(result.findings[0])
        print_table("the data", columns, [list(row.values()) for row in result.findings])
    if result.rows:
        columns = ["statistic", "target", "tolerance", "achieved", "error", "holds", "standing"]
        cells = [[_digits(cell) for cell in row.as_row().values()] for row in result.rows]
        print_table("generated days against their targets", columns, cells, json_file=json_file)
    else:
        rows = [
            [str(row["statistic"]), _digits(row["value"]), _digits(row.get("reference"))] for row in result.measured
        ]
        print_table("measured, and what the market has", ["statistic", "measured", "market"], rows, json_file=json_file)
    if json_file is not None:
        write_json(json_file, {
            "targets": [row.as_row() for row in result.rows], "measured": result.measured, "data": result.findings,
            **own,
        })  # fmt: skip
    console = console_beside(json_file)
    claimed = [row for row in result.rows if row.holds is not None]
    if claimed:
        console.print(f"{len(claimed) - len(result.missed)} of {len(claimed)} targets hold", highlight=False)
    for path in result.files:
        console.print(f"written: {path}", highlight=False, soft_wrap=True)


def _calibrate_fills(
    fills: Path, out: Path, base: str, fitted: Path | None, json_file: str | None, symbol: str | None
) -> dict[str, object]:
    """Fit the pools to own fills, print their table and what was written; the table for a JSON file."""
    from .agents.own_fills import COLUMNS, add_own_fills
    from .console import console_beside, print_table

    own = add_own_fills(fills, out, base=base, fitted=fitted, symbol=symbol)
    cells = [[_digits(row[column]) for column in COLUMNS] for row in own.rows]
    if json_file != "-":
        print_table("own fills, 95 % intervals clustered by parent", list(COLUMNS), cells)
    console = console_beside(json_file)
    counted = ", ".join(f"{count:,} {code}" for code, count in own.warnings.items()) or "no warnings"
    unknown = [str(r["venue"]) for r in own.rows if str(r["what"]).startswith("supply_frac") and r["lo"] is None]
    if unknown:
        console.print(f"too little to fit (50 children, 10 parents, one fill): {', '.join(unknown)}", highlight=False)
    console.print(f"stock class behind the pools: {own.stock}; {fills.name}: {counted}", highlight=False)
    if fitted is None:
        for path in own.files:
            console.print(f"written: {path}", highlight=False, soft_wrap=True)
    return {"own_fills": own.rows, "stock_class": own.stock, "fills_warnings": own.warnings}


def _digits(value: object) -> str | None:
    """Five significant digits: statistics run from 1e-4 to 1e8."""
    return f"{value:.5g}" if isinstance(value, float) else None if value is None else str(value)


@app.command()
def certify(
    market: Annotated[str, typer.Argument(help="Market to certify: a YAML file or a packaged name.")] = "base",
    orders: Annotated[int, typer.Option(min=100, help="Parents or tapes behind each statistic.")] = 1_500,
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Seed of the held-out stream.")] = 1,
    json_file: Json = None,
) -> None:
    """Check what must hold of a market before anything learned on it means anything; exit 1 when a line fails."""
    from .agents.jobs.certification import certify_job
    from .console import console_beside, print_table, write_json

    certificate = certify_job(market, orders, seed)
    if json_file is not None:
        write_json(json_file, certificate)
    if json_file != "-":
        verdicts = {True: "holds", False: "FAILS", None: "n/a"}
        rows = [(verdicts[c["passed"]], c["name"], c["measured"], c["claim"]) for c in certificate["checks"]]
        title = f"market {certificate['market']}, {orders:,} orders, seed {seed}, {certificate['seconds']:.0f} s"
        print_table(title, ["verdict", "check", "measured", "claim"], rows)
    if certificate["unjudged"]:
        lines = "; ".join(certificate["unjudged"])
        console_beside(json_file).print(
            f"not judged, too few of {orders:,} orders fill (raise --orders): {lines}", highlight=False, soft_wrap=True
        )
    if not certificate["passed"]:
        raise typer.Exit(1)


@app.command()
def rules(
    on: Annotated[str | None, typer.Option("--date", help="Only the rows in force on this day, YYYY-MM-DD.")] = None,
    json_file: Json = None,
) -> None:
    """Print the dated table of ticks, access fee caps and round lots that markets look up by their trade date."""
    from datetime import date

    from .configs.errors import UserError
    from .configs.rule_table import RULE_TABLE_VERSION, table_rows
    from .console import print_table

    try:
        day = date.fromisoformat(on) if on is not None else None
    except ValueError:
        raise UserError(f"--date {on}: is not a calendar date. Write it as YYYY-MM-DD.") from None
    rows = table_rows(day)
    print_table(
        f"rule table {RULE_TABLE_VERSION}", list(rows[0]) if rows else [], [list(r.values()) for r in rows],
        json_file=json_file,
    )  # fmt: skip
