"""Does a calibrated market predict days and names it has not seen? Writes benchmarks/out_of_sample.md.

    GLASSPOOL_DATA=... python benchmarks/out_of_sample.py

Days: each of 7, 8 and 9 October 2013 is held out in turn and predicted from the other two, for IBM, AIG and BAC.
Names: each of the three is held out and predicted from the other two; AAPL and AMZN (one exchange, one day) from each
other. Groups of exchanges are those of the days that the market was fitted to. An interval uses nothing of what it
predicts, save the spread, volatility and day count that a prediction for another name is scaled with.
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
from scipy.stats import t as student

from glasspool.configs.loading import load_market
from glasspool.envs.calibration import MARKOUT_HORIZONS_S, CalibratedClass, Markout, calibrate
from glasspool.envs.market_data import MarketDay, read_day
from glasspool.envs.market_fit import fit_market, law_statistics
from glasspool.envs.venue_groups import LIT_VENUE

ROOT = Path(__file__).resolve().parent.parent
TAPE, EVENTS = ("IBM", "AIG", "BAC"), ("AAPL", "AMZN")
GROUPS = ("lowest", "middle", "highest", "hidden")
LEVEL = 0.95
SHARES = ("off_exchange_share", "volume_share:lowest", "volume_share:middle", "volume_share:highest")
LEVELS = (
    "half_spread_bps",
    "daily_vol_bps",
    "adv_shares",
    "minute_volume_log_sd",
    "net_flow_slope_bps",
    "midpoint_share",
)
METHOD = """
- **Days**: 7, 8 and 9 October 2013, each predicted from the other two, for IBM, AIG and BAC. **Names**: each of the
  three from the other two; AAPL and AMZN (21 June 2012) from each other.
- P&L of exchange groups is the fitted market's own, by its law; groups are those of the fitted days. Off-exchange
  prints are predicted by their mean: no market holds them.
- Intervals of markouts: two standard errors, clustered by minute, of the fitted days and of the day to come, and the
  variance between the two fitted days beyond them. Levels and shares: Student's t on log differences of the two fitted
  days, pooled over names (for other names: over the four shares). Volume curve: the Dirichlet noise that the market
  itself has. AAPL and AMZN: sampling errors only, since one name says nothing of how names differ.
- Cells of one day or name are not independent: a coverage is less certain than its count says.
"""
READING = """
What posts earn at 10 to 300 s carries over to other days, and so do venue and off-exchange shares, within intervals of
the size stated. At 1 s it does not: slots of 10 s cannot hold the run and the pick-off of a one-tick name apart. Nor do
off-exchange prints, whose prices the tape rounds. The volume curve differs more from day to day than the noise inside a
day says. Between names, markouts are covered where the interval knows how names differ, and then it is wide; AAPL and
AMZN do not predict each other within sampling errors, and impact does not scale with volatility (AMZN over AAPL:
volatility 1.5, half spread 2.2, impact of visible orders 2.3 to 8.2)."""


@dataclass(frozen=True)
class Cell:
    """One prediction with its interval, and what came."""

    family: str
    case: str
    statistic: str
    predicted: float
    low: float
    high: float
    came: float

    @property
    def inside(self) -> bool:
        return self.low <= self.came <= self.high


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    root = Path(os.environ["GLASSPOOL_DATA"])
    tape = {name: read_day(sorted((root / "taq_2013").glob(f"*_{name.lower()}_*_Tick*"))) for name in TAPE}
    events = {name: read_day(sorted((root / "lobster").glob(f"{name}_*_1.csv*"))) for name in EVENTS}
    cells = [*days_cells(tape), *names_cells(tape), *pair_cells(events)]
    (ROOT / "benchmarks" / "out_of_sample.md").write_text(page(cells))
    print(summary(cells))


# Other days ----------------------------------------------------------------------------------------------------------


def days_cells(tape: dict[str, list[MarketDay]]) -> Iterable[Cell]:
    """Each day from the other two of its name."""
    for held in range(3):
        fitted = {name: calibrate([day for i, day in enumerate(days) if i != held]) for name, days in tape.items()}
        parts = {
            name: [_with_groups(day, fitted[name]) for i, day in enumerate(days) if i != held]
            for name, days in tape.items()
        }
        spread = _log_sd_of_levels(parts)
        for name, days in tape.items():
            came = _with_groups(days[held], fitted[name])
            case = f"{name} {came.dates[0]}"
            yield from _day_markouts(case, fitted[name], parts[name], came)
            yield from _day_levels(case, parts[name], came, spread)
            yield from _day_volume(case, fitted[name], came)


def _day_markouts(
    case: str, fitted: CalibratedClass, parts: Sequence[CalibratedClass], came: CalibratedClass
) -> Iterable[Cell]:
    """The fitted market's P&L by group (off-exchange prints: the mean), +- errors of two days and of the third."""
    market = fit_market(fitted, base := load_market("base")).config(base, fitted.name)
    law = law_statistics(market, {venue: group for group, venue in LIT_VENUE.items()})
    for horizon_s in MARKOUT_HORIZONS_S:
        rows = {group: [_row(part, group, horizon_s) for part in (*parts, came)] for group in GROUPS}
        known = {group: cells for group, cells in rows.items() if all(cell is not None for cell in cells)}
        if not known:
            continue
        between = 0.0  # variance of a day's true mean, pooled over groups; of the two fitted days alone
        for one, two, _ in known.values():
            gap = (one.passive_pnl_bps - two.passive_pnl_bps) ** 2 / 2
            between += (gap - (one.passive_pnl_se_bps**2 + two.passive_pnl_se_bps**2) / 2) / len(known)
        between = max(0.0, between)
        for group, (one, two, held) in known.items():
            errors = one.passive_pnl_se_bps**2 + two.passive_pnl_se_bps**2
            width = 2 * math.sqrt(between + errors / 2 + between / 2 + errors / 4)
            mean = (one.passive_pnl_bps + two.passive_pnl_bps) / 2
            value = law.get(f"passive_pnl_bps:{group}@{horizon_s}s", mean)
            family = (
                "days: P&L of exchange groups, 10 to 300 s" if horizon_s >= 10 else "days: P&L of exchange groups, 1 s"
            )
            if group == "hidden":
                family = "days: P&L of off-exchange prints"
            yield Cell(family, case, f"P&L {group} {horizon_s} s, bps", value, value - width, value + width,
                       held.passive_pnl_bps)  # fmt: skip


def _log_sd_of_levels(parts: dict[str, list[CalibratedClass]]) -> dict[str, tuple[float, int]]:
    """Between-day log standard deviation of each statistic, pooled over the names' fitted days, and its freedom."""
    out = {}
    for statistic in (*LEVELS, *SHARES):
        gaps = [math.log(_value(one, statistic) / _value(two, statistic)) for one, two in parts.values()
                if _value(one, statistic) > 0 and _value(two, statistic) > 0]  # fmt: skip
        if gaps:
            out[statistic] = (math.sqrt(sum(gap**2 for gap in gaps) / 2 / len(gaps)), len(gaps))
    return out


def _day_levels(
    case: str, parts: Sequence[CalibratedClass], came: CalibratedClass, spread: dict[str, tuple[float, int]]
) -> Iterable[Cell]:
    for statistic, (log_sd, freedom) in spread.items():
        values = [_value(part, statistic) for part in (*parts, came)]
        if not all(value > 0 for value in values):
            continue
        mean = math.exp(0.5 * (math.log(values[0]) + math.log(values[1])))
        width = float(student.ppf((1 + LEVEL) / 2, freedom)) * log_sd * math.sqrt(1.5)
        family = "days: venue and off-exchange shares" if statistic in SHARES else "days: levels"
        yield Cell(family, case, statistic, mean, mean * math.exp(-width), mean * math.exp(width), values[2])


def _day_volume(case: str, fitted: CalibratedClass, came: CalibratedClass) -> Iterable[Cell]:
    """Shares of half hours: Dirichlet around the fitted curve with the concentration that the market has."""
    concentration = fitted.volume_noise.step_concentration
    assert concentration is not None
    for k, (share, held) in enumerate(zip(fitted.volume_curve, came.volume_curve, strict=True)):
        width = 2 * math.sqrt(1.5 * share * (1 - share) / (concentration + 1))
        yield Cell("days: volume curve", case, f"volume share of half hour {k + 1}", float(share),
                   float(share - width), float(share + width), float(held))  # fmt: skip


# Other names ---------------------------------------------------------------------------------------------------------


def names_cells(tape: dict[str, list[MarketDay]]) -> Iterable[Cell]:
    """Each name from the other two, all days: P&L in quoted half spreads, shares as they are."""
    measured = {name: calibrate(days) for name, days in tape.items()}
    for held in tape:
        one, two = (measured[name] for name in tape if name != held)
        came = measured[held]
        for horizon_s in MARKOUT_HORIZONS_S:
            pairs = {group: [_in_half_spreads(c, group, horizon_s) for c in (one, two, came)] for group in GROUPS}
            known = {group: rows for group, rows in pairs.items() if all(row is not None for row in rows)}
            between = max(0.0, float(np.mean(
                [(a[0] - b[0]) ** 2 / 2 - (a[1] ** 2 + b[1] ** 2) / 2 for a, b, _ in known.values()])))  # fmt: skip
            factor = float(student.ppf((1 + LEVEL) / 2, len(known)))
            for group, (a, b, c) in known.items():
                errors = a[1] ** 2 + b[1] ** 2
                width = factor * math.sqrt(1.5 * between + errors / 4 + c[1] ** 2) * came.half_spread_bps
                mean = 0.5 * (a[0] + b[0]) * came.half_spread_bps
                yield Cell("names: markouts, scaled by half spread", held, f"P&L {group} {horizon_s} s, bps", mean,
                           mean - width, mean + width, c[0] * came.half_spread_bps)  # fmt: skip
        gaps = {s: math.log(_value(one, s) / _value(two, s)) for s in SHARES}
        log_sd = math.sqrt(sum(gap**2 for gap in gaps.values()) / 2 / len(gaps))
        width = float(student.ppf((1 + LEVEL) / 2, len(gaps))) * log_sd * math.sqrt(1.5)
        for statistic in SHARES:
            mean = math.sqrt(_value(one, statistic) * _value(two, statistic))
            yield Cell("names: venue and off-exchange shares", held, statistic, mean, mean * math.exp(-width),
                       mean * math.exp(width), _value(came, statistic))  # fmt: skip


def pair_cells(events: dict[str, list[MarketDay]]) -> Iterable[Cell]:
    """AAPL from AMZN and back. One name alone says nothing of how names differ: intervals hold sampling error only."""
    measured = {name: calibrate(days) for name, days in events.items()}
    for source, held in (EVENTS, EVENTS[::-1]):
        a, b = measured[source], measured[held]
        vol = b.daily_vol_bps / a.daily_vol_bps
        half = b.half_spread_bps / a.half_spread_bps
        for group in ("visible", "hidden"):
            for horizon_s in MARKOUT_HORIZONS_S:
                x, y = _row(a, group, horizon_s), _row(b, group, horizon_s)
                assert x is not None and y is not None
                width = 2 * math.hypot(half * x.passive_pnl_se_bps, y.passive_pnl_se_bps)
                mean = half * x.passive_pnl_bps
                yield Cell("AAPL and AMZN: P&L, scaled by half spread", f"{held} from {source}",
                           f"P&L {group} {horizon_s} s, bps", mean, mean - width, mean + width,
                           y.passive_pnl_bps)  # fmt: skip
                width, mean = 2 * math.hypot(vol * x.impact_se_bps, y.impact_se_bps), vol * x.impact_bps
                yield Cell("AAPL and AMZN: impact, scaled by volatility", f"{held} from {source}",
                           f"impact {group} {horizon_s} s, bps", mean, mean - width, mean + width,
                           y.impact_bps)  # fmt: skip


# Shared --------------------------------------------------------------------------------------------------------------


def _with_groups(day: MarketDay, fitted: CalibratedClass) -> CalibratedClass:
    """One day's statistics, its exchanges grouped as on the fitted days."""
    return calibrate([day], fitted.venue_groups)


def _row(c: CalibratedClass, group: str, horizon_s: int) -> Markout | None:
    found = [m for m in c.markouts if (m.group, m.horizon_s) == (group, horizon_s)]
    return found[0] if found and math.isfinite(found[0].passive_pnl_se_bps) else None


def _in_half_spreads(c: CalibratedClass, group: str, horizon_s: int) -> tuple[float, float] | None:
    row = _row(c, group, horizon_s)
    if row is None:
        return None
    return row.passive_pnl_bps / c.half_spread_bps, row.passive_pnl_se_bps / c.half_spread_bps


def _value(c: CalibratedClass, statistic: str) -> float:
    if statistic.startswith("volume_share:"):
        return c.group_volume_frac.get(statistic.split(":")[1], float("nan"))
    if statistic == "minute_volume_log_sd":
        return c.volume_noise.minute_log_sd or float("nan")
    if statistic == "net_flow_slope_bps":
        return c.net_flow.slope_bps if c.net_flow is not None else float("nan")
    if statistic == "midpoint_share":
        return c.midpoint.even_spread_frac if c.midpoint.identified else float("nan")
    return float(getattr(c, statistic))


def summary(cells: Sequence[Cell]) -> str:
    lines = ["| what | cells | inside | coverage | median error | median half width |", "|---|---|---|---|---|---|"]
    for family in dict.fromkeys(cell.family for cell in cells):
        mine = [cell for cell in cells if cell.family == family]
        inside = sum(cell.inside for cell in mine)
        relative = any(word in family for word in ("share", "levels", "curve"))
        scale = [abs(cell.predicted) if relative else 1.0 for cell in mine]
        error = np.median([abs(c.came - c.predicted) / s for c, s in zip(mine, scale, strict=True)])
        half = np.median([(c.high - c.low) / 2 / s for c, s in zip(mine, scale, strict=True)])
        text = (f"{error:.0%}", f"{half:.0%}") if relative else (f"{error:.2f} bps", f"{half:.2f} bps")
        lines.append(f"| {family} | {len(mine)} | {inside} | {inside / len(mine):.0%} | {text[0]} | {text[1]} |")
    return "\n".join(lines)


def page(cells: Sequence[Cell]) -> str:
    missed = [cell for cell in cells if not cell.inside]
    rows = [
        f"| {c.family} | {c.case} | {c.statistic} | {c.predicted:.4g} | {c.low:.4g} to {c.high:.4g} | {c.came:.4g} |"
        for c in missed
    ]
    return "\n".join([
        "# Calibration out of sample",
        "",
        f"`python benchmarks/out_of_sample.py`, {date.today().isoformat()}. Intervals are meant to hold 95 %.",
        METHOD,
        summary(cells),
        READING,
        "",
        f"## What was missed ({len(missed)} of {len(cells)})",
        "",
        "| what | case | statistic | predicted | interval | came |",
        "|---|---|---|---|---|---|",
        *rows,
    ]) + "\n"  # fmt: skip


if __name__ == "__main__":
    main()
