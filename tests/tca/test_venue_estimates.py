"""Venue estimates against cases done by hand, and intervals against the truth they were drawn from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from glasspool.tca.fills import read_fills
from glasspool.tca.venue_estimates import rate_interval, venue_estimates

HEADER = "ts,child_id,side,shares,price,bid,ask,venue,venue_type,parent_id,routed_shares,tif,liquidity,mid_10s"


def test_rates_and_markouts_of_a_small_file_are_those_done_by_hand(tmp_path: Path) -> None:
    # Ping: 2 of 3 children fill, 300 of 600 shares. Bought 100 and 200 at 10.00; mids later 10.01 and 9.99:
    # (100 x 0.01 - 200 x 0.01) / (300 x 10) = -3.333 bps. The sold post: 10.02 then 10.01 gains 9.98 bps.
    rows = [
        "2026-03-02T14:35:10Z,a,buy,100,10.00,9.99,10.01,V,dark,P,200,IOC,,10.01",
        "2026-03-02T14:35:20Z,b,buy,200,10.00,9.99,10.01,V,dark,P,200,IOC,,9.99",
        "2026-03-02T14:35:30Z,c,buy,0,,9.99,10.01,V,dark,P,200,IOC,,",
        "2026-03-02T14:35:30Z,d,sell,100,10.02,10.00,10.02,L,lit,Q,300,DAY,added,10.01",
    ]
    path = tmp_path / "fills.csv"
    path.write_text("\n".join([HEADER, *rows]))
    post, ping = venue_estimates(read_fills(path))
    assert (ping.venue, ping.order_type, post.order_type) == ("V", "ping", "post")
    assert ping.fill_rate_orders.value == pytest.approx(2 / 3)
    assert ping.fill_rate_shares.value == pytest.approx(1 / 2)
    assert ping.markout_bps[10.0].value == pytest.approx(-1e4 / 3000)
    assert post.markout_bps[10.0].value == pytest.approx(1e4 * 0.01 / 10.02)
    assert ping.fill_rate_orders.lo is None  # three children tell no interval
    assert (ping.n_orders, ping.n_orders_filled, ping.markout_bps[10.0].n) == (3, 2, 2)


def test_the_interval_of_a_rate_covers_it_when_children_of_a_parent_rise_and_fall_together() -> None:
    # 300 worlds of 60 parents x 40 children whose parents' rates scatter (sd 0.08 around 0.2). At 95 % the number
    # covered is 285 with sd 3.8; 270 is four of them below. Plain Wilson intervals cover about two thirds.
    rng = np.random.default_rng(5)
    parent = np.repeat(np.arange(60), 40)
    covered = 0
    for _ in range(300):
        p = rng.beta(5, 20, 60)[parent]
        e = rate_interval((rng.random(2400) < p).astype(float), np.ones(2400), parent)
        assert e.lo is not None and e.hi is not None
        covered += e.lo <= 0.2 <= e.hi
    assert covered >= 270
