"""Policy search in pairs: every order is worked twice on one tape, with opposite noise on the scores.

What a tape does to both orders cancels in the difference of their costs; what is left is what the noise did:

    gradient of E[cost] ~ E[(C+ - C-) / 2  sum over slots t and twins of (twin's sign) e_t / std  d mean score(s_t)]

the score-function gradient of Williams (1992), Machine Learning 8, with common random numbers, mirrored noise and the
twin as baseline; exact in the limit of small noise (the twin's states differ by what the noise did before). No critic,
so nothing that a critic has learned wrongly can move the policy. A decision costs a fraction of one of PPO. It is meant
for the end of training, when the differences that are left to learn are small against the luck of one order. The noise
of a whole order is credited to each of its slots, so it wants short orders (tens of slots) or many pairs.

Works on any `ScorePolicy`, additive or MLP; the parameters found last are averaged (Polyak and Juditsky 1992). A search
is a function of policy, market, settings and seed, and a stopped one goes on from its file to the same end.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch as th

from ..configs.errors import UserError
from ..configs.experiment import SearchConfig
from ..envs.market import Market
from ..envs.state import Batch
from ..envs.vector_env import EpisodeBatch
from .additive import ScorePolicy

FloatArray = npt.NDArray[np.float64]
View = Callable[[Batch, FloatArray], FloatArray]  # the observation that the policy is given, called once a slot
FIRST_EPISODE = 2 * 10**9  # far beyond the episodes that other training on the same stream uses


class PairedSearch:
    """The state of a search: the policy's actor, its optimizer, the running mean of its parameters.

    Args:
        policy: changed in place.
        stream: of the market's episodes.
        new_view: makes the view of a round's orders; None: the market's own observation.
    """

    def __init__(
        self, market: Market, policy: ScorePolicy, config: SearchConfig, seed: int, *, stream: str = "train",
        new_view: Callable[[], View] | None = None,
    ) -> None:  # fmt: skip
        self.market, self.policy, self.config, self.seed = market, policy, config, seed
        self.new_view = new_view or (lambda: lambda b, obs: obs)
        self.stream = stream
        self.parameters = actor_parameters(policy)
        self.optimizer = th.optim.Adam(self.parameters, lr=config.learning_rate, betas=(0.9, 0.99))
        self.round = 0
        self.sums = [th.zeros_like(value) for value in self.parameters]
        self.averaged = 0

    def run(self, checkpoint: Path | None = None) -> None:
        """All rounds that are left, then the mean parameters in place of the last ones.

        With a file: the search is saved there ten times, and goes on from it if it exists.

        Raises:
            UserError: a file that is not a search of these settings and this seed.
        """
        if checkpoint is not None and checkpoint.is_file():
            self.load(checkpoint)
        c = self.config
        core = EpisodeBatch(
            self.market, 2 * c.pairs, self.seed, self.stream, in_half_spreads=True, reduce_variance=c.reduce_variance,
            numbers=np.tile(FIRST_EPISODE + np.arange(c.pairs), 2) + 2 * c.pairs * self.round,  # type: ignore[arg-type]
        )  # fmt: skip
        while self.round < c.rounds:
            done_frac = self.round / c.rounds
            std = c.start_std * (c.end_std / c.start_std) ** done_frac
            for group in self.optimizer.param_groups:
                group["lr"] = c.learning_rate * c.final_learning_rate_frac**done_frac
            self._step(core, std)
            self.round += 1
            if self.round > (1 - c.tail_frac) * c.rounds:
                self.averaged += 1
                with th.no_grad():
                    for total, value in zip(self.sums, self.parameters, strict=True):
                        total += value
            if checkpoint is not None and self.round % max(1, c.rounds // 10) == 0:
                self.save(checkpoint)
        if self.averaged:
            with th.no_grad():
                for total, value in zip(self.sums, self.parameters, strict=True):
                    value.copy_(total / self.averaged)

    def _step(self, core: EpisodeBatch, std: float) -> None:
        """One batch of pairs and one step of the optimizer."""
        rng = np.random.default_rng([self.seed, self.round])
        seen, weights = pair_gradient(core, self.policy, self.new_view(), std, rng)
        self.optimizer.zero_grad()
        scores = self.policy.mlp_extractor.forward_actor(seen)
        cast(Any, (scores * weights).sum()).backward()
        self.optimizer.step()

    def save(self, path: Path) -> None:
        """Everything that the rest of the search depends on; replaced atomically."""
        state = {
            "seed": self.seed, "config": self.config.model_dump(mode="json"), "round": self.round,
            "parameters": [value.detach() for value in self.parameters], "optimizer": self.optimizer.state_dict(),
            "sums": self.sums, "averaged": self.averaged,
        }  # fmt: skip
        partial = path.with_suffix(".partial")
        th.save(state, partial)
        partial.replace(path)

    def load(self, path: Path) -> None:
        """Back to where `save` was called."""
        try:
            state = th.load(path, weights_only=True)
            same = state["seed"] == self.seed and state["config"] == self.config.model_dump(mode="json")
            shapes = [value.shape for value in state["parameters"]]
        except Exception as error:  # a torn or foreign file fails in torch's reader in a dozen ways
            kind = type(error).__name__
            raise UserError(f"{path}: is no saved search ({kind}). Delete it to start again.") from error
        if not same or shapes != [value.shape for value in self.parameters]:
            raise UserError(f"{path}: is a search of another policy, seed or settings. Delete it to start again.")
        with th.no_grad():
            for value, saved in zip(self.parameters, state["parameters"], strict=True):
                value.copy_(saved)
        self.optimizer.load_state_dict(state["optimizer"])
        self.round, self.sums, self.averaged = state["round"], state["sums"], state["averaged"]


def pair_gradient(
    core: EpisodeBatch, policy: ScorePolicy, view: View, std: float, rng: np.random.Generator
) -> tuple[th.Tensor, th.Tensor]:
    """Work one batch of pairs (row i and row i + pairs on the same tape) to their end.

    Returns:
        (D, n_obs) observations of all decisions and (D, 1 + R) weights: the gradient of the expected cost of an order,
        in half spreads, is that of sum(weights x mean scores at the observations).
    """
    core.replace(np.arange(core.n))
    b, pairs = core.batch, core.n // 2
    cost, seen, noises, workings = np.zeros(core.n), [], [], []
    while (working := b.order["active"] == 1).any():
        obs = view(b, core.obs).astype(np.float32)
        with th.no_grad():
            mean = policy.mlp_extractor.forward_actor(th.from_numpy(obs)).numpy()
        noise = rng.standard_normal((pairs, mean.shape[1])).astype(np.float32)
        noise = np.concatenate([noise, -noise])
        reward, _ = core.step(mean + std * noise)
        cost[working] -= reward[working]
        seen.append(obs[working])
        noises.append(noise[working])
        workings.append(np.flatnonzero(working))
    twin = np.roll(cost, pairs)
    credit = (0.5 * (cost - twin) / (std * core.n)).astype(np.float32)
    weights = np.concatenate([credit[rows, None] * noise for rows, noise in zip(workings, noises, strict=True)])
    return th.from_numpy(np.concatenate(seen)), th.from_numpy(weights)


def actor_parameters(policy: ScorePolicy) -> list[th.Tensor]:
    """What decides: the functions of an additive policy or the network of an MLP; not the critic, not the noise."""
    extractor = cast(Any, policy.mlp_extractor)
    return list((extractor.mlp if extractor.additive is None else extractor.additive).parameters())


def rounds_of(decisions: int, pairs: int, slots: int) -> int:
    """Rounds that see about `decisions` decisions in orders of `slots` slots."""
    return max(1, math.ceil(decisions / (2 * pairs * slots)))
