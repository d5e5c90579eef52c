"""Where a policy's features stand in the observation: its global ones, and those of each route."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ..envs.features import GLOBAL_FEATURES, N_GLOBAL, N_ROUTE, ROUTE_FEATURES, Feature
from ..envs.privileged import PRIVILEGED_GLOBAL, PRIVILEGED_ROUTE, Level


@dataclass(frozen=True)
class Layout:
    """Columns of the flat observation: what every router sees, then privileged columns if the level has any."""

    features: tuple[Feature, ...]  # the global ones, then those of a route
    global_at: NDArray[np.int64]  # (G,) column of each global feature
    route_at: NDArray[np.int64]  # (R, F) column of each route's features

    @cached_property
    def low(self) -> NDArray[np.float32]:
        return np.array([f.low for f in self.features], np.float32)

    @cached_property
    def span(self) -> NDArray[np.float32]:
        return np.array([f.high - f.low for f in self.features], np.float32)

    @property
    def monotone(self) -> NDArray[np.int64]:
        return np.array([f.monotone for f in self.features])

    @property
    def width(self) -> int:
        """Columns that the policy reads; they come first in the observation."""
        return len(self.global_at) + self.route_at.size


def layout_of(n_routes: int, level: Level) -> Layout:
    """Order of `envs/features.py`, then of `envs/privileged.py`: route by route, then the alphas."""
    plain = N_GLOBAL + n_routes * N_ROUTE
    global_at, route_at = np.arange(N_GLOBAL), N_GLOBAL + np.arange(n_routes * N_ROUTE).reshape(n_routes, N_ROUTE)
    if level == "none":
        return Layout(GLOBAL_FEATURES + ROUTE_FEATURES, global_at, route_at)
    more = len(PRIVILEGED_ROUTE)
    truth_at = plain + np.arange(n_routes * more).reshape(n_routes, more)
    alphas = PRIVILEGED_GLOBAL if level == "all" else ()
    return Layout(
        GLOBAL_FEATURES + alphas + ROUTE_FEATURES + PRIVILEGED_ROUTE,
        np.concatenate([global_at, plain + n_routes * more + np.arange(len(alphas))]),
        np.hstack([route_at, truth_at]),
    )
