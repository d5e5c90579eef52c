"""`glasspool calibrate --fills`: a market whose pools are what own orders and their misses say of them."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray

from ..configs.errors import UserError
from ..configs.loading import base_key, find_config, load_market
from ..configs.market import MarketConfig
from ..configs.pool_knowledge import resolved_supply_frac
from ..configs.stock import StockConfig
from ..configs.venue import DarkPoolConfig
from ..envs.calibration_run import write_whole
from ..tca.fill_cells import HORIZONS_S, Faults
from ..tca.fills import UNKNOWN, Fills, read_fills
from ..tca.pool_fit import PoolFit, fit_pools, fitted_pool
from ..tca.venue_estimates import Estimate, VenueEstimates, venue_estimates

COLUMNS = ("venue", "what", "value", "lo", "hi", "n", "parents", "market")
# What no stock has shown: numbers beyond are slips of the file, and a fit to them would be nonsense without a word.
MAX_SHARES = 10**9  # as in recorded days
MAX_PRICE_USD = 10_000_000
MAX_FEE_USD = 1.0  # a share; access fees are capped at $0.003, commissions are cents
FIRST_DATE, LAST_DATE = np.datetime64("1990-01-01"), np.datetime64("2099-12-31")  # UTC
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_CSV = ("statistic", "target", "tolerance", "achieved", "error", "holds", "standing")
_UNITS = {"fill rate, orders": "frac", "fill rate, shares": "frac", "supply_frac": "share of volume",
          "gamma_fast": "bps, + = adverse", "gamma_slow": "bps, + = adverse",
          "leakage at 10 s": "bps, + = the price runs away", "leak_weight": "1"}  # fmt: skip


@dataclass(frozen=True)
class OwnFills:
    """What a calibration on own fills found and wrote."""

    rows: list[dict[str, str | float | int | None]]  # COLUMNS; 95 % intervals clustered by parent
    market: MarketConfig
    stock: str  # class whose volume, alphas and noise stand behind the pools
    warnings: dict[str, int]
    files: tuple[Path, ...]


def add_own_fills(path: Path, out: Path, *, base: str, fitted: Path | None, symbol: str | None = None) -> OwnFills:
    """Fit the pools of a market to own fills and write it to `out`, its table to `<stem>_fit.csv`.

    Args:
        path: the fills, by the contract and within the limits of docs/data.md.
        out: market YAML.
        base: market that lends what fills cannot tell, where `fitted` is None.
        fitted: a market that was just calibrated on the tape; its text is kept, its pools are replaced.
        symbol: the name to use, where the file holds several.

    Raises:
        UserError: the file breaks a rule, holds no dark venue, or a place cannot be written to.
    """
    key = base_key(base, out) if fitted is None else ""
    fills = _one_name(read_own_fills(path), path, symbol)
    both = np.intersect1d(fills.venue[fills.dark], fills.venue[~fills.dark])
    if both.size:
        name = str(fills.names["venue"][both[0]])
        raise UserError(f"{path}: venue {name!r} is lit in some rows and dark in others. Give the two different names.")
    if not fills.dark.any():
        raise UserError(
            f"{path}: no row with venue_type dark, so there is no pool to fit. Check the column venue_type."
        )
    market = load_market(str(fitted) if fitted is not None else find_config(base, "markets"))
    stock = nearest_class(fills, market)
    fits = fit_pools(fills, market, stock)
    names = _names(fits, market)
    pools = {fit.venue: fitted_pool(fit, market, stock, names[fit.venue]) for fit in fits}
    text = _market_text(path, fills, fits, pools, stock, key, out, fitted)
    _check(text, out)
    table = [
        *_venue_rows(venue_estimates(fills)),
        *(row for fit in fits for row in _pool_rows(fit, pools[fit.venue], stock, market)),
    ]
    files = (out, out.with_name(f"{out.stem}_fit.csv"))
    before = files[1].read_text() if fitted is not None else ",".join(_CSV) + "\n"
    write_whole({out: text, files[1]: before + _csv(table)})
    return OwnFills(table, load_market(str(out)), stock.name, fills.warnings, files)


def read_own_fills(path: Path) -> Fills:
    """A fills file whose numbers a market could have made.

    Raises:
        UserError: a broken rule of the contract, or a number that is no share count, price, fee or date of a stock.
    """
    fills = read_fills(path)
    price = fills.price_e6
    faults = Faults(path)

    def limit(
        column: str, values: NDArray[np.int64], bad: NDArray[np.bool_], rule: str, mend: str,
        shown: Callable[[int], str] = _dollars,
    ) -> None:  # fmt: skip
        if (rows := np.flatnonzero(bad)).size:
            i = rows[np.argmin(fills.row[rows])]
            faults.add(column, rule, mend, int(fills.row[i]), shown(int(values[i])), rows.size)

    for column, count in (("shares", fills.shares), ("routed_shares", fills.routed_shares)):
        limit(column, count, count > MAX_SHARES, f"is above {MAX_SHARES:,} shares", "Correct the size", str)
    for column, dollars in (("price", price), ("bid", fills.bid_e6), ("ask", fills.ask_e6)):
        limit(column, dollars, dollars > MAX_PRICE_USD * 1e6, f"is above ${MAX_PRICE_USD:,}", "Correct the price")
    fee = fills.fee_e6
    limit("fee_per_share", fee, (fee != UNKNOWN) & (np.abs(fee) > MAX_FEE_USD * 1e6),
          f"is more than ${MAX_FEE_USD:g} a share", "Give dollars a share")  # fmt: skip
    # Against bid and ask, not their mid: beside a stub quote (0.01 to 199,999.99) any price is far from the mid.
    quoted, rule, mend = fills.mid2_e6 > 0, "is below half the bid or above twice the ask", "Correct it, or the quote"
    least, most = (fills.bid_e6 + 1) // 2, 2 * fills.ask_e6  # whole numbers: dollars >= bid / 2 just when >= least
    for column, dollars in (("price", price), *((_mid_column(h), mids) for h, mids in fills.mid_after_e6.items())):
        given = (dollars != UNKNOWN) & (dollars > 0) & quoted
        limit(column, dollars, given & ((dollars < least) | (dollars > most)), rule, mend)
    first_ns, end_ns = (int(day.astype("datetime64[ns]").astype(np.int64)) for day in (FIRST_DATE, LAST_DATE + 1))
    for column, ts in (("ts", fills.ts_ns), ("recv_ts", fills.recv_ts_ns)):
        limit(column, ts, (ts != UNKNOWN) & ((ts < first_ns) | (ts >= end_ns)),
              f"is not a date from {FIRST_DATE} to {LAST_DATE} (UTC)", "Correct the date", _date)  # fmt: skip
    faults.refuse()
    return fills


def _dollars(e6: int) -> str:
    return f"{e6 / 1e6:.15g}"


def _date(ns: int) -> str:
    return str(np.datetime64(ns, "ns").astype("datetime64[D]"))


def _mid_column(horizon_s: float) -> str:
    return next(name for name, h in HORIZONS_S.items() if h == horizon_s)


def _one_name(fills: Fills, path: Path, symbol: str | None) -> Fills:
    """The rows of one symbol; a file without symbols is of one name."""
    names = {str(name) for name in fills.names["symbol"][np.unique(fills.symbol)]}
    if symbol is not None and names == {""}:
        raise UserError(f"{path}: has no column symbol, so --symbol {symbol} names nothing. Leave it out.")
    if symbol is None and len(names) == 1:
        return fills
    if symbol is None or symbol not in names:
        listed = ", ".join(sorted(names)[:10])
        raise UserError(f"{path}: holds {listed}; {'no ' + symbol if symbol else 'one name at a time'}. Use --symbol.")
    rows = fills.names["symbol"][fills.symbol] == symbol
    cut = {
        f.name: value[rows] for f in fields(fills) if isinstance(value := getattr(fills, f.name), np.ndarray)
    }  # fmt: skip
    return replace(fills, **cut, mid_after_e6={h: mids[rows] for h, mids in fills.mid_after_e6.items()})


def _check(text: str, out: Path) -> None:
    """The market must load before anything is written."""
    part = out.with_name(f".{out.stem}.part.yaml")
    try:
        part.write_text(text)
        load_market(str(part))
    except OSError as error:
        raise UserError(
            f"{out}: cannot be written ({error.strerror}). Check the folder and its permissions."
        ) from error
    finally:
        part.unlink(missing_ok=True)


def nearest_class(fills: Fills, market: MarketConfig) -> StockConfig:
    """The market's class nearest to the fills in price and quoted spread (logarithms)."""
    mid2 = fills.mid2_e6
    quoted = (mid2 > 0) & (fills.ask_e6 > fills.bid_e6)
    if not quoted.any():
        return market.stocks[0]
    price = float(np.median(mid2[quoted])) / 2e6
    spread = float(np.median(2e4 * (fills.ask_e6 - fills.bid_e6)[quoted] / mid2[quoted]))
    return min(
        market.stocks,
        key=lambda s: abs(math.log(s.price_usd / price)) + abs(math.log(s.spread_bps / max(spread, 1e-3))),
    )


def _names(fits: list[PoolFit], market: MarketConfig) -> dict[str, str]:
    """A market never carries a real venue's name: pools that the base does not know become XQDA, XQDB, ..."""
    known = {pool.name for pool in market.dark_pools}
    taken = known | {venue.name for venue in market.lit_venues}
    free = (name for a in _LETTERS[3:] for b in _LETTERS if (name := f"XQ{a}{b}") not in taken)
    if len(fits) > 500:
        raise UserError(f"{len(fits)} dark venues; at most 500 are fitted at a time. Split the file.")
    return {fit.venue: fit.venue if fit.venue in known else next(free) for fit in fits}


def _market_text(
    path: Path, fills: Fills, fits: list[PoolFit], pools: dict[str, DarkPoolConfig], stock: StockConfig, base: str,
    out: Path, fitted: Path | None,
) -> str:  # fmt: skip
    if fitted is not None:
        lines = _without(fitted.read_text().splitlines(), ("dark_pools", "dark_slots", "randomisation"))
    else:
        lines = ["# Statistics only. Written by `glasspool calibrate --fills`."]
        lines += [f"base: {base}", f"name: {out.stem}"]
        only = yaml.safe_dump([stock.model_dump(mode="json") | {"probability": 1.0}], sort_keys=False, width=10**6)
        lines += [f"# class {stock.name!r} of the base, nearest in price and spread", "stocks:"]
        lines += [f"  {line}" for line in only.splitlines()]
    n_parents = len(np.unique(fills.parent))
    lines += [
        f"# from own fills: {path.name}, {len(fills):,} rows, {n_parents:,} parents; 95 %, clustered by parent.",
        "# Life of resting orders, sizes and minimum quantities are the base's. What fills say of toxicity and leakage",
        "# is weighed against the base's pools; where the two disagree beyond 95 %, the fills alone speak.",
        "dark_slots: []", "randomisation: null", "dark_pools:",
    ]  # fmt: skip
    for fit in fits:
        pool = pools[fit.venue]
        lines.append(f"  # {pool.name}: {fit.n_children:,} children, {fit.n_filled:,} with a fill; {_said(fit)}")
        changed = pool.model_dump(mode="json", exclude_defaults=True)
        lines.append("  - " + yaml.safe_dump(changed, default_flow_style=True, sort_keys=False, width=10**6).strip())
    return "\n".join(lines) + "\n"


def _without(lines: list[str], keys: tuple[str, ...]) -> list[str]:
    """A market's text without these top-level blocks and the comments above them."""
    kept: list[str] = []
    skipping = False
    for line in lines:
        if line and not line[0].isspace() and not line.startswith(("#", "-")):
            skipping = line.split(":")[0] in keys
            while skipping and kept and kept[-1].startswith("#"):
                kept.pop()
        elif line.startswith("#"):
            skipping = False
        if not skipping:
            kept.append(line)
    return kept


def _said(fit: PoolFit) -> str:
    return (
        f"supply_frac {_interval(fit.supply_frac)}; Gamma_fast {_interval(fit.gamma_fast_bps)} bps; "
        f"Gamma_slow {_interval(fit.gamma_slow_bps)} bps; leak_weight {_interval(fit.leak_weight)}"
    )


def _interval(e: Estimate) -> str:
    if e.value is None:
        return "not identified"
    return (
        f"{e.value:.4g} [{e.lo:.4g}, {e.hi:.4g}]" if e.lo is not None and e.hi is not None else f"{e.value:.4g} [few]"
    )


def _row(venue: str, what: str, e: Estimate, market: float | None = None) -> dict[str, str | float | int | None]:
    unit = _UNITS.get(what, "bps, + = benefit")
    return {"venue": venue, "what": f"{what} ({unit})", "value": e.value, "lo": e.lo, "hi": e.hi, "n": e.n,
            "parents": e.n_parents, "market": market}  # fmt: skip


def _venue_rows(estimates: list[VenueEstimates]) -> list[dict[str, str | float | int | None]]:
    rows = []
    for v in estimates:
        if v.order_type == "take":
            continue
        name = f"{v.venue}:{v.order_type}"
        rows += [
            _row(name, "fill rate, orders", v.fill_rate_orders),
            _row(name, "fill rate, shares", v.fill_rate_shares),
        ]
        rows += [_row(name, f"markout at {h:g} s", e) for h, e in sorted(v.markout_bps.items()) if e.n]
    return rows


def _pool_rows(
    fit: PoolFit, pool: DarkPoolConfig, stock: StockConfig, market: MarketConfig
) -> list[dict[str, str | float | int | None]]:
    return [
        _row(fit.venue, "supply_frac", fit.supply_frac, resolved_supply_frac(pool, stock, market)),
        _row(fit.venue, "gamma_fast", fit.gamma_fast_bps), _row(fit.venue, "gamma_slow", fit.gamma_slow_bps),
        _row(fit.venue, "leakage at 10 s", fit.leakage_bps),
        _row(fit.venue, "leak_weight", fit.leak_weight, pool.leak_weight),
    ]  # fmt: skip


def _csv(rows: list[dict[str, str | float | int | None]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, _CSV, lineterminator="\n")
    for row in rows:
        at = f"own fills: 95 % [{row['lo']}, {row['hi']}]" if row["lo"] is not None else "own fills: no interval"
        name, standing = f"{row['venue']} {row['what']}", f"{at}, n {row['n']}, {row['parents']} parents"
        writer.writerow({"statistic": name, "target": row["value"], "achieved": row["market"], "standing": standing})
    return text.getvalue()


__all__ = ["COLUMNS", "OwnFills", "add_own_fills", "nearest_class", "read_own_fills"]
