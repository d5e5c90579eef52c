"""Integrated Gradients of MLP policies: attributions that add up to a score but for a residual that is kept.

attr_i = (x_i - x'_i) * mean over the straight way from the reference x' to x of d score / d x_i

(Sundararajan, Taly and Yan (2017), ICML, equation 1.) The mean is a Gauss-Legendre sum, whose error, with float32's, is
the residual: score(x) - score(x') - sum attr. The reference is the middle of every feature's range: scaled features of
0, where the network's first layer adds nothing but its bias. It is the same for every policy, so attributions of
training seeds can be compared; what a feature gets is against its middle, not against its absence.

Scores and parts are rounded to 1e-7: the float64 of a bundle's network may differ in its last digits from one processor
to the next, and a log must be decided again on any of them. Written out because Captum, the usual library, imports
matplotlib with its attributions.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import ClassVar

import numpy as np
import torch as th
from numpy.typing import NDArray

from ..envs.features import N_GLOBAL, N_ROUTE, observation_bounds
from .onnx_policy import MlpNetwork, OnnxMlp
from .policies import MlpPolicy
from .runtime import E9

STEPS = 32
REFERENCE = "middle of every feature's range"
_CHUNK_ROWS = 8_192
_GRID_E9 = 100
Floats = NDArray[np.float64]


def integrated_gradients(
    score: Callable[[th.Tensor], th.Tensor], obs: th.Tensor, reference: th.Tensor, steps: int = STEPS
) -> th.Tensor:
    """(E, n_obs) attributions of `score` (n, n_obs) -> (n,), which must treat its rows one by one.

    Args:
        obs: (E, n_obs); `reference`: (n_obs,).
    """
    nodes, weights = _nodes_and_weights(steps)
    at = th.from_numpy(0.5 * (nodes + 1.0)).to(obs.dtype)
    way = (reference + at[:, None, None] * (obs - reference)).reshape(-1, obs.shape[1]).requires_grad_()
    (slope,) = th.autograd.grad(score(way).sum(), way)
    mean = th.einsum("s,sen->en", th.from_numpy(0.5 * weights).to(obs.dtype), slope.reshape(steps, *obs.shape))
    return (obs - reference) * mean


@cache
def _nodes_and_weights(steps: int) -> tuple[Floats, Floats]:
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    return nodes, weights


class MlpScorer:
    """An MLP policy as explanations see it: scores in 1e-9, the score at the reference as bias, gradients as parts.

    A score may read every route's features; a route feature's part is the sum over the routes.
    """

    exact: ClassVar[bool] = False
    knots: ClassVar[int] = 0

    def __init__(self, policy: MlpPolicy | OnnxMlp | MlpNetwork, steps: int = STEPS) -> None:
        self.policy, self.steps, self.name, self.n_routes = policy, steps, policy.name, policy.n_routes
        self.network = policy.network if isinstance(policy, OnnxMlp) else policy
        low, high = observation_bounds(policy.n_routes)
        self.reference: Floats = 0.5 * (low + high)
        self.biases_e9: NDArray[np.int64] = self.scores_e9(self.reference[None])[0]

    def scores_e9(self, obs: Floats) -> NDArray[np.int64]:
        return _rounded_e9(self.policy.scores(obs))

    def scores(self, obs: Floats) -> Floats:
        return self.policy.scores(obs)

    def contributions_e9(self, obs: Floats) -> NDArray[np.int64]:
        """(E, n_obs) -> (E, 1 + R, features), pace first."""
        rows = 1 + self.n_routes
        parts = self.attributions(np.repeat(obs, rows, axis=0), np.tile(np.eye(rows), (len(obs), 1)))
        return _rounded_e9(by_feature(parts.reshape(len(obs), rows, -1)))

    def attributions(self, obs: Floats, mix: Floats) -> Floats:
        """(E, n_obs): Integrated Gradients of sum_r mix[e, r] score_r, `mix` (E, 1 + R). +1 and -1: of a lead."""
        dtype = self.network.dtype
        reference = th.from_numpy(self.reference.astype(dtype))
        out = np.empty(obs.shape)
        each = max(1, _CHUNK_ROWS // self.steps)
        for first in range(0, len(obs), each):
            x = th.from_numpy(np.ascontiguousarray(obs[first : first + each], dtype))
            m = th.from_numpy(np.asarray(mix[first : first + each], dtype)).repeat(self.steps, 1)
            found = integrated_gradients(partial(self._mixed, m), x, reference, self.steps)
            out[first : first + each] = found.numpy()
        return out

    def _mixed(self, mix: th.Tensor, obs: th.Tensor) -> th.Tensor:
        return (self.network.forward(obs) * mix).sum(dim=1)


def _rounded_e9(values: Floats) -> NDArray[np.int64]:
    return np.rint(values * (E9 // _GRID_E9)).astype(np.int64) * _GRID_E9


def by_feature(attributions: Floats) -> Floats:
    """(..., n_obs) -> (..., features): a route feature's part summed over the routes."""
    lead = attributions.shape[:-1]
    routes = attributions[..., N_GLOBAL:].reshape(*lead, -1, N_ROUTE).sum(axis=-2)
    return np.concatenate([attributions[..., :N_GLOBAL], routes], axis=-1)


__all__ = ["REFERENCE", "STEPS", "MlpScorer", "by_feature", "integrated_gradients"]
