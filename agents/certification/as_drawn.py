"""The lines of a market "as drawn": its own randomisation, dark slots, events, volatility-dependent toxicity."""

from __future__ import annotations

import numpy as np

from ...configs.market import MarketConfig
from .check import FALSE_ALARM, MIN_EPISODES, STANDARD_ERRORS, Check, laboratory, ratio_and_error, z_of
from .drawn_laws import KINDS, Played, endless, horizons, law_bps, moves_bps
from .promises import GIVEN_RUN, noise_too_rare, promises, slot_weights

DRAWN_HORIZON_SLOTS = (1, 6, 30)
_REGIMES = {0: "", -1: "calm ", 1: "toxic "}


def as_drawn(config: MarketConfig, n: int, seed: int) -> list[Check]:
    """Markouts and arrivals of the market as it draws its episodes: all classes, venues, regimes, events."""
    market, found = laboratory(config, as_drawn=True), []
    for kind in KINDS:
        if any(r.order_type == kind for r in market.routes):
            p = endless(market, kind, n, seed)
            found.append(_markouts(p))
            if kind != "ping":
                found.append(_arrivals(p))
    return found


def _markouts(p: Played) -> Check:
    """Calm and toxic regimes apart: together, a simulator that ignored them might pass."""
    routes, half = range(len(p.at)), p.episode("half_spread_bps")
    said, worst, judged, tried = [], 0.0, 0, horizons(p, DRAWN_HORIZON_SLOTS)
    given_run = noise_too_rare(p, routes)
    shares = np.concatenate([p.shares[:, :, k] * slot_weights(p, k, given_run) for k in routes], 1)
    regime = np.concatenate([p.regime[:, :, k] for k in routes], 1)
    groups = [g for g in _REGIMES if (regime == g).any()]
    for h in tried:
        told = np.concatenate([law_bps(p, k, h, given_run=given_run) / half for k in routes], 1)
        gaps = np.concatenate([moves_bps(p, k, h) / half for k in routes], 1) - told
        for g in groups:
            weights = shares * (regime == g)
            gap, error, stands_on = ratio_and_error(weights, gaps)
            if stands_on < MIN_EPISODES:
                continue
            law, z = float((weights * told).sum() / weights.sum()), z_of(gap, 0.0, error)
            worst, judged = max(worst, abs(z)), judged + 1
            at_s = h * p.market.rules.interval_s
            said.append(f"{_REGIMES[g]}{law + gap:+.3f} for {law:+.3f} at {at_s:g} s (z {z:+.1f}, error {error:.3f})")
    n_laws = len(tried) * len(groups)
    if judged < n_laws:
        said.append(f"{n_laws - judged} of {n_laws} not judged, fills of under {MIN_EPISODES:g} orders")
    if given_run and judged:
        said.append("law" + GIVEN_RUN)
    return Check(f"markouts as drawn, {p.kind}", "law (3) for what episode, regime and slot drew, in half spreads",
                 "; ".join(said), worst < STANDARD_ERRORS if judged else None, n_laws * FALSE_ALARM,
                 unjudged=not judged)  # fmt: skip


def _arrivals(p: Played) -> Check:
    name, claim = f"arrivals as drawn, {p.kind}", "shares that arrive are supply x flow of the episode, in open slots"
    if not (found := promises(p, range(len(p.at)))):
        return Check(name, claim, f"shares of under {MIN_EPISODES:g} orders promised", None, FALSE_ALARM, unjudged=True)
    worst, usual = 0.0, float(found[0].expected.mean())
    said = []
    for expected, came, given in found:
        gap, error, _ = ratio_and_error(np.ones_like(expected), came - expected)
        worst = max(worst, abs(z := z_of(gap, 0.0, error)))
        said.append(f"{1 + gap / usual:.3f} of what is promised (z {z:+.1f}, error {error / usual:.3f}){given}")
    if len(found) > 1:
        said[1] = f"favoured less starved slots z {z:+.1f}"
    return Check(name, claim, "; ".join(said), worst < STANDARD_ERRORS, len(found) * FALSE_ALARM)
