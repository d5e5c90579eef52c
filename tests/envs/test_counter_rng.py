"""Counter-based random numbers: exact values, laws of the draws, and independence from the order of drawing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import njit
from numpy.typing import NDArray
from scipy import stats

from glasspool.envs.counter_rng import (
    binomial,
    derive,
    exponential,
    gamma,
    key_of,
    log_uniform,
    normal,
    uniform,
)

Floats = NDArray[np.float64]
KEY = np.uint64(derive(key_of("a test"), 3))
N = 200_000


@njit
def _grid(key: np.uint64, n_slots: int, n_indices: int) -> Floats:
    out = np.empty((n_slots, n_indices))
    for n in range(n_slots):
        for i in range(n_indices):
            out[n, i] = uniform(key, n, i)
    return out


@njit
def _gammas(key: np.uint64, n: int, shape: float) -> Floats:
    return np.array([gamma(key, i, shape) for i in range(n)])


@njit
def _binomials(key: np.uint64, draws: int, n: int, p: float) -> NDArray[np.int64]:
    return np.array([binomial(key, i, n, p) for i in range(draws)])


def test_key_of_a_name_never_changes() -> None:
    """Golden (BLAKE2b, 8 bytes, little-endian): every recorded episode, seed stream and venue hangs on these."""
    assert int(key_of("XQDA")) == 0x3D10D324FABC4545
    assert int(key_of("glasspool/train")) == 0xC75C557A563CAB05


def test_uniforms_fill_the_unit_interval_evenly() -> None:
    """Kolmogorov-Smirnov, then chi-square in 1,000 cells, along slots and along indices. False alarm: 4 in 10,000."""
    for draws in (_grid(KEY, N, 1).ravel(), _grid(KEY, 1, N).ravel()):
        assert draws.min() > 0.0 and draws.max() < 1.0
        assert stats.kstest(draws, "uniform").pvalue > 1e-4
        assert stats.chisquare(np.histogram(draws, 1_000, (0.0, 1.0))[0]).pvalue > 1e-4


@pytest.mark.parametrize("lag", [1, 2, 3, 7, 64])
def test_neighbouring_draws_are_uncorrelated(lag: int) -> None:
    """Across slots, across indices, and across keys derived from neighbouring numbers. False alarm: 2 in 10,000."""
    slots, indices = _grid(KEY, N, 1).ravel(), _grid(KEY, 1, N).ravel()
    keys = np.array([uniform(np.uint64(derive(KEY, k)), 5, 5) for k in range(20_000)])
    for draws in (slots, indices, keys):
        assert abs(np.corrcoef(draws[:-lag], draws[lag:])[0, 1]) < 4 / np.sqrt(len(draws) - lag)


def test_pairs_of_draws_fill_the_square() -> None:
    """Chi-square over 64 x 64 cells of (index i, index i + 1) within a slot. False alarm: 1 in 10,000."""
    grid = _grid(KEY, N, 2)
    cells = np.histogram2d(grid[:, 0], grid[:, 1], 64, [[0, 1], [0, 1]])[0]
    assert stats.chisquare(cells.ravel()).pvalue > 1e-4


@given(st.permutations(range(12)), st.integers(0, 2**64 - 1))
def test_a_draw_does_not_depend_on_what_was_drawn_before(order: list[int], key: int) -> None:
    forward = [normal(np.uint64(key), n, 3) for n in range(12)]
    shuffled = {n: normal(np.uint64(key), n, 3) for n in order}
    assert [shuffled[n] for n in range(12)] == forward


@given(st.integers(0, 2**64 - 1), st.integers(-40, 5_000), st.integers(0, 2**20 - 2))
def test_slot_and_index_never_share_a_draw_nearby(key: int, slot: int, index: int) -> None:
    """Neighbours in slot or index differ. A clash of 53-bit numbers by chance: under 1 in 10^12 for the whole test."""
    here = uniform(np.uint64(key), slot, index)
    assert here != uniform(np.uint64(key), slot + 1, index)
    assert here != uniform(np.uint64(key), slot, index + 1)


@pytest.mark.parametrize("shape", [0.02, 0.4, 1.0, 3.5, 30.0])
def test_gamma_has_the_gamma_law(shape: float) -> None:
    """Mean and variance within 4 standard errors, and Kolmogorov-Smirnov. False alarm: 3 in 10,000 a shape."""
    n = 50_000
    draws = _gammas(KEY, n, shape)
    assert abs(draws.mean() - shape) < 4 * np.sqrt(shape / n)
    fourth = 3 * shape**2 + 6 * shape
    assert abs(draws.var() - shape) < 4 * np.sqrt((fourth - shape**2) / n)
    assert stats.kstest(draws, stats.gamma(shape).cdf).pvalue > 1e-4


@pytest.mark.parametrize(
    ("n", "p"), [(1, 0.3), (40, 0.01), (1_000, 0.35), (100_000, 0.0031), (2_000, 0.21), (10**9, 0.02)]
)
def test_binomial_has_the_binomial_moments(n: int, p: float) -> None:
    """Exact and large-count branch; mean and variance within 4 standard errors. False alarm: 1 in 10,000."""
    draws = 20_000
    counts = _binomials(KEY, draws, n, p).astype(float)
    variance = n * p * (1 - p)
    assert abs(counts.mean() - n * p) < 4 * np.sqrt(variance / draws)
    kurtosis = 3 + (1 - 6 * p * (1 - p)) / variance
    assert abs(counts.var() - variance) < 4 * variance * np.sqrt((kurtosis - 1) / draws)
    assert counts.min() >= 0 and counts.max() <= n


def test_binomial_at_its_ends_is_certain() -> None:
    assert [binomial(KEY, 0, n, p) for n, p in ((10, 0.0), (10, 1.0), (0, 0.5), (10, -0.1))] == [0, 10, 0, 0]


def test_exponential_and_log_uniform_are_transforms_of_a_uniform() -> None:
    assert exponential(KEY, 7, 2) == pytest.approx(-np.log(uniform(KEY, 7, 2)), rel=1e-15)
    assert [log_uniform(u, 0.4, 2.5) for u in (0.0, 0.5, 1.0)] == pytest.approx([0.4, 1.0, 2.5])
