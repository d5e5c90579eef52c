"""What a market is: stocks, venues, orders, impact, controls. Field names carry the units; unknown keys are refused.

Every default is one of the reference market (docs/market_model.md); a YAML file states only what differs.
"""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal

from pydantic import Field, model_validator

from .chance import EventsConfig, NoiseConfig, RandomisationConfig
from .model import Frac, Model, NonNegative, Positive
from .oracle_mode import OracleConfig
from .order import OrderConfig, ScheduleConfig
from .pool_knowledge import resolved_kappas, resolved_supply_frac
from .rule_table import access_fee_cap_mils, constant, round_lot_shares, tick_usd
from .session import SESSION_S, VOLUME_BIN_S
from .stock import StockConfig
from .venue import DarkPoolConfig, LitVenueConfig


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
