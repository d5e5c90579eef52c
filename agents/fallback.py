"""The control FALLBACK_RULE_SOR: where a feature is not finite, or outside what training saw, the rule SOR decides.

A policy says nothing of values that it never met: beyond its last knot a function is held flat, and a NaN has no place
on it. So every feature is measured before the clip of the feature table, and compared with the range over episodes of
the training stream.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..configs.errors import UserError
from ..envs.features import FEATURES, N_GLOBAL, N_ROUTE, measure_rows
from ..envs.market import Market, step_proposals, stream_key
from ..envs.state import Batch
from ..explain.fallback_record import Outside
from .router import Router
from .rule_based import RuleSor

MARGIN_FRAC = 0.1  # of the range seen, on either side: the ends of a sample are not the ends of what is ordinary
EPISODES = 1_000
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class FeatureRanges:
    """Lowest and highest value of every feature in training, (n_features,), in the order of the feature table."""

    low: Floats
    high: Floats

    @classmethod
    def unlimited(cls) -> FeatureRanges:
        """Of a policy without stored ranges: only what is not a finite number is outside."""
        none = np.full(len(FEATURES), np.inf)
        return cls(-none, none)

    @classmethod
    def read(cls, data: Any, where: Path, mend: str = "Export the run again.") -> FeatureRanges:
        """Of `body()`. Raises UserError: other features, or a range that is not two finite numbers in order."""
        names = [f.name for f in FEATURES]
        if not isinstance(data, dict) or set(data) != set(names):
            raise UserError(f"{where}: feature_ranges does not name the features of this version. {mend}")
        rows = []
        for name in names:
            try:
                low, high = (float(text) for text in data[name]) if isinstance(data[name], list) else (1.0, 0.0)
            except (TypeError, ValueError):
                low = high = math.nan
            if not -math.inf < low <= high < math.inf:
                raise UserError(
                    f"{where}: feature_ranges.{name} = {data[name]!r} is not two finite numbers, the lower first. "
                    f"{mend}"
                )
            rows.append((low, high))
        low_high = np.array(rows)
        return cls(low_high[:, 0], low_high[:, 1])

    def body(self) -> dict[str, list[str]]:
        """Feature -> [low, high] as repr, for a manifest."""
        pairs = zip(FEATURES, self.low.tolist(), self.high.tolist(), strict=True)
        return {f.name: [repr(low), repr(high)] for f, low, high in pairs}

    @property
    def limited(self) -> bool:
        """Whether any value that is a number can be outside."""
        return bool(np.isfinite(self.high).any())

    def limits(self) -> tuple[Floats, Floats]:
        """The ranges with their margin, each (n_features,): what values are held against."""
        span = np.where(np.isfinite(self.high), MARGIN_FRAC * (self.high - self.low), 0.0) + 1e-9
        return self.low - span, self.high + span

    def outside(self, measured: Floats) -> NDArray[np.bool_]:
        """(E, n_obs) features before the clip -> (E, n_features): not finite, or beyond the range and its margin.

        A feature of routes is outside where it is on any route.
        """
        of_order, of_routes = self._beyond(measured)
        return np.concatenate([of_order, of_routes.any(axis=1)], axis=1)

    def admits(self, measured: Floats) -> NDArray[np.bool_]:
        """(E,) whether nothing is outside, so that the policy decides."""
        return np.logical_not(self.outside(measured).any(axis=1))

    def found(self, routes: Sequence[str], measured: Sequence[float]) -> tuple[Outside, ...]:
        """What is outside at one decision, in the order of the feature table; `measured` as `outside` has it."""
        row = np.asarray(measured, np.float64)
        of_order, of_routes = self._beyond(row[None])
        low, high = self.limits()
        found: list[tuple[int, int, str | None]] = [(int(i), int(i), None) for i in np.flatnonzero(of_order[0])]
        for j in np.flatnonzero(of_routes[0].any(axis=0)).tolist():
            r = int(np.argmax(of_routes[0, :, j]))
            found.append((N_GLOBAL + j, N_GLOBAL + r * N_ROUTE + j, routes[r]))
        return tuple(
            Outside(FEATURES[i].name, route, float(row[column]), float(low[i]), float(high[i]))
            for i, column, route in found
        )

    def _beyond(self, measured: Floats) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """((E, N_GLOBAL), (E, R, N_ROUTE))."""
        low, high = self.limits()
        routes = measured[:, N_GLOBAL:].reshape(len(measured), -1, N_ROUTE)

        def beyond(x: Floats, columns: slice) -> NDArray[np.bool_]:
            return ~(np.isfinite(x) & (x >= low[columns]) & (x <= high[columns]))

        return beyond(measured[:, :N_GLOBAL], slice(N_GLOBAL)), beyond(routes, slice(N_GLOBAL, None))


def seen_ranges(market: Market, router: Router, seed: int, episodes: int = EPISODES) -> FeatureRanges:
    """Ranges over `episodes` of the seed's training stream, worked by `router`."""
    size = min(500, episodes)
    b, obs = market.batch(size)
    measured, work, weights = obs.copy(), np.zeros(size), np.zeros((size, len(market.routes)))
    low, high = np.full(len(FEATURES), np.inf), np.full(len(FEATURES), -np.inf)
    for first in range(0, episodes, size):
        numbers = np.arange(first, min(first + size, episodes))
        market.reset(stream_key(seed, "train"), np.arange(len(numbers)), numbers, b, obs, "train")
        b.order["active"][len(numbers) :] = 0
        while (active := b.order["active"] == 1).any():
            measure_rows(market.rules, b, 0, size, measured, 0)
            seen = measured[active]
            routes = seen[:, N_GLOBAL:].reshape(-1, N_ROUTE)
            for ends, end in ((low, np.fmin), (high, np.fmax)):
                of_rows = [end.reduce(np.where(np.isfinite(x), x, np.nan)) for x in (seen[:, :N_GLOBAL], routes)]
                end(ends, np.concatenate(of_rows), out=ends)
            router.propose(market, b, obs, work, weights)
            step_proposals(market.rules, b, work, weights, obs)
    return FeatureRanges(low, high)


class FallbackRouter:
    """A router under the control: rows with a feature outside are proposed by the rule SOR. Counts what it did."""

    def __init__(self, inner: Router, ranges: FeatureRanges, sor: RuleSor | None = None) -> None:
        self.inner, self.ranges, self.sor = inner, ranges, sor or RuleSor()
        self.name = inner.name
        self.decisions, self.fallbacks = 0, 0
        self.by_feature: Counter[str] = Counter()  # a decision counts for every feature that was outside
        self._measured = np.zeros((0, 0))

    @property
    def policy(self) -> object:
        """What the inner router scores with, if it does."""
        return getattr(self.inner, "policy", None)

    def propose(self, market: Market, b: Batch, obs: Floats, work: Floats, weights: Floats) -> None:
        if self._measured.shape != obs.shape:
            self._measured = np.zeros(obs.shape)
        measure_rows(market.rules, b, 0, len(obs), self._measured, 0)
        active = b.order["active"] == 1
        outside = self.ranges.outside(self._measured) & active[:, None]
        rows = outside.any(axis=1)
        self.decisions += int(active.sum())
        self.inner.propose(market, b, np.where(rows[:, None], 0.0, obs) if rows.any() else obs, work, weights)
        if not rows.any():
            return
        self.fallbacks += int(rows.sum())
        for feature, count in zip(FEATURES, outside.sum(axis=0).tolist(), strict=True):
            if count:
                self.by_feature[feature.name] += count
        sor_work, sor_weights = np.zeros_like(work), np.zeros_like(weights)
        self.sor.propose(market, b, obs, sor_work, sor_weights)
        work[rows], weights[rows] = sor_work[rows], sor_weights[rows]


def fallback_entry(routers: list[FallbackRouter]) -> dict[str, Any]:
    """For `evaluation.json`: over all routers, decisions, those that fell back, and by feature."""
    decisions, fallbacks = sum(r.decisions for r in routers), sum(r.fallbacks for r in routers)
    return {
        "decisions": decisions, "fallback_decisions": fallbacks,
        "fallback_frac": fallbacks / decisions if decisions else 0.0,
        "by_feature": dict(sum((r.by_feature for r in routers), Counter())),
    }  # fmt: skip
