"""Files as desks write them: latencies, hours, blanks, fills in parts, rests of several lengths."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from glasspool.agents.fills_file import write_fills
from glasspool.agents.own_fills import add_own_fills
from glasspool.agents.router import Router
from glasspool.configs.loading import load_market
from glasspool.configs.market import MarketConfig
from glasspool.envs.market import Market
from glasspool.tca.fills import read_fills
from glasspool.tca.pool_exposure import REST, children_of
from glasspool.tca.pool_fit import PoolFit, _weighed, fit_pools, fitted_pool
from glasspool.tca.venue_estimates import Estimate

Row = dict[str, str]
Floats = NDArray[np.float64]


@pytest.fixture(scope="module")
def config() -> MarketConfig:
    data = load_market("base").model_dump()
    data |= {"stocks": [{**data["stocks"][0], "probability": 1.0}], "randomisation": None, "dark_slots": [],
             "dark_pools": [{"name": "toxic", "supply_frac": 0.02, "kappa_fast": 1.5}],
             "lit_venues": data["lit_venues"][:1]}  # fmt: skip
    data["orders"] = {**data["orders"], "horizon_minutes": {60.0: 1.0}}
    return MarketConfig.model_validate(data)


@pytest.fixture(scope="module")
def path(config: MarketConfig, one_route: Callable[[int], Router], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("desk") / "fills.csv"
    write_fills(Market(config), one_route(3), 40, 1, path)
    return path


def rewritten(path: Path, folder: Path, change: Callable[[Row], Iterator[Row]]) -> Path:
    rows = [new for row in csv.DictReader(path.read_text().splitlines()) for new in change(dict(row))]
    with (folder / "changed.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return folder / "changed.csv"


def fit_of(path: Path, config: MarketConfig) -> PoolFit:
    (fit,) = fit_pools(read_fills(path), config, config.stocks[0])
    return fit


def later(stamp: str, by: np.timedelta64) -> str:
    return str(np.datetime64(stamp.removesuffix("+00:00"), "ns") + by) + "Z"


def test_without_times_and_tif_nothing_is_fitted_and_nothing_breaks(
    path: Path, config: MarketConfig, tmp_path: Path
) -> None:
    def bare(row: Row) -> Iterator[Row]:
        yield {k: v for k, v in row.items() if k not in ("tif", "recv_ts", "recv_bid", "recv_ask")}

    file = rewritten(path, tmp_path, bare)
    fit = fit_of(file, config)
    assert fit.n_children == 0 and fit.supply_frac.value is None and fit.gamma_fast_bps.value is None
    assert add_own_fills(file, tmp_path / "own.yaml", base="base", fitted=None).market.dark_pools


def test_children_after_the_close_leave_the_others_as_they_are(
    path: Path, config: MarketConfig, tmp_path: Path
) -> None:
    """Two hundred of them in the middle of the file: with one left in, the fills after it would take other children."""
    seen: set[str] = set()

    def some_late(row: Row) -> Iterator[Row]:
        if len(seen) < 200 and row["venue"] == "toxic":
            seen.add(row["child_id"])
        if row["child_id"] in seen:
            row = row | {k: later(row[k], np.timedelta64(12, "h")) for k in ("ts", "recv_ts")}
        yield row

    def without(row: Row) -> Iterator[Row]:
        if row["child_id"] not in seen:
            yield row

    fit = fit_of(rewritten(path, tmp_path, some_late), config)
    cut = fit_of(rewritten(path, tmp_path, without), config)
    assert len(seen) == 200 and fit.n_children == cut.n_children
    assert fit.supply_frac.value == pytest.approx(cut.supply_frac.value, rel=0.02)  # visits before are another matter
    assert fit.gamma_fast_bps.value == pytest.approx(cut.gamma_fast_bps.value, rel=0.05)
    assert fit.gamma_fast_bps.n == cut.gamma_fast_bps.n


def test_latency_changes_nothing(path: Path, config: MarketConfig, tmp_path: Path) -> None:
    def slower(row: Row) -> Iterator[Row]:
        at_once = row["ts"] == row["recv_ts"]
        yield row | {"ts": later(row["ts"], np.timedelta64(40, "ms"))} if at_once else row

    fit, plain = fit_of(rewritten(path, tmp_path, slower), config), fit_of(path, config)
    for name in ("supply_frac", "gamma_fast_bps", "gamma_slow_bps"):
        assert getattr(fit, name).value == pytest.approx(getattr(plain, name).value, rel=1e-3, abs=1e-3)


def test_a_fill_reported_in_two_parts_leaks_as_one(path: Path, config: MarketConfig, tmp_path: Path) -> None:
    def halves(row: Row) -> Iterator[Row]:
        if row["shares"] == "200":
            yield row | {"shares": "100"}
            yield row | {"shares": "100"}
        else:
            yield row

    fit, plain = fit_of(rewritten(path, tmp_path, halves), config), fit_of(path, config)
    assert plain.leak_weight.value is not None
    assert fit.leak_weight == plain.leak_weight and fit.leakage_bps == plain.leakage_bps


def test_a_horizon_without_mids_is_left_out(path: Path, config: MarketConfig, tmp_path: Path) -> None:
    def blank(row: Row) -> Iterator[Row]:
        yield row | {"mid_5m": ""}

    fit, plain = fit_of(rewritten(path, tmp_path, blank), config), fit_of(path, config)
    assert fit.gamma_fast_bps.value == pytest.approx(plain.gamma_fast_bps.value, abs=0.1)
    assert fit.gamma_fast_bps.n == plain.gamma_fast_bps.n


def test_completed_rests_are_taken_to_last_as_others_of_their_venue(path: Path, tmp_path: Path) -> None:
    """Misses of 10 s at one pool and 300 s at another; a completed rest of each, filled after 2 s."""
    rest = next(
        r for r in csv.DictReader(path.read_text().splitlines())
        if r["venue_type"] == "dark" and r["tif"] != "IOC" and r["shares"] == "0"
    )  # fmt: skip
    filled = next(
        r for r in csv.DictReader(path.read_text().splitlines()) if r["venue_type"] == "dark" and r["shares"] == "200"
    )

    def four(row: Row) -> Iterator[Row]:
        if row["child_id"] != rest["child_id"]:
            return
        for venue, life_s in (("A", 10), ("B", 300)):
            end = later(row["recv_ts"], np.timedelta64(life_s, "s"))
            yield row | {"child_id": f"{venue}-missed", "venue": venue, "ts": end}
            kept = {k: row[k] for k in ("recv_ts", "tif", "routed_shares")}
            yield filled | kept | {"child_id": f"{venue}-whole", "venue": venue, "liquidity": row["liquidity"],
                                   "ts": later(row["recv_ts"], np.timedelta64(2, "s"))}  # fmt: skip

    fills = read_fills(rewritten(path, tmp_path, four))
    c = children_of(fills)
    assert c.kind.tolist() == [REST] * 4
    lives = {str(fills.names["child"][code]): life for code, life in zip(c.child, c.life_s, strict=True)}
    assert lives == {"A-missed": 10.0, "A-whole": 10.0, "B-missed": 300.0, "B-whole": 300.0}


def test_a_base_of_two_contra_types_is_fitted_as_one(path: Path, config: MarketConfig) -> None:
    pool = {"name": "toxic", "supply_frac": 0.02, "kappa_fast": 0.1, "informed_frac": 0.1}
    base = MarketConfig.model_validate(config.model_dump() | {"dark_pools": [pool]})
    (fit,) = fit_pools(read_fills(path), base, base.stocks[0])
    fitted = fitted_pool(fit, base, base.stocks[0], "toxic")
    assert fitted.informed_frac is None and fitted.kappa_fast > 0.25  # what informed_frac 0.1 would not allow


def test_an_estimate_without_scatter_stands_alone() -> None:
    assert _weighed(Estimate(0.1, 0.1, 0.1, 60, 20), 1.0, np.array([0.1, 0.2]), None) == (0.1, 0.0)
