"""Laws of the tape and of fills, against theory: martingale mid, arrival rates, markouts, what a post earns."""

from __future__ import annotations

import math

import numpy as np

from ...configs.market import MarketConfig
from ...configs.session import SESSION_S
from ...envs.market import Market, stream_key
from ..router import LitVwap
from .check import (
    FALSE_ALARM,
    MIN_EPISODES,
    STANDARD_ERRORS,
    Check,
    laboratory,
    play,
    ratio_and_error,
    z_of,
)  # fmt: skip
from .drawn_laws import KINDS, Played, endless, horizons, law_bps, moves_bps
from .promises import GIVEN_RUN, noise_too_rare, promises, slot_weights

HORIZON_SLOTS = (1, 2, 3, 6, 12, 30)
_LAGS = range(1, 6)


def mid(market: Market, n: int, seed: int) -> list[Check]:
    """The unaffected mid is a martingale for whoever does not see the alphas."""
    b, obs = market.batch(n)
    market.reset(stream_key(seed, "test"), np.arange(n), np.arange(n), b, obs)
    ep, dt = b.episode, market.rules.interval_s
    slots = ep["n_slots"].min()
    tape = b.tape[:, : slots + 1]
    alpha = ep["sigma_fast_bps"] ** 2 / (2 * ep["tau_fast_s"]) + ep["sigma_slow_bps"] ** 2 / (2 * ep["tau_slow_s"])
    worst = float((alpha[:, None] / tape[:, :slots]["vol_bps"] ** 2).max())
    moves = np.diff(tape["mid_bps"], axis=1) / (tape[:, :slots]["vol_bps"] * math.sqrt(dt))
    largest = 0.0
    for lag in (lag for lag in _LAGS if lag < moves.shape[1]):
        products = (moves[:, lag:] * moves[:, :-lag]).mean(1)
        largest = max(largest, abs(z_of(float(products.mean()), 0.0, float(products.std() / math.sqrt(n)))))
    return [
        Check("alphas", "rho_fast^2 + rho_slow^2 is at most 1 in every slot", f"largest {worst:.3f}",
              worst <= 1 + 1e-9),
        Check("martingale", "slot returns have no autocorrelation at lags 1 to 5",
              f"largest |z| {largest:.1f} over {n:,} tapes", largest < STANDARD_ERRORS, 5 * FALSE_ALARM),
    ]  # fmt: skip


def fills(config: MarketConfig, n: int, seed: int) -> list[Check]:
    """Arrival rates, and markouts at six horizons per venue and order type, in each stock class."""
    found: list[Check] = []
    for s, stock in enumerate(config.stocks):
        market = laboratory(config, s)
        for kind in KINDS:
            if any(r.order_type == kind for r in market.routes):
                found += _fills_of_kind(market, stock.name, kind, n, seed)
    return found


def _fills_of_kind(market: Market, class_name: str, kind: str, n: int, seed: int) -> list[Check]:
    p, label = endless(market, kind, n, seed), f"{class_name} {kind}"
    return [_markouts(p, label), _arrivals(p, label), *([_post_pnl(p, class_name)] if kind == "post" else [])]


def _markout(p: Played, k: int, h: int, given_run: bool) -> tuple[float, float, float] | None:
    """Mean markout of route k's shares less what the law says, its standard error, and what the law says, bps; None
    where they stand on too few orders."""
    shares, told = p.shares[:, :, k] * slot_weights(p, k, given_run), law_bps(p, k, h, given_run=given_run)
    gap, error, stands_on = ratio_and_error(shares, moves_bps(p, k, h) - told)
    return None if stands_on < MIN_EPISODES else (gap, error, float((shares * told).sum() / shares.sum()))


def _markouts(p: Played, label: str) -> Check:
    worst, where, errors, tried, given_runs = 0.0, "", [], horizons(p, HORIZON_SLOTS), 0
    for k, r in enumerate(p.at):
        given_run = noise_too_rare(p, [k])
        for h in tried:
            if (found := _markout(p, k, h, given_run)) is None:
                continue
            given_runs += given_run
            gap, error, law = found
            z = z_of(gap, 0.0, error)
            errors.append(error)
            if abs(z) > abs(worst):
                at_s = h * p.market.rules.interval_s
                worst, where = z, f"{p.market.routes[r].name} at {at_s:g} s: {law + gap:.3f} for {law:.3f} bps"
    n_laws = len(p.at) * len(tried)
    thin = n_laws - len(errors)
    few = f"{thin} of {n_laws} not judged, fills of under {MIN_EPISODES:g} orders" if thin else ""
    said = f"worst z {worst:+.1f} ({where}); errors to {max(errors):.3f} bps" if errors else ""
    given = f"{given_runs} of them{GIVEN_RUN}" if given_runs else ""
    measured = "; ".join(part for part in (said, given, few) if part)
    held = abs(worst) < STANDARD_ERRORS if errors else None
    return Check(f"markouts, {label}", f"law (3) at {len(tried)} horizons, every venue", measured, held,
                 n_laws * FALSE_ALARM, unjudged=not errors)  # fmt: skip


def _arrivals(p: Played, label: str) -> Check:
    worst, venues, given_run, compared = 0.0, 0, 0, 0
    for k in range(len(p.at)):
        found = promises(p, [k])
        for expected, came, _ in found:
            mean, error, _ = ratio_and_error(np.ones_like(expected), came - expected)
            worst, compared = max(worst, abs(z_of(mean, 0.0, error))), compared + 1
        venues, given_run = venues + bool(found), given_run + (len(found) > 1)
    note = f"; {given_run}{GIVEN_RUN}, favoured slots against starved ones too" if given_run else ""
    claim = "shares that arrive are supply x flow, tilts or not"
    if p.kind == "ping":
        claim = "shares met at a node are supply a second x life x (1 - e^(-gap/life)), tilts or not"
    return Check(f"arrivals, {label}", claim, f"worst |z| {worst:.1f} over {venues} of {len(p.at)} venues{note}",
                 worst < STANDARD_ERRORS if venues else None, max(compared, len(p.at)) * FALSE_ALARM,
                 unjudged=not venues)  # fmt: skip


def _post_pnl(p: Played, class_name: str) -> Check:
    """Against the config: what the law says of the venue as it was drawn, moved by what that venue's loss at 10 s
    differs from the stated one."""
    said, ok, half = [], True, float(p.b.episode["half_spread_bps"][0])
    h, stated = max(1, round(10 / p.market.rules.interval_s)), p.market.config.stocks[0].post_pnl_hs
    lit = {v.name: v for v in p.market.config.lit_venues}
    for k, r in enumerate(p.at):
        given_run = noise_too_rare(p, [k])
        if (found := _markout(p, k, h, given_run)) is None:
            continue
        gap, error, law = found
        venue = lit[p.market.routes[r].venue]
        lost = p.venue(k, "gamma_run_bps") + p.venue(k, "gamma_fast_bps") + p.venue(k, "kappa_slow") * p.episode(
            "sigma_slow_bps") * -np.expm1(-10.0 / p.episode("tau_slow_s"))  # fmt: skip
        off = gap - float((lost - half * (1 - stated.get(venue.name, venue.post_pnl_hs))).mean())
        shown = f"{1 + (law + gap) / half:+.3f} for {1 + (law + gap - off) / half:+.3f}"
        said.append(f"{venue.name} off by {off / half:+.3f}{GIVEN_RUN}" if given_run else f"{venue.name} {shown}")
        ok &= abs(off) <= max(0.1, 0.03 * half) + STANDARD_ERRORS * error
    return Check(f"P&L of posts, {class_name}", "a filled share earns at 10 s what it is calibrated to, half spreads",
                 "; ".join(said) or f"no post filled for {MIN_EPISODES:g} orders", ok if said else None,
                 len(p.at) * FALSE_ALARM, unjudged=not said)  # fmt: skip


def slot_lengths(config: MarketConfig, n: int, seed: int) -> list[Check]:
    """A taker pays the same at any slot length whose slices are whole lots."""
    name, claim = "slot length", "all-take cost agrees between slots of 5, 10, 30 and 60 s, as far as slices are lots"
    per_s = 0.1 * config.stocks[0].adv_shares / SESSION_S
    lengths = [s for s in (5.0, 10.0, 30.0, 60.0) if per_s * s >= 2 * config.lots_of_shares]
    if len(lengths) < 2:
        return [Check(name, claim, "a tenth of the volume of 30 s is under two lots here", None)]
    costs = []
    for interval_s in lengths:
        data = config.model_copy(update={"interval_s": interval_s})
        market = laboratory(data, 0, minutes=60.0, endless=False)
        busy = market.config.model_copy(
            update={
                "orders": market.config.orders.model_copy(update={"participation_frac": (0.1, 0.15)}),
                "controls": market.config.controls.model_copy(update={"max_child_shares": 10**8}),
            }
        )
        b = play(Market(busy), LitVwap(), n, seed)
        cost = b.order["cost_bps"] - b.order["martingale_sum_bps"]
        costs.append((interval_s, float(cost.mean()), float(cost.std() / math.sqrt(n))))
    pairs = [abs(z_of(a[1], c[1], math.hypot(a[2], c[2]))) for a in costs for c in costs if a[0] < c[0]]
    text = ", ".join(f"{c[1]:.2f} at {c[0]:g} s" for c in costs)
    return [
        Check(name, claim, f"{text} bps; worst |z| {max(pairs):.1f}", max(pairs) < STANDARD_ERRORS, 6 * FALSE_ALARM)
    ]  # fmt: skip
