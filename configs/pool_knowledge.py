"""What a desk knows of a pool, turned into the model's parameters: reversion by horizon, and how often an order fills.

Reversion is inverted with the markout law (market model, equation 3): markouts at horizons h are
-G_f (1 - e^(-h/tau_f)) - G_s (1 - e^(-h/tau_s)) with G_j = kappa_j sigma_j >= 0, solved by non-negative least squares.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import nnls

if TYPE_CHECKING:
    from .market import DarkPoolConfig, MarketConfig, StockConfig

KAPPA_MAX = 2.5
RESIDUAL_MAX_BPS = 0.1


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


def notes(market: MarketConfig) -> list[str]:
    """What was decided for the user: sentences for the commands that read a market."""
    found = []
    for pool in market.dark_pools:
        if pool.reversion_bps is None:
            continue
        for stock in market.stocks:
            fast, slow = resolved_kappas(pool, stock)
            text = f"pool {pool.name!r}, class {stock.name!r}: "
            text += f"reversion_bps means kappa_fast {fast:.3f}, kappa_slow {slow:.3f}"
            if len(pool.reversion_bps) == 1:
                horizon = next(iter(pool.reversion_bps))
                kind = "fast" if horizon < 5 * stock.tau_fast_s else "slow"
                text += f" (one horizon, {horizon:g} s: taken as the {kind} alpha)"
            found.append(text)
    return found
