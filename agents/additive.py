"""The glass-box policy: every score is a bias plus a sum of one-feature piecewise-linear functions.

score(route) = bias[kind] + sum over global features f[kind](x) + sum over route features f[kind](x_route)
score(pace)  = bias + sum over global features f(x)

Venues of an order type share their functions (kind = order type), so adding, removing or reordering venues needs no
retraining; or every route has its own (kind = route). Functions live on equal knots over the feature's range. Functions
of venue quality can be monotone by construction: increments are squares. Scores stay within the action box by
construction: a kind whose largest possible score exceeds the bound is scaled down as a whole, which keeps it additive.

Only the two knots around a value are touched, in compiled code behind a torch autograd function (a naive hat-basis
expansion is an order of magnitude slower).
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from numba import njit
from numpy.typing import NDArray
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import Schedule
from torch import nn

from ..envs.privileged import Level
from ..envs.state import ORDER_TYPES
from ..envs.vector_env import ACTION_BOUND
from .layout import Layout, layout_of


@njit(cache=True, nogil=True, fastmath=False)
def _locate(x: float, low: float, span: float, knots: int) -> tuple[int, float]:
    position = (x - low) / span * (knots - 1)
    left = min(max(int(position), 0), knots - 2)
    return left, min(max(position - left, 0.0), 1.0)


@njit(cache=True, nogil=True)
def _forward(
    obs: NDArray[Any],
    tables: NDArray[Any],
    biases: NDArray[Any],
    which: NDArray[np.int64],
    kind: NDArray[Any],
    out: NDArray[Any],
    global_at: NDArray[np.int64],
    route_at: NDArray[np.int64],
    low: NDArray[Any],
    span: NDArray[Any],
) -> None:
    """out (B, 1 + R) scores of row i by table which[i]; tables (T, 1 + kinds, G + F, knots), kind 0 is the pace."""
    _, n_kinds, _, knots = tables.shape
    n_global = global_at.shape[0]
    shared = np.zeros(n_kinds, obs.dtype)
    for i in range(obs.shape[0]):
        table = tables[which[i]]
        for k in range(n_kinds):
            shared[k] = biases[which[i], k]
        for f in range(n_global):
            left, w = _locate(obs[i, global_at[f]], low[f], span[f], knots)
            for k in range(n_kinds):
                shared[k] += table[k, f, left] * (1 - w) + table[k, f, left + 1] * w
        out[i, 0] = shared[0]
        for r in range(kind.shape[0]):
            k = kind[r]
            score = shared[k]
            for j in range(route_at.shape[1]):
                f = n_global + j
                left, w = _locate(obs[i, route_at[r, j]], low[f], span[f], knots)
                score += table[k, f, left] * (1 - w) + table[k, f, left + 1] * w
            out[i, 1 + r] = score


@njit(cache=True, nogil=True)
def _backward(
    obs: NDArray[Any],
    grad: NDArray[Any],
    kind: NDArray[Any],
    d_table: NDArray[Any],
    d_bias: NDArray[Any],
    global_at: NDArray[np.int64],
    route_at: NDArray[np.int64],
    low: NDArray[Any],
    span: NDArray[Any],
) -> None:
    """Accumulate the gradient of `grad` (B, 1 + R) in d_table and d_bias (float64: sums over large batches)."""
    n_kinds, _, knots = d_table.shape
    n_global = global_at.shape[0]
    shared = np.zeros(n_kinds)
    for i in range(obs.shape[0]):
        shared[:] = 0.0
        shared[0] = grad[i, 0]
        for r in range(kind.shape[0]):
            k, g = kind[r], grad[i, 1 + r]
            shared[k] += g
            for j in range(route_at.shape[1]):
                f = n_global + j
                left, w = _locate(obs[i, route_at[r, j]], low[f], span[f], knots)
                d_table[k, f, left] += g * (1 - w)
                d_table[k, f, left + 1] += g * w
        for k in range(n_kinds):
            d_bias[k] += shared[k]
        for f in range(n_global):
            left, w = _locate(obs[i, global_at[f]], low[f], span[f], knots)
            for k in range(n_kinds):
                d_table[k, f, left] += shared[k] * (1 - w)
                d_table[k, f, left + 1] += shared[k] * w


def scores_by_table(
    obs: NDArray[np.float32], tables: th.Tensor, biases: th.Tensor, which: NDArray[np.int64], kind: NDArray[np.int64],
    layout: Layout,
) -> NDArray[np.float32]:  # fmt: skip
    """(B, 1 + R) scores of observations (B, n_obs), row i by table which[i] of `AdditiveScores.tables`."""
    out = np.empty((obs.shape[0], 1 + kind.shape[0]), np.float32)
    columns = (layout.global_at, layout.route_at, layout.low, layout.span)
    _forward(obs, tables.detach().numpy(), biases.detach().numpy(), which, kind, out, *columns)
    return out


class _AdditiveScores(th.autograd.Function):
    """Scores of a batch; the observation gets no gradient."""

    @staticmethod
    def forward(
        ctx: Any, obs: th.Tensor, table: th.Tensor, bias: th.Tensor, kind: NDArray[np.int64], layout: Layout
    ) -> th.Tensor:
        ctx.save_for_backward(obs, table)
        ctx.kind, ctx.layout = kind, layout
        one = np.zeros(obs.shape[0], np.int64)
        return th.from_numpy(scores_by_table(obs.numpy(), table[None], bias[None], one, kind, layout))

    @staticmethod
    def backward(ctx: Any, grad: th.Tensor) -> tuple[None, th.Tensor, th.Tensor, None, None]:
        obs, table = ctx.saved_tensors
        d_table, d_bias = np.zeros(table.shape), np.zeros(table.shape[0])
        columns = (ctx.layout.global_at, ctx.layout.route_at, ctx.layout.low, ctx.layout.span)
        _backward(obs.numpy(), np.ascontiguousarray(grad.numpy()), ctx.kind, d_table, d_bias, *columns)
        return None, th.from_numpy(d_table.astype(np.float32)), th.from_numpy(d_bias.astype(np.float32)), None, None


def route_kinds(route_types: NDArray[np.int64], share_venues: bool) -> tuple[NDArray[np.int64], list[str]]:
    """Row of the table per route (row 0 is the pace), and the names of the rows."""
    if share_venues:
        return 1 + np.asarray(route_types, np.int64), ["pace", *ORDER_TYPES]
    return 1 + np.arange(len(route_types)), ["pace", *(f"route_{i}" for i in range(len(route_types)))]


class AdditiveScores(nn.Module):
    """Parameters of the additive policy and the map from them to the effective table."""

    sign: th.Tensor  # (1 + kinds, features, 1): +1 rising, -1 falling, 0 free

    def __init__(
        self, route_types: NDArray[np.int64], knots: int, share_venues: bool, monotone: bool, privileged: Level = "none"
    ) -> None:
        super().__init__()
        self.kind, self.kind_names = route_kinds(route_types, share_venues)
        self.layout, self.privileged = layout_of(len(route_types), privileged), privileged
        n_kinds, n_features = len(self.kind_names), len(self.layout.features)
        rises = self.layout.monotone
        sign = np.tile(rises if monotone else np.zeros_like(rises), (n_kinds, 1))
        sign[0] = 0
        self.register_buffer("sign", th.from_numpy(sign).float()[:, :, None])
        self.bias = nn.Parameter(th.zeros(n_kinds))
        # free features: values at the knots; monotone ones: square roots of the increments, small at first
        start = th.where(self.sign != 0, th.full((n_kinds, n_features, knots), 0.1), th.zeros(1))
        self.raw = nn.Parameter(start)

    def tables(self, raw: th.Tensor | None = None, bias: th.Tensor | None = None) -> tuple[th.Tensor, th.Tensor]:
        """(table (..., 1 + kinds, features, knots), bias (..., 1 + kinds)), bounded so that no score leaves the action
        box; of other parameters than the module's own (with leading dimensions, if any) where they are given."""
        raw, bias = self.raw if raw is None else raw, self.bias if bias is None else bias
        increments = raw[..., 1:].square().cumsum(dim=-1)
        rising = th.cat([th.zeros_like(raw[..., :1]), increments], dim=-1)
        rising = rising - rising.mean(dim=-1, keepdim=True)
        table = th.where(self.sign != 0, self.sign * rising, raw)
        reach = bias.abs() + table.abs().amax(dim=-1).sum(dim=-1)
        scale = th.clamp(ACTION_BOUND / th.clamp(reach, min=1e-9), max=1.0)
        return (table * scale[..., None, None]).contiguous(), bias * scale

    def forward(self, obs: th.Tensor) -> th.Tensor:
        table, bias = self.tables()
        return _AdditiveScores.apply(obs, table, bias, self.kind, self.layout)  # type: ignore[no-any-return, no-untyped-call]


def _mlp(sizes: list[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a, b in pairwise(sizes):
        layers += [nn.Linear(a, b), nn.Tanh()]
    return nn.Sequential(*layers)


class _ActorCritic(nn.Module):
    """SB3's latent extractor: the actor's output is the score vector itself, the critic an MLP on scaled features.

    The actor reads the first `n_actor` columns, the critic all of them: it may be shown what no router sees.
    """

    low: th.Tensor  # (n_obs,) of the features' ranges
    span: th.Tensor

    def __init__(
        self, space: gym.spaces.Box, n_actor: int, actor: AdditiveScores | None, hidden: list[int],
        critic_hidden: list[int], n_routes: int,
    ) -> None:  # fmt: skip
        super().__init__()
        self.additive, self.n_actor = actor, n_actor
        self.register_buffer("low", th.from_numpy(space.low))
        self.register_buffer("span", th.from_numpy(space.high - space.low))
        self.critic = _mlp([space.shape[0], *critic_hidden])
        self.latent_dim_vf = critic_hidden[-1]
        if actor is None:
            head = nn.Linear(hidden[-1], 1 + n_routes)
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)
            self.mlp = nn.Sequential(_mlp([n_actor, *hidden]), head)
        self.latent_dim_pi = 1 + n_routes

    def scaled(self, obs: th.Tensor) -> th.Tensor:
        """The columns of `obs`, all or the actor's alone, from their ranges to -1 ... 1."""
        n = obs.shape[1]
        return 2 * (obs - self.low[:n]) / self.span[:n] - 1

    def forward(self, obs: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        return self.forward_actor(obs), self.forward_critic(obs)

    def forward_actor(self, obs: th.Tensor) -> th.Tensor:
        if self.additive is not None:
            return self.additive(obs)  # type: ignore[no-any-return]
        return self.bounded(self.mlp(self.scaled(obs[:, : self.n_actor])))

    @staticmethod
    def bounded(out: th.Tensor) -> th.Tensor:
        """An MLP's scores, within the action box."""
        return ACTION_BOUND * th.tanh(out / ACTION_BOUND)

    def forward_critic(self, obs: th.Tensor) -> th.Tensor:
        return self.critic(self.scaled(obs))  # type: ignore[no-any-return]


class ScorePolicy(ActorCriticPolicy):
    """SB3 policy whose mean action is the score vector of the additive model or of an MLP."""

    def __init__(
        self, observation_space: gym.Space[Any], action_space: gym.Space[Any], lr_schedule: Schedule, *,
        route_types: list[int], policy: str = "additive", knots: int = 9, share_venues: bool = True,
        monotone: bool = True, hidden: list[int] | None = None, critic_hidden: list[int] | None = None,
        privileged: Level = "none", **kwargs: Any,
    ) -> None:  # fmt: skip
        sizes = (hidden or [64, 64], critic_hidden or [64, 64])
        self._options = (route_types, policy, knots, share_venues, monotone, *sizes, privileged)
        self.privileged = privileged
        kwargs["ortho_init"] = False
        super().__init__(observation_space, action_space, lr_schedule, **kwargs)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        route_types, policy, knots, share, monotone, hidden, critic_hidden, privileged = self._options
        return super()._get_constructor_parameters() | {
            "route_types": route_types, "policy": policy, "knots": knots, "share_venues": share, "monotone": monotone,
            "hidden": hidden, "critic_hidden": critic_hidden, "privileged": privileged,
        }  # fmt: skip

    def _build_mlp_extractor(self) -> None:
        route_types, policy, knots, share, monotone, hidden, critic_hidden, privileged = self._options
        kinds, space = np.asarray(route_types), self.observation_space
        assert isinstance(space, gym.spaces.Box)
        actor = AdditiveScores(kinds, knots, share, monotone, privileged) if policy == "additive" else None
        width = layout_of(len(route_types), privileged).width
        self.mlp_extractor = _ActorCritic(  # type: ignore[assignment]
            space, width, actor, hidden, critic_hidden, len(route_types)
        )

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)
        self.action_net = nn.Identity()  # the extractor's output already is the mean action
        self.optimizer = self.optimizer_class(
            self.parameters(),
            lr=lr_schedule(1),  # type: ignore[call-arg]  # every optimizer class has it, the base class has not
            **self.optimizer_kwargs,
        )
