"""From a trained SB3 model to something that scores: the additive runtime, or the MLP as torch runs it."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import torch as th
from numpy.typing import NDArray
from stable_baselines3 import PPO

from .additive import AdditiveScores, ScorePolicy
from .onnx_graph import MlpWeights
from .router import ScoringRouter
from .runtime import E9, AdditiveRuntime


class TorchPolicy:
    """Mean scores of an SB3 policy as torch computes them."""

    dtype = np.float32

    def __init__(self, policy: ScorePolicy, name: str = "learned") -> None:
        self.name = name
        self._policy = policy
        self.n_routes = policy.mlp_extractor.latent_dim_pi - 1

    def scores(self, obs: NDArray[np.float64]) -> NDArray[np.float64]:
        with th.no_grad():
            actor = self.forward(th.from_numpy(obs.astype(np.float32)))
        return cast("NDArray[np.float64]", actor.numpy().astype(np.float64))

    def forward(self, obs: th.Tensor) -> th.Tensor:
        """(E, n_obs) float32 -> (E, 1 + R) mean scores, differentiable."""
        return self._policy.mlp_extractor.forward_actor(obs)


class MlpPolicy(TorchPolicy):
    """An MLP on what every router sees: it can be exported and explained."""

    def weights(self) -> MlpWeights:
        """Scaling and layers in float64, for export."""
        extractor = self._policy.mlp_extractor
        layers = [m for m in cast("th.nn.Module", extractor.mlp).modules() if isinstance(m, th.nn.Linear)]

        def plain(value: th.Tensor) -> NDArray[np.float64]:
            return cast("NDArray[np.float64]", value.detach().numpy().astype(np.float64))

        n = cast(int, extractor.n_actor)
        low, span = (plain(cast(th.Tensor, value)[:n]) for value in (extractor.low, extractor.span))
        return MlpWeights(low, span, tuple((plain(m.weight), plain(m.bias)) for m in layers))

    def parameters(self) -> list[th.Tensor]:
        """Of the network that scores."""
        return list(cast("th.nn.Module", self._policy.mlp_extractor.mlp).parameters())


def snapshot(policy: ScorePolicy, name: str = "learned") -> ScoringRouter:
    """What the policy decides now, detached from training. Privileged policies are bounds: torch runs them."""
    actor = cast("AdditiveScores | None", policy.mlp_extractor.additive)
    if policy.privileged != "none":
        return TorchPolicy(policy, name)
    return MlpPolicy(policy, name) if actor is None else additive_runtime(actor, name)


def additive_runtime(actor: AdditiveScores, name: str = "learned") -> AdditiveRuntime:
    """Float32 tables rounded to 1e-9."""
    with th.no_grad():
        table, bias = actor.tables()
    return AdditiveRuntime(
        np.rint(table.numpy().astype(np.float64) * E9).astype(np.int64),
        np.rint(bias.numpy().astype(np.float64) * E9).astype(np.int64),
        actor.kind,
        tuple(actor.kind_names),
        name,
    )


def load_policy(path: Path, name: str = "learned") -> ScoringRouter:
    """A `policy.zip` written by training. It holds a pickle: load only what you trained yourself."""
    model = PPO.load(path, device="cpu")
    return snapshot(cast(ScorePolicy, model.policy), name)
