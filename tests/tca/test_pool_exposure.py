"""What saturation leaves of a tilt, and how a child's exposure is counted, against simulation and by hand."""

from __future__ import annotations

import numpy as np
import pytest

from glasspool.configs.loading import load_market
from glasspool.configs.pool_knowledge import resolved_kappas
from glasspool.configs.session import N_CURVE_BINS, SESSION_S
from glasspool.configs.supply_law import log_scatter, rest_fill_rate
from glasspool.tca.pool_exposure import REST, Children, Exposure, exposure_of, fill_chance, kept_tilt, session_s


@pytest.mark.parametrize(("arrivals", "sd", "kappa"), [(0.05, 0.9, 0.5), (0.3, 1.2, 1.0), (2.0, 1.0, 0.8)])
def test_the_tilt_of_completed_children_is_what_simulation_gives(arrivals: float, sd: float, kappa: float) -> None:
    """E[z | fill] = -kappa kept, z the alpha in standard deviations; 4 standard errors, false alarm 2e-4 in all."""
    rng = np.random.default_rng(1)
    z, x = rng.standard_normal((2, 2_000_000))
    rate = arrivals * np.exp(-kappa * z - kappa**2 / 2 + sd * x - sd**2 / 2)
    chance = -np.expm1(-rate)
    mean = (z * chance).sum() / chance.sum()
    error = np.sqrt((chance**2 * (z - mean) ** 2).sum()) / chance.sum()
    total = np.array([np.hypot(sd, kappa)])
    assert abs(mean + kappa * kept_tilt(np.array([arrivals]), total)[0]) < 4 * error
    assert kept_tilt(np.array([1e-9]), total)[0] == pytest.approx(1.0, abs=1e-3)  # nothing saturates
    assert abs(mean + kappa) > 8 * error or arrivals < 0.1  # or the test would show nothing


def test_the_chance_of_a_fill_is_what_simulation_gives() -> None:
    rng = np.random.default_rng(2)
    market, kappas = load_market("base"), np.array([1.2, 0.4])
    sd = log_scatter(market, np.zeros(1))
    one = np.ones(1)
    met = Exposure(
        *([np.array([0])] * 4), standing=0.2 * one, coming=0.3 * one, resting_s=1e-6 * one, left=0 * one,
        level=one, sd=sd,
    )  # fmt: skip
    fast, slow, x = rng.standard_normal((3, 1_000_000))
    common = np.exp(-kappas[1] * slow - kappas[1] ** 2 / 2 + sd * x - sd**2 / 2)
    rate = (0.2 * np.exp(-kappas[0] * fast - kappas[0] ** 2 / 2) + 0.3) * common
    chance = fill_chance(met, 1.0, kappas, market, market.stocks[0])[0]
    assert chance == pytest.approx(-np.expm1(-rate).mean(), abs=4 * 0.5 / 1000)


@pytest.mark.parametrize("resting_s", [10.0, 60.0, 300.0])
def test_children_that_rest_long_meet_the_law_of_the_market(resting_s: float) -> None:
    """Orders of a round lot at times spread over the day: the fill rate that simulation confirms (test_fill_rate.py).

    With the scatter of one slot, and the slow alpha held for the whole rest, the chance is up to a third lower."""
    market = load_market("base")
    stock, pool = market.stocks[0], market.dark_pools[4].model_copy(update={"min_quantity_lots": 0})
    kappas = resolved_kappas(pool, stock)
    day_ns = np.datetime64("2026-03-06T14:30:00", "ns").astype(np.int64)
    sent_ns = day_ns + ((np.arange(N_CURVE_BINS) + 0.5) * SESSION_S / N_CURVE_BINS * 1e9).astype(np.int64)
    n = len(sent_ns)
    same, none = np.full(n, 100), np.zeros(n, np.int64)
    children = Children(
        np.arange(n), np.full(n, REST), none, np.arange(n), same, none, sent_ns, np.full(n, resting_s),
        np.full(n, np.inf), none, np.ones(n, bool),
    )  # fmt: skip
    met = exposure_of(children, np.ones(n, bool), market, stock, pool)
    chance = fill_chance(met, pool.supply_frac, np.array(kappas), market, stock).mean()
    stated = rest_fill_rate(market, stock, pool, pool.supply_frac, kappas, resting_s)
    assert chance == pytest.approx(stated, rel=1e-9)


def test_session_seconds_follow_new_york_through_the_change_of_clocks() -> None:
    winter, summer = np.datetime64("2026-03-06T14:30:05", "ns"), np.datetime64("2026-03-09T13:30:05", "ns")
    assert session_s(np.array([winter, summer]).astype(np.int64)).tolist() == [5.0, 5.0]
