"""Shares, cash, quotes and impact: nothing is made or lost, and the books add up."""

from __future__ import annotations

import numpy as np

from ...envs.market import Market
from ...envs.market_step import move_impact
from ...envs.quotes import quote_e6
from ...envs.state import COMPONENTS, EPISODE, FEE, ORDER, QUOTE_CROSSED, QUOTE_LOCKED, Batch
from ..evaluation import fills_of
from ..router import RandomRouter
from .check import Check, Floats, play

_PRICE = [COMPONENTS.index(c) for c in ("spread", "instantaneous", "transient", "permanent", "leak", "display")]
_IMPACT = [COMPONENTS.index(c) for c in ("instantaneous", "transient", "permanent", "leak", "display")]
_KERNELS = [COMPONENTS.index(c) for c in ("transient", "permanent")]


def accounts(market: Market, n: int, seed: int) -> list[Check]:
    """One random play of `n` orders serves conservation, identities, impact bounds, quotes and prices."""
    rules = market.rules
    seen: dict[str, float] = dict.fromkeys(("lost", "rewards", "outside", "ticks", "quotes", "fills"), 0.0)
    lit: list[Floats] = []
    dark: list[Floats] = []
    rewards = np.zeros(n)
    worked = np.zeros(n, np.int64)
    kinds = rules.route_type

    def each(b: Batch) -> None:
        moved = b.order["slot"] > worked
        filled = b.fill_shares.sum(2)
        filled[~moved] = 0
        rewards[moved] += b.order["reward_bps"][moved]
        lit.append(filled[:, kinds < 2].sum(1).astype(float))
        dark.append(filled[:, kinds >= 2].sum(1).astype(float))
        seen["lost"] += float((filled > b.child_shares)[moved].sum())
        rows = np.flatnonzero(moved)[:50]
        prints = fills_of(market, b, rows)
        spread = np.abs(prints["side"] * (prints["price_bps"] - prints["mid_bps"]))
        extra = {int(b.episode["number"][e]): b.fill_extra_bps[e] for e in rows}
        paid = np.array([extra[int(k)][[0, 1, 2]].sum() for k in prints["episode"]]) if len(prints) else np.zeros(0)
        seen["outside"] += float((spread > prints["half_spread_bps"] + paid + 1e-9).sum())
        seen["fills"] += len(prints)
        for e in np.flatnonzero(b.order["active"] == 1)[:20]:
            bid, ask = quote_e6(rules, b, int(e))
            tick, state = (
                round(float(b.episode[e]["tick_usd"]) * 1e6),
                int(b.tape[e, b.order[e]["slot"]]["quote_state"]),
            )
            legal = bid % tick == 0 and ask % tick == 0
            wide = ask > bid or state in (QUOTE_LOCKED, QUOTE_CROSSED)
            seen["ticks"] += 0.0 if legal and wide else 1.0
            seen["quotes"] += 1.0
        worked[:] = b.order["slot"]

    b = play(market, RandomRouter(), n, seed, each)
    size = b.episode["shares"].astype(float)
    done = b.order["remaining_shares"] == 0
    by_kind = sum(b.order[f"{k}_shares"] for k in ("take", "post", "dark"))
    lost = float(np.abs(by_kind + b.order["remaining_shares"] - b.episode["shares"]).sum()) + seen["lost"]
    cost, parts = b.order["cost_bps"], b.cost_bps
    own_mid = b.order["own_weighted_mid_bps"] / size
    vwap = b.episode["market_vwap_bps"] if rules.vwap_benchmark else np.zeros(n)
    by_hand = b.episode["side"] * (own_mid - vwap) + parts[:, _PRICE].sum(1) + parts[:, FEE]
    errors = [np.abs(parts.sum(1) - cost).max(), np.abs(rewards + cost).max(), np.abs(by_hand - cost)[done].max()]
    lit_e, dark_e = np.stack(lit, 1), np.stack(dark, 1)
    actual = _impact_bill(market, b, lit_e + rules.dark_weight * dark_e, lit_e + dark_e)
    all_lit = _impact_bill(market, b, lit_e + dark_e, lit_e + dark_e)
    kernels = parts[:, _KERNELS].sum(1)
    off = float(np.abs(kernels - actual)[done].max())
    above = float((kernels - all_lit)[done].max())
    return [
        Check("shares", "no share is made, lost or overfilled", f"{n:,} random orders, {lost:.0f} shares astray",
              lost == 0),
        Check("cost identity", "components, rewards and prints against the benchmark give one cost to 1e-9",
              f"largest errors {errors[0]:.0e}, {errors[1]:.0e}, {errors[2]:.0e} bps", max(errors) < 1e-9),
        Check("one-sided impact", "own impact is never paid back, and never above the all-lit bill of the same shares",
              f"smallest part {parts[:, _IMPACT].min():.1e} bps; bill recomputed to {off:.0e}; "
              f"{above:+.1e} over all-lit",
              bool(parts[:, _IMPACT].min() >= 0.0 and off < 1e-9 and above <= 1e-9)),
        Check("prices", "no fill beyond the affected quote by more than its own displacement and size",
              f"{seen['outside']:.0f} of {seen['fills']:,.0f} fills", seen["outside"] == 0),
        Check("ticks", "every quote lies on a legal tick, bid below ask unless locked or crossed",
              f"{seen['ticks']:.0f} of {seen['quotes']:,.0f} quotes", seen["ticks"] == 0),
    ]  # fmt: skip


def _impact_bill(market: Market, b: Batch, effective: Floats, paying: Floats) -> Floats:
    """Transient and permanent cost of (n, slots) effective and paying shares by equations (4) and (5), bps; numpy."""
    rules, ep = market.rules, b.episode
    scale, adv = ep["daily_vol_bps"] / ep["adv_shares"], ep["adv_shares"].astype(float)
    first, second, executed = np.zeros(len(ep)), np.zeros(len(ep)), np.zeros(len(ep))
    bill = np.zeros(len(ep))
    for k in range(effective.shape[1]):
        e = effective[:, k]
        transient = first + second + 0.5 * (rules.weight_1 + rules.weight_2) * scale * e
        permanent = ep["permanent_coef"] * (executed + 0.5 * e / adv)
        bill += paying[:, k] * (transient + permanent)
        first = (first + rules.weight_1 * scale * e) * rules.decay_1
        second = (second + rules.weight_2 * scale * e) * rules.decay_2
        executed += e / adv
    return np.asarray(bill / ep["shares"])


def kernel(market: Market) -> list[Check]:
    """The transient kernel is positive definite on the slot grid; permanent impact is linear."""
    rules = market.rules
    n = min(market.n_slots, 720)
    lag = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    gram = rules.weight_1 * rules.decay_1**lag + rules.weight_2 * rules.decay_2**lag
    if rules.weight_1 == 0 and rules.weight_2 == 0:
        smallest = 0.0
    else:
        smallest = float(np.linalg.eigvalsh(gram)[0])
    ep, step = np.zeros(1, EPISODE)[0], []
    ep["adv_shares"], ep["daily_vol_bps"], ep["permanent_coef"] = 10**6, 100.0, 0.3
    for shares in (1_000.0, 2_000.0):
        order = np.zeros(1, ORDER)[0]
        move_impact(rules.settings[0], ep, order, shares, 0.0, 0.0)
        step.append(float(move_impact(rules.settings[0], ep, order, 0.0, 0.0, 0.0)[1]))
    linear = abs(step[1] - 2 * step[0])
    applies = rules.weight_1 != 0 or rules.weight_2 != 0
    return [
        Check("kernel", "transient impact is positive definite on the slot grid, permanent impact linear",
              f"smallest eigenvalue {smallest:.2e} over {n} slots; twice the shares, twice the move to {linear:.0e}",
              (smallest > 0 or not applies) and linear < 1e-12)
    ]  # fmt: skip
