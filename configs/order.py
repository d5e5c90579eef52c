"""Parent orders and the schedule that they are worked against."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from .model import Frac, Model, Range
from .session import SESSION_S


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
