"""What saturation leaves of a tilt, and how a child's exposure is counted, against simulation and by hand."""

from __future__ import annotations

import numpy as np
import pytest

from glasspool.tca.pool_exposure import Exposure, fill_chance, kept_tilt, session_s


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
    kappas, sd = np.array([1.2, 0.4]), 0.9
    met = Exposure(
        *([np.array([0])] * 4),
        standing=np.array([0.2]),
        coming=np.array([0.3]),
        left=np.zeros(1),
        level=np.ones(1),
        sd=sd,
    )
    fast, slow, x = rng.standard_normal((3, 1_000_000))
    common = np.exp(-kappas[1] * slow - kappas[1] ** 2 / 2 + sd * x - sd**2 / 2)
    rate = (0.2 * np.exp(-kappas[0] * fast - kappas[0] ** 2 / 2) + 0.3) * common
    assert fill_chance(met, 1.0, kappas)[0] == pytest.approx(-np.expm1(-rate).mean(), abs=4 * 0.5 / 1000)


def test_session_seconds_follow_new_york_through_the_change_of_clocks() -> None:
    winter, summer = np.datetime64("2026-03-06T14:30:05", "ns"), np.datetime64("2026-03-09T13:30:05", "ns")
    assert session_s(np.array([winter, summer]).astype(np.int64)).tolist() == [5.0, 5.0]
