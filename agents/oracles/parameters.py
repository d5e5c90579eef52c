"""What the parameters of every problem file have in common: frozen, no unknown keys, bounded numbers."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

Finite = Annotated[float, Field(ge=-1e100, le=1e100)]  # cubes stay within float64; NaN fails both bounds
NonNegative = Annotated[float, Field(ge=0, le=1e100)]
Positive = Annotated[float, Field(gt=0, le=1e100)]
Probability = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]


class Params(BaseModel):
    """Parameters of a problem, or a part of them."""

    model_config = ConfigDict(frozen=True, extra="forbid")
