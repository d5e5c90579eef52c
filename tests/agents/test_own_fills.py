"""Own fills, out and back: simulated from known pools, written as a file, fitted by `calibrate --fills`."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from glasspool import cli
from glasspool.agents.fills_file import write_fills
from glasspool.agents.own_fills import add_own_fills, read_own_fills
from glasspool.agents.router import Router
from glasspool.configs.errors import UserError
from glasspool.configs.loading import load_market
from glasspool.configs.market import MarketConfig
from glasspool.envs.market import Market, stream_key
from glasspool.tca.fills import read_fills
from glasspool.tca.pool_fit import PoolFit, fit_pools
from glasspool.tca.venue_estimates import Estimate

Floats = NDArray[np.float64]
POOLS = {"toxic": {"supply_frac": 0.02, "kappa_fast": 1.5}, "clean": {"supply_frac": 0.01},
         "leaky": {"supply_frac": 0.005, "leak_weight": 150.0}}  # fmt: skip


@pytest.fixture(scope="module")
def market() -> Market:
    data = load_market("base").model_dump()
    pools = [{"name": name, "fee_mils": 10.0, **facts} for name, facts in POOLS.items()]
    data |= {"stocks": [{**data["stocks"][0], "probability": 1.0}], "randomisation": None, "dark_slots": [],
             "dark_pools": pools, "lit_venues": data["lit_venues"][:1]}  # fmt: skip
    data["orders"] = {**data["orders"], "horizon_minutes": {60.0: 1.0}}
    return Market(MarketConfig.model_validate(data))


@pytest.fixture(scope="module")
def path(market: Market, one_route: Callable[[int], Router], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("fills") / "fills.csv"
    assert write_fills(market, one_route(3), 60, 1, path) > 10_000
    return path


@pytest.fixture(scope="module")
def fits(market: Market, path: Path) -> dict[str, PoolFit]:
    return {fit.venue: fit for fit in fit_pools(read_fills(path), market.config, market.config.stocks[0])}


def z_of(e: Estimate, truth: float) -> float:
    assert e.value is not None and e.lo is not None and e.hi is not None
    return (e.value - truth) / ((e.hi - e.lo) / 3.92)


def test_every_child_and_every_share_is_in_the_file(market: Market, path: Path) -> None:
    rows = list(csv.DictReader(path.read_text().splitlines()))
    sent: dict[str, int] = {}
    for row in rows:
        sent[row["child_id"]] = int(row["routed_shares"])
    got: dict[str, int] = dict.fromkeys(sent, 0)
    for row in rows:
        got[row["child_id"]] += int(row["shares"])
    ended = {row["child_id"] for row in rows if row["shares"] == "0"}
    assert all(got[c] <= sent[c] and ((got[c] < sent[c]) == (c in ended)) for c in sent)
    b, obs = market.batch(60)
    market.reset(stream_key(1, "test"), np.arange(60), np.arange(60), b, obs)
    by_parent = dict.fromkeys((f"P{n}" for n in range(60)), 0)
    for child, shares in got.items():
        by_parent[child.split("-")[0]] += shares
    assert list(by_parent.values()) == b.episode["shares"].tolist()


def test_known_pools_are_found_again(fits: dict[str, PoolFit]) -> None:
    """Twelve parameters, each within 4.5 of its own standard errors: false alarm below 1e-4 in all."""
    for name, truth in POOLS.items():
        assert abs(z_of(fits[name].supply_frac, truth["supply_frac"])) < 4.5
        assert abs(z_of(fits[name].gamma_fast_bps, 0.5 * truth.get("kappa_fast", 0.0))) < 4.5
        assert abs(z_of(fits[name].gamma_slow_bps, 0.0)) < 4.5
        assert abs(z_of(fits[name].leak_weight, truth.get("leak_weight", 0.0))) < 4.5
        assert fits[name].fee_mils == pytest.approx(10.0, abs=0.01)


def test_what_was_found_is_more_than_noise(fits: dict[str, PoolFit]) -> None:
    assert z_of(fits["toxic"].gamma_fast_bps, 0.0) > 5 > abs(z_of(fits["clean"].gamma_fast_bps, 0.0))
    assert z_of(fits["leaky"].leak_weight, 0.0) > 5
    supply = [fits[name].supply_frac.value or 0.0 for name in ("toxic", "clean", "leaky")]
    assert supply[0] > 1.5 * supply[1] > 1.5 * 1.5 * supply[2]


def test_mirrored_fills_say_the_same(market: Market, path: Path, fits: dict[str, PoolFit], tmp_path: Path) -> None:
    """Buy and sell exchanged, every price p -> 200 - p, quotes exchanged; bps keep all but their denominator."""
    rows = list(csv.DictReader(path.read_text().splitlines()))
    with (tmp_path / "mirror.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        for row in rows:
            for name in ("price", "bid", "ask", "mid_1s", "mid_10s", "mid_1m", "mid_5m"):
                row[name] = f"{200 - float(row[name]):.6f}" if row[name] else ""
            row["side"] = {"buy": "sell", "sell": "buy"}[row["side"]]
            row["bid"], row["ask"] = row["ask"], row["bid"]
            writer.writerow(row)
    for fit in fit_pools(read_fills(tmp_path / "mirror.csv"), market.config, market.config.stocks[0]):
        for name in ("supply_frac", "gamma_fast_bps", "gamma_slow_bps"):
            one, other = getattr(fit, name), getattr(fits[fit.venue], name)
            assert one.value == pytest.approx(other.value, rel=0.02, abs=0.02)


def test_the_written_market_holds_the_fit_and_loads(path: Path, tmp_path: Path) -> None:
    (tmp_path / "desks").mkdir()
    (tmp_path / "desks" / "desk.yaml").write_text("base: base\n")
    own = add_own_fills(path, tmp_path / "own.yaml", base=str(tmp_path / "desks" / "desk.yaml"), fitted=None)
    assert "base: desks/desk.yaml\n" in (tmp_path / "own.yaml").read_text()
    loaded = load_market(str(tmp_path / "own.yaml"))
    assert own.stock == "large" and loaded.randomisation is None and not loaded.dark_slots
    # pools that the base does not know carry no name of the file's
    assert [p.name for p in loaded.dark_pools] == ["XQDA", "XQDB", "XQDC"]
    found = {row["venue"]: row["value"] for row in own.rows if str(row["what"]).startswith("supply_frac")}
    assert [p.supply_frac for p in loaded.dark_pools] == pytest.approx([found[n] for n in sorted(POOLS)], rel=1e-3)
    clean, leaky, toxic = loaded.dark_pools
    assert leaky.leak_weight > 100  # far from anything in the base: the fills alone speak
    assert toxic.kappa_fast > 1.0 > clean.kappa_fast
    table = (tmp_path / "own_fit.csv").read_text()
    assert "leaky leak_weight" in table and "60 parents" in table
    Market(loaded)


def test_a_market_fitted_to_the_tape_keeps_all_but_its_pools(path: Path, tmp_path: Path) -> None:
    tape = tmp_path / "tape.yaml"
    tape.write_text(
        "# head\nbase: base\nname: tape\n# fees\nlit_venues:\n  - {name: XQLA, flow_frac: 0.2}\n# assumed\n"
        "dark_slots: [XQDA]\ndark_pools:\n  - {name: old, supply_frac: 0.5}\nnoise:\n  volume_concentration: 99.0\n"
    )
    (tmp_path / "tape_fit.csv").write_text("statistic,target,tolerance,achieved,error,holds,standing\n")
    add_own_fills(path, tape, base="base", fitted=tape)
    text, loaded = tape.read_text(), load_market(str(tape))
    assert "old" not in text and "# assumed" not in text and text.startswith("# head") and "# fees" in text
    assert loaded.noise.volume_concentration == 99.0 and len(loaded.dark_pools) == 3


def test_few_fills_leave_the_base_as_it_is(path: Path, tmp_path: Path) -> None:
    lines = path.read_text().splitlines()
    (tmp_path / "few.csv").write_text("\n".join(lines[:300]) + "\n")
    own = add_own_fills(tmp_path / "few.csv", tmp_path / "own.yaml", base="base", fitted=None)
    assert all(row["lo"] is None for row in own.rows if str(row["what"]).startswith("supply_frac"))
    assert "not identified" in (tmp_path / "own.yaml").read_text()


def test_refusals_say_what_to_do(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lit = [line for line in path.read_text().splitlines() if ",dark," not in line]
    (tmp_path / "lit.csv").write_text("\n".join(lit) + "\n")
    with pytest.raises(UserError, match="no pool to fit"):
        add_own_fills(tmp_path / "lit.csv", tmp_path / "own.yaml", base="base", fitted=None)
    assert not (tmp_path / "own.yaml").exists()
    lines = path.read_text().splitlines()
    two = [lines[0] + ",symbol", *(f"{line},{'AB'[i % 2]}" for i, line in enumerate(lines[1:50]))]
    (tmp_path / "two.csv").write_text("\n".join(two) + "\n")
    for symbol, said in ((None, "one name at a time"), ("C", "no C")):
        with pytest.raises(UserError, match=said):
            add_own_fills(tmp_path / "two.csv", tmp_path / "own.yaml", base="base", fitted=None, symbol=symbol)
    (tmp_path / "both.csv").write_text("\n".join(lines).replace(",clean,", ",XQLA,") + "\n")
    with pytest.raises(UserError, match="lit in some rows and dark"):
        add_own_fills(tmp_path / "both.csv", tmp_path / "own.yaml", base="base", fitted=None)
    assert not (tmp_path / "own.yaml").exists()
    for arguments, said in (([], "--fills FILE"), (["--fills", str(path), "--fees", "x.csv"], "need market files")):
        with pytest.raises(SystemExit) as stopped:
            cli.main(["calibrate", *arguments, "--out", str(tmp_path / "x.yaml")])
        assert stopped.value.code == 2 and said in capsys.readouterr().err


ABSURD = [  # column, value, what the refusal says
    ("routed_shares", "2000000000", "row 2, column routed_shares: '2000000000': is above 1,000,000,000 shares"),
    ("bid", "99999999", r"row 2, column bid: '99999999': is above \$10,000,000"),
    ("fee_per_share", "3", r"row 2, column fee_per_share: '3': is more than \$1 a share"),
    ("fee_per_share", "-30", r"row 2, column fee_per_share: '-30': is more than \$1 a share"),
    ("ts", "1926-03-02T15:00:00Z", "row 2, column ts: '1926-03-02': is not a date from 1990-01-01 to 2099-12-31 "),
    ("recv_ts", "2226-03-02T15:00:00Z", "row 2, column recv_ts: '2226-03-02': is not a date"),
    ("ts", "2100-01-01T00:00:00Z", "row 2, column ts: '2100-01-01': is not a date"),
    ("ts", "1989-12-31T23:59:59.999999999Z", "row 2, column ts: '1989-12-31': is not a date"),
    ("mid_10s", "1.5", "row 2, column mid_10s: '1.5': is below half the bid or above twice the ask"),
    ("mid_10s", "1500", "row 2, column mid_10s: '1500': is below half the bid or above twice the ask"),
]


@pytest.mark.parametrize(("column", "value", "said"), ABSURD)
def test_numbers_that_no_market_made_are_refused(
    column: str, value: str, said: str, path: Path, tmp_path: Path
) -> None:
    """A slip of the file must not be fitted without a word."""
    with pytest.raises(UserError, match=said):
        add_own_fills(changed(path, tmp_path, {column: value}), tmp_path / "own.yaml", base="base", fitted=None)
    assert not (tmp_path / "own.yaml").exists()


STUB = {"bid": "0.01", "ask": "199999.99"}


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        (STUB | {"price": "100.005"}, ""),
        (STUB | {"price": "0.005"}, ""),
        (STUB | {"price": "0.004999"}, "column price: '0.004999': is below half the bid"),
        (STUB | {"price": "399999.98"}, ""),
        (STUB | {"price": "399999.980001"}, "column price: '399999.980001': is below half the bid or above"),
        ({"bid": "0.000003", "price": "0.000002"}, ""),
        ({"bid": "0.000003", "price": "0.000001"}, "column price: '1e-06': is below half the bid"),
        ({"bid": "", "price": "1"}, ""),  # no two-sided quote to hold it against
        ({"ts": "2099-12-31T23:59:59.999999999Z"}, ""),
        ({"ts": "1990-01-01T00:00:00Z"}, ""),
    ],
)
def test_limits_are_exact_and_leave_a_stub_quote_alone(
    cells: dict[str, str], said: str, path: Path, tmp_path: Path
) -> None:
    file = changed(path, tmp_path, {"shares": "100", "routed_shares": "100", "mid_1s": "", "mid_10s": "", "mid_1m": "",
                                    "mid_5m": "", "price": "100.005", "recv_ts": "", **cells})  # fmt: skip
    if not said:
        assert len(read_own_fills(file)) == 3
        return
    with pytest.raises(UserError, match=said):
        read_own_fills(file)


def changed(path: Path, folder: Path, cells: dict[str, str]) -> Path:
    """The head of the fills file, with these cells in its first row."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))[:3]
    rows[0].update(cells)
    with (folder / "changed.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder / "changed.csv"
