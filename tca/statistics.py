"""Means with honest intervals: the unit is the parent order (or a cluster of parents), never the fill.

Three interval methods, and the returned `method` text always says which one was used and on how many units:

- under 20 units: Student's t on the unit means (a bootstrap of a handful of values is too narrow);
- 20 to 999 units: bootstrap over units, with the percentiles widened for small samples
  (Hesterberg 2015, The American Statistician 69(4), section 5.3, "expanded percentile interval");
- 1,000 units and more: Student's t again, since the two agree there to within the bootstrap's own noise and the
  bootstrap is a thousand times slower.

Several training seeds that met the same episodes form a crossed layout (seed x episode); see `paired_interval`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from ..configs.errors import UserError

FloatArray = NDArray[np.float64]

MIN_BOOTSTRAP_UNITS = 20  # below: t interval on unit means
MANY_UNITS = 1_000  # from here on the t interval and the bootstrap agree
_CHUNK_CELLS = 4_000_000  # resampled values held in memory at once
MDE_FACTOR = 2.801585  # z(0.975) + z(0.80): two-sided 5 % test with 80 % power


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and its interval, in the unit and with the sign of the values it came from."""

    mean: float
    lo: float
    hi: float
    n: int  # independent units: values, clusters, or (with several training seeds) episodes or their clusters
    method: str

    @property
    def excludes_zero(self) -> bool:
        """Whether the values differ from 0 at the interval's level."""
        return self.lo > 0 or self.hi < 0


def mean_interval(
    values: ArrayLike, clusters: ArrayLike | None = None, *, level: float = 0.95, draws: int = 10_000, seed: int
) -> Interval:
    """Mean of all values, with an interval over independent units.

    Args:
        values: (n,) finite numbers, any unit.
        clusters: (n,) labels, for example "day|symbol"; values with one label are one unit. None: each value is a unit.
        level: coverage, in (0, 1).
        draws: bootstrap resamples.
        seed: of the bootstrap's own generator, so that the interval repeats exactly.

    Raises:
        UserError: fewer than two units, values that are not finite, labels of another length, a level outside (0, 1).
    """
    x = _finite(values, ndim=1)
    _check_options(level, draws)
    units = _unit_values(x[np.newaxis, :], clusters)[0]
    return _one_way(units, float(x.mean()), "values" if clusters is None else "clusters", level, draws, seed)


def paired_interval(
    differences: ArrayLike,
    *,
    seeds: ArrayLike | None = None,
    clusters: ArrayLike | None = None,
    level: float = 0.95,
    draws: int = 10_000,
    seed: int,
) -> Interval:
    """Mean paired difference (router minus baseline on the same episodes) with an interval over seeds and episodes.

    With one training seed this is `mean_interval` over the episodes. With several, seeds are the outer and episodes the
    inner level, crossed, since every seed met the same episodes. From 20 seeds on both levels are resampled (Owen 2007,
    Annals of Applied Statistics 1(2), "pigeonhole bootstrap"). Below, resampling 3 or 5 seeds is far too narrow
    (coverage 76 % and 84 % instead of 95 % when seeds differ much), so a t interval is used, with variance
    var(seed means)/n_seeds + var(episode means)/n_episodes and Satterthwaite's degrees of freedom. It counts the
    seed x episode interaction twice, which errs to the wide side; with two seeds it still covers too little (93 to
    87 % instead of 95 % where seeds differ by as much as parents to ten times as much), so train five.

    Args:
        differences: (n_training_seeds, n_episodes) or, for one seed, (n_episodes,); negative = router cheaper.
        seeds: (n_training_seeds,) labels; a repeated label is refused, since it is not an independent training run.
        clusters: (n_episodes,) labels, for example "day|symbol"; episodes with one label are one unit.
        level: coverage, in (0, 1).
        draws: bootstrap resamples.
        seed: of the bootstrap's own generator.

    Raises:
        UserError: as `mean_interval`; also seeds of another number or repeated.
    """
    d = _finite(differences, ndim=2)
    _check_options(level, draws)
    if seeds is not None:
        _check_seeds(np.asarray(seeds), d.shape[0])
    units = _unit_values(d, clusters)
    mean = float(d.mean())
    name = "episodes" if clusters is None else "episode clusters"
    if d.shape[0] == 1:
        return _one_way(units[0], mean, name, level, draws, seed)
    return _two_way(units, mean, name, level, draws, seed)


def tail_mean(values: ArrayLike, frac: float = 0.05) -> float:
    """Mean of the worst `frac` of the values, worst = largest (costs: + is bad). At least one value, rounded up.

    Args:
        values: (n,) finite numbers.
        frac: share of the values, in (0, 1].

    Raises:
        UserError: no values, values that are not finite, or frac outside (0, 1].
    """
    x = _finite(values, ndim=1)
    if not 0 < frac <= 1:
        raise UserError(f"frac must lie in (0, 1], but is {frac}. For the worst 5 % pass 0.05.")
    # The small allowance keeps 0.05 * 100 = 5.000000000000001 from asking for a sixth value.
    count = max(1, math.ceil(frac * x.size - 1e-9))
    return float(np.partition(x, x.size - count)[x.size - count :].mean())


def minimum_detectable_effect(se: float) -> float:
    """Smallest true effect that a two-sided 5 % test finds with 80 % power, in the unit of the standard error `se`.

    Raises:
        UserError: se negative or not finite.
    """
    if not (math.isfinite(se) and se >= 0):
        raise UserError(f"a standard error must be finite and not negative, but is {se}.")
    return MDE_FACTOR * se


def _one_way(units: FloatArray, mean: float, name: str, level: float, draws: int, seed: int) -> Interval:
    n = units.size
    se = float(units.std(ddof=1)) / math.sqrt(n)
    if n < MIN_BOOTSTRAP_UNITS or n >= MANY_UNITS:
        half = float(stats.t.ppf(0.5 + level / 2, n - 1)) * se
        what = f"the means of {n:,} {name}" if "cluster" in name else f"{n:,} {name}"
        why = f"fewer than {MIN_BOOTSTRAP_UNITS}: no bootstrap" if n < MIN_BOOTSTRAP_UNITS else "as the bootstrap here"
        return Interval(mean, mean - half, mean + half, n, f"{100 * level:.4g} % t interval on {what} ({why})")
    means = _resampled_means(units, draws, np.random.default_rng(seed))
    # Percentiles of the plain bootstrap are too narrow by sqrt((n-1)/n) and by normal instead of t tails.
    tail = float(stats.norm.sf(math.sqrt(n / (n - 1)) * stats.t.ppf(0.5 + level / 2, n - 1)))
    lo, hi = np.quantile(means, [tail, 1 - tail])
    method = f"{100 * level:.4g} % bootstrap over {n:,} {name} ({draws:,} draws, expanded percentiles, seed {seed})"
    return Interval(mean, float(lo), float(hi), n, method)


def _two_way(units: FloatArray, mean: float, name: str, level: float, draws: int, seed: int) -> Interval:
    n_seeds, n = units.shape
    if min(n_seeds, n) >= MIN_BOOTSTRAP_UNITS:
        rng = np.random.default_rng(seed)
        w_seed = rng.multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), draws) / n_seeds
        means = np.empty(draws)
        step = max(1, _CHUNK_CELLS // n)
        for at in range(0, draws, step):
            w = rng.multinomial(n, np.full(n, 1 / n), min(step, draws - at)) / n
            means[at : at + step] = ((w_seed[at : at + step] @ units) * w).sum(axis=1)
        lo, hi = np.quantile(means, [0.5 - level / 2, 0.5 + level / 2])
        how = f"crossed bootstrap over {n_seeds} training seeds (outer) and {n:,} {name} (inner)"
        how += f" ({draws:,} draws, seed {seed})"
        return Interval(mean, float(lo), float(hi), n, f"{100 * level:.4g} % {how}")
    var_seed = float(units.mean(axis=1).var(ddof=1)) / n_seeds
    var_unit = float(units.mean(axis=0).var(ddof=1)) / n
    spread = var_seed**2 / (n_seeds - 1) + var_unit**2 / (n - 1)
    df = (var_seed + var_unit) ** 2 / spread if spread > 0 else float(n_seeds - 1)
    half = float(stats.t.ppf(0.5 + level / 2, df)) * math.sqrt(var_seed + var_unit)
    how = f"t interval over {n_seeds} training seeds (outer) crossed with {n:,} {name} (inner)"
    return Interval(mean, mean - half, mean + half, n, f"{100 * level:.4g} % {how}, {df:.1f} degrees of freedom")


def _resampled_means(units: FloatArray, draws: int, rng: np.random.Generator) -> FloatArray:
    means = np.empty(draws)
    step = max(1, _CHUNK_CELLS // units.size)
    for at in range(0, draws, step):
        count = min(step, draws - at)
        means[at : at + count] = units[rng.integers(0, units.size, (count, units.size))].mean(axis=1)
    return means


def _unit_values(x: FloatArray, clusters: ArrayLike | None) -> FloatArray:
    """(n_rows, n_units) values whose row means are the row means of x: cluster means, weighted where sizes differ."""
    if clusters is None:
        units = x
    else:
        labels = np.asarray(clusters)
        if labels.shape != (x.shape[1],):
            raise UserError(f"clusters must hold one label per value: shape {labels.shape} for {x.shape[1]} values.")
        _, index = np.unique(labels, return_inverse=True)
        size = np.bincount(index).astype(np.float64)
        sums = np.stack([np.bincount(index, weights=row, minlength=size.size) for row in x])
        # Linearised ratio estimator: cluster means where sizes are equal; the overall mean is kept where they are not.
        row_mean = x.mean(axis=1, keepdims=True)
        units = row_mean + (sums - size * row_mean) / size.mean()
    if units.shape[1] < 2:
        raise UserError(
            f"an interval needs at least two independent units, but there is {units.shape[1]}. Run more episodes."
        )
    return units


def _finite(values: ArrayLike, ndim: int) -> FloatArray:
    raw: Any = values
    x = np.asarray(raw, dtype=np.float64)
    if ndim == 2 and x.ndim == 1:
        x = x[np.newaxis, :]
    if x.ndim != ndim or x.size == 0:
        raise UserError(f"values must be a filled array of {ndim} dimension(s), but have shape {x.shape}.")
    if not np.isfinite(x).all():
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(x))[0])
        raise UserError(
            f"values must be finite, but value {where} is {x[where]}. Leave unfilled parents out or cost them."
        )
    return x


def _check_options(level: float, draws: int) -> None:
    if not 0 < level < 1:
        raise UserError(f"level must lie in (0, 1), but is {level}. For a 95 % interval pass 0.95.")
    if draws < 100:
        raise UserError(f"draws must be at least 100, but is {draws}: fewer resamples give no usable percentiles.")


def _check_seeds(labels: NDArray[Any], n_rows: int) -> None:
    if labels.shape != (n_rows,):
        raise UserError(f"seeds must hold one label per row of differences: shape {labels.shape} for {n_rows} rows.")
    names, counts = np.unique(labels, return_counts=True)
    if (counts > 1).any():
        raise UserError(
            f"training seed {names[counts > 1][0]} appears twice: a repeated run is no independent evidence."
        )
