"""A pool's parameters from own fills and misses: contra supply, toxicity, leak weight, each with its 95 % interval.

Only own orders can tell these (a tape names no pool). What they do not tell is lent by a pool of the base market: life
of a resting contra order, law of sizes, minimum quantity. The market's own equations are inverted
(docs/market_model.md):

- supply: chance of a child to fill, 1 - E exp(-arrivals), summed over children = children filled;
- toxicity: (Gamma_fast, Gamma_slow) by generalised least squares on mid moves after fills, whose increments between
  horizons are independent with variance proportional to their length; the own footprint is taken off;
- leak: how much more the mid runs after pings to this pool than after takes of no more shares.

Contra orders are taken as of one type, whatever the base says (`informed_frac`): fills do not tell two apart.

Intervals are normal with errors clustered by parent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from ..configs.market import MarketConfig
from ..configs.pool_knowledge import resolved_kappas
from ..configs.stock import StockConfig
from ..configs.supply_law import KAPPA_MAX
from ..configs.venue import DarkPoolConfig
from .fills import UNKNOWN, Fills
from .pool_exposure import PING, TAKE, Exposure, children_of, exposure_of, fill_chance, kept_tilt
from .venue_estimates import LEAST_CLUSTERS, LEAST_FILLS, Estimate, clustered_se, order_types

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
_Z95 = 1.959964
_ROUNDS = 4
_AT_ONCE_NS = 100_000_000  # a fill so soon after its order met what stood there: latencies are shorter, rests longer
_NOTHING = Estimate(None, None, None, 0, 0)


@dataclass(frozen=True)
class PoolFit:
    """What own orders say of one pool, in the units of the market config."""

    venue: str
    supply_frac: Estimate
    gamma_fast_bps: Estimate  # >= 0 in the model; the interval is not cut at 0
    gamma_slow_bps: Estimate
    leakage_bps: Estimate  # extra run of the mid after 10 s, + = away from the order
    leak_weight: Estimate
    fee_mils: float | None
    n_children: int
    n_filled: int


def fit_pools(fills: Fills, market: MarketConfig, stock: StockConfig) -> list[PoolFit]:
    """One fit a dark venue of the file, by name. `stock`: the class whose volume, alphas and noise stand behind it."""
    children = children_of(fills)
    kinds = order_types(fills)
    footprint = _footprint(fills, kinds)
    found = []
    names = fills.names["venue"]
    dark = np.unique(children.venue[children.kind >= PING])
    for code in sorted(dark, key=lambda c: str(names[c])):
        name = str(names[code])
        own = (children.venue == code) & (children.kind >= PING) & children.usable
        pool = base_pool(market, name)
        met = exposure_of(children, own, market, stock, pool)
        rows = np.flatnonzero((fills.venue == code) & (kinds >= PING) & (fills.shares > 0))
        kappas, errors = _used_kappas((_NOTHING, _NOTHING), pool, market, stock)
        for _ in range(_ROUNDS):  # supply and toxicity each ask for the other
            supply = _supply(met, kappas, errors, market, stock)
            gammas = _toxicity(fills, rows, kinds, met, supply, kappas, footprint, stock)
            kappas, errors = _used_kappas(gammas, pool, market, stock)
        leakage, weight = _leak(fills, kinds, int(code), market, stock)
        fees = fills.fee_e6[rows]
        fees = fees[fees != UNKNOWN]
        found.append(
            PoolFit(
                name, supply, *gammas, leakage, weight, float(fees.mean()) / 100.0 if fees.size else None,
                int(own.sum()), int((children.filled[own] > 0).sum()),
            )
        )  # fmt: skip
    return found


def base_pool(market: MarketConfig, name: str) -> DarkPoolConfig:
    """The base's pool of that name, which lends what own fills do not tell; else one of the model's defaults."""
    found = next((p for p in market.dark_pools if p.name == name), DarkPoolConfig(name=name))
    return found.model_copy(update={"informed_frac": None})


def fitted_pool(fit: PoolFit, market: MarketConfig, stock: StockConfig, name: str) -> DarkPoolConfig:
    """The base's pool with what the fills say, weighed against the base where they say little."""
    pool = base_pool(market, fit.venue)
    changes: dict[str, object] = {"name": name}
    if fit.supply_frac.lo is not None:
        changes |= {"supply_frac": _rounded(max(fit.supply_frac.value or 0.0, 1e-6)), "fill_rate": None}
    kappas, _ = _used_kappas((fit.gamma_fast_bps, fit.gamma_slow_bps), pool, market, stock)
    changes |= {"reversion_bps": None, "kappa_fast": _rounded(kappas[0]), "kappa_slow": _rounded(kappas[1])}
    changes["leak_weight"] = _rounded(used_leak(fit, market))
    if fit.fee_mils is not None:
        changes["fee_mils"] = round(fit.fee_mils, 2)
    return DarkPoolConfig.model_validate(pool.model_dump() | changes)


def _used_kappas(
    gammas: tuple[Estimate, Estimate], pool: DarkPoolConfig, market: MarketConfig, stock: StockConfig
) -> tuple[FloatArray, FloatArray]:
    """Toxicity (2,), fast and slow, weighed against the base's pools, and its standard error."""
    kappas, errors = np.zeros(2), np.zeros(2)
    known = np.array([resolved_kappas(p, stock) for p in market.dark_pools]).reshape(-1, 2)
    own = np.array(resolved_kappas(pool, stock))
    for j, sigma in enumerate((stock.sigma_fast_bps, stock.sigma_slow_bps)):
        if sigma > 0:
            named = any(p.name == pool.name for p in market.dark_pools)
            kappa, errors[j] = _weighed(gammas[j], sigma, known[:, j], own[j] if named else None)
            kappas[j] = min(KAPPA_MAX, max(0.0, kappa))
    return kappas, errors


def used_leak(fit: PoolFit, market: MarketConfig) -> float:
    """Leak weight, weighed against the base's pools."""
    known = np.array([p.leak_weight for p in market.dark_pools])
    own = next((p.leak_weight for p in market.dark_pools if p.name == fit.venue), None)
    return max(0.0, _weighed(fit.leak_weight, 1.0, known, own)[0])


def _weighed(e: Estimate, unit: float, known: FloatArray, own: float | None) -> tuple[float, float]:
    """(value, standard error) of a parameter: the fills' estimate and the base's pools, each by its precision.

    The base says `own` for this pool, or the mean of its pools for one that it does not know; how far that may be off
    is the scatter of its pools. Where the two disagree beyond 95 %, the fills alone speak.
    """
    prior = own if own is not None else (float(known.mean()) if known.size else 0.0)
    spread = max(0.05, float(known.std())) if known.size else 1.0
    if e.value is None or e.lo is None or e.hi is None:
        return prior, spread
    value, error = e.value / unit, (e.hi - e.lo) / 2 / _Z95 / unit
    if abs(value - prior) > _Z95 * math.hypot(error, spread):
        return value, error
    if error == 0:
        return value, 0.0
    precision = 1 / error**2 + 1 / spread**2
    return (value / error**2 + prior / spread**2) / precision, 1 / math.sqrt(precision)


def _rounded(x: float) -> float:
    return float(f"{x:.4g}")


def _supply(
    met: Exposure, kappas: FloatArray, errors: FloatArray, market: MarketConfig, stock: StockConfig
) -> Estimate:
    """Contra supply as a share of volume: the value at which the model fills as many children as filled.

    `errors`: standard errors of the toxicities, which the interval takes in by their effect on the value.
    """
    n, n_parents = len(met.parent), int(np.unique(met.parent).size)
    got = met.filled.astype(float)
    if n < LEAST_FILLS or n_parents < LEAST_CLUSTERS or got.sum() == 0:
        return Estimate(None, None, None, n, n_parents)

    def residual(log_supply: float, kappas: FloatArray = kappas) -> FloatArray:
        chance = fill_chance(met, math.exp(log_supply), kappas, market, stock)
        return np.asarray(got - 1.0 + (1.0 - chance) * (1.0 - met.left))

    lo, hi = -16.0, 2.0
    if residual(lo).sum() <= 0 or residual(hi).sum() >= 0:
        return Estimate(None, None, None, n, n_parents)
    at = brentq(lambda x: float(residual(x).sum()), lo, hi, xtol=1e-7)
    slope = float(residual(at - 0.01).sum() - residual(at + 0.01).sum()) / 0.02  # d(children filled) / d(log supply)
    variance = clustered_se(residual(at), slope, met.parent) ** 2
    for j in np.flatnonzero(errors):
        other = kappas + np.eye(2)[j] * errors[j]
        variance += (float(residual(at, other).sum()) / slope) ** 2
    half = _Z95 * math.sqrt(variance)
    return Estimate(math.exp(at), math.exp(at - half), math.exp(at + half), n, n_parents)


def _moves_bps(fills: Fills, horizon_s: float) -> FloatArray:
    """Signed move of the mid after each row, bps; NaN where it is not known."""
    mid2, later = fills.mid2_e6, fills.mid_after_e6[horizon_s]
    known = (mid2 > 0) & (later > 0) & (later != UNKNOWN)
    return np.where(known, 1e4 * fills.side * (2.0 * later - mid2) / np.where(known, mid2, 1), np.nan)


def _footprint(fills: Fills, kind: IntArray) -> dict[float, float]:
    """Mean signed move after all pings, filled or not, by horizon, bps.

    An order pushes the mid its way while it works, which looks like a benefit of its fills. Over all pings the alphas
    average out, so what is left is the own push.
    """
    out = {}
    for h in fills.mid_after_e6:
        moves = _moves_bps(fills, h)[kind == PING]
        out[h] = float(np.nanmean(moves)) if np.isfinite(moves).any() else 0.0
    return out


def _toxicity(
    fills: Fills, rows: IntArray, kinds: IntArray, met: Exposure, supply: Estimate, kappas: FloatArray,
    footprint: dict[float, float], stock: StockConfig,
) -> tuple[Estimate, Estimate]:  # fmt: skip
    """(Gamma_fast, Gamma_slow), bps, from mid moves after the pool's fills, `rows` of the file.

    Fills of pings, and of rests at once, met what stood there, tilted by both alphas; others print displaced by a fast
    alpha of their own, which nothing saturates. Left out are fills of children that are not in `met` and of those that
    may have met a leftover, and horizons without a mid.
    """
    rows = rows[np.isin(fills.child[rows], met.child)]
    order = np.argsort(met.child, kind="stable")
    at = order[np.searchsorted(met.child, fills.child[rows], sorter=order)]
    horizons = [h for h in sorted(fills.mid_after_e6) if np.isfinite(_moves_bps(fills, h)[rows]).any()]
    moves = np.full((len(rows), max(1, len(horizons))), np.nan)
    for j, h in enumerate(horizons):
        moves[:, j] = _moves_bps(fills, h)[rows] - footprint[h]
    use = np.isfinite(moves).all(axis=1) & (met.left[at] == 0)
    rows, at, moves = rows[use], at[use], moves[use]
    n, n_parents = len(rows), int(np.unique(fills.parent[rows]).size)
    if n < LEAST_FILLS or n_parents < LEAST_CLUSTERS or len(horizons) < 2 or supply.value is None:
        unknown = Estimate(None, None, None, n, n_parents)
        return unknown, unknown
    at_once = (kinds[rows] == PING) | (fills.ts_ns[rows] <= met.sent_ns[at] + _AT_ONCE_NS)
    tilts = met.kappas(kappas)[at]
    node = kept_tilt(supply.value * met.standing[at], np.sqrt(met.sd[at] ** 2 + (tilts**2).sum(axis=1)))
    # a slow alpha saturates by what comes while it lasts
    lasting = np.minimum(1.0, stock.tau_slow_s / np.maximum(met.resting_s[at], 1e-9))
    slot = kept_tilt(supply.value * met.coming[at] * lasting, np.hypot(met.sd[at], tilts[:, 1]))
    kept = np.stack([np.where(at_once, node, 1.0), np.where(at_once, node, slot)], axis=1)
    most = np.divide(KAPPA_MAX, kappas, out=np.full(2, np.inf), where=kappas > 0)  # the model caps a tilt
    kept *= np.minimum(met.level[at][:, None], most)
    seconds = np.array(horizons)
    law = -np.stack([-np.expm1(-seconds / stock.tau_fast_s), -np.expm1(-seconds / stock.tau_slow_s)], axis=1)
    weights = 1.0 / np.diff(np.concatenate([[0.0], seconds]))
    step_law = np.diff(law, axis=0, prepend=0.0)
    steps = np.diff(moves, axis=1, prepend=0.0)
    columns = step_law[None, :, :] * kept[:, None, :]  # (fills, horizons, 2)
    gram = np.einsum("j,ija,ijb->ab", weights, columns, columns)
    gammas = np.linalg.solve(gram, np.einsum("j,ija,ij->a", weights, columns, steps))
    each = np.einsum("j,ija,ij->ia", weights, columns, steps - columns @ gammas) @ np.linalg.inv(gram)
    out = []
    for j in range(2):
        half = _Z95 * clustered_se(each[:, j], 1.0, fills.parent[rows])
        value = float(gammas[j])
        out.append(Estimate(value, value - half, value + half, n, n_parents))
    return out[0], out[1]


def _leak(
    fills: Fills, kind: IntArray, code: int, market: MarketConfig, stock: StockConfig
) -> tuple[Estimate, Estimate]:
    """(leakage at 10 s in bps, leak weight): pings to the pool against takes of no more shares.

    The push of the fills themselves is taken off by the market's own kernel, so what is left on average after a take is
    nothing, and after a ping the leak of its unfilled shares.
    """
    horizon_s, impact = 10.0, market.impact
    none = Estimate(None, None, None, 0, 0)
    if horizon_s not in fills.mid_after_e6:
        return none, none
    halves = zip(impact.transient_weights, impact.transient_half_lives_s, strict=True)
    kernel = stock.daily_vol_bps / stock.adv_shares * sum(w * 0.5 ** (horizon_s / life) for w, life in halves)
    lasting = impact.gamma * stock.daily_vol_bps * stock.outstanding_over_adv**0.25 / stock.adv_shares
    _, first, child = np.unique(fills.child, return_index=True, return_inverse=True)  # a child has a row a fill
    filled, routed = np.bincount(child, fills.shares), fills.routed_shares[first]
    kind, venue, parent = kind[first], fills.venue[first], fills.parent[first]
    weight = np.where(fills.dark[first], impact.dark_weight, 1.0)
    moves = _moves_bps(fills, horizon_s)[first] - weight * filled * (kernel + lasting)
    here = (kind == PING) & (venue == code) & np.isfinite(moves)
    n, n_parents = int(here.sum()), int(np.unique(parent[here]).size)
    unknown = Estimate(None, None, None, n, n_parents)
    if n < LEAST_FILLS or n_parents < LEAST_CLUSTERS:
        return unknown, unknown
    there = (kind == TAKE) & np.isfinite(moves) & (filled <= routed[here].max())
    missed = np.maximum(0.0, routed[here] - filled[here])
    unit = kernel * float(missed.mean())  # bps at a leak weight of 1
    if there.sum() < LEAST_FILLS or unit <= 0:
        return unknown, unknown
    gap = float(moves[here].mean() - moves[there].mean())
    residual = np.zeros(len(moves))
    residual[here] = (moves[here] - moves[here].mean()) / here.sum()
    residual[there] = -(moves[there] - moves[there].mean()) / there.sum()
    half = _Z95 * clustered_se(residual[here | there], 1.0, parent[here | there])
    return Estimate(gap, gap - half, gap + half, n, n_parents), Estimate(
        gap / unit, (gap - half) / unit, (gap + half) / unit, n, n_parents
    )


__all__ = ["PoolFit", "base_pool", "fit_pools", "fitted_pool", "used_leak"]
