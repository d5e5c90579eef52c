"""The baseline routers: what they propose, that they complete, and how they compare on the same episodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from glasspool.agents.router import AlwaysPost, LitVwap, RandomRouter, ScoreRouter
from glasspool.agents.rule_based import RuleSor
from glasspool.agents.strong_sor import StrongSor
from glasspool.envs.market import Market, stream_key
from glasspool.envs.state import Batch
from glasspool.envs.vector_env import EpisodeBatch

MarketWith = Callable[..., Market]
Floats = NDArray[np.float64]
ROUTERS = [RuleSor(), StrongSor(), RandomRouter(), LitVwap(), AlwaysPost("XQLA"), AlwaysPost("XQLC")]
each_router = pytest.mark.parametrize("router", ROUTERS, ids=lambda r: r.name)


class Fixed:
    """Scores that depend on the observation alone."""

    name = "fixed scores"

    def __init__(self, columns: int) -> None:
        self._columns = columns

    def scores(self, obs: Floats) -> Floats:
        return np.clip(np.asarray(obs[:, : self._columns] * 3.0), -20, 20)


@each_router
def test_proposals_are_weights_over_open_routes(base_market: Market, run_router: Any, router: Any) -> None:
    """Non-negative, on routes that are not masked, summing to 1 (or to less when nothing is worked)."""
    looks = 0

    class Watched:
        name = router.name

        def propose(self, market: Market, b: Batch, obs: Floats, work: Floats, weights: Floats) -> None:
            nonlocal looks
            router.propose(market, b, obs, work, weights)
            on = b.order["active"] == 1
            assert np.isfinite(work[on]).all() and (work[on] >= 0).all() and (weights[on] >= 0).all()
            working = on & (work > 0)
            assert weights[working].sum(1) == pytest.approx(1.0)
            assert not weights[on][b.masked[on]].any()
            looks += int(on.sum())

    b = run_router(base_market, Watched(), 40)
    assert looks > 5_000
    assert (b.order["remaining_shares"] == 0).all()


@each_router
def test_a_router_decides_each_row_for_itself(base_market: Market, run_router: Any, router: Any) -> None:
    """Episode 3 costs the same in a batch of 12 and in one of 4."""
    many, few = run_router(base_market, router, 12), run_router(base_market, router, 4)
    assert many.order["cost_bps"][:4].tobytes() == few.order["cost_bps"].tobytes()
    assert many.total[:4].tobytes() == few.total.tobytes()


def test_all_routers_meet_the_same_market(base_market: Market, run_router: Any) -> None:
    """Common random numbers: same tape, same venues, whatever was done."""
    runs = [run_router(base_market, router, 20) for router in ROUTERS]
    for other in runs[1:]:
        assert other.tape.tobytes() == runs[0].tape.tobytes()
        assert other.episode.tobytes() == runs[0].episode.tobytes()
        assert other.venue.tobytes() == runs[0].venue.tobytes()


def test_lit_vwap_takes_what_is_scheduled_at_the_cheapest_venue(base_market: Market, run_router: Any) -> None:
    """Never more than half a lot behind the schedule, and nothing but takes."""

    def check(b: Batch) -> None:
        on = np.flatnonzero(b.order["active"] == 1)
        target = b.tape[on, b.order["slot"][on] - 1]["schedule_next"] * b.episode["shares"][on]
        assert (b.order["remaining_shares"][on] - target <= 50 + 1e-6).all()

    b = run_router(base_market, LitVwap(), 50, each_slot=check)
    assert (b.order["take_shares"] == b.episode["shares"]).all()
    lit = base_market.rules.n_lit
    cheapest = np.argmin(b.venue[:, :lit]["take_fee_bps"], axis=1)
    assert (b.total["filled_shares"][np.arange(50), cheapest] == b.episode["shares"]).all()


def test_always_post_uses_its_venue_and_no_pool(base_market: Market, run_router: Any) -> None:
    b = run_router(base_market, AlwaysPost("XQLC"), 50)
    names = [r.name for r in base_market.routes]
    posted = [i for i, r in enumerate(base_market.routes) if r.order_type == "post"]
    assert b.total["routed_shares"][:, names.index("XQLC:post")].sum() > 0
    assert b.total["routed_shares"][:, posted].sum() == b.total["routed_shares"][:, names.index("XQLC:post")].sum()
    assert (b.order["dark_shares"] == 0).all()
    assert b.order["post_shares"].sum() > 0


def test_posting_at_an_unknown_venue_is_refused_with_the_known_ones(base_market: Market, run_router: Any) -> None:
    with pytest.raises(ValueError, match=r"post_XQDA.*XQLA.*XQLB.*XQLC"):
        run_router(base_market, AlwaysPost("XQDA"), 2)


def test_random_routers_differ_by_seed_and_repeat_by_seed(base_market: Market, run_router: Any) -> None:
    first, again, other = (run_router(base_market, RandomRouter(s), 10) for s in (0, 0, 1))
    assert first.order["cost_bps"].tobytes() == again.order["cost_bps"].tobytes()
    assert (first.order["cost_bps"] != other.order["cost_bps"]).any()


def test_random_router_spreads_over_all_routes(base_market: Market, run_router: Any) -> None:
    b = run_router(base_market, RandomRouter(), 40)
    assert (b.total["attempts"].sum(0) > 100).all()


def test_a_scoring_policy_routes_as_in_the_environment(base_market: Market, run_router: Any) -> None:
    """ScoreRouter and EpisodeBatch turn the same scores into the same costs."""
    n, policy = 8, Fixed(1 + len(base_market.routes))
    routed = run_router(base_market, ScoreRouter(policy), n, seed=2, stream="validation")
    core = EpisodeBatch(base_market, n, 2, "validation")
    core.reset()
    done = np.zeros(n, bool)
    while not done.all():
        _, done = core.step(policy.scores(core.obs))
    assert routed.order["cost_bps"].tobytes() == core.batch.order["cost_bps"].tobytes()


def test_the_rule_sor_beats_lit_vwap_and_random_beats_neither(base_market: Market, run_router: Any) -> None:
    """Paired in half spreads over 300 orders, at 4 standard errors. False alarm: 6 in 100,000 each."""
    cost = {}
    for router in (RuleSor(), LitVwap(), RandomRouter()):
        b = run_router(base_market, router, 300)
        cost[router.name] = b.order["cost_bps"] / b.episode["half_spread_bps"]
    for better, worse in (("rule_sor", "vwap_lit"), ("rule_sor", "random")):
        gain = cost[worse] - cost[better]
        assert gain.mean() > 4 * gain.std() / np.sqrt(len(gain)), (better, worse, gain.mean())


def test_a_free_venue_wins(market_with: MarketWith, plain: dict[str, Any], run_router: Any) -> None:
    """A pool with plenty of supply, no toxicity, no fee and no leak: the rule SOR uses it and pays less, at 4 SE."""
    pool = {"name": "FREE", "supply_frac": 50.0, "life_s": 3_600.0, "size_beta": 0.0, "size_max_lots": 500}
    market = market_with(plain, {"dark_pools": [pool], "controls": {"max_dark_frac": 1.0}})
    dark = run_router(market, RuleSor(), 100)
    lit = run_router(market, LitVwap(), 100)
    gain = lit.order["cost_bps"] - dark.order["cost_bps"]
    assert dark.order["dark_shares"].sum() > 0.3 * dark.episode["shares"].sum()
    assert gain.mean() > 4 * gain.std() / np.sqrt(len(gain))


def test_streams_are_named_by_seed_and_purpose() -> None:
    keys = {int(stream_key(seed, stream)) for seed in range(50) for stream in ("train", "validation", "test")}
    assert len(keys) == 150
