"""The exported additive policy as it decides: integer tables, float64 features, no torch.

Each contribution is rounded to a whole number of 1e-9 and the decision is made on the integer sum, so a logged
explanation adds up to the last digit and a replay is exact. This runtime is the authority; SB3's float32 scores agree
to 1e-5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ..envs.features import FEATURES, GLOBAL_FEATURES, N_GLOBAL, N_ROUTE, ROUTE_FEATURES
from ..envs.state import ORDER_TYPES

E9 = 1_000_000_000
_MAX_SCORE_E9 = 10**15  # a score of a million; sums stay far from the end of int64
_LOW = np.array([f.low for f in FEATURES])
_SPAN = np.array([f.high - f.low for f in FEATURES])


@njit(cache=True, nogil=True)
def _interpolate_e9(values: NDArray[np.int64], position: float) -> int:
    left = min(max(int(position), 0), values.shape[0] - 2)
    w = min(max(position - left, 0.0), 1.0)
    return int(math.floor(values[left] * (1.0 - w) + values[left + 1] * w + 0.5))


@njit(cache=True, nogil=True)
def _contributions(
    obs: NDArray[np.float64],
    table: NDArray[np.int64],
    kind: NDArray[np.int64],
    low: NDArray[np.float64],
    span: NDArray[np.float64],
    out: NDArray[np.int64],
) -> None:
    """out (E, 1 + R, N_GLOBAL + N_ROUTE): what each feature adds to the pace score (row 0) and to each route's score.

    A global feature adds the same to every route of a kind, so it is looked up once a kind and copied.
    """
    n_kinds, knots = table.shape[0], table.shape[2]
    shared = np.zeros((n_kinds, N_GLOBAL), np.int64)
    for e in range(obs.shape[0]):
        for f in range(N_GLOBAL):
            position = (obs[e, f] - low[f]) / span[f] * (knots - 1)
            for k in range(n_kinds):
                shared[k, f] = _interpolate_e9(table[k, f], position)
        for f in range(N_GLOBAL):
            out[e, 0, f] = shared[0, f]
        for j in range(N_ROUTE):
            out[e, 0, N_GLOBAL + j] = 0
        for r in range(kind.shape[0]):
            k = kind[r]
            for f in range(N_GLOBAL):
                out[e, 1 + r, f] = shared[k, f]
            for j in range(N_ROUTE):
                f = N_GLOBAL + j
                x = obs[e, N_GLOBAL + r * N_ROUTE + j]
                out[e, 1 + r, f] = _interpolate_e9(table[k, f], (x - low[f]) / span[f] * (knots - 1))


@njit(cache=True, nogil=True)
def _scores(
    obs: NDArray[np.float64],
    table: NDArray[np.int64],
    bias: NDArray[np.int64],
    kind: NDArray[np.int64],
    low: NDArray[np.float64],
    span: NDArray[np.float64],
    out: NDArray[np.int64],
) -> None:
    """The same sums without the parts, sharing the global part of a kind over its routes."""
    n_kinds, knots = table.shape[0], table.shape[2]
    shared = np.zeros(n_kinds, np.int64)
    for e in range(obs.shape[0]):
        for k in range(n_kinds):
            shared[k] = bias[k]
            for f in range(N_GLOBAL):
                shared[k] += _interpolate_e9(table[k, f], (obs[e, f] - low[f]) / span[f] * (knots - 1))
        out[e, 0] = shared[0]
        for r in range(kind.shape[0]):
            total = shared[kind[r]]
            for j in range(N_ROUTE):
                f = N_GLOBAL + j
                x = obs[e, N_GLOBAL + r * N_ROUTE + j]
                total += _interpolate_e9(table[kind[r], f], (x - low[f]) / span[f] * (knots - 1))
            out[e, 1 + r] = total


@dataclass(frozen=True)
class AdditiveRuntime:
    """Tables of an additive policy: (1 + kinds, features, knots) and (1 + kinds,) in 1e-9; row 0 is the pace."""

    table_e9: NDArray[np.int64]
    bias_e9: NDArray[np.int64]
    kind: NDArray[np.int64]  # (R,) row of the table per route
    kind_names: tuple[str, ...]
    name: str = "learned"
    exact: ClassVar[bool] = True

    def scores_e9(self, obs: NDArray[np.float64]) -> NDArray[np.int64]:
        """(E, n_obs) -> (E, 1 + R) integer scores."""
        out = np.empty((obs.shape[0], 1 + self.kind.shape[0]), np.int64)
        _scores(np.ascontiguousarray(obs, np.float64), self.table_e9, self.bias_e9, self.kind, _LOW, _SPAN, out)
        return out

    def scores(self, obs: NDArray[np.float64]) -> NDArray[np.float64]:
        return self.scores_e9(obs) / E9

    def contributions_e9(self, obs: NDArray[np.float64], out: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
        """(E, n_obs) -> (E, 1 + R, features): with `biases_e9` each row sums to its score exactly.

        One decision is a batch of one: live explanations and batches are the same code. `out` is used again if given.
        """
        if out is None:
            out = np.empty((obs.shape[0], 1 + self.kind.shape[0], len(FEATURES)), np.int64)
        _contributions(np.ascontiguousarray(obs, np.float64), self.table_e9, self.kind, _LOW, _SPAN, out)
        return out

    @property
    def biases_e9(self) -> NDArray[np.int64]:
        """(1 + R,) bias of each score row: the pace, then the routes."""
        return np.take(self.bias_e9, [0, *self.kind])

    @property
    def knots(self) -> int:
        """Equal knots of each function over its feature's range."""
        return int(self.table_e9.shape[2])

    @property
    def shared(self) -> bool:
        """Venues of an order type share their functions."""
        return self.kind_names[1:] == ORDER_TYPES

    @property
    def n_routes(self) -> int:
        return int(self.kind.shape[0])

    def for_routes(self, route_types: NDArray[np.int64], name: str) -> AdditiveRuntime:
        """The same functions on another set of venues (venue-shared tables only)."""
        kind = 1 + np.asarray(route_types, np.int64)
        return AdditiveRuntime(self.table_e9, self.bias_e9, kind, self.kind_names, name)

    def to_json(self) -> dict[str, Any]:
        """Readable tables: knots in the feature's own unit, values in 1e-9 of a score."""
        knots = self.table_e9.shape[2]
        features = [
            {
                "name": f.name, "unit": f.unit, "factor": f.factor, "description": f.formula, "monotone": f.monotone,
                "scope": "global" if i < N_GLOBAL else "route",
                "knots": [f.low + (f.high - f.low) * k / (knots - 1) for k in range(knots)],
            }
            for i, f in enumerate(FEATURES)
        ]  # fmt: skip
        shapes = {
            kind: {f.name: self.table_e9[k, i].tolist() for i, f in enumerate(FEATURES)}
            for k, kind in enumerate(self.kind_names)
            if k > 0
        }
        return {
            "format": "glasspool-additive", "version": 1, "kinds": list(self.kind_names[1:]), "features": features,
            "bias_e9": {kind: int(self.bias_e9[k]) for k, kind in enumerate(self.kind_names) if k > 0},
            "shapes_e9": shapes,
            "pace": {
                "bias_e9": int(self.bias_e9[0]),
                "shapes_e9": {f.name: self.table_e9[0, i].tolist() for i, f in enumerate(GLOBAL_FEATURES)},
            },
            "route_kind": self.kind.tolist(),
        }  # fmt: skip

    @classmethod
    def from_json(cls, data: dict[str, Any], name: str = "learned") -> AdditiveRuntime:
        """Inverse of `to_json`. Raises KeyError, TypeError or ValueError on another shape."""
        kinds = ["pace", *data["kinds"]]
        knots = len(data["features"][0]["knots"])
        table = np.zeros((len(kinds), len(FEATURES), knots), np.int64)
        bias = np.zeros(len(kinds), np.int64)
        bias[0] = data["pace"]["bias_e9"]
        for i, f in enumerate(GLOBAL_FEATURES):
            table[0, i] = data["pace"]["shapes_e9"][f.name]
        for k, kind in enumerate(kinds[1:], start=1):
            bias[k] = data["bias_e9"][kind]
            for i, f in enumerate(FEATURES):
                table[k, i] = data["shapes_e9"][kind][f.name]
        runtime = cls(table, bias, np.asarray(data["route_kind"], np.int64), tuple(kinds), name)
        if runtime.to_json() != data:
            raise ValueError("it is not what an export writes: other features, knots or values than its tables hold")
        if max(np.abs(x).max() for x in (table, bias)) > _MAX_SCORE_E9:
            raise ValueError(f"a value beyond +-{_MAX_SCORE_E9} (in 1e-9): sums of such scores would not be exact")
        return runtime


__all__ = ["E9", "AdditiveRuntime", "ROUTE_FEATURES"]
