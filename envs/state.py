"""The arrays of a batch of parent orders: what they hold, field by field, with units.

One record a row keeps everything that a step reads on neighbouring cache lines, and lets compiled code say
`row.half_spread_bps`. bps are 1e-4 of the arrival mid. `E` episodes, `N` slots, `K` sub-steps a slot,
`V` venues (lit first), `R` routes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

TAKE, POST, PING, REST = 0, 1, 2, 3
ORDER_TYPES = ("take", "post", "ping", "rest")
CARDS = ("ping", "rest", "post")  # scorecard rows of a venue
CARD_OF_TYPE = (-1, 2, 0, 1)  # by order type; a take has no row

NODE, IN_SLOT = 0, 1  # when inside a slot a fill happens

COMPONENTS = (
    "spread", "instantaneous", "transient", "permanent", "leak", "display", "fee", "adverse", "timing", "leftover",
)  # fmt: skip
(SPREAD, INSTANT, TRANSIENT, PERMANENT, LEAK, DISPLAY, FEE, ADVERSE, TIMING, LEFTOVER) = range(10)

QUOTE_NORMAL, QUOTE_LOCKED, QUOTE_CROSSED, QUOTE_NONE = 0, 1, 2, 3

# fmt: off
# Fields that a step reads come first, so that they share cache lines.
EPISODE = np.dtype([
    ("side", "f8"), ("shares", "i8"), ("n_slots", "i8"), ("adv_shares", "i8"), ("daily_vol_bps", "f8"),
    ("permanent_coef", "f8"), ("depth_shares", "f8"), ("sigma_fast_bps", "f8"), ("replayed", "i8"),
    ("n_sub", "i8"),               # K, sub-steps of a slot, each with its own alpha node
    ("fast_in_slot", "i8"),        # 1: the fast alpha is spent inside its sub-step; 0: it is one more node alpha
    ("half_spread_bps", "f8"),
    ("vol_bps", "f8"),             # class mean of the mid's volatility, bps per sqrt(s)
    ("key", "u8"), ("number", "i8"), ("stock", "i8"), ("start_s", "f8"), ("price_usd", "f8"), ("tick_usd", "f8"),
    ("tau_fast_s", "f8"), ("sigma_slow_bps", "f8"), ("tau_slow_s", "f8"),
    ("signal_fast", "f8"), ("signal_slow", "f8"), ("vol_floor_frac", "f8"), ("nbbo_moves_per_10s", "f8"),
    ("size_scale", "f8"), ("expected_volume", "f8"),  # expected in the horizon, shares
    ("market_volume", "f8"), ("market_vwap_bps", "f8"), ("day", "i8"),
])

VENUE = np.dtype([
    ("stock_key", "u8"), ("flow_key", "u8"),            # streams of what stands in the pool, and of what arrives
    ("supply_frac", "f8"), ("mean_size_shares", "f8"), ("kappa_fast", "f8"), ("kappa_slow", "f8"), ("life_s", "f8"),
    ("size_law", "i8"), ("informed_law", "i8"),         # rows of Rules.size_law; informed: of the informed contra type
    ("informed_frac", "f8"),       # share of informed contra orders; 0: one type, tilted as a whole
    ("min_quantity_shares", "i8"),
    ("take_fee_bps", "f8"), ("post_fee_bps", "f8"),     # a pool's fee is its take fee
    ("leak_weight", "f8"),
    ("gamma_run_bps", "f8"), ("gamma_fast_bps", "f8"),  # lit: adverse selection by the price running, by fast pick-off
    ("down_from", "i8"), ("down_until", "i8"),          # slots of an outage, empty where they are equal
    ("zero_prob", "f8"), ("adverse_charge_bps", "f8"), ("has_regime", "i8"), ("size_beta", "f8"),
    ("theta_node", "f8"), ("log_norm_node", "f8"), ("theta_slot", "f8"), ("log_norm_slot", "f8"),  # replayed tapes
    ("key", "u8"), ("archetype", "i8"),
])

TAPE = np.dtype([
    ("mid_bps", "f8"), ("base_bps", "f8"), ("eps_bps", "f8"), ("eps_var", "f8"), ("slot_vwap_bps", "f8"),
    ("half_spread_bps", "f8"), ("volume_shares", "f8"),
    ("fast_z", "f8"), ("slow_z", "f8"),          # latent alphas in standard deviations; replay: slow_z = forward move
    ("toxicity_factor", "f8"),                   # (sigma_n / sigma)^nu on every venue's toxicity
    ("dark_flow_shares", "f8"),                  # volume x common supply factor x spread and volatility elasticities
    ("vol_curve", "f8"),
    ("volume_left_frac", "f8"),                  # true share of the horizon's volume still to come (benchmark only)
    ("schedule_now", "f8"), ("schedule_next", "f8"),
    ("imbalance", "f8"), ("vol_ratio", "f8"), ("nbbo_moves", "f8"), ("quote_state", "f8"), ("vol_bps", "f8"),
    ("forecast_shares", "f8"),
    ("benchmark_left", "f8"), ("martingale_left", "f8"),  # suffix sums for orders that finish early
])

# A sub-step of a slot, where slots have several (K > 1); with K = 1 the tape's row is the only one.
NODE_ROW = np.dtype([
    ("mid_bps", "f8"), ("base_bps", "f8"), ("eps_bps", "f8"), ("eps_var", "f8"), ("fast_z", "f8"), ("slow_z", "f8"),
])

ORDER = np.dtype([
    ("slot", "i8"), ("remaining_shares", "i8"), ("active", "i8"),
    ("transient_1", "f8"), ("transient_2", "f8"), ("leak_1", "f8"), ("leak_2", "f8"),
    ("executed_adv", "f8"), ("display_bps", "f8"),
    ("regime_slot", "i8"),                       # the next at which hidden toxicity may switch
    ("take_shares", "i8"), ("post_shares", "i8"), ("dark_shares", "i8"),
    ("reward_bps", "f8"), ("martingale_bps", "f8"), ("penalty_bps", "f8"),  # of the last slot
    ("cost_bps", "f8"),                          # so far, all components
    ("martingale_sum_bps", "f8"),                # so far: the part of the cost that is noise of zero mean
    ("own_weighted_mid_bps", "f8"),              # sum of own shares x unaffected mid of their prints
    ("affected_volume_bps", "f8"),               # sum of market volume x impact, for the affected VWAP
])

VENUE_STATE = np.dtype([
    ("last_visit_s", "f8"), ("leftover_shares", "i8"), ("last_filled_frac", "f8"), ("regime", "i8"),
])

CARD = np.dtype([
    ("attempts", "i8"), ("filled", "i8"), ("markouts", "i8"), ("markout_hs_sum", "f8"),
    ("shown", "i8"),               # 0: changed since the features below were computed
    ("log_fill_rate", "f8"), ("shrunk_markout_hs", "f8"), ("log_evidence", "f8"),
])
PENDING = np.dtype([("venue", "i4"), ("card", "i4"), ("mid_bps", "f8")])  # a print whose 10 s markout is not known yet

VENUE_TOTAL = np.dtype([("attempts", "i8"), ("filled_orders", "i8"), ("routed_shares", "i8"), ("filled_shares", "i8")])
# fmt: on


Row = Any  # one record of an array below: compiled code reads its fields as attributes, which no type of numpy's says


class Batch(NamedTuple):
    """All arrays of E parent orders. Everything a router cannot change is in episode, venue, sizes and tape."""

    episode: NDArray[np.void]  # (E,) EPISODE
    venue: NDArray[np.void]  # (E, V) VENUE
    tape: NDArray[np.void]  # (E, N + after) TAPE
    nodes: NDArray[np.void]  # (E, (N + after) K) NODE_ROW, (E, 1) where K = 1
    order: NDArray[np.void]  # (E,) ORDER
    venue_state: NDArray[np.void]  # (E, V) VENUE_STATE
    card: NDArray[np.void]  # (E, V, 3) CARD
    pending: NDArray[np.void]  # (E, ring, 2 R) PENDING, by the slot at which the markout is known, modulo ring
    n_pending: NDArray[np.int64]  # (E, ring) entries of each ring slot in use
    total: NDArray[np.void]  # (E, R) VENUE_TOTAL
    cost_bps: NDArray[np.float64]  # (E, 10) by component
    masked: NDArray[np.bool_]  # (E, R) route masked at this decision
    plan: NDArray[np.int64]  # (3, E) of this release: shares left, the route that completes the order, room for dark
    child_shares: NDArray[np.int64]  # (E, R) released
    fill_shares: NDArray[np.int64]  # (E, R, 2) node, in-slot
    fill_mid_bps: NDArray[np.float64]  # (E, R, 2) share-weighted unaffected mid of the prints, set where there are any
    fill_extra_bps: NDArray[np.float64]  # (E, 4) this slot: impact and leak a share, take instant, display, half spread


def allocate(n_episodes: int, n_slots: int, n_after: int, n_venues: int, n_routes: int, lag: int, n_sub: int) -> Batch:
    """Zeroed arrays; `n_after` slots of tape follow the horizon so that late markouts exist.

    `lag`: slots until every markout is known, which a ring of a power of two holds; `n_sub`: K.
    """
    e, v, r = n_episodes, n_venues, n_routes
    ring = 1 << (lag - 1).bit_length()
    return Batch(
        episode=np.zeros(e, EPISODE),
        venue=np.zeros((e, v), VENUE),
        tape=np.zeros((e, n_slots + n_after), TAPE),
        nodes=np.zeros((e, (n_slots + n_after) * n_sub if n_sub > 1 else 1), NODE_ROW),
        order=np.zeros(e, ORDER),
        venue_state=np.zeros((e, v), VENUE_STATE),
        card=np.zeros((e, v, len(CARDS)), CARD),
        pending=np.zeros((e, ring, 2 * r), PENDING),
        n_pending=np.zeros((e, ring), np.int64),
        total=np.zeros((e, r), VENUE_TOTAL),
        cost_bps=np.zeros((e, len(COMPONENTS))),
        masked=np.zeros((e, r), np.bool_),
        plan=np.zeros((3, e), np.int64),
        child_shares=np.zeros((e, r), np.int64),
        fill_shares=np.zeros((e, r, 2), np.int64),
        fill_mid_bps=np.zeros((e, r, 2)),
        fill_extra_bps=np.zeros((e, 4)),
    )
