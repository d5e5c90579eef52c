"""Monotone where it says so: checked knot by knot on the tables that decide, not taken from how they were trained."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..envs.features import FEATURES


def monotone_breaks(table_e9: NDArray[np.int64], kind_names: Sequence[str]) -> list[str]:
    """Every place where a function goes against the feature table's `monotone`, in words; empty: it holds at all knots.

    Between knots the functions are straight, so that what holds at the knots holds everywhere, but for the rounding of
    a term to 1e-9. The pace (row 0) is free.

    Args:
        table_e9: (1 + kinds, features, knots) values in 1e-9.
        kind_names: (1 + kinds,) the pace first.
    """
    found = []
    for i, feature in enumerate(FEATURES):
        if not feature.monotone:
            continue
        steps = np.diff(table_e9[1:, i], axis=1) * feature.monotone
        for k, knot in np.argwhere(steps < 0).tolist():
            way = "falls" if feature.monotone > 0 else "rises"
            x = feature.low + (feature.high - feature.low) * (knot + 1) / (table_e9.shape[2] - 1)
            found.append(f"{kind_names[1 + k]}: {feature.name} {way} by {-steps[k, knot]} (1e-9) up to {x:.4g}")
    return found
