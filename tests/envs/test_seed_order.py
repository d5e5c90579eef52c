"""The founding document's worked example: 1,000,000 shares at 10 % of ADV, 15 % of the schedule in the first hour."""

from __future__ import annotations

import numpy as np
import pytest

from glasspool.agents.rule_based import RuleSor
from glasspool.configs.loading import load_market
from glasspool.envs.market import Market, step_proposals, stream_key

CHILD_SHARES = 500
FIRST_HOUR_SLOTS = 360


@pytest.fixture(scope="module")
def market() -> Market:
    return Market(load_market("seed_order"))


def test_the_schedule_of_the_first_hour_is_150_000_shares(market: Market) -> None:
    b, obs = market.batch(1)
    market.reset(stream_key(1, "test"), [0], [0], b, obs)
    ep = b.episode[0]
    assert (ep["shares"], ep["adv_shares"], ep["side"], ep["n_slots"]) == (1_000_000, 10_000_000, 1.0, 2_340)
    done = ep["shares"] * (1 - b.tape["schedule_now"][0, FIRST_HOUR_SLOTS])
    assert abs(done - 150_000) < CHILD_SHARES


def test_children_are_round_lots_of_100_to_500_shares_and_the_first_hour_stays_near_its_schedule(
    market: Market,
) -> None:
    b, obs = market.batch(4)
    market.reset(stream_key(1, "test"), range(4), range(4), b, obs)
    sor = RuleSor()
    work, weights = np.zeros(4), np.zeros((4, len(market.routes)))
    last = market.n_slots - 1
    while b.order["active"].any():
        if b.order["slot"][0] == FIRST_HOUR_SLOTS:
            filled = b.episode["shares"] - b.order["remaining_shares"]
            allowance = 60 / 10 * 1_000_000 * 0.07 / 180  # the SOR lets a minute of the schedule wait before it takes
            assert (np.abs(filled - 150_000) <= allowance + 2 * CHILD_SHARES).all()
        completing = b.order["slot"][0] == last
        sor.propose(market, b, obs, work, weights)
        step_proposals(market.rules, b, work, weights, obs)
        sent = b.child_shares[b.child_shares > 0]
        assert (sent % 100 == 0).all()
        assert completing or (sent <= CHILD_SHARES).all()
    assert (b.order["remaining_shares"] == 0).all()
