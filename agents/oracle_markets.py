"""Problems with a known optimum as simulator markets: parameters of an oracle -> MarketConfig.

One buy order, a motionless mid, stated volumes, one lit venue that only takes, pools that only take pings and meet at
most one contra order a slot, a fixed charge per dark share (expected accounting), no leak, no transient or permanent
impact. A simulator's `cost_bps` is per share of the parent; `cost_in_problem_units` turns it into the problem's unit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..configs.chance import NoiseConfig, RandomisationConfig
from ..configs.errors import UserError
from ..configs.market import ControlConfig, ImpactConfig, MarketConfig
from ..configs.oracle_mode import OracleConfig
from ..configs.order import OrderConfig, ScheduleConfig
from ..configs.stock import StockConfig
from ..configs.venue import DarkPoolConfig, LitVenueConfig
from .oracles.dark_adverse import DarkFillAdverseParams
from .oracles.dark_fill import DarkFillQuadraticParams
from .oracles.lot_problem import LotRoutingParams
from .oracles.vwap_tracking import VwapTrackingParams

FillParams = DarkFillQuadraticParams | DarkFillAdverseParams | VwapTrackingParams
OracleParams = FillParams | LotRoutingParams
FloatArray = npt.NDArray[np.float64]

LIT_VENUE = "XQLA"
POOLS = ("XQDA", "XQDB", "XQDC", "XQDD", "XQDE")  # in the order of the problem file
CONTINUOUS_SHARES = 1_000_000  # parent of a problem in real quantities: rounding to shares moves values by < 1e-6
LOT_SHARES = 100  # one lot of a problem in lots
_SAME_IN_EVERY_ORDER = RandomisationConfig(
    spread_log_sd=0.0, vol_log_sd=0.0, supply_factor=(1.0, 1.0), flow_factor=(1.0, 1.0), independent_toxicity_prob=0.0,
    toxicity_jitter_frac=0.0, post_pnl_jitter_hs=0.0, leak_zero_prob=1.0, size_beta_jitter=0.0, min_quantity_lots=(0,),
    fee_jitter_mils=0.0, regime_prob=1.0, scorecard_empty_prob=1.0,
)  # every pool has a hidden regime, and nothing else is drawn  # fmt: skip
_INTERVAL_S = 900.0  # so long that "time since the last visit" says nothing; no price moves anyway


def market_of(params: OracleParams) -> MarketConfig:
    """The market in which routing one parent order is the problem of `params`.

    O1 (`dark_fill_quadratic`): 1 bp is lam x0^2. A parent of 1,000,000 shares stands for x0, every slot's volume is
    the parent's size, and eta sigma_d = 1, so that x lit costs lam x^2; the tracking penalty (q / lam) X_{n+1}^2 to
    target 0 is the holding cost of all slots but the first, whose constant q x0^2 is added back. The last slot takes
    what is left.

    O2 (`dark_fill_adverse`): O1 with an adverse charge of gamma / (lam x0) bp a dark share.

    O3 (`vwap_tracking`): 1 bp is 1. Volumes are u times the parent, eta sigma_d = eta, so x lit costs eta x^2/u; the
    pool charges gamma; tracking phi to the schedule of the volumes.

    O9 (`lot_routing`): 1 bp is `lots`, so that a charge of 1 a lot is 1 bp a share. A lot is 100 shares; volume is u_t
    lots and eta sigma_d = lit.quadratic; the half spread is the linear lit cost (a rebate if that is negative), what is
    left after the last slot is charged, and tracking follows the schedule of the volumes u.

    O10 (`lot_routing` with regimes): O9; the pool whose charge differs has a charge of 1 a lot and the two charges as
    the regime's factors, every other pool's charge is part of its fee. A regime moves as a slot starts.

    Raises:
        UserError: parameters of another problem, or regimes of several pools (a market's pools have regimes of their
            own).
    """
    if isinstance(params, (DarkFillQuadraticParams, DarkFillAdverseParams)):
        return _dark_fill_market(params)
    if isinstance(params, VwapTrackingParams):
        return _vwap_tracking_market(params)
    if isinstance(params, LotRoutingParams):
        return _lot_routing_market(params)
    raise UserError(
        f"No market stands for {type(params).__name__}. Give a dark_fill_quadratic, dark_fill_adverse, "
        "vwap_tracking or lot_routing problem."
    )


def cost_in_problem_units(params: OracleParams, cost_bps: FloatArray, penalty_bps: FloatArray) -> FloatArray:
    """Cost of whole orders in the unit of the problem, positive = bad.

    Args:
        cost_bps: (n,) `order.cost_bps` at the end of the order.
        penalty_bps: (n,) `order.penalty_bps` summed over its slots.
    """
    if isinstance(params, (DarkFillQuadraticParams, DarkFillAdverseParams)):
        return params.lam * params.x0**2 * (cost_bps + penalty_bps) + params.q * params.x0**2
    if isinstance(params, VwapTrackingParams):
        return cost_bps + penalty_bps
    return params.lots * (cost_bps + penalty_bps)


def _whole_fills(fill_prob: float, charge_bps: float) -> DarkPoolConfig:
    """A pool of unlimited size; a charge below zero is a rebate."""
    return DarkPoolConfig(
        name=POOLS[0], order_types=("ping",), size_max_lots=None, zero_prob=1 - fill_prob,
        adverse_charge_bps=max(charge_bps, 0.0), fee_mils=min(charge_bps, 0.0),
    )  # fmt: skip


def _vwap_tracking_market(params: VwapTrackingParams) -> MarketConfig:
    return _market(
        "oracle-vwap-tracking",
        lot_shares=1,
        shares=CONTINUOUS_SHARES,
        eta=params.eta,
        half_spread_bps=0.0,
        take_fee_bps=0.0,
        pools=(_whole_fills(params.p, params.gamma),),
        caps_shares=(CONTINUOUS_SHARES, CONTINUOUS_SHARES),
        oracle={"slot_volumes": tuple(CONTINUOUS_SHARES * u for u in params.u), "tracking_bps": params.phi},
    )


def _dark_fill_market(params: DarkFillQuadraticParams | DarkFillAdverseParams) -> MarketConfig:
    gamma = params.gamma if isinstance(params, DarkFillAdverseParams) else 0.0
    pool = _whole_fills(params.p, gamma / (params.lam * params.x0))
    return _market(
        "oracle-" + params.kind.replace("_", "-"),
        lot_shares=1,
        shares=CONTINUOUS_SHARES,
        eta=1.0,
        half_spread_bps=0.0,
        take_fee_bps=0.0,
        pools=(pool,),
        caps_shares=(CONTINUOUS_SHARES, CONTINUOUS_SHARES),
        oracle={
            "slot_volumes": (float(CONTINUOUS_SHARES),) * params.n_slots,
            "tracking_bps": params.q / params.lam,
            "track_to_zero": params.q > 0,
        },
    )


def _lot_routing_market(params: LotRoutingParams) -> MarketConfig:
    charges = [(pool.fee, pool.adverse) for pool in params.pools]
    drawn: dict[str, Any] = {}
    if params.regimes is not None:
        calm, toxic = params.regimes.adverse
        if len(params.differing()) != 1 or params.revealing_pool() not in params.differing():
            raise UserError(
                f"regimes.adverse: {len(params.differing())} pools differ between the regimes; a market stands for "
                "problems in which one does, and shows the regime. State two rows that differ in one pool, or --solve."
            )
        charges = [
            (pool.fee, 1.0) if a != b else (pool.fee + a, 0.0)
            for pool, a, b in zip(params.pools, calm, toxic, strict=True)
        ]
        pool = params.revealing_pool()
        drawn = {
            "randomisation": _SAME_IN_EVERY_ORDER,
            "noise": NoiseConfig(regime_stay_prob_300s=params.regimes.stay, regime_factors=(calm[pool], toxic[pool])),
        }
    pools = tuple(
        DarkPoolConfig(
            name=name, order_types=("ping",), size_max_lots=pool.m, size_beta=pool.beta, zero_prob=pool.p0,
            fee_mils=fee, adverse_charge_bps=charge,
        )
        for name, pool, (fee, charge) in zip(POOLS, params.pools, charges, strict=False)
    )  # fmt: skip
    return _market(
        "oracle-lot-routing",
        lot_shares=LOT_SHARES,
        shares=params.lots * LOT_SHARES,
        eta=params.lit.quadratic,
        half_spread_bps=max(params.lit.linear, 0.0),
        take_fee_bps=min(params.lit.linear, 0.0),
        pools=pools,
        caps_shares=tuple(LOT_SHARES * most for most in (params.lit.max, *(pool.max for pool in params.pools))),
        oracle={
            "slot_volumes": tuple(LOT_SHARES * u for u in params.u),
            "tracking_bps": params.tracking * params.lots,
            "leftover_linear_bps": params.leftover.linear,
            "leftover_quadratic_bps": params.leftover.quadratic,
        },
        drawn=drawn,
    )


def _market(
    name: str, *, lot_shares: int, shares: int, eta: float, half_spread_bps: float, take_fee_bps: float,
    pools: tuple[DarkPoolConfig, ...], caps_shares: tuple[int, ...], oracle: dict[str, Any],
    drawn: dict[str, Any] | None = None,
) -> MarketConfig:  # fmt: skip
    """The common switches. At a price of $1 a fee of 1 mil is 1 bp; `caps_shares` are per route, lit first."""
    routes = (f"{LIT_VENUE}:take", *(f"{pool.name}:ping" for pool in pools))
    return MarketConfig(
        name=name,
        interval_s=_INTERVAL_S,
        lot_shares=lot_shares,
        stocks=(
            StockConfig(
                name="still", price_usd=1.0, adv_shares=CONTINUOUS_SHARES, spread_bps=2 * half_spread_bps,
                daily_vol_bps=1.0, depth_shares=1.0,
            ),
        ),
        lit_venues=(LitVenueConfig(name=LIT_VENUE, order_types=("take",), take_fee_mils=take_fee_bps),),
        dark_pools=pools,
        benchmark="arrival",
        orders=OrderConfig(side="buy", shares=shares),
        schedule=ScheduleConfig(follow_volume=False),
        impact=ImpactConfig(
            eta=eta, exponent=1.0, transient_weights=(0.0, 0.0), gamma=0.0, dark_weight=0.0, display_leak_frac=0.0
        ),
        controls=ControlConfig(
            max_routes=len(routes), weight_cut=0.0, max_dark_frac=1.0, toxicity_limit_hs=-1e300,
            route_caps_shares=dict(zip(routes, caps_shares, strict=True)),
        ),
        oracle=OracleConfig(one_shot_arrivals=True, expected_accounting=True, full_band=True, **oracle),
        **(drawn or {"randomisation": None}),
    )  # fmt: skip
