"""The strong router: with its extras off the rule SOR, share for share; each extra does what it says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from glasspool.agents.registry import named_router
from glasspool.agents.rule_based import RULE_CODES, RuleSor
from glasspool.agents.strong_sor import StrongSor
from glasspool.configs.loading import load_router_settings, load_rule_sor
from glasspool.configs.rule_sor import RuleSorConfig
from glasspool.configs.strong_sor import EXTRAS_OFF, StrongSorConfig, as_strong
from glasspool.envs.controls import mask_code
from glasspool.envs.features import GLOBAL_FEATURES
from glasspool.envs.market import Market, restart_row, step_proposals, stream_key
from glasspool.envs.state import QUOTE_NONE, Batch

MarketWith = Callable[..., Market]
COLUMN = {f.name: i for i, f in enumerate(GLOBAL_FEATURES)}
SLICE = 1_000_000 / 2_340  # of a day's order in one slot of 10 s
OFF = as_strong(RuleSorConfig())


# --- extras off


def test_every_key_of_its_own_has_an_off_value() -> None:
    assert set(EXTRAS_OFF) == set(StrongSorConfig.model_fields) - set(RuleSorConfig.model_fields)
    assert {**OFF.model_dump(), **EXTRAS_OFF} == OFF.model_dump()


def assert_same_decisions(market: Market, config: RuleSorConfig, n: int) -> None:
    """Slot by slot on the rule SOR's path: work, weights, votes and reasons are equal bit for bit."""
    rule, strong = RuleSor(config), StrongSor(as_strong(config))
    b, obs = market.batch(n)
    market.reset(stream_key(3, "test"), np.arange(n), np.arange(n), b, obs)
    work, weights = np.zeros(n), np.zeros((n, len(market.routes)))
    other_work, other_weights = work.copy(), weights.copy()
    while b.order["active"].any():
        rule.propose(market, b, obs, work, weights)
        strong.propose(market, b, obs, other_work, other_weights)
        on = b.order["active"] == 1
        assert work[on].tobytes() == other_work[on].tobytes()
        assert weights[on].tobytes() == other_weights[on].tobytes()
        assert rule.votes[on].tobytes() == strong.votes[on].tobytes()
        for name in rule.why.dtype.names or ():
            assert rule.why[on][name].tobytes() == strong.why[on][name].tobytes(), name
        assert not strong.why[on]["imbalance"].any()
        step_proposals(market.rules, b, work, weights, obs)


def test_without_its_extras_it_is_the_rule_sor(base_market: Market) -> None:
    assert_same_decisions(base_market, RuleSorConfig(), 60)


def test_without_its_extras_it_is_the_tuned_sor(base_market: Market) -> None:
    assert_same_decisions(base_market, load_rule_sor("tuned_sor"), 60)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    votes=st.integers(-2, 2), rank=st.sampled_from(["fill_rate", "net_value"]),
    post=st.sampled_from(["fee", "net_value"]), dark=st.floats(0, 1), behind=st.floats(0, 1_000),
    slices=st.floats(0, 40), final=st.floats(0, 0.1), good=st.floats(-0.7, 0.2), sample=st.integers(0, 400),
)  # fmt: skip
def test_without_its_extras_it_is_any_rule_sor(
    market_with: MarketWith, plain: dict[str, Any], votes: int, rank: Any, post: Any, dark: float, behind: float,
    slices: float, final: float, good: float, sample: int,
) -> None:  # fmt: skip
    config = RuleSorConfig(
        min_net_votes=votes, rank_by=rank, post_by=post, dark_fraction=dark, behind_s=behind, max_slices=slices,
        final_take_frac=final, venue_markout_good_hs=good, min_attempts=sample, size_large_pct_adv=0.5,
        size_small_pct_adv=0.1,
    )  # fmt: skip
    assert_same_decisions(market_with(plain), config, 6)


# --- one decision by hand


class Desk:
    """A day-long order to buy 1,000,000 of ADV 10,000,000 at its first slot, on schedule; two pools are known."""

    def __init__(self, market: Market, **changes: Any) -> None:
        self.market = market
        self.router = StrongSor(OFF.model_copy(update=changes))
        self.b, self.obs = market.batch(1)
        market.reset(stream_key(1, "test"), [0], [0], self.b, self.obs)
        self.b.episode[0]["shares"], self.b.episode[0]["adv_shares"] = 1_000_000, 10_000_000
        tape = self.b.tape
        tape["mid_bps"][0], tape["half_spread_bps"][0], tape["quote_state"][0] = 2.0, 1.0, 0
        tape["vol_ratio"][0], tape["nbbo_moves"][0], tape["imbalance"][0] = 1.0, 5.0, 0.0
        restart_row(market.rules, self.b, 0, self.obs)
        for v in range(market.rules.n_lit, len(market.venues)):
            for field in ("attempts", "filled", "markouts", "markout_hs_sum"):
                self.b.card[0, v][field] = 0
        self.pool("XQDA", 600, -0.10).pool("XQDB", 400, -0.10).due(SLICE)

    def pool(self, venue: str, filled: int, markout_hs: float, rows: tuple[int, ...] = (0, 1)) -> Desk:
        """Of 10,000 attempts; the same history for pings and rests unless one is named."""
        for row in rows:
            c = self.b.card[0, self.market.venues.index(venue), row]
            c["attempts"], c["filled"], c["markouts"], c["markout_hs_sum"] = 10_000, filled, filled, markout_hs * filled
            c["shown"] = 0
        return self

    def post(self, venue: str, filled: int, markout_hs: float) -> Desk:
        return self.pool(venue, filled, markout_hs, (2,))

    def due(self, shares: float, slot: int = 0) -> Desk:
        row, order = self.b.tape[0], self.b.order[0]
        order["remaining_shares"], order["slot"] = 1_000_000, slot
        row["schedule_next"][slot] = 1.0 - shares / 1e6
        row["schedule_now"][slot] = row["schedule_next"][slot] + SLICE / 1e6
        return self

    def sees(self, name: str, value: float) -> Desk:
        self.obs[0, COLUMN[name]] = value
        return self

    def decide(self) -> Any:
        for r in range(len(self.market.routes)):
            self.b.masked[0, r] = mask_code(self.market.rules, self.b, 0, r) != 0
        work, weights = np.zeros(1), np.zeros((1, len(self.market.routes)))
        self.router.propose(self.market, self.b, self.obs, work, weights)
        self.work = float(work[0])
        self.weights = {r.name: float(w) for r, w in zip(self.market.routes, weights[0], strict=True) if w}
        self.why = self.router.why[0]
        self.rule = RULE_CODES[self.why["rule"]]
        return self

    def shares(self, kind: str) -> float:
        return self.work * sum(w for name, w in self.weights.items() if name.endswith(kind))


@pytest.fixture(scope="module")
def day(market_with: MarketWith, base_data: dict[str, Any]) -> Market:
    """Day-long orders to buy in the large class, with its usual fees."""
    stock = {**base_data["stocks"][0], "probability": 1.0}
    orders = {"horizon_minutes": {390.0: 1.0}, "side": "buy"}
    return market_with({"stocks": [stock], "orders": orders, "randomisation": {"fee_jitter_mils": 0.0}})


def values(desk: Desk, saving_hs: float) -> dict[str, float]:
    """Net value of the two known pools' pings by the formula in docs/rule_sor.md."""
    out = {}
    for venue in ("XQDA", "XQDB"):
        v = desk.market.venues.index(venue)
        c = desk.b.card[0, v, 0]
        fee_hs = desk.b.venue[0, v]["take_fee_bps"] / 1.0
        rate, markout = c["filled"] / c["attempts"], c["markout_hs_sum"] / c["markouts"]
        out[f"{venue}:ping"] = rate * (saving_hs + markout - fee_hs)
    return out


def test_several_pools_are_sent_shares_by_net_value(day: Market) -> None:
    desk = Desk(day, max_pools=2, dark_saving_hs=3.0).decide()
    value = values(desk, 3.0)
    assert set(desk.weights) == {*value, "XQLA:post"} and desk.rule == "BEST_VENUE"
    for name, v in value.items():
        assert desk.weights[name] == pytest.approx(0.5 * v / sum(value.values()))
    assert set(Desk(day, max_pools=1).decide().weights) == {"XQDA:ping", "XQLA:post"}


def test_dark_against_post_by_net_value(day: Market) -> None:
    """Dark gets D / (D + P) of the passive shares, and never more than dark_fraction."""
    desk = Desk(day, dark_share_by="net_value", dark_saving_hs=3.0, post_by="net_value", rank_by="net_value")
    for venue in ("XQLA", "XQLB", "XQLC"):
        desk.post(venue, 0, 0.0)
    desk.post("XQLC", 2_000, -0.2).decide()
    v = day.venues.index("XQLC")
    dark = values(desk, 3.0)["XQDA:ping"]
    post = 0.2 * (1.0 + 2.0 - 0.2 - desk.b.venue[0, v]["post_fee_bps"])
    assert desk.weights["XQDA:ping"] == pytest.approx(dark / (dark + post)) and desk.weights["XQDA:ping"] < 0.5
    desk.post("XQLC", 1, 0.0).decide()
    assert desk.weights["XQDA:ping"] == 0.5


def test_a_rest_is_sent_where_it_is_worth_more(day: Market) -> None:
    """The size factor says ping (10 % of ADV exactly); by value the better type of each pool is sent."""
    desk = Desk(day, order_type_by="net_value", rank_by="net_value").pool("XQDA", 1_200, -0.1, (1,)).decide()
    assert set(desk.weights) == {"XQDA:rest", "XQLA:post"}
    shy = Desk(day, order_type_by="net_value", rank_by="net_value", rest_bonus_ratio=0.4)
    assert set(shy.pool("XQDA", 1_200, -0.1, (1,)).decide().weights) == {"XQDA:ping", "XQLA:post"}


def test_a_pool_gets_one_child_at_most(day: Market) -> None:
    desk = Desk(day, order_type_by="net_value", max_pools=2).pool("XQDA", 1_200, -0.1, (1,)).decide()
    assert sorted(n.split(":")[0] for n in desk.weights) == ["XQDA", "XQDB", "XQLA"]


def test_a_venue_veto_takes_out_one_order_type_of_a_pool(day: Market) -> None:
    """Toxic pings, decent rests: the pool is still sent rests."""
    desk = Desk(day, order_type_by="net_value").pool("XQDB", 0, 0.0).pool("XQDA", 3_000, -0.8, (0,))
    desk.pool("XQDA", 1_200, -0.1, (1,)).decide()
    assert set(desk.weights) == {"XQDA:rest", "XQLA:post"}
    assert desk.router.votes[0, day.venues.index("XQDA")] == 1  # the better of the two
    desk.pool("XQDA", 600, -0.1, (0,)).pool("XQDA", 3_000, -0.8, (1,)).decide()
    assert set(desk.weights) == {"XQDA:ping", "XQLA:post"}
    assert desk.router.votes[0, day.venues.index("XQDA")] == 1


def test_posts_go_to_the_best_venues_by_net_value(day: Market) -> None:
    """Measured markout turns the cheapest venue down; two posts share by net value."""
    desk = Desk(day, post_by="net_value", max_posts=2, min_net_votes=5)
    desk.post("XQLA", 3_000, -3.5).post("XQLB", 2_000, 0.0).post("XQLC", 1_000, 0.0).decide()
    assert set(desk.weights) == {"XQLB:post", "XQLC:post"}
    fee = {v: desk.b.venue[0, day.venues.index(v)]["post_fee_bps"] for v in ("XQLB", "XQLC")}
    b, c = 0.2 * (3.0 - fee["XQLB"]), 0.1 * (3.0 - fee["XQLC"])
    assert desk.weights["XQLB:post"] == pytest.approx(b / (b + c))


def test_small_samples_are_shrunk_towards_the_prior(day: Market) -> None:
    """3 fills of 10 attempts: raw 30 %, first; shrunk (3 + 3) / 110, behind a known 10 %."""
    for scorecard, first in (("raw", "XQDB:ping"), ("shrunk", "XQDA:ping")):
        desk = Desk(day, scorecard=scorecard, min_net_votes=0, min_attempts=100_000).pool("XQDA", 1_000, -0.1)
        c = desk.b.card[0, day.venues.index("XQDB"), 0]
        c["attempts"], c["filled"], c["markouts"] = 10, 3, 3
        assert first in desk.decide().weights, scorecard


def test_shares_may_be_worked_ahead_of_schedule(day: Market) -> None:
    """0.1 % of the order is 1,000 shares beyond what is due, as far as max_slices go."""
    ahead = Desk(day, ahead_frac=0.001, max_slices=10.0).decide()
    assert ahead.work == pytest.approx(SLICE + 1_000) and ahead.shares("take") == 0
    assert Desk(day, ahead_frac=0.001).decide().work == pytest.approx(3 * SLICE)  # max_slices 3
    early = Desk(day, ahead_frac=0.001, max_slices=10.0).due(-400).decide()
    assert early.work == pytest.approx(600)
    assert Desk(day).due(-400).decide().rule == "NOTHING_DUE"


BEHIND = 30_000 - 6 * SLICE  # due 30,000; 60 s of schedule are allowed, 10 s of it are a slice


@pytest.mark.parametrize(
    ("changes", "seen", "taken"),
    [
        ({}, {}, BEHIND),
        ({"behind_vol_power": 1.0}, {"log_vol_ratio": 1.0}, 30_000 - 3 * SLICE),  # twice the usual volatility
        ({"behind_vol_power": 1.0}, {"log_vol_ratio": -1.0}, 30_000 - 12 * SLICE),
        ({"behind_vol_power": 1.0}, {"log_vol_ratio": float("nan")}, BEHIND),  # not known
        ({"catch_up_frac": 0.2}, {}, 0.2 * BEHIND),
        ({"catch_up_frac": 0.2, "take_spread_power": 1.0}, {"log_spread_ratio": 1.0}, 0.1 * BEHIND),  # twice as dear
        ({"catch_up_frac": 0.2, "take_spread_power": 1.0}, {"log_spread_ratio": -1.0}, 0.4 * BEHIND),
        ({"catch_up_frac": 0.8, "take_spread_power": 1.0}, {"log_spread_ratio": -1.0}, BEHIND),  # never more
        ({"catch_up_frac": 0.2, "imbalance_against": 0.5, "against_take_ratio": 3.0}, {"imbalance_signed": 0.6},
         0.6 * BEHIND),
        ({"catch_up_frac": 0.2, "imbalance_against": 0.5, "against_take_ratio": 3.0}, {"imbalance_signed": 0.5},
         0.2 * BEHIND),
        ({"imbalance_with": 0.5, "with_take_ratio": 0.25}, {"imbalance_signed": -0.6}, 0.25 * BEHIND),
        ({"imbalance_with": 0.5, "with_take_ratio": 0.25}, {"imbalance_signed": 0.6}, BEHIND),
    ],
)  # fmt: skip
def test_how_much_is_taken_when_behind(
    day: Market, changes: dict[str, Any], seen: dict[str, float], taken: float
) -> None:
    desk = Desk(day, **changes).due(30_000)
    for name, value in seen.items():
        desk.sees(name, value)
    assert desk.decide().shares("take") == pytest.approx(taken)


def test_less_is_allowed_as_time_runs_out(day: Market) -> None:
    """With 100 slots left of 2,340: a quarter of 1,000 s is more than 60 s, 3 % of it is less."""
    left = 2_340 - 100
    assert Desk(day).due(30_000, left).decide().shares("take") == pytest.approx(30_000 - 6 * SLICE)
    assert Desk(day, behind_left_frac=0.03).due(30_000, left).decide().shares("take") == pytest.approx(
        30_000 - 3 * SLICE
    )


def test_imbalance_against_the_order_takes_now_with_it_waits(day: Market) -> None:
    """Two slices are due, all within the allowance: one is taken at once when the price is about to run."""
    keys = {"imbalance_against": 0.3, "against_take_slices": 1.0, "imbalance_with": 0.3}
    runs = Desk(day, **keys).due(2 * SLICE).sees("imbalance_signed", 0.31).decide()
    assert runs.shares("take") == pytest.approx(SLICE) and runs.work == pytest.approx(2 * SLICE)
    assert (runs.why["imbalance"], runs.why["behind"]) == (1, 1)
    assert runs.router.more_codes(0) == ["IMBALANCE_AGAINST"]
    calm = Desk(day, **keys).due(2 * SLICE).sees("imbalance_signed", 0.3).decide()
    assert calm.shares("take") == 0 and calm.router.more_codes(0) == []
    comes = Desk(day, **keys).due(2 * SLICE).sees("imbalance_signed", -0.31).decide()
    assert comes.shares("take") == 0 and comes.router.more_codes(0) == ["IMBALANCE_WITH"]
    ahead = Desk(day, **keys).due(-400).sees("imbalance_signed", 0.31).decide()
    assert ahead.work == 0 and ahead.rule == "NOTHING_DUE"


def test_no_quote_means_no_order(day: Market) -> None:
    desk = Desk(day)
    desk.b.tape["quote_state"][0] = QUOTE_NONE
    assert desk.decide().work == 0 and desk.rule == "MASKED" and not desk.weights


# --- whole orders


def test_it_proposes_no_more_children_than_the_controls_release(base_market: Market, run_router: Any) -> None:
    """Otherwise the controls would cut the smallest, often the take of a late order."""
    config = StrongSorConfig(max_pools=4, max_posts=3, min_net_votes=-3, ahead_frac=0.02)
    router, most = StrongSor(config), 0
    limit = int(base_market.rules.settings[0]["max_routes"])

    class Watched:
        name = "watched"

        def propose(self, market: Market, b: Batch, obs: Any, work: Any, weights: Any) -> None:
            nonlocal most
            router.propose(market, b, obs, work, weights)
            most = max(most, int((weights[b.order["active"] == 1] > 0).sum(axis=1).max()))

    run_router(base_market, Watched(), 30)
    assert most == limit


def test_it_looks_only_at_what_every_router_sees(base_market: Market) -> None:
    """Other latents, other later tape: the same decision."""
    n = 40
    b, obs = base_market.batch(n)
    base_market.reset(stream_key(2, "test"), np.arange(n), np.arange(n), b, obs)
    router, shape = named_router("sor_strong"), (n, len(base_market.routes))

    def decide() -> tuple[bytes, bytes]:
        work, weights = np.zeros(n), np.zeros(shape)
        router.propose(base_market, b, obs, work, weights)
        return work.tobytes(), weights.tobytes()

    before = decide()
    b.tape[:, 1:] = np.zeros((), b.tape.dtype)
    for name in ("fast_z", "slow_z", "toxicity_factor", "dark_flow_shares", "volume_shares", "slot_vwap_bps"):
        b.tape[name] = 9.0
    for name in ("kappa_fast", "kappa_slow", "supply_frac", "leak_weight", "life_s", "gamma_run_bps", "gamma_fast_bps"):
        b.venue[name] = 9.0
    for name in ("market_vwap_bps", "market_volume", "sigma_fast_bps", "sigma_slow_bps", "signal_fast"):
        b.episode[name] = 9.0
    assert decide() == before
    b.card["filled"] //= 2  # a scorecard is seen
    assert decide() != before


def test_the_packaged_settings_are_those_of_the_name() -> None:
    router = named_router("sor_strong")
    assert isinstance(router, StrongSor) and router.name == "sor_strong"
    assert router.config == load_router_settings(StrongSorConfig, "sor_strong")
