"""Recorded days as tapes: real mids, spreads and volumes; simulated fills (market model, section 6, *Replay*).

The alphas of the generator are replaced by the move x_n of the mid over the slot to come, less its day mean. A pool's
contra orders arrive at rate x e^(-theta s x_n) / mean_day e^(-theta s x), where theta makes the tilted mean of s x the
markout law (3) at one slot: the mean rate is kept and the markout is exact on that day. The move reaches the fill draw
and nothing else. Own impact is added on top; the day's own prints are not removed.

Departure for posts: the generator's factor for the price that runs away, in (6), has mean 1 for Gaussian moves only.
On a name whose mid stands still and then jumps a tick it would multiply the flow (BAC: by 7), so the same solved tilt
holds both the run and the slow part, and the tape's eps_var is 0, which switches that factor off.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..configs.errors import UserError
from ..configs.market import MarketConfig
from ..configs.session import N_CURVE_BINS, SESSION_S
from .compiled import compiled
from .counter_rng import derive, uniform
from .day_slots import QUOTE_NORMAL, RMS_WINDOW_S, DaySlots, slot_grid
from .episode_draw import draw_order, draw_stock, draw_venues, expected_volume
from .market_data import read_day
from .state import Batch
from .synthetic import finish_tape, slot_factors
from .venues import Rules, venue_names

_STREAM_DAY = 7  # after the generator's streams 0 to 6
_BIN_S = SESSION_S / N_CURVE_BINS
_USD = 1e-6  # moves that differ by less are one move: prices have four decimals, mids five

# One row a slot boundary; the last row is the close, of which only the mid is used.
DAY = np.dtype([
    ("mid_usd", "f8"), ("half_spread_usd", "f8"), ("volume_shares", "f8"), ("vwap_usd", "f8"), ("vol_bps", "f8"),
    ("vol_ratio", "f8"), ("move_usd", "f8"), ("nbbo_moves", "f8"), ("quote_state", "f8"), ("imbalance", "f8"),
])  # fmt: skip


@dataclass(frozen=True, eq=False)
class ReplayDays:
    """Days of one or several names on the slot grid of a market, D days of N slots."""

    slots: tuple[DaySlots, ...]
    stocks: NDArray[np.int64]  # (D,) class of each day
    dates: NDArray[np.int64]  # (D,) number of its date: names of one date share the market's moves
    by_stream: dict[str, NDArray[np.int64]]  # days that the episodes of a stream may meet
    venues: tuple[str, ...]
    table: NDArray[np.void]  # (D, N + 1) DAY
    moves_usd: NDArray[np.float64]  # (D, K) distinct moves of a slot, less the day's mean; padded
    move_counts: NDArray[np.float64]  # (D, K) slots with that move, 0 in the padding

    @classmethod
    def load(cls, paths: Sequence[Path], config: MarketConfig, rules: Rules) -> ReplayDays:
        """Read the days and put them on the market's grid.

        Raises:
            UserError: files that cannot be read, a day without a stock class of its symbol or a class without days,
                split selectors that name no day, or name one day for two streams, a day without a quote at the open,
                or with a window as short as the shortest horizon in which nothing traded.
        """
        slots = tuple(slot_grid(day, rules.interval_s) for day in read_day(list(paths)))
        for day in slots:
            _check_day(day, min(config.orders.horizon_minutes) * 60.0)
        stocks = np.array(_classes_of(slots, config), np.int64)
        dates = sorted({day.date for day in slots})
        table = np.stack([_day_table(day, rules, int(s)) for day, s in zip(slots, stocks, strict=True)])
        moves = [np.unique(np.rint(np.diff(rows["mid_usd"]) / _USD), return_counts=True) for rows in table]
        width = max(values.size for values, _ in moves)
        moves_usd, counts = np.zeros((len(moves), width)), np.zeros((len(moves), width))
        for d, (values, n) in enumerate(moves):
            moves_usd[d, : values.size], counts[d, : values.size] = values * _USD, n
            moves_usd[d, : values.size] -= np.average(values * _USD, weights=n)
        return cls(
            slots, stocks, np.array([dates.index(day.date) for day in slots], np.int64), _splits(slots, config),
            tuple(venue_names(config)), table, moves_usd, counts,
        )  # fmt: skip

    def fill(self, rules: Rules, key: np.uint64, number: int, b: Batch, e: int, stream: str = "test") -> None:
        """Draw day (of the stream's), window, order and venues of episode `number`; write its tape into row `e`.

        Raises:
            UserError: a venue's markout is beyond the largest move of the day, so that no tilt reaches it.
        """
        # Spread and volatility are the day's, not drawn; venues and orders are drawn as in a synthetic market.
        still = rules.with_settings(spread_log_sd=0.0, vol_log_sd=0.0)
        days = self.by_stream[stream]
        venue, day = _fill_row(
            still, key, number, days, self.stocks, self.table, self.moves_usd, self.move_counts, b, e
        )
        if venue >= 0:
            moves = 1e4 * self.moves_usd[day][self.move_counts[day] > 0] / b.episode[e]["price_usd"]
            raise UserError(
                f"{self.slots[day].symbol} {self.slots[day].date}: venue {self.venues[venue]} asks for a markout "
                f"beyond the day's moves over {rules.interval_s:g} s, which lie within {moves.min():.2f} to "
                f"{moves.max():.2f} bps, so no tilt reaches it. Lower its kappa_fast and kappa_slow "
                "or the stock's sigma_fast_bps and sigma_slow_bps, lengthen interval_s, or replay another day."
            )


def _classes_of(days: Sequence[DaySlots], config: MarketConfig) -> list[int]:
    """The stock class of every day: the only one, or the one of its symbol."""
    symbols = sorted({day.symbol for day in days})
    if len(config.stocks) == 1 and len(symbols) == 1:
        return [0] * len(days)
    known = [stock.replayed_symbol for stock in config.stocks]
    if len(set(known)) < len(known):
        raise UserError(
            f"market {config.name!r}: two of its stock classes stand for one symbol ({', '.join(known)}); state "
            "their `symbol`, one class a replayed name."
        )
    for symbol in symbols:
        if symbol not in known:
            raise UserError(
                f"market {config.name!r} replays days of {symbol}, but its stock classes stand for {', '.join(known)}. "
                "Add a class for it under stocks (glasspool calibrate writes one), or leave its files out."
            )
    if idle := [k for k in known if k not in symbols]:
        raise UserError(
            f"market {config.name!r} has a stock class for {idle[0]}, but replay.paths hold no day of it. Add its "
            "files, or drop the class."
        )
    return [known.index(day.symbol) for day in days]


def _splits(days: Sequence[DaySlots], config: MarketConfig) -> dict[str, NDArray[np.int64]]:
    """Days by stream, see ReplayConfig."""
    assert config.replay is not None
    wanted = {"train": config.replay.train, "validation": config.replay.validation, "test": config.replay.test}
    named = {stream: _selected(days, selectors, stream) for stream, selectors in wanted.items()}
    for first, second in (("train", "test"), ("train", "validation"), ("validation", "test")):
        if both := sorted(named[first] & named[second]):
            day = days[both[0]]
            raise UserError(
                f"replay.{first} and replay.{second} both name {day.symbol} {day.date}: what is judged must not be "
                "what was trained on. Take it out of one of them."
            )
    taken = set().union(*named.values())
    free = [d for d in range(len(days)) if d not in taken]
    out = {}
    for stream, chosen in named.items():
        out[stream] = np.array(sorted(chosen) if chosen else free, np.int64)
        if not out[stream].size:
            raise UserError(f"replay: every day is named by another stream, so {stream} has none. Name some for it.")
    return out


def _selected(days: Sequence[DaySlots], selectors: Sequence[str], stream: str) -> set[int]:
    """Days that any of the selectors names: a symbol, a date, or both."""
    found: set[int] = set()
    for selector in selectors:
        words = selector.split()
        match = {d for d, day in enumerate(days) if words and all(w in (day.symbol, day.date) for w in words)}
        if not match:
            have = ", ".join(f"{day.symbol} {day.date}" for day in days)
            raise UserError(
                f"replay.{stream}: {selector!r} names none of the days ({have}). Write a symbol, a date, or "
                "'IBM 2013-10-07'."
            )
        found |= match
    return found


def _check_day(day: DaySlots, shortest_s: float) -> None:
    name = f"{day.symbol} {day.date}"
    if not np.isfinite(day.mid_usd).all():
        first = int(np.flatnonzero(np.isfinite(day.mid_usd))[0])
        raise UserError(
            f"{name}: no two-sided quote before {first * day.slot_s:g} s after the open, so orders from 09:30 have no "
            "arrival price. Check the quote file, or leave that day out."
        )
    width = max(1, round(shortest_s / day.slot_s))
    volume = np.convolve(day.volume_shares, np.ones(width), "valid")
    if (empty := np.flatnonzero(volume == 0)).size:
        raise UserError(
            f"{name}: nothing traded in the {shortest_s / 60:g} minutes from {empty[0] * day.slot_s:g} s after the "
            "open, so an order there has no VWAP. Lengthen orders.horizon_minutes, or leave that day out."
        )


def _day_table(day: DaySlots, rules: Rules, stock: int) -> NDArray[np.void]:
    """(N + 1,) DAY: what a tape needs, in dollars where it scales with the arrival mid."""
    n = day.volume_shares.size
    table = np.zeros(n + 1, DAY)
    table["mid_usd"] = day.mid_usd
    table["half_spread_usd"][:n] = _half_spread_usd(day, rules, stock)
    table["half_spread_usd"][n] = table["half_spread_usd"][n - 1]
    table["volume_shares"][:n] = day.volume_shares
    middle_usd = (day.mid_usd[:-1] + day.mid_usd[1:]) / 2
    table["vwap_usd"][:n] = np.where(day.volume_shares > 0, day.vwap_usd, middle_usd)
    table["vwap_usd"][n] = day.mid_usd[-1]
    table["vol_bps"], table["vol_ratio"] = _volatility(day, rules, stock)
    moves_usd = np.diff(day.mid_usd)
    table["move_usd"][:n] = moves_usd - moves_usd.mean()
    table["nbbo_moves"][:n] = day.nbbo_moves
    table["quote_state"][:n] = day.quote_state
    table["imbalance"][:n] = np.where(np.isfinite(day.touch_imbalance), day.touch_imbalance, 0.0)
    return table


def _half_spread_usd(day: DaySlots, rules: Rules, index: int) -> NDArray[np.float64]:
    """(N,) at the slot start; 0 locked; crossed or missing: the last normal one, before it the class's."""
    stock = rules.stock[index]
    last = stock["half_spread_bps"] * 1e-4 * day.mid_usd[0]
    out = np.zeros(day.half_spread_usd.size)
    for n, (half_usd, state) in enumerate(zip(day.half_spread_usd, day.quote_state, strict=True)):
        if state == QUOTE_NORMAL:
            last = half_usd
        out[n] = last if half_usd != 0.0 else 0.0
    return out


def _volatility(day: DaySlots, rules: Rules, index: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(N + 1,) mid volatility of the 300 s before, bps per sqrt(s), floored; and its ratio to the clock's median.

    Seconds before the open count as the class's usual volatility, so that the first slots do not rest on a few returns.
    """
    stock = rules.stock[index]
    n = day.volume_shares.size
    clock_s = np.arange(n + 1) * day.slot_s
    usual = stock["daily_vol_bps"] / np.sqrt(SESSION_S) * stock["vol_curve"]
    usual = usual[np.minimum(clock_s // _BIN_S, N_CURVE_BINS - 1).astype(int)]
    rms = np.append(day.rms_1s_bps, day.rms_1s_bps[-1])
    seen = np.where(np.isfinite(rms), np.minimum(clock_s, RMS_WINDOW_S) / RMS_WINDOW_S, 0.0)
    measured = np.sqrt(seen * np.nan_to_num(rms) ** 2 + (1.0 - seen) * usual**2)
    floor = stock["vol_floor_frac"] * stock["daily_vol_bps"] / np.sqrt(SESSION_S)
    # The generator's log-normal noise has mean square 1, hence median e^(-sd^2); same yardstick here.
    median = np.maximum(floor, usual * np.exp(-(rules.vol_noise[0] ** 2)))
    return np.maximum(measured, max(floor, 1e-3 * float(usual.min()))), measured / median


@compiled
def exponential_tilt(
    moves: np.ndarray, counts: np.ndarray, sign: float, scale: float, target: float
) -> tuple[float, float]:
    """theta and log mean e^(-theta x) with sum x e^(-theta x) / sum e^(-theta x) = target, x = sign scale moves.

    x has mean 0 under the counts. The left side falls in theta (an exponential family), so Newton steps are kept
    inside a bracket. The target is at most 0; theta is NaN if it lies at or beyond the smallest x.
    """
    lowest = math.inf
    total = 0.0
    for i in range(moves.shape[0]):
        if counts[i] > 0.0:
            lowest = min(lowest, sign * scale * moves[i])
            total += counts[i]
    if target >= 0.0:
        return 0.0, 0.0
    if target <= lowest:
        return math.nan, 0.0
    lo, hi, theta = 0.0, math.inf, 0.0
    log_norm = 0.0
    for _ in range(200):
        s0, s1, s2 = 0.0, 0.0, 0.0
        for i in range(moves.shape[0]):
            x = sign * scale * moves[i]
            weight = counts[i] * math.exp(-theta * (x - lowest)) if counts[i] > 0.0 else 0.0
            s0 += weight
            s1 += weight * x
            s2 += weight * x * x
        mean = s1 / s0
        log_norm = math.log(s0 / total) - theta * lowest
        if abs(mean - target) <= 1e-12 * max(1.0, -target) or hi - lo <= 1e-15 * theta:
            break
        if mean > target:
            lo = theta
        else:
            hi = theta
        theta += (mean - target) / max(s2 / s0 - mean * mean, 1e-300)
        if not lo < theta < hi:
            theta = 0.5 * (lo + hi) if hi < math.inf else 2.0 * lo + 1e-6
    return theta, log_norm


@compiled
def _tilt_venues(rules: Rules, moves: np.ndarray, counts: np.ndarray, b: Batch, e: int) -> int:
    """Write every venue's tilts; the first venue whose law is out of reach, or -1."""
    settings = rules.settings[0]
    ep = b.episode[e]
    scale = 1e4 / ep.price_usd
    fast_frac = -math.expm1(-settings.interval_s / ep.tau_fast_s)
    slow_frac = -math.expm1(-settings.interval_s / ep.tau_slow_s)
    for v in range(settings.n_venues):
        ven = b.venue[e, v]
        slow = -ven.kappa_slow * ep.sigma_slow_bps * slow_frac
        node = slow - ven.kappa_fast * ep.sigma_fast_bps * fast_frac
        # A post prints half way through the slot's move, so the move must be twice what is to come after the print.
        slot = 2.0 * (slow - ven.gamma_run_bps) if v < settings.n_lit else slow
        ven.theta_slot, ven.log_norm_slot = exponential_tilt(moves, counts, ep.side, scale, slot)
        ven.theta_node, ven.log_norm_node = exponential_tilt(moves, counts, ep.side, scale, node)
        if math.isnan(ven.theta_node) or math.isnan(ven.theta_slot):
            return v
    return -1


@compiled
def _draw_window(
    rules: Rules, key: np.uint64, number: int, days: np.ndarray, stocks: np.ndarray, table: np.ndarray, b: Batch, e: int
) -> int:
    """Day, its class, order and window of the episode, then venues at that day's price; the day's index."""
    settings = rules.settings[0]
    ep = b.episode[e]
    ep.key = derive(key, number)
    ep.number = number
    pick = min(days.shape[0] - 1, int(uniform(derive(ep.key, _STREAM_DAY), 0, 0) * days.shape[0]))
    day: int = days[pick]
    draw_stock(rules, ep, stocks[day])
    draw_order(rules, ep)
    ep.replayed = 1
    ep.day = day
    ep.price_usd = table[day, int(round(ep.start_s / settings.interval_s))].mid_usd
    draw_venues(rules, b, e)
    return day


@compiled
def _fill_rows(rules: Rules, table: np.ndarray, b: Batch, e: int) -> None:
    """The tape from the day's rows (N + 1,); after the close the mid stands still and nothing trades."""
    settings = rules.settings[0]
    ep, dt = b.episode[e], settings.interval_s
    scale, mid0 = 1e4 / ep.price_usd, ep.price_usd
    first, last = int(round(ep.start_s / dt)), table.shape[0] - 1
    curve = rules.stock[ep.stock].vol_curve
    ep.n_sub, ep.fast_in_slot = 1, 1
    tape = b.tape
    for n in range(ep.n_slots + settings.n_after):
        day, row = table[min(first + n, last)], tape[e, n]
        row.mid_bps = 1e4 * (day.mid_usd / mid0 - 1.0)
        row.base_bps = row.mid_bps
        row.eps_bps, row.eps_var = scale * day.move_usd, 0.0
        row.fast_z, row.slow_z = 0.0, row.eps_bps
        row.slot_vwap_bps = 1e4 * (day.vwap_usd / mid0 - 1.0)
        row.half_spread_bps = scale * day.half_spread_usd
        row.volume_shares = day.volume_shares
        row.vol_bps, row.vol_ratio = day.vol_bps, day.vol_ratio
        row.vol_curve = curve[min(N_CURVE_BINS - 1, int((ep.start_s + n * dt) / _BIN_S))]
        slot_factors(rules.settings[0], ep, row, 0.0)
        row.imbalance, row.nbbo_moves, row.quote_state = day.imbalance, day.nbbo_moves, day.quote_state
        row.forecast_shares = expected_volume(rules, ep, ep.start_s + n * dt, ep.start_s + (n + 1) * dt)


@compiled
def _fill_row(
    rules: Rules, key: np.uint64, number: int, days: np.ndarray, stocks: np.ndarray, table: np.ndarray,
    moves: np.ndarray, counts: np.ndarray, b: Batch, e: int,
) -> tuple[int, int]:  # fmt: skip
    """One episode into row `e`: (venue out of reach or -1, day)."""
    day = _draw_window(rules, key, number, days, stocks, table, b, e)
    _fill_rows(rules, table[day], b, e)
    finish_tape(rules, b, e)
    return _tilt_venues(rules, moves[day], counts[day], b, e), day


__all__ = ["DAY", "ReplayDays", "exponential_tilt"]
