"""A real day on a grid of equal slots: what a replay needs in each decision interval, and the day's totals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..configs.errors import UserError
from .market_data import SESSION_CLOSE_NS, SESSION_OPEN_NS, IntArray, MarketDay

FloatArray = NDArray[np.float64]
StateArray = NDArray[np.int8]

SESSION_S = (SESSION_CLOSE_NS - SESSION_OPEN_NS) // 10**9
QUOTE_NORMAL, QUOTE_LOCKED, QUOTE_CROSSED, QUOTE_NONE = range(4)
NBBO_MOVE_WINDOW_NS = 10 * 10**9
RMS_WINDOW_S = 300
# An event file starts with its first message, not with the book it met: a first quote this soon counts from the open.
OPENING_GRACE_NS = 10**9
TICK_USD = 0.01


@dataclass(frozen=True, eq=False)
class QuotePath:
    """Best quote as a step function from the first quote to the close, one step per time stamp, all (n_steps,).

    In a step without a two-sided quote, or in a halt, state is QUOTE_NONE and the other fields repeat the last
    two-sided quote (NaN before the first one).
    """

    start_ns: IntArray  # the open where the quote came before it
    duration_ns: IntArray
    mid_usd: FloatArray
    spread_usd: FloatArray  # 0 locked, negative crossed
    bid_shares: FloatArray
    ask_shares: FloatArray
    state: StateArray

    def step_at(self, time_ns: IntArray) -> NDArray[np.intp]:
        """Step in force at each time (an update at that very time counts); -1 before the first."""
        return np.searchsorted(self.start_ns, time_ns, "right") - 1

    def mid_at(self, time_ns: IntArray) -> FloatArray:
        """Mid in force at each time, USD; NaN before the first quote. Holds to the close and past it."""
        return _take(self.mid_usd, self.step_at(time_ns))


@dataclass(frozen=True, eq=False)
class DaySlots:
    """One day in N = 23,400 / slot_s slots of the continuous session; slot n runs from boundary n to boundary n + 1.

    "At" a boundary means the quote in force there, repeated from the last two-sided one where quote_state is 3, NaN
    before the first one. "Mean" weighs each quote by the time it stood inside the slot; locked, crossed and missing
    quotes have no weight (quoted_s is the time left), and a slot without any is NaN.
    """

    symbol: str
    date: str
    slot_s: float
    mid_usd: FloatArray  # (N + 1,) at each boundary
    half_spread_usd: FloatArray  # (N,) at the slot start; 0 locked, negative crossed
    mean_half_spread_usd: FloatArray  # (N,) time-weighted
    mean_half_spread_bps: FloatArray  # (N,) time-weighted, each quote in bps of its own mid
    quoted_s: FloatArray  # (N,) seconds with a normal quote: the weight of the three means
    volume_shares: IntArray  # (N,)
    vwap_usd: FloatArray  # (N,) of the slot's trades, NaN without a trade
    nbbo_moves: IntArray  # (N,) changes of the mid in the 10 s before the slot start; none are seen before the open
    rms_1s_bps: (
        FloatArray  # (N,) root mean square of 1 s mid returns in the 300 s before (what there is), bps per sqrt s
    )
    touch_imbalance: FloatArray  # (N,) at the slot start: (bid size - ask size) / (bid size + ask size)
    depth_shares: FloatArray  # (N,) time-weighted mean of bid and ask size
    quote_state: StateArray  # (N,) at the slot start: 0 normal, 1 locked, 2 crossed, 3 none or halted


def quote_path(day: MarketDay) -> QuotePath:
    """The day's quotes as a step function, see `QuotePath`.

    Raises:
        UserError: no two-sided quote in the whole session.
    """
    settled = np.append(day.quote_time_ns[1:] != day.quote_time_ns[:-1], True)[: day.quote_time_ns.size]
    time_ns = day.quote_time_ns[settled]
    bid_e4, ask_e4 = day.bid_e4[settled], day.ask_e4[settled]
    live = (bid_e4 > 0) & (ask_e4 > 0)
    for halt_start_ns, halt_end_ns in day.halt_ns:
        live &= (time_ns < halt_start_ns) | (time_ns >= halt_end_ns)
    if not live.any():
        raise UserError(f"{day.symbol} {day.date}: no two-sided quote from 09:30 to 16:00. Check the quote file.")

    start_ns = np.maximum(time_ns, SESSION_OPEN_NS)
    if start_ns[0] <= SESSION_OPEN_NS + OPENING_GRACE_NS:
        start_ns[0] = SESSION_OPEN_NS
    row = np.maximum.accumulate(np.where(live, np.arange(live.size), -1))
    spread_e4 = ask_e4 - bid_e4
    state = np.select([~live, spread_e4 < 0, spread_e4 == 0], [QUOTE_NONE, QUOTE_CROSSED, QUOTE_LOCKED], QUOTE_NORMAL)
    return QuotePath(
        start_ns=start_ns,
        duration_ns=np.diff(start_ns, append=SESSION_CLOSE_NS),
        mid_usd=_take((bid_e4 + ask_e4) / 2e4, row),
        spread_usd=_take(spread_e4 / 1e4, row),
        bid_shares=_take(day.bid_shares[settled].astype(np.float64), row),
        ask_shares=_take(day.ask_shares[settled].astype(np.float64), row),
        state=state.astype(np.int8),
    )


def slot_grid(day: MarketDay, slot_s: float) -> DaySlots:
    """Put a day on a grid of slots of `slot_s` seconds, which must divide the session of 23,400 s.

    Slot volumes add to `day_volume`, the volume-weighted slot VWAPs give `day_vwap`, and mean half spreads weighted by
    `quoted_s` give the day's time-weighted half spread. Only what is in force or past at a slot start enters the
    fields that are "at" it. A file that opens within 1 s of 09:30 has its first quote counted from 09:30.

    Raises:
        UserError: `slot_s` does not divide the session, or the day has no two-sided quote.
    """
    bounds_ns = _boundaries(slot_s)
    starts_ns = bounds_ns[:-1]
    path = quote_path(day)
    at_start = path.step_at(starts_ns)
    state = np.where(at_start < 0, QUOTE_NONE, path.state[at_start]).astype(np.int8)
    spread_usd = _take(path.spread_usd, at_start)
    bid, ask = _take(path.bid_shares, at_start), _take(path.ask_shares, at_start)
    quoted_s, (half_usd, half_bps, depth) = _time_weighted(path, bounds_ns)

    slot = np.searchsorted(bounds_ns, day.trade_time_ns, "right") - 1
    volume = np.bincount(slot, weights=day.trade_shares, minlength=starts_ns.size)
    value_e4 = np.bincount(slot, weights=day.trade_shares * day.trade_price_e4.astype(float), minlength=starts_ns.size)
    vwap_usd = np.full(starts_ns.size, np.nan)
    np.divide(value_e4 / 1e4, volume, out=vwap_usd, where=volume > 0)

    moves_ns = mid_change_times_ns(path)
    until = np.searchsorted(moves_ns, starts_ns, "right")
    nbbo_moves = until - np.searchsorted(moves_ns, starts_ns - NBBO_MOVE_WINDOW_NS, "right")
    return DaySlots(
        symbol=day.symbol,
        date=day.date,
        slot_s=float(slot_s),
        mid_usd=path.mid_at(bounds_ns),
        half_spread_usd=spread_usd / 2,
        mean_half_spread_usd=half_usd,
        mean_half_spread_bps=half_bps,
        quoted_s=quoted_s,
        volume_shares=volume.astype(np.int64),
        vwap_usd=vwap_usd,
        nbbo_moves=nbbo_moves.astype(np.int64),
        rms_1s_bps=_trailing_rms_bps(path, starts_ns),
        touch_imbalance=(bid - ask) / (bid + ask),
        depth_shares=depth,
        quote_state=state,
    )


def day_volume(day: MarketDay) -> int:
    """Continuous-session volume, shares."""
    return int(day.trade_shares.sum())


def day_vwap(day: MarketDay) -> float:
    """Volume-weighted average price of the continuous session, USD; NaN without a trade."""
    volume = day_volume(day)
    return int((day.trade_price_e4 * day.trade_shares).sum()) / volume / 1e4 if volume else float("nan")


def time_weighted_spread_bps(day: MarketDay) -> float:
    """Full spread in bps of its own mid, weighted by time; locked, crossed and missing quotes are left out."""
    _, (_, half_bps, _) = _time_weighted(quote_path(day), _boundaries(SESSION_S))
    return 2 * float(half_bps[0])


def time_weighted_spread_ticks(day: MarketDay) -> float:
    """Full spread in ticks of one cent, weighted by time; locked, crossed and missing quotes are left out."""
    _, (half_usd, _, _) = _time_weighted(quote_path(day), _boundaries(SESSION_S))
    return 2 * float(half_usd[0]) / TICK_USD


def mid_change_times_ns(path: QuotePath) -> IntArray:
    """Times at which the mid became another one (changes inside one time stamp are not seen)."""
    change = np.diff(path.mid_usd)
    changed: IntArray = path.start_ns[1:][np.isfinite(change) & (change != 0)]
    return changed


def _boundaries(slot_s: float) -> IntArray:
    session_ns, slot_ns = SESSION_CLOSE_NS - SESSION_OPEN_NS, round(slot_s * 1e9) if 0 < slot_s <= SESSION_S else 0
    if slot_ns <= 0 or session_ns % slot_ns:
        raise UserError(
            f"slot_s = {slot_s} does not divide the session of {SESSION_S} s into whole slots. Use one that does, "
            "such as 1, 5, 10, 30, 60, 300 or 900."
        )
    return np.arange(SESSION_OPEN_NS, SESSION_CLOSE_NS + 1, slot_ns, dtype=np.int64)


def _take(values: FloatArray, rows: NDArray[np.intp]) -> FloatArray:
    """values[rows], NaN where the row is -1 (nothing yet)."""
    return np.where(rows >= 0, values[rows], np.nan)


def _time_weighted(path: QuotePath, bounds_ns: IntArray) -> tuple[FloatArray, tuple[FloatArray, ...]]:
    """Seconds with a normal quote, and the means of half spread (USD, bps) and depth over them, (n_slots,) each."""
    pieces_ns = np.union1d(path.start_ns, bounds_ns)
    step = path.step_at(pieces_ns[:-1])
    weight_ns = np.where((step >= 0) & (path.state[step] == QUOTE_NORMAL), np.diff(pieces_ns), 0)
    slot = np.searchsorted(bounds_ns, pieces_ns[:-1], "right") - 1
    total_ns = np.bincount(slot, weights=weight_ns, minlength=bounds_ns.size - 1)
    columns = (path.spread_usd / 2, path.spread_usd / path.mid_usd * 5e3, (path.bid_shares + path.ask_shares) / 2)
    means = []
    for column in columns:
        weighted = np.bincount(slot, np.where(weight_ns > 0, column[step], 0.0) * weight_ns, bounds_ns.size - 1)
        means.append(np.divide(weighted, total_ns, out=np.full(total_ns.size, np.nan), where=total_ns > 0))
    return total_ns / 1e9, tuple(means)


def _trailing_rms_bps(path: QuotePath, starts_ns: IntArray) -> FloatArray:
    """Root mean square of the 1 s mid returns that end in the 300 s up to each time; NaN where there is none."""
    seconds_ns = np.arange(SESSION_OPEN_NS, SESSION_CLOSE_NS + 1, 10**9, dtype=np.int64)
    mid_usd = path.mid_at(seconds_ns)
    returns_bps = np.diff(mid_usd) / mid_usd[:-1] * 1e4
    known = np.isfinite(returns_bps)
    squares = np.append(0.0, np.cumsum(np.where(known, returns_bps, 0.0) ** 2))
    counts = np.append(0, np.cumsum(known))
    last = (starts_ns - SESSION_OPEN_NS) // 10**9  # returns that have ended
    first = np.maximum(last - RMS_WINDOW_S, 0)
    n_returns = counts[last] - counts[first]
    sums = np.maximum(squares[last] - squares[first], 0.0)
    rms_bps: FloatArray = np.sqrt(np.divide(sums, n_returns, out=np.full(last.size, np.nan), where=n_returns > 0))
    return rms_bps
