"""The certificate of a market: every check, in order."""

from __future__ import annotations

from collections.abc import Callable

from ...configs.errors import UserError
from ...configs.market import MarketConfig
from ...envs.market import Market
from . import accounts, as_drawn, described, draws, information, laws, lock_in, manipulation
from .check import Check

Progress = Callable[[str, int, int], None]


def certify(
    config: MarketConfig, *, orders: int = 1_500, seed: int = 1, progress: Progress | None = None
) -> list[Check]:
    """All checks on a synthetic market; statistics on `orders` parents or tapes.

    Raises:
        UserError: a replayed market (its laws hold on its own days: tests and the replay page), or a problem with a
            known optimum.
    """
    if config.replay is not None:
        raise UserError(
            f"market {config.name!r} replays recorded days. Certify the synthetic market it is based on; what a replay "
            "keeps of a day and what it simulates is on the data page."
        )
    if config.oracle.slot_volumes:
        raise UserError(f"market {config.name!r} is a problem with a known optimum; `glasspool oracle` tests those.")
    market = Market(config)
    fewer = max(50, orders // 5)
    parts: list[tuple[str, Callable[[], list[Check]]]] = [
        ("accounts", lambda: accounts.accounts(market, fewer, seed)),
        ("kernel", lambda: accounts.kernel(market)),
        ("draws", lambda: draws.draws(config, orders, seed)),
        ("mid", lambda: laws.mid(market, 2 * orders, seed)),
        ("fills", lambda: laws.fills(config, orders, seed)),
        ("fill rates", lambda: described.fill_rates(config, fewer, seed)),
        ("fills as drawn", lambda: as_drawn.as_drawn(config, orders, seed)),
        ("slot lengths", lambda: laws.slot_lengths(config, orders // 2, seed)),
        ("information", lambda: information.look_ahead(market, 8, seed)),
        ("one market", lambda: information.same_market(market, 60, seed)),
        ("determinism", lambda: information.determinism(config, seed)),
        ("round trips", lambda: manipulation.round_trips(market, 2_000, seed)),
        ("T1", lambda: manipulation.benchmark_gaming(config)),
        ("T3", lock_in.lock_in),
        ("T4", lambda: manipulation.wrong_ranking(config, max(orders, 1_000), seed)),  # fewer cannot tell
        ("T5", lambda: manipulation.nothing_to_find(config, orders, seed)),
        ("rule census", lambda: manipulation.census(market, max(fewer, 300), seed)),  # fewer parents miss rare votes
        ("free lunch", lambda: manipulation.free_lunch(market, max(fewer, 300), seed)),
    ]
    found: list[Check] = []
    for i, (name, run) in enumerate(parts):
        if progress is not None:
            progress(name, i, len(parts))
        found += run()
    return found
