"""Laws of the tape and of fills, against theory: martingale mid, arrival rates, markouts, what a post earns."""

from __future__ import annotations

import math

import numpy as np

from ...configs.market import SESSION_S, MarketConfig
from ...envs.market import Market, stream_key
from ...envs.state import IN_SLOT, NODE, Batch
from ..router import LitVwap
from .check import (
    FALSE_ALARM,
    MIN_EPISODES,
    STANDARD_ERRORS,
    Check,
    FixedWeights,
    Floats,
    laboratory,
    play,
    ratio_and_error,
    z_of,
)  # fmt: skip

HORIZON_SLOTS = (1, 2, 3, 6, 12, 30)
_LAGS = range(1, 6)
_ENDLESS = 10**9  # shares


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
    for lag in _LAGS:
        products = (moves[:, lag:] * moves[:, :-lag]).mean(1)
        largest = max(largest, abs(z_of(float(products.mean()), 0.0, float(products.std() / math.sqrt(n)))))
    return [
        Check("alphas", "rho_fast^2 + rho_slow^2 is at most 1 in every slot", f"largest {worst:.3f}",
              worst <= 1 + 1e-9),
        Check("martingale", "slot returns have no autocorrelation at lags 1 to 5",
              f"largest |z| {largest:.1f} over {n:,} tapes", largest < STANDARD_ERRORS, 5 * FALSE_ALARM),
    ]  # fmt: skip


def _endless(
    market: Market, kind: str, when: int, n: int, seed: int
) -> tuple[Batch, Floats, Floats, Floats, list[int]]:
    """Endless children of one kind to every venue in every slot: shares and mids of prints (n, slots, routes), flow."""
    at = [i for i, r in enumerate(market.routes) if r.order_type == kind]
    shares: list[Floats] = []
    mids: list[Floats] = []

    def record(b: Batch) -> None:
        shares.append(b.fill_shares[:, at, when].astype(float))
        mids.append(b.fill_mid_bps[:, at, when].copy())

    router = FixedWeights({market.routes[i].name: 1 / len(at) for i in at}, work_shares=_ENDLESS)
    b = play(market, router, n, seed, record, shares=_ENDLESS)
    column = "volume_shares" if kind == "post" else "dark_flow_shares"
    flow = b.tape[:, : len(shares) - 1][column]
    return b, np.stack(shares[:-1], 1), np.stack(mids[:-1], 1), flow, at


def fills(config: MarketConfig, n: int, seed: int) -> list[Check]:
    """Arrival rates, and markouts at six horizons per venue and order type, in each stock class."""
    found: list[Check] = []
    for s, stock in enumerate(config.stocks):
        market = laboratory(config, s)
        for kind, when in (("ping", NODE), ("rest", IN_SLOT), ("post", IN_SLOT)):
            if not any(r.order_type == kind for r in market.routes):
                continue
            found += _fills_of_kind(market, stock.name, kind, when, n, seed)
    return found


def _fills_of_kind(market: Market, class_name: str, kind: str, when: int, n: int, seed: int) -> list[Check]:
    b, shares, mids, flow, at = _endless(market, kind, when, n, seed)
    rules, ep, side = market.rules, b.episode[0], b.episode["side"][:, None]
    slots = shares.shape[1]
    dt, in_slot = rules.interval_s, bool(ep["fast_in_slot"])
    # The mid's own noise after the node is independent of what happened there (posts: half of the slot's own is not),
    # so taking it out keeps the mean and shrinks the error three- to fivefold.
    own = b.tape["eps_bps"] if ep["n_sub"] == 1 else np.zeros(b.tape.shape)
    noise = np.concatenate([np.zeros((n, 1)), np.cumsum(own, 1)], 1)
    worst_rate, worst_markout, where, errors, rates, thin = 0.0, 0.0, "", [], 0, 0
    pnl: list[str] = []
    pnl_ok = True
    for k, r in enumerate(at):
        v = int(rules.route_venue[r])
        ven = b.venue[0, v]
        if when == IN_SLOT:  # standing orders depend on visits; arrivals do not
            arrivals = ven["supply_frac"] * flow.sum(1) / ven["mean_size_shares"]  # expected, whatever came
            met = -np.expm1(-arrivals).sum() * _evenness(market, ven)
            mean, error, _ = ratio_and_error(np.ones_like(flow), shares[:, :, k] - ven["supply_frac"] * flow)
            if met >= MIN_EPISODES:
                worst_rate, rates = max(worst_rate, abs(z_of(mean, 0.0, error))), rates + 1
        for h in HORIZON_SLOTS:
            move = side * (b.tape["mid_bps"][:, h : h + slots] - mids[:, :, k])
            first = 1 if kind == "post" else 0
            clean = noise[:, h : h + slots] - noise[:, first : first + slots]
            mean, error, stands_on = ratio_and_error(shares[:, :, k], move - side * clean)
            if stands_on < MIN_EPISODES:
                thin += 1
                continue
            ages = np.arange(int(ep["n_sub"])) * dt / ep["n_sub"] if when == IN_SLOT else np.zeros(1)
            law = float(np.mean([_law(market, b, v, kind, h * dt - age, in_slot) for age in ages]))
            if kind == "post":
                law += _recovery(market, b, v, h * dt)
            z = z_of(mean, law, error)
            errors.append(error)
            if abs(z) > abs(worst_markout):
                worst_markout, where = z, f"{market.routes[r].name} at {h * dt:g} s: {mean:.3f} for {law:.3f} bps"
            if kind == "post" and h == max(1, round(10 / dt)):
                half = float(ep["half_spread_bps"])
                measured, told = 1 + mean / half, 1 + law / half
                pnl.append(f"{market.venues[v]} {measured:+.3f} for {told:+.3f}")
                pnl_ok &= abs(mean - law) <= max(0.1, 0.03 * half) + STANDARD_ERRORS * error
    label = f"{class_name} {kind}"
    n_laws = len(at) * len(HORIZON_SLOTS)
    few = f"{thin} of {n_laws} not judged, fills of under {MIN_EPISODES:g} orders" if thin else ""
    said = f"worst z {worst_markout:+.1f} ({where}); errors to {max(errors, default=0.0):.3f} bps" if errors else ""
    checks = [
        Check(f"markouts, {label}", f"law (3) at {len(HORIZON_SLOTS)} horizons, every venue",
              "; ".join(part for part in (said, few) if part),
              abs(worst_markout) < STANDARD_ERRORS if errors else None, n_laws * FALSE_ALARM),
    ]  # fmt: skip
    if when == IN_SLOT:
        checks.append(
            Check(f"arrivals, {label}", "shares that arrive are supply x flow, tilts or not", 
                  f"worst |z| {worst_rate:.1f} over {rates} of {len(at)} venues",
                  worst_rate < STANDARD_ERRORS if rates else None, len(at) * FALSE_ALARM)
        )  # fmt: skip
    if kind == "post":
        checks.append(
            Check(f"P&L of posts, {class_name}", "a filled share earns at 10 s what it is calibrated to, half spreads",
                  "; ".join(pnl) or f"no post filled for {MIN_EPISODES:g} orders", pnl_ok if pnl else None,
                  len(at) * FALSE_ALARM)
        )  # fmt: skip
    return checks


def _evenness(market: Market, ven: np.void) -> float:
    """(E size)^2 / E size^2 of the venue's contra orders: what one of them counts for in a sum of shares."""
    law = market.rules.size_law[ven["size_law"]]
    lots = np.arange(1, law["n_lots"] + 1)
    chance = np.diff(law["cdf"][: law["n_lots"]], prepend=0.0)
    return float((lots * chance).sum() ** 2 / (lots**2 * chance).sum())


def _law(market: Market, b: Batch, v: int, kind: str, horizon_s: float, in_slot: bool) -> float:
    """Expected markout a share, bps: law (3). Inside a slot the fast part is all in the print; a post's run is half
    in."""
    ep, ven = b.episode[0], b.venue[0, v]
    if ven["informed_frac"] > 0:
        shares = []
        for f in ("informed_law", "size_law"):
            law = market.rules.size_law[ven[f]]
            lots = np.arange(1, law["n_lots"] + 1)
            least = lots * market.rules.lot_shares >= ven["min_quantity_shares"]
            shares.append((lots * np.diff(law["cdf"][: law["n_lots"]], prepend=0.0))[least].sum())
        p = float(ven["informed_frac"])
        thinned = p * shares[0] / (p * shares[0] + (1 - p) * shares[1]) / p
    else:
        thinned = 1.0
    slow = ven["kappa_slow"] * ep["sigma_slow_bps"] * -math.expm1(-horizon_s / ep["tau_slow_s"])
    if kind == "post":
        return -float(ven["gamma_run_bps"] + ven["gamma_fast_bps"] + slow)
    fast = ven["kappa_fast"] * ep["sigma_fast_bps"]
    if kind == "ping" or not in_slot:
        fast *= -math.expm1(-horizon_s / ep["tau_fast_s"])
    return -float(thinned * (fast + slow))


def _recovery(market: Market, b: Batch, v: int, horizon_s: float) -> float:
    """What a post gets back after its sub-step, bps: the noise that ran through it is negatively correlated with the
    alphas' innovations (equation 1), so a price that fell to a buyer carries alphas a little above zero."""
    ep, ven, dt = b.episode[0], b.venue[0, v], market.rules.interval_s
    k = int(ep["n_sub"])
    rows = b.tape[:, : market.n_slots] if k == 1 else b.nodes[:, : market.n_slots * k]
    volume = np.repeat(b.tape[:, : market.n_slots]["volume_shares"], k, axis=1)
    inverse = float((volume / rows["eps_var"]).sum() / volume.sum())
    ages = np.arange(k) * dt / k
    total = 0.0
    for sigma, tau in ((ep["sigma_fast_bps"], ep["tau_fast_s"]), (ep["sigma_slow_bps"], ep["tau_slow_s"])):
        kept = math.exp(-dt / k / tau)
        left = np.mean(-np.expm1(-np.maximum(horizon_s - ages - dt / k, 0.0) / tau))
        total += 2.0 * ven["gamma_run_bps"] * sigma**2 * kept * (1 - kept) * inverse * left
    return float(total)


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
