"""What a desk knows of a pool, turned into the model's parameters: reversion by horizon, and how often an order fills.

Reversion is inverted with the markout law (market model, equation 3): markouts at horizons h are
-G_f (1 - e^(-h/tau_f)) - G_s (1 - e^(-h/tau_s)) with G_j = kappa_j sigma_j >= 0, solved by non-negative least squares.
A fill rate is inverted with the law of arrivals (equation 2): the supply at which as many resting orders are met.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq, nnls

from .supply_law import KAPPA_MAX, rest_fill_rate

if TYPE_CHECKING:
    from .market import MarketConfig
    from .stock import StockConfig
    from .venue import DarkPoolConfig

RESIDUAL_MAX_BPS = 0.1
FILL_RESIDUAL_MAX = 0.02


def reversion_to_gammas(reversion_bps: dict[float, float], stock: StockConfig) -> tuple[float, float]:
    """(G_fast, G_slow) in bps from markouts {horizon in seconds: bps, - = adverse}.

    One horizon alone cannot tell the two apart: under 5 tau_fast it means the fast one, otherwise the slow one.

    Raises:
        ValueError: the law fits worse than 0.1 bps at some horizon, or asks for a toxicity above the cap.
    """
    horizons, values = np.array(sorted(reversion_bps)), np.array([reversion_bps[h] for h in sorted(reversion_bps)])
    columns = np.stack([-np.expm1(-horizons / stock.tau_fast_s), -np.expm1(-horizons / stock.tau_slow_s)], axis=1)
    use = [j for j, sigma in enumerate((stock.sigma_fast_bps, stock.sigma_slow_bps)) if sigma > 0]
    if len(horizons) == 1 and len(use) == 2:
        use = [0 if horizons[0] < 5 * stock.tau_fast_s else 1]
    gammas = np.zeros(2)
    if use:
        gammas[use], _ = nnls(columns[:, use], -values)
    residual = np.abs(columns @ gammas + values)
    if residual.max() > RESIDUAL_MAX_BPS:
        worst = int(residual.argmax())
        raise ValueError(
            f"reversion_bps cannot be met in class {stock.name!r}: the law of two alphas (tau {stock.tau_fast_s:g} s "
            f"and {stock.tau_slow_s:g} s) misses {values[worst]:g} bps at {horizons[worst]:g} s by "
            f"{residual[worst]:.2f} bps (at most {RESIDUAL_MAX_BPS:g}). Markouts fall with the horizon and level off."
        )
    return float(gammas[0]), float(gammas[1])


def resolved_kappas(pool: DarkPoolConfig, stock: StockConfig) -> tuple[float, float]:
    """(kappa_fast, kappa_slow) of a pool in a stock class: stated, or from `reversion_bps`.

    Raises:
        ValueError: as `reversion_to_gammas`; a toxicity above 2.5, where fills would come from a few extreme moments.
    """
    if pool.reversion_bps is None:
        return pool.kappa_fast, pool.kappa_slow
    sigmas = (stock.sigma_fast_bps, stock.sigma_slow_bps)
    gammas = reversion_to_gammas(pool.reversion_bps, stock)
    fast, slow = (g / s if s > 0 else 0.0 for g, s in zip(gammas, sigmas, strict=True))
    if max(fast, slow) > KAPPA_MAX:
        raise ValueError(
            f"reversion_bps of pool {pool.name!r} asks for a toxicity of {max(fast, slow):.2f} standard deviations "
            f"of an alpha in class {stock.name!r}, above {KAPPA_MAX}. Lower the reversion or raise sigma_*_bps."
        )
    return fast, slow


def resolved_supply_frac(pool: DarkPoolConfig, stock: StockConfig, market: MarketConfig) -> float:
    """Contra supply of a pool in a stock class as a share of volume: stated, or from `fill_rate`.

    With several durations the supply is that which meets their rates in the mean.

    Raises:
        ValueError: the rates ask for more than all of the volume, or one supply misses one of them by more than 0.02.
    """
    if pool.fill_rate is None:
        return pool.supply_frac
    kappas = resolved_kappas(pool, stock)
    seconds = sorted(pool.fill_rate)
    stated = np.array([pool.fill_rate[s] for s in seconds])

    def residual(log_supply: float) -> NDArray[np.float64]:
        rates = [rest_fill_rate(market, stock, pool, float(np.exp(log_supply)), kappas, s) for s in seconds]
        return np.asarray(np.array(rates) - stated, float)

    if (most := residual(0.0)).sum() < 0:
        worst = int(most.argmin())
        raise ValueError(
            f"fill_rate of pool {pool.name!r} asks for more contra orders than class {stock.name!r} trades: were all "
            f"of its volume in the pool, {most[worst] + stated[worst]:.3f} of the orders resting {seconds[worst]:g} s "
            f"would fill, not {stated[worst]:g}. Lower the rate or state it for a longer rest."
        )
    at = brentq(lambda x: float(residual(x).sum()), -40.0, 0.0, xtol=1e-10)
    off = residual(at)
    if np.abs(off).max() > FILL_RESIDUAL_MAX:
        worst = int(np.abs(off).argmax())
        raise ValueError(
            f"fill_rate cannot be met for pool {pool.name!r} in class {stock.name!r}: one supply gives "
            f"{stated[worst] + off[worst]:.3f} for {seconds[worst]:g} s, not {stated[worst]:g} (at most "
            f"{FILL_RESIDUAL_MAX:g} apart). State one duration, or rates that rise with it as arrivals do."
        )
    return float(np.exp(at))


def notes(market: MarketConfig) -> list[str]:
    """What was decided for the user: sentences for the commands that read a market."""
    found, drawn = [], market.randomisation
    anew = 0.0 if drawn is None else drawn.independent_toxicity_prob
    for pool in market.dark_pools:
        if pool.supply_frac > 1:
            found.append(
                f"pool {pool.name!r}: supply_frac {pool.supply_frac:g} is more than all of the market's volume"
            )
        for stock in market.stocks:
            parts = []
            if pool.reversion_bps is not None:
                fast, slow = resolved_kappas(pool, stock)
                parts.append(f"reversion_bps means kappa_fast {fast:.3f}, kappa_slow {slow:.3f}")
                if len(pool.reversion_bps) == 1:
                    horizon = next(iter(pool.reversion_bps))
                    kind = "fast" if horizon < 5 * stock.tau_fast_s else "slow"
                    parts[-1] += f" (one horizon, {horizon:g} s: taken as the {kind} alpha)"
            if pool.fill_rate is not None:
                supply = resolved_supply_frac(pool, stock, market)
                parts.append(f"fill_rate means supply_frac {supply:.4g}, that is {supply:.2%} of its volume")
            found += [f"pool {pool.name!r}, class {stock.name!r}: {part}" for part in parts]
    if market.oracle.one_shot_arrivals and any(pool.supply_frac != 0 for pool in market.dark_pools):
        found.append("one-shot arrivals (oracle.one_shot_arrivals) go by zero_prob: supply_frac does nothing here")
    if anew > 0.0 and any(pool.reversion_bps is not None for pool in market.dark_pools):
        found.append(
            f"this market is randomised: in {anew:.0%} of the orders a pool's toxicity is drawn anew, whatever its "
            "reversion_bps (randomisation.independent_toxicity_prob: 0 keeps it)"
        )
    return found
