"""Exact attributions of an additive policy: they are the computation, so they add up to the score to the last digit.

`explain` asks a policy for little: integer scores and what each feature added (the protocol `Scorer`, which lives here
so that explanations know nothing of how policies are made or trained).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..configs.errors import UserError
from ..envs.features import FEATURES, N_GLOBAL

PACE = "pace"  # the row of scores that is no route
E9 = 1_000_000_000


class Scorer(Protocol):
    """A policy whose scores are a bias plus one whole number of 1e-9 a feature."""

    def scores_e9(self, obs: NDArray[np.float64]) -> NDArray[np.int64]:
        """(E, n_obs) -> (E, 1 + R), pace first."""
        ...

    def contributions_e9(self, obs: NDArray[np.float64]) -> NDArray[np.int64]:
        """(n_obs,) -> (1 + R, features): what each feature adds to each score."""
        ...

    def bias_of(self, row: int) -> int:
        """Bias of a score row in 1e-9: 0 the pace, 1 + r route r."""
        ...


@dataclass(frozen=True, slots=True)
class ScoreParts:
    """One score taken apart, all in 1e-9: bias_e9 + sum(feature_attr_e9) == score_e9, and the same with attr_e9."""

    route: str
    bias_e9: int
    feature_attr_e9: dict[str, int]
    attr_e9: dict[str, int]  # by decision factor
    score_e9: int


@dataclass(frozen=True, slots=True)
class Explanation:
    """The scores of one decision: the pace, then every route in route order (masked ones too)."""

    pace: ScoreParts
    routes: tuple[ScoreParts, ...]

    def order(self, open_routes: Collection[int]) -> list[int]:
        """Open routes by falling score; ties in route order."""
        return sorted(open_routes, key=lambda r: (-self.routes[r].score_e9, r))

    def lead_e9(self, chosen: int, rivals: Collection[int]) -> int | None:
        """Score of `chosen` over the best of `rivals` in 1e-9; negative when one leads; None without a rival."""
        scores = [self.routes[r].score_e9 for r in rivals if r != chosen]
        return self.routes[chosen].score_e9 - max(scores) if scores else None


def explain(scorer: Scorer, observation: NDArray[np.float64], routes: Sequence[str]) -> Explanation:
    """Take every score of one decision apart.

    Args:
        observation: (n_obs,) float64, the flat feature vector.
        routes: (R,) names in the market's order.

    Raises:
        UserError: the parts do not add up to the score, so the policy is not additive.
    """
    obs = np.ascontiguousarray(observation, np.float64)
    scores = scorer.scores_e9(obs[None, :])[0].tolist()
    contributions = scorer.contributions_e9(obs).tolist()
    names = [PACE, *routes]
    parts = [
        _parts(name, scorer.bias_of(row), contributions[row][: N_GLOBAL if row == 0 else None], scores[row])
        for row, name in enumerate(names)
    ]
    return Explanation(parts[0], tuple(parts[1:]))


def _parts(name: str, bias_e9: int, contributions: list[int], score_e9: int) -> ScoreParts:
    by_feature: dict[str, int] = {}
    by_factor: dict[str, int] = {}
    for feature, value in zip(FEATURES, contributions, strict=False):  # the pace has the global features only
        by_feature[feature.name] = value
        by_factor[feature.factor] = by_factor.get(feature.factor, 0) + value
    if bias_e9 + sum(contributions) != score_e9:
        raise UserError(
            f"score of {name}: bias {bias_e9} + contributions {sum(contributions)} is not {score_e9} (in 1e-9). "
            "Only an additive policy can be explained exactly; pass its integer runtime."
        )
    return ScoreParts(name, bias_e9, by_feature, by_factor, score_e9)
