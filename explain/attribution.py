"""Attributions: exact for an additive policy, where they are the computation and add up to the score to the last digit.

An MLP's (Integrated Gradients) add up but for a residual, which is kept.

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
    """A policy whose scores are a bias and one whole number of 1e-9 a feature; a residual where it is not exact."""

    @property
    def exact(self) -> bool:
        """The parts add up to the last digit."""
        ...

    @property
    def knots(self) -> int:
        """Equal knots of the functions over each feature's range, linear between them; 0: no such functions."""
        ...

    @property
    def biases_e9(self) -> NDArray[np.int64]:
        """(1 + R,) bias of each score: the pace, then the routes."""
        ...

    def scores_e9(self, obs: NDArray[np.float64]) -> NDArray[np.int64]:
        """(E, n_obs) -> (E, 1 + R), pace first."""
        ...

    def contributions_e9(self, obs: NDArray[np.float64]) -> NDArray[np.int64]:
        """(E, n_obs) -> (E, 1 + R, features): what each feature adds to each score."""
        ...


@dataclass(frozen=True, slots=True)
class ScoreParts:
    """One score taken apart, in 1e-9: bias_e9 + sum(feature_attr_e9) + residual_e9 == score_e9; so with attr_e9."""

    route: str
    bias_e9: int
    feature_attr_e9: dict[str, int]
    attr_e9: dict[str, int]  # by decision factor
    residual_e9: int  # 0 for an additive policy
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
    obs = np.ascontiguousarray(observation, np.float64)[None, :]
    scores = scorer.scores_e9(obs)[0].tolist()
    contributions = scorer.contributions_e9(obs)[0].tolist()
    biases = scorer.biases_e9.tolist()
    parts = [
        _parts(name, biases[row], contributions[row][: N_GLOBAL if row == 0 and scorer.exact else None], scores[row])
        for row, name in enumerate([PACE, *routes])
    ]
    if scorer.exact:
        for p in parts:
            _refuse_residual(p)
    return Explanation(parts[0], tuple(parts[1:]))


def _parts(name: str, bias_e9: int, contributions: list[int], score_e9: int) -> ScoreParts:
    by_feature: dict[str, int] = {}
    by_factor: dict[str, int] = {}
    for feature, value in zip(FEATURES, contributions, strict=False):  # an additive pace has the global features only
        by_feature[feature.name] = value
        by_factor[feature.factor] = by_factor.get(feature.factor, 0) + value
    return ScoreParts(name, bias_e9, by_feature, by_factor, score_e9 - bias_e9 - sum(contributions), score_e9)


def _refuse_residual(p: ScoreParts) -> None:
    if p.residual_e9:
        raise UserError(
            f"score of {p.route}: bias {p.bias_e9} + contributions {sum(p.feature_attr_e9.values())} is not "
            f"{p.score_e9} (in 1e-9). Only an additive policy can be explained exactly; pass its integer runtime."
        )


def margin_parts(mine: ScoreParts, theirs: ScoreParts) -> dict[str, object]:
    """The lead of one route over another, feature by feature, in 1e-9.

    margin_e9 == bias_e9 + sum(feature_attr_e9) + residual_e9, and the same with attr_e9.
    """
    names = {**theirs.feature_attr_e9, **mine.feature_attr_e9}
    factors = {**theirs.attr_e9, **mine.attr_e9}
    return {
        "margin_e9": mine.score_e9 - theirs.score_e9, "bias_e9": mine.bias_e9 - theirs.bias_e9,
        "feature_attr_e9": {n: mine.feature_attr_e9.get(n, 0) - theirs.feature_attr_e9.get(n, 0) for n in names},
        "attr_e9": {f: mine.attr_e9.get(f, 0) - theirs.attr_e9.get(f, 0) for f in factors},
        "residual_e9": mine.residual_e9 - theirs.residual_e9,
    }  # fmt: skip
