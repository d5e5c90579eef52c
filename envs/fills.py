"""What one child order meets in one slot: contra orders that stand at the node, arrive inside the slot, or queue.

Equations: market model, section 3. All prices are in bps of the arrival mid; `side` is the client's.
"""

from __future__ import annotations

import math

from .compiled import leaf
from .counter_rng import derive, exponential, first_gap, normal, uniform
from .scorecard import KAPPA_CAP, normal_cdf
from .state import Row
from .venues import GUIDE, UNLIMITED_SHARES

# Streams of a venue. In those of contra orders the i-th order has four draws, at index 4 i: the gap before it, its
# size, its type, its own fast alpha; a standing order has no alpha, so there index 3 says whether the leftover stayed.
_ONE_SHOT = 6
_GAP, _SIZE, _TYPE, _ALPHA, _STAYS = 0, 1, 2, 3, 3
_COMMON_POOL = 0x504F4F4C  # stream of the factor that one-shot pools share


@leaf
def toxicity(settings: Row, row: Row, state: Row, kappa: float) -> float:
    """Tilt of the venue in this slot: kappa (sigma_n / sigma)^nu times the regime's factor, capped."""
    factor = row.toxicity_factor
    if state.regime != 0:
        factor *= settings.toxic_factor if state.regime > 0 else settings.calm_factor
    return min(kappa * factor, KAPPA_CAP)


@leaf
def supply_shares(settings: Row, ven: Row, row: Row, lit: bool) -> float:
    """Contra shares of the slot before any tilt (equation 2; for posts the first factor of equation 6)."""
    return ven.supply_frac * (row.volume_shares if lit else row.dark_flow_shares)


@leaf
def node_tilt(ep: Row, ven: Row, row: Row, fast: float, slow: float, fast_z: float, slow_z: float) -> float:
    """Factor on the rate of orders standing at a node: both alphas (synthetic) or the forward move (replay)."""
    if ep.replayed == 1:
        return math.exp(-ven.theta_node * ep.side * row.slow_z - ven.log_norm_node)
    return math.exp(-fast * (ep.side * fast_z + 0.5 * fast) - slow * (ep.side * slow_z + 0.5 * slow))


@leaf
def slot_log_tilt(ep: Row, ven: Row, row: Row, slow: float, slow_z: float) -> float:
    """Log of the factor on orders arriving inside a slot: the slow part alone; the fast part is in their prints."""
    if ep.replayed == 1:
        return -ven.theta_slot * ep.side * row.slow_z - ven.log_norm_slot
    return -slow * (ep.side * slow_z + 0.5 * slow)


@leaf
def draw_size(law: Row, lot_shares: int, u: float) -> int:
    """Contra size in shares by inverting the cumulative law."""
    if law.n_lots == 0:
        return UNLIMITED_SHARES
    k = law.guide[int(u * GUIDE)]
    while law.cdf[k] < u:
        k += 1
    return (k + 1) * lot_shares


@leaf
def matched(leaves: int, contra: int, min_quantity: int) -> int:
    """Shares of one match: nothing unless it reaches min(minimum quantity, own leaves)."""
    print_shares = min(leaves, contra)
    return print_shares if print_shares >= min(min_quantity, leaves) else 0


@leaf
def one_shot_uniform(settings: Row, ep: Row, ven: Row, row: Row, n: int) -> float:
    """The uniform of a one-shot pool; above zero_prob it fills.

    u = 1 - Phi(Z), corr(Z, alpha) = r for a buy (probit variant, market model 2.5), and the pools' own parts of Z share
    a factor with correlation `fill_copula`. Without either it is a plain draw.
    """
    key = derive(ven.key, _ONE_SHOT)
    r, c = settings.probit_correlation, settings.fill_copula
    if r == 0.0 and c == 0.0:
        return uniform(key, n, 0)
    common = normal(derive(ep.key, _COMMON_POOL), n, 0)
    own = math.sqrt(c) * common + math.sqrt(1.0 - c) * normal(key, n, 0)
    return normal_cdf(-(r * ep.side * row.fast_z + math.sqrt(1.0 - r * r) * own))


@leaf
def meet_one_shot(settings: Row, ep: Row, ven: Row, row: Row, law: Row, n: int, leaves: int) -> int:
    """At most one contra order a pool and slot, with a zero bin."""
    u = one_shot_uniform(settings, ep, ven, row, n)
    if u < ven.zero_prob:
        return 0
    contra = draw_size(law, settings.lot_shares, (u - ven.zero_prob) / (1.0 - ven.zero_prob))
    return matched(leaves, contra, ven.min_quantity_shares)


@leaf
def meet_queue(settings: Row, ep: Row, ven: Row, row: Row, n: int, leaves: int) -> int:
    """One-shot post: (outflow - shares ahead)+, up to its size; outflow exponential, tilted by the slow alpha."""
    kappa = ven.kappa_slow
    tilt = math.exp(-kappa * (ep.side * row.slow_z + 0.5 * kappa))
    outflow = settings.outflow_mean_shares * tilt * exponential(derive(ven.key, _ONE_SHOT), n, 1)
    return min(leaves, max(0, int(math.floor(outflow - settings.queue_shares))))


@leaf
def meet_standing(
    settings: Row, ep: Row, ven: Row, state: Row, row: Row, law: Row, informed: Row, n: int, leaves: int
) -> int:
    """Shares filled at t_n against what stands in the pool: the leftover of the contra met last, then fresh orders.

    Fresh orders since the last visit, a seconds ago, are Poisson(rate x tilt x life (1 - e^(-a/life))): a visitor who
    takes what he meets finds little more by coming back at once (market model, 2.3).
    """
    now_s = n * settings.interval_s
    survival = math.exp(-(now_s - state.last_visit_s) / ven.life_s)
    filled = 0
    if state.leftover_shares > 0:
        if uniform(ven.stock_key, n, _STAYS) < survival:
            filled = matched(leaves, state.leftover_shares, ven.min_quantity_shares)
            state.leftover_shares -= filled
        else:
            state.leftover_shares = 0
    p = ven.informed_frac if ep.replayed == 0 else 0.0
    share = 1.0 if p == 0.0 else p  # without two types the whole pool is tilted
    fast = toxicity(settings, row, state, ven.kappa_fast / share)
    slow = toxicity(settings, row, state, ven.kappa_slow / share)
    tilted = share * node_tilt(ep, ven, row, fast, slow, row.fast_z, row.slow_z)
    mean = supply_shares(settings, ven, row, False) / (settings.interval_s * ven.mean_size_shares)
    mean *= (tilted + 1.0 - share) * ven.life_s * (1.0 - survival)
    clock, i = first_gap(ven.stock_key, n, _GAP, mean), 0
    while clock < mean and filled < leaves:
        from_informed = p > 0.0 and uniform(ven.stock_key, n, i + _TYPE) * (tilted + 1.0 - p) < tilted
        u = uniform(ven.stock_key, n, i + _SIZE)
        contra = (
            draw_size(informed, settings.lot_shares, u) if from_informed else draw_size(law, settings.lot_shares, u)
        )
        got = matched(leaves - filled, contra, ven.min_quantity_shares)
        if got > 0:
            filled += got
            state.leftover_shares = contra - got
        i += 4
        clock += exponential(ven.stock_key, n, i + _GAP)
    return filled


@leaf
def meet_arrivals(
    settings: Row, ep: Row, ven: Row, state: Row, law: Row, informed: Row, at: int, leaves: int, mean: float,
    informed_prob: float, displacement_bps: float, own_alpha: bool,
) -> tuple[int, float]:  # fmt: skip
    """Shares filled inside a sub-step by Poisson(mean) contra orders, and the sum of shares x own fast alpha, bps.

    With `own_alpha` each arrival draws a ~ N(-s gamma, sigma_f^2), gamma = `displacement_bps` (market model, 1);
    of two contra types only the informed one is displaced. `at` counts sub-steps.
    """
    filled, alpha_sum = 0, 0.0
    clock, i = first_gap(ven.flow_key, at, _GAP, mean), 0
    while clock < mean and filled < leaves:
        from_informed = informed_prob > 0.0 and uniform(ven.flow_key, at, i + _TYPE) < informed_prob
        u = uniform(ven.flow_key, at, i + _SIZE)
        contra = (
            draw_size(informed, settings.lot_shares, u) if from_informed else draw_size(law, settings.lot_shares, u)
        )
        got = matched(leaves - filled, contra, ven.min_quantity_shares)
        if got > 0:
            filled += got
            if own_alpha:
                gamma = displacement_bps if from_informed or ven.informed_frac == 0.0 else 0.0
                alpha = ep.sigma_fast_bps * normal(ven.flow_key, at, i + _ALPHA) - gamma
                alpha_sum += got * ep.side * alpha
            state.leftover_shares = contra - got
        i += 4
        clock += exponential(ven.flow_key, at, i + _GAP)
    return filled, alpha_sum


@leaf
def fill_rest(
    settings: Row, ep: Row, ven: Row, state: Row, row: Row, node: Row, law: Row, informed: Row, at: int, leaves: int
) -> tuple[int, float]:
    """A resting order in one sub-step: (shares, sum of shares x unaffected mid of their prints, bps)."""
    p = ven.informed_frac if ep.replayed == 0 else 0.0
    share = 1.0 if p == 0.0 else p
    fast = toxicity(settings, row, state, ven.kappa_fast / share)
    slow = toxicity(settings, row, state, ven.kappa_slow / share)
    if ep.fast_in_slot == 1:
        tilted = share * math.exp(slot_log_tilt(ep, ven, row, slow, node.slow_z))
    else:
        tilted = share * node_tilt(ep, ven, row, fast, slow, node.fast_z, node.slow_z)
    mean = supply_shares(settings, ven, row, False) / (ep.n_sub * ven.mean_size_shares) * (tilted + 1.0 - share)
    informed_prob = tilted / (tilted + 1.0 - p) if p > 0.0 else 0.0
    got, alpha_sum = meet_arrivals(
        settings, ep, ven, state, law, informed, at, leaves, mean, informed_prob, fast * ep.sigma_fast_bps,
        ep.fast_in_slot == 1,
    )  # fmt: skip
    base = node.base_bps if ep.fast_in_slot == 1 else node.mid_bps
    return got, got * base - alpha_sum


@leaf
def fill_post(
    settings: Row, ep: Row, ven: Row, state: Row, row: Row, node: Row, law: Row, at: int, leaves: int
) -> tuple[int, float]:
    """A pegged post in one sub-step: flow (6), fewer fills when the price runs our way; print at B + eps/2 - a."""
    run, fast = ven.gamma_run_bps * row.toxicity_factor, ven.gamma_fast_bps * row.toxicity_factor
    log_tilt = slot_log_tilt(ep, ven, row, toxicity(settings, row, state, ven.kappa_slow), node.slow_z)
    if node.eps_var > 0.0:
        log_tilt -= 2.0 * run * (ep.side * node.eps_bps + run) / node.eps_var
    mean = supply_shares(settings, ven, row, True) / (ep.n_sub * ven.mean_size_shares) * math.exp(log_tilt)
    got, alpha_sum = meet_arrivals(settings, ep, ven, state, law, law, at, leaves, mean, 0.0, fast, True)
    base = node.base_bps if ep.fast_in_slot == 1 else node.mid_bps
    return got, got * (base + 0.5 * node.eps_bps) - alpha_sum
