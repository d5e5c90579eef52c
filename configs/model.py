"""What every config is made of: a frozen model that refuses unknown keys, and the ranges of its numbers."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Frac = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
NonNegative = Annotated[float, Field(ge=0.0)]
Exponent = Annotated[float, Field(ge=-80.0, le=80.0)]  # of a power law over up to 1,024 lots
LogSd = Annotated[float, Field(ge=0.0, le=5.0)]
Range = tuple[float, float]


class Model(BaseModel):
    """Frozen, and closed to unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
