"""What a market is: stocks, venues, orders, impact. Field names carry the units; unknown keys are refused.

Every default is one of the reference market (docs/market_model.md); a YAML file states only what differs.
"""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from .pool_knowledge import resolved_kappas, resolved_supply_frac
from .rule_table import access_fee_cap_mils, constant, round_lot_shares, tick_usd
from .session import N_CURVE_BINS, SESSION_S, VOLUME_BIN_S

Frac = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
NonNegative = Annotated[float, Field(ge=0.0)]
Exponent = Annotated[float, Field(ge=-80.0, le=80.0)]  # of a power law over up to 1,024 lots
RestSeconds = Annotated[float, Field(gt=0.0, le=VOLUME_BIN_S)]
LogSd = Annotated[float, Field(ge=0.0, le=5.0)]
Range = tuple[float, float]

# Thirteen half-hours of the continuous session; relative curves are normalised where they are used.
VOLUME_CURVE = (0.135, 0.090, 0.075, 0.067, 0.062, 0.058, 0.055, 0.055, 0.057, 0.062, 0.070, 0.085, 0.129)
SPREAD_CURVE = (2.0, 1.35, 1.15, 1.05, 1.0, 0.98, 0.96, 0.95, 0.94, 0.93, 0.92, 0.90, 0.85)
VOLATILITY_CURVE = (2.0, 1.4, 1.15, 1.0, 0.90, 0.85, 0.82, 0.80, 0.82, 0.85, 0.90, 1.0, 1.15)


class Model(BaseModel):
    """Frozen, and closed to unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class StockConfig(Model):
    """One class of stock: the statistics that drive the synthetic tape (market model, section 4)."""

    name: str
    symbol: str | None = None  # of the days that replay it; null: the name up to its first underscore, in capitals
    probability: Frac = 1.0
    price_usd: Positive
    adv_shares: Annotated[int, Field(gt=0)]
    spread_bps: NonNegative  # mean quoted spread, both sides
    tick_usd: Positive | None = None  # null: of the rule table at the market's trade date
    daily_vol_bps: NonNegative
    depth_shares: Positive  # mean size at the touch
    outstanding_over_adv: Positive = 200.0
    sigma_fast_bps: NonNegative = 0.0
    tau_fast_s: Positive = 1.0
    sigma_slow_bps: NonNegative = 0.0
    tau_slow_s: Positive = 120.0
    vol_floor_frac: Frac = 0.4
    signal_fast: Frac = 0.0  # loading of the visible imbalance on the fast alpha
    signal_slow: Frac = 0.0
    size_scale: Positive = 1.0  # multiplies the largest contra order of every venue
    nbbo_moves_per_10s: NonNegative = 5.0
    volume_curve: tuple[NonNegative, ...] = VOLUME_CURVE
    spread_curve: tuple[Positive, ...] = SPREAD_CURVE
    vol_curve: tuple[Positive, ...] = VOLATILITY_CURVE
    post_pnl_hs: dict[str, float] = Field(default_factory=dict)  # by lit venue: P&L of a post at 10 s

    @model_validator(mode="after")
    def _curves_fit_the_session(self) -> StockConfig:
        for name in ("volume_curve", "spread_curve", "vol_curve"):
            if (n := len(getattr(self, name))) not in (13, N_CURVE_BINS):
                raise ValueError(f"{name} has {n} values; give 13 (half-hours) or {N_CURVE_BINS} (five minutes)")
        if not sum(self.volume_curve) > 0:
            raise ValueError("volume_curve sums to 0; at least one bin needs volume")
        return self

    @model_validator(mode="after")
    def _alphas_leave_the_mid_a_martingale(self) -> StockConfig:
        sigma = self.daily_vol_bps / np.sqrt(SESSION_S) * self.vol_floor_frac
        variance_rate = self.sigma_fast_bps**2 / (2 * self.tau_fast_s) + self.sigma_slow_bps**2 / (2 * self.tau_slow_s)
        if variance_rate > sigma**2 * (1 + 1e-9):
            raise ValueError(
                f"stock {self.name!r}: the alphas move the mid more than its volatility at the quietest moment allows "
                f"(rho_f^2 + rho_s^2 = {variance_rate / max(sigma**2, 1e-300):.2f} > 1). "
                "Lower sigma_fast_bps or sigma_slow_bps, or raise vol_floor_frac."
            )
        return self

    @property
    def replayed_symbol(self) -> str:
        """Symbol of the recorded days that this class stands for."""
        return self.symbol if self.symbol is not None else self.name.split("_")[0].upper()


class LitVenueConfig(Model):
    """A displayed venue (market model, section 3)."""

    name: str
    order_types: tuple[Literal["take", "post"], ...] = ("take", "post")
    flow_frac: NonNegative = 0.0  # share of volume that hits our side here
    queue_place: Frac = 0.25  # share of that flow that gets past the orders ahead
    post_pnl_hs: float = 0.0  # P&L of a post at 10 s, in half spreads
    run_share: Frac = 0.2  # part of the adverse selection that is the price running away
    kappa_slow: NonNegative = 0.1
    size_beta: Exponent = 2.2
    size_max_lots: Annotated[int, Field(gt=0)] = 50
    take_fee_mils: float = 0.0
    post_fee_mils: float = 0.0


class DarkPoolConfig(Model):
    """A midpoint pool (market model, section 2)."""

    name: str
    order_types: tuple[Literal["ping", "rest"], ...] = ("ping", "rest")
    supply_frac: NonNegative = 0.0  # contra supply as a share of volume
    life_s: Positive = 30.0
    kappa_fast: Annotated[float, Field(ge=0, le=2.5)] = 0.0
    kappa_slow: Annotated[float, Field(ge=0, le=2.5)] = 0.0
    size_beta: Exponent = 1.0
    size_max_lots: Annotated[int, Field(gt=0)] | None = 50  # null: unlimited (one-shot arrivals only)
    # min_quantity_lots and leak_weight (below) hold where the market's randomisation is null; with it every order draws
    # both anew from randomisation.min_quantity_lots, .leak_zero_prob and .leak_weight, and the pool's own are not read
    min_quantity_lots: Annotated[int, Field(ge=0)] = 0
    fee_mils: float = 0.0
    leak_weight: NonNegative = 0.0
    # what a desk knows instead of the kappas: markouts in bps at horizons in seconds, e.g. {10: -0.35, 300: -0.80}
    reversion_bps: dict[Positive, Annotated[float, Field(le=0.0)]] | None = None
    # ... instead of supply_frac: share of orders, sent there and resting so many seconds, that fill, such as {60: 0.2}
    fill_rate: dict[RestSeconds, Annotated[float, Field(ge=1e-6, lt=1)]] | None = None
    # two contra types (market model, 2.2): this share of orders is informed, with the pool's toxicity over this share
    # and sizes k^-informed_size_beta; the rest has none, and sizes k^-size_beta. null: one type
    informed_frac: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    informed_size_beta: Exponent = 3.0
    # problems with a known optimum:
    zero_prob: Frac = 0.0  # no contra order in a slot; oracle.one_shot_arrivals only, Poisson has zeros of its own
    adverse_charge_bps: float = 0.0  # a dark share; oracle.expected_accounting only

    @model_validator(mode="after")
    def _one_description_of_supply(self) -> DarkPoolConfig:
        if self.fill_rate is not None:
            if self.supply_frac:
                raise ValueError(
                    f"pool {self.name!r} states both fill_rate and supply_frac; give one of them "
                    "(a supply_frac of 0 is none)"
                )
            if not self.fill_rate:
                raise ValueError(f"pool {self.name!r}: fill_rate is empty; give a rest in seconds, such as {{60: 0.2}}")
            if "rest" not in self.order_types:
                raise ValueError(f"pool {self.name!r}: fill_rate is of resting orders, but order_types has no rest")
        return self

    @model_validator(mode="after")
    def _one_description_of_toxicity(self) -> DarkPoolConfig:
        if self.reversion_bps is not None:
            if self.kappa_fast or self.kappa_slow:
                raise ValueError(f"pool {self.name!r} states both reversion_bps and kappas; give one of them")
            if not self.reversion_bps:
                raise ValueError(f"pool {self.name!r}: reversion_bps is empty; give a horizon, such as {{10: -0.35}}")
        if self.informed_frac is not None and max(self.kappa_fast, self.kappa_slow) > 2.5 * self.informed_frac:
            raise ValueError(
                f"pool {self.name!r}: its informed type would have a toxicity of "
                f"{max(self.kappa_fast, self.kappa_slow) / self.informed_frac:.2f} (kappa / informed_frac), above 2.5. "
                "Raise informed_frac or lower the kappas."
            )
        return self


class RandomisationConfig(Model):
    """Ranges from which an episode draws what the router must infer (market model, 7). `null` keeps the archetype."""

    spread_log_sd: NonNegative = 0.3
    vol_log_sd: NonNegative = 0.3
    supply_factor: Range = (0.4, 2.5)  # log-uniform
    flow_factor: Range = (2 / 3, 3 / 2)
    independent_toxicity_prob: Frac = 0.5
    kappa_fast: Range = (0.05, 2.4)
    kappa_slow: Range = (0.03, 0.43)
    toxicity_jitter_frac: Frac = 0.3
    post_pnl_jitter_hs: NonNegative = 0.2
    leak_zero_prob: Frac = 0.5
    leak_weight: Range = (0.01, 0.3)  # log-uniform, else 0; replaces the pool's own
    size_beta_jitter: NonNegative = 0.3
    min_quantity_lots: tuple[int, ...] = (0, 5, 50)  # equally likely; replaces the pool's own
    fee_jitter_mils: NonNegative = 5.0
    regime_prob: Frac = 0.3
    scorecard_empty_prob: Frac = 0.15
    scorecard_fills: Range = (50.0, 20_000.0)
    scorecard_markout_bias_hs: float = 0.0  # of every historical scorecard, the same for all routers; + = flattering
    scorecard_fill_factor: Positive = 1.0  # historical over true fill rate

    @model_validator(mode="after")
    def _ranges_run_upwards(self) -> RandomisationConfig:
        for name in ("supply_factor", "flow_factor", "leak_weight", "scorecard_fills", "kappa_fast", "kappa_slow"):
            low, high = getattr(self, name)
            least = 0.0 if name.startswith("kappa") else 1e-12  # the others are drawn on a logarithm
            if not least <= low <= high:
                above = "at least 0" if least == 0 else "above 0"
                raise ValueError(f"randomisation.{name} [{low:g}, {high:g}]: give [lowest, highest], {above}")
        return self


class OrderConfig(Model):
    """The distribution of parent orders, or one fixed order."""

    side: Literal["buy", "sell", "both"] = "both"
    horizon_minutes: dict[float, Frac] = Field(
        default_factory=lambda: {15.0: 0.2, 30.0: 0.25, 60.0: 0.25, 120.0: 0.2, 390.0: 0.1}
    )
    participation_frac: Range = (0.02, 0.15)  # of the volume expected in the horizon, log-uniform
    max_participation_frac: Frac = 0.15
    shares: Annotated[int, Field(gt=0)] | None = None  # a fixed size instead of a participation
    start_s: Annotated[float, Field(ge=0, lt=SESSION_S)] | None = None  # seconds after the open; null: uniform

    @model_validator(mode="after")
    def _ranges_make_sense(self) -> OrderConfig:
        lo, hi = self.participation_frac
        if not 0 < lo <= hi:
            raise ValueError(f"participation_frac must be (low, high) with 0 < low <= high, got ({lo}, {hi})")
        if hi > self.max_participation_frac:
            raise ValueError(
                f"participation_frac reaches {hi:.0%}, more than the market can bear (max_participation_frac "
                f"{self.max_participation_frac:.0%}); lower it, or raise the cap if you mean it"
            )
        if abs(sum(self.horizon_minutes.values()) - 1) > 1e-9:
            raise ValueError(f"horizon_minutes probabilities sum to {sum(self.horizon_minutes.values())}, not 1")
        if bad := [m for m in self.horizon_minutes if not 0 < m <= SESSION_S / 60]:
            raise ValueError(f"horizon_minutes {bad[0]} is outside (0, 390]: an order lives inside one session")
        return self


class ScheduleConfig(Model):
    """The VWAP schedule and its band."""

    band_frac: Annotated[float, Field(ge=0.0)] = 0.05
    follow_volume: bool = True  # update the forecast from the volume seen; false: the static curve


class ImpactConfig(Model):
    """Instantaneous, transient and permanent impact (market model, equations 4 and 5)."""

    eta: NonNegative = 0.071
    exponent: Positive = 0.6
    transient_weights: tuple[NonNegative, NonNegative] = (3.0, 3.0)
    transient_half_lives_s: tuple[Positive, Positive] = (60.0, 900.0)
    gamma: NonNegative = 0.314
    dark_weight: Frac = 0.4
    display_leak_frac: NonNegative = 0.15
    display_decay_s: Positive = 30.0


class NoiseConfig(Model):
    """Noise of volume, spread, volatility and dark supply around their curves."""

    volume_concentration: Positive = 250.0
    slot_volume_log_sd: LogSd = 0.8
    day_volume_log_sd: LogSd = 0.4
    spread_log_sd: LogSd = 0.2
    spread_persistence_300s: Frac = 0.6
    vol_log_sd: LogSd = 0.4
    vol_persistence_300s: Frac = 0.9
    supply_log_sd: LogSd = 0.5
    supply_persistence_300s: Frac = 0.3
    supply_volume_load: Frac = 0.33
    toxicity_vol_exponent: NonNegative = 1.0
    supply_spread_exponent: float = -0.5
    supply_vol_exponent: float = -0.3
    regime_stay_prob_300s: Frac = 0.9
    regime_factors: Range = (0.5, 2.0)


class ControlConfig(Model):
    """Pre-trade controls that wrap every router."""

    max_routes: Annotated[int, Field(ge=1)] = 3
    weight_cut: Frac = 0.05
    max_child_shares: Annotated[int, Field(gt=0)] = 5_000
    route_caps_shares: dict[str, int] = Field(default_factory=dict)  # by route name, e.g. "XQLA:take"
    max_dark_frac: Frac = 0.6
    toxicity_limit_hs: float = -1.0  # a venue whose measured markout is below this is masked
    toxicity_min_fills: Annotated[int, Field(ge=0)] = 50
    toxicity_min_attempts: Annotated[int, Field(ge=0)] = 200


class OracleConfig(Model):
    """Switches that turn the simulator into a problem with a known optimum (docs/oracles.md)."""

    one_shot_arrivals: bool = False  # at most one contra order a pool and slot, with a zero bin
    expected_accounting: bool = False  # arrival benchmark, a fixed charge per dark share instead of the mid path
    leftover_linear_bps: float | None = None  # charge for what is left instead of a completing take
    leftover_quadratic_bps: float = 0.0
    tracking_bps: NonNegative = 0.0  # weight of the schedule-tracking penalty
    track_to_zero: bool = False  # the penalty's target is 0 at every slot, not the schedule
    slot_volumes: tuple[Positive, ...] = ()  # deterministic volumes; also the schedule
    # one-shot variants: corr(Z, alpha) of the probit fill for a buy, the pools' common part of Z, and the queue of a
    # post
    probit_correlation: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    fill_copula: Frac = 0.0
    queue_shares: NonNegative = 0.0  # ahead of a post
    outflow_mean_shares: NonNegative = 0.0  # of the contra flow that a post meets in a slot, exponential
    full_band: bool = False  # the pace may be anything in [0, remaining]

    @model_validator(mode="after")
    def _variants_are_one_shot(self) -> OracleConfig:
        names = ("probit_correlation", "fill_copula", "queue_shares", "outflow_mean_shares")
        used = [n for n in names if getattr(self, n) > 0]
        if used and not self.one_shot_arrivals:
            raise ValueError(
                f"{used[0]} is a variant of one-shot arrivals; set one_shot_arrivals: true, or leave it out"
            )
        return self

    @model_validator(mode="after")
    def _parts_need_their_whole(self) -> OracleConfig:
        if self.leftover_quadratic_bps and self.leftover_linear_bps is None:
            raise ValueError(
                f"leftover_quadratic_bps {self.leftover_quadratic_bps:g} would do nothing, since what is left is taken "
                "while leftover_linear_bps is not set; set it (0 will do), or leave leftover_quadratic_bps out"
            )
        if self.track_to_zero and not self.tracking_bps:
            raise ValueError(
                "track_to_zero would do nothing, since tracking_bps is 0; set tracking_bps, or leave track_to_zero out"
            )
        return self


class EventsConfig(Model):
    """What happens to quotes and venues while an order is worked; off by default. Every draw is part of the tape."""

    outage_prob: Frac = 0.0  # per venue and order: one spell in which the venue is down, starting uniformly
    outage_minutes: Range = (5.0, 20.0)  # length of the spell, uniform
    outage_venues: tuple[str, ...] = ()  # that it may hit; empty: all
    halt_prob: Frac = 0.0  # per order: one spell without quotes and trades
    halt_minutes: Range = (5.0, 5.0)
    locked_prob: Frac = 0.0  # per slot: bid = ask
    crossed_prob: Frac = 0.0  # per slot: bid > ask
    shock_prob: Frac = 0.0  # per order: news at a uniform time
    shock_move_bps: NonNegative = 0.0  # standard deviation of the jump of the mid; its sign is a coin toss
    shock_vol_factor: Annotated[float, Field(ge=1.0)] = 1.0  # at the news, decaying with the half-life
    shock_spread_factor: Annotated[float, Field(ge=1.0)] = 1.0
    shock_volume_factor: Annotated[float, Field(ge=1.0)] = 1.0
    shock_half_life_s: Positive = 300.0

    @model_validator(mode="after")
    def _spells_are_ranges(self) -> EventsConfig:
        for name in ("outage_minutes", "halt_minutes"):
            lo, hi = getattr(self, name)
            if not 0 < lo <= hi:
                raise ValueError(f"{name} must be (shortest, longest) with 0 < shortest <= longest, got ({lo}, {hi})")
        if self.locked_prob + self.crossed_prob > 1:
            raise ValueError("locked_prob and crossed_prob add up to more than 1; a slot has one quote")
        return self


class ReplayConfig(Model):
    """A market replayed from recorded days: real prices, spreads and volumes; simulated fills.

    `train`, `validation` and `test` say which days a stream may meet, each a list of a symbol ("IBM"), a date
    ("2013-10-07") or both ("IBM 2013-10-07"). Without any list every stream meets all days; with one, a stream that has
    none gets the days that no other stream names.
    """

    paths: tuple[str, ...]
    train: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()
    test: tuple[str, ...] = ()


class MarketConfig(Model):
    """Everything up to a fill."""

    name: str
    interval_s: Positive = 10.0
    trade_date: date = date(2026, 1, 2)  # of the rules in force (configs/rule_table.py)
    lot_shares: Annotated[int, Field(gt=0)] | None = None  # null: the round lot of the rule table
    stocks: Annotated[tuple[StockConfig, ...], Field(min_length=1)]
    lit_venues: Annotated[tuple[LitVenueConfig, ...], Field(min_length=1)]
    dark_pools: tuple[DarkPoolConfig, ...] = ()
    dark_slots: tuple[str, ...] = ()  # venue names over which archetypes are permuted; empty: no permutation
    benchmark: Literal["vwap", "arrival"] = "vwap"
    orders: OrderConfig = OrderConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    impact: ImpactConfig = ImpactConfig()
    noise: NoiseConfig = NoiseConfig()
    randomisation: RandomisationConfig | None = RandomisationConfig()
    controls: ControlConfig = ControlConfig()
    oracle: OracleConfig = OracleConfig()
    replay: ReplayConfig | None = None
    events: EventsConfig = EventsConfig()
    ping_fallback: Literal["none", "take"] = "none"  # what a ping does not fill may be taken in the same slot

    @property
    def lots_of_shares(self) -> int:
        """Shares of a round lot: as stated, or by the rule table, the same for all classes."""
        if self.lot_shares is not None:
            return self.lot_shares
        return round_lot_shares(self.trade_date, self.stocks[0].price_usd)

    def tick_usd(self, stock: StockConfig) -> float:
        """Price step of a class: as stated, or by the rule table."""
        return stock.tick_usd if stock.tick_usd is not None else tick_usd(self.trade_date, stock.price_usd)

    def fee_cap_mils(self, stock: StockConfig) -> float:
        """Most that a venue may charge a taker in this class, $0.0001 a share."""
        return access_fee_cap_mils(self.trade_date, stock.price_usd)

    @model_validator(mode="after")
    def _rules_of_the_trade_date_hold(self) -> MarketConfig:
        for stock in self.stocks:
            try:
                cap = self.fee_cap_mils(stock)
                lot = round_lot_shares(self.trade_date, stock.price_usd)
                self.tick_usd(stock)
            except LookupError as error:
                raise ValueError(f"trade_date {self.trade_date}: {error}. Choose a later date.") from error
            if self.lot_shares is None and lot != self.lots_of_shares:
                raise ValueError(
                    f"the round lots of stocks {self.stocks[0].name!r} and {stock.name!r} differ on {self.trade_date} "
                    f"({self.lots_of_shares} and {lot} shares); state lot_shares, or put them in markets of their own"
                )
            fees = [(v.name, "take_fee_mils", v.take_fee_mils) for v in self.lit_venues]
            if bad := [f for f in fees if f[2] > cap + 1e-9]:
                source = constant("access_fee_cap", self.trade_date, stock.price_usd)
                raise ValueError(
                    f"venue {bad[0][0]!r}: {bad[0][1]} {bad[0][2]:g} is above the access fee cap of {cap:g} mils at "
                    f"${stock.price_usd:g} on {self.trade_date} ({source.source}, {source.status}). Lower it, or state "
                    "another trade_date."
                )
        return self

    @model_validator(mode="after")
    def _names_are_distinct(self) -> MarketConfig:
        names = [v.name for v in self.lit_venues] + list(self.dark_slots or (p.name for p in self.dark_pools))
        if len(set(names)) < len(names):
            raise ValueError(f"venue names must differ, got {names}")
        if unknown := [n for n in self.events.outage_venues if n not in names]:
            raise ValueError(f"events.outage_venues names {unknown[0]!r}; the venues are {names}")
        if len(self.dark_slots) > len(self.dark_pools):
            raise ValueError(
                f"{len(self.dark_slots)} dark_slots ({', '.join(self.dark_slots)}) but only {len(self.dark_pools)} "
                "dark_pools to fill them. List more pools or fewer slots; dark_slots: [] keeps the pools' own names."
            )
        if not any("take" in v.order_types for v in self.lit_venues):
            raise ValueError("no lit venue accepts order type 'take', so an order could not be completed")
        if abs(sum(s.probability for s in self.stocks) - 1) > 1e-9:
            raise ValueError(f"the stocks' probabilities sum to {sum(s.probability for s in self.stocks)}, not 1")
        return self

    @model_validator(mode="after")
    def _interval_divides_the_session(self) -> MarketConfig:
        per_bin = max(self.interval_s, VOLUME_BIN_S) % min(self.interval_s, VOLUME_BIN_S)
        if SESSION_S % self.interval_s or per_bin:
            raise ValueError(
                f"interval_s {self.interval_s} must divide the session of {SESSION_S} s, and divide the volume bins of "
                f"{VOLUME_BIN_S} s or be a multiple of them. Try 1, 5, 10, 30, 60, 300 or 900."
            )
        return self

    @model_validator(mode="after")
    def _orders_fit_the_session(self) -> MarketConfig:
        if self.oracle.slot_volumes:
            return self
        for minutes in self.orders.horizon_minutes:
            if minutes * 60 < self.interval_s:
                raise ValueError(
                    f"orders.horizon_minutes {minutes} is shorter than one interval of {self.interval_s} s; lengthen it"
                )
            if self.orders.start_s is not None and self.orders.start_s + minutes * 60 > SESSION_S:
                raise ValueError(
                    f"orders.start_s {self.orders.start_s} plus horizon_minutes {minutes} runs past the close "
                    f"({SESSION_S} s after the open); start earlier or shorten the horizon"
                )
        return self

    @model_validator(mode="after")
    def _pools_use_modes_that_are_on(self) -> MarketConfig:
        for pool in self.dark_pools:
            for name, mode in (("zero_prob", "one_shot_arrivals"), ("adverse_charge_bps", "expected_accounting")):
                if (value := getattr(pool, name)) != 0 and not getattr(self.oracle, mode):
                    raise ValueError(
                        f"pool {pool.name!r}: {name} {value:g} would do nothing, since oracle.{mode} is off; "
                        f"set oracle.{mode}: true, or leave {name} out"
                    )
        return self

    @model_validator(mode="after")
    def _unlimited_contra_needs_one_shot_arrivals(self) -> MarketConfig:
        if not self.oracle.one_shot_arrivals and (bad := [p.name for p in self.dark_pools if p.size_max_lots is None]):
            raise ValueError(
                f"pool {bad[0]!r} has no size_max_lots, which only one-shot arrivals allow; state a number of lots"
            )
        return self

    @model_validator(mode="after")
    def _pools_are_as_described(self) -> MarketConfig:
        """Last: it computes with all else."""
        mode, key = (
            ("one_shot_arrivals", "zero_prob") if self.oracle.one_shot_arrivals else ("slot_volumes", "supply_frac")
        )
        for pool in self.dark_pools:
            if pool.fill_rate is not None and getattr(self.oracle, mode):
                raise ValueError(
                    f"pool {pool.name!r}: fill_rate describes Poisson arrivals of the market's own volumes, and "
                    f"oracle.{mode} replaces them; state {key} instead"
                )
            for stock in self.stocks:
                resolved_kappas(pool, stock)
                resolved_supply_frac(pool, stock, self)
        return self
