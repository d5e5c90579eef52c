"""What chance decides: noise along the day, what an order must infer, and events."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from .model import Frac, LogSd, Model, NonNegative, Positive, Range


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
    regime_factors: tuple[NonNegative, NonNegative] = (0.5, 2.0)  # of the toxicity: in calm and in toxic times


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
