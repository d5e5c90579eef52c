"""What a recorded day is made of, and what was done about what is wrong with it: counts for the calibration report.

The rules themselves are those of the readers (`market_data.py`, `day_slots.py`) and on the data page: a row that breaks
one is refused with file, line and field; what is counted here is kept, or left out for a stated reason.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .bars import BarDays
from .day_slots import QUOTE_CROSSED, QUOTE_LOCKED, QUOTE_NONE, quote_path
from .market_data import SESSION_CLOSE_NS, SESSION_OPEN_NS, IntArray, MarketDay

GAP_S = 60.0  # silence of this length is reported; the last quote stands meanwhile
_NS = 1e9


def data_report(days: Sequence[MarketDay]) -> list[dict[str, str | float]]:
    """A row a day and finding: symbol, date, what, count, seconds (0 where time means nothing), treatment."""
    rows: list[dict[str, str | float]] = []
    for day in days:
        path = quote_path(day)

        def add(what: str, count: int, seconds: float, treatment: str, day: MarketDay = day) -> None:
            rows.append({
                "symbol": day.symbol, "date": day.date, "what": what, "count": count, "seconds": round(seconds, 3),
                "treatment": treatment,
            })  # fmt: skip

        add("trades", day.trade_shares.size, 0.0, "kept")
        add("quotes", day.quote_time_ns.size, 0.0, "kept")
        for reason, count in day.left_out:
            add(reason, count, 0.0, "left out")
        repeated = int((np.diff(day.quote_time_ns) == 0).sum())
        add("quote updates at the time of the one before", repeated, 0.0, "the last one of a time counts")
        for name, state, treatment in (
            ("locked quotes", QUOTE_LOCKED, "kept, no weight in spread means; no dark route"),
            ("crossed quotes", QUOTE_CROSSED, "kept, no weight in spread means; no route"),
            ("times without a two-sided quote", QUOTE_NONE, "last one repeated; no route"),
        ):
            at = path.state == state
            add(name, int(at.sum()), float(path.duration_ns[at].sum()) / _NS, treatment)
        halted = float((day.halt_ns[:, 1] - day.halt_ns[:, 0]).sum()) / _NS
        add("halts", len(day.halt_ns), halted, "no quote: no route, no fill")
        for name, times in (("quotes", day.quote_time_ns), ("trades", day.trade_time_ns)):
            gaps = _gaps_s(times)
            longest = f"; the longest {gaps.max():.0f} s" if gaps.size else ""
            add(f"gaps over {GAP_S:g} s between {name}", gaps.size, float(gaps.sum()), f"last quote stands{longest}")
    return rows


def bar_report(bars: BarDays) -> list[dict[str, str | float]]:
    """As `data_report`, of days of bars."""
    rows: list[dict[str, str | float]] = []
    traded = bars.volume_shares > 0
    counts = {"bars with volume": (traded, "kept"), "bars missing or without volume": (~traded, "no volume, no return")}
    if bars.bid_close_usd is not None and bars.ask_close_usd is not None:
        bid, ask = bars.bid_close_usd, bars.ask_close_usd
        counts |= {
            "locked closes": (bid == ask, "no weight in spread means"),
            "crossed closes": (bid > ask, "no weight in spread means, no return"),
            "bars without both closes": (~(np.isfinite(bid) & np.isfinite(ask)), "no weight in spread means"),
        }
    for day, date in enumerate(bars.dates):
        for what, (at, treatment) in counts.items():
            rows.append({
                "symbol": bars.symbol, "date": date, "what": what, "count": int(at[day].sum()), "seconds": 0.0,
                "treatment": treatment,
            })  # fmt: skip
    return rows


def _gaps_s(times_ns: IntArray) -> np.ndarray:
    """Silences of the session longer than GAP_S, open and close included, seconds."""
    inside = times_ns[(times_ns >= SESSION_OPEN_NS) & (times_ns < SESSION_CLOSE_NS)]
    silences = np.diff(np.concatenate([[SESSION_OPEN_NS], inside, [SESSION_CLOSE_NS]])) / _NS
    return np.asarray(silences[silences > GAP_S])
