"""Policy search in pairs: every order is worked twice on one tape, with opposite noise on the decisions.

What a tape does to both orders cancels in the difference of their costs; what is left is what the noise did. No critic,
so nothing that a critic has learned wrongly can move the policy, and a decision costs a fraction of one of PPO. Two
kinds of noise (`SearchConfig.noise`):

*scores*: new noise e_t on every score in every slot, the score-function gradient of Williams (1992), Machine Learning
8, with common random numbers, mirrored noise and the twin as baseline:

    gradient of E[cost] ~ E[(C+ - C-) / 2  sum over slots t and twins of (twin's sign) e_t / std  d mean score(s_t)]

The noise of a whole order is credited to each of its slots, so it wants short orders (tens of slots).

*parameters*: each pair has one disturbance e of the policy's parameters for the whole order, so that long orders cost
no precision (Sehnke et al. 2010, Neural Networks 23, parameter-exploring policy gradients, symmetric sampling):

    gradient of E[cost] ~ E[(C+ - C-) / 2  e / std]

It wants few parameters (an additive policy's hundreds) or many pairs.

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
from .additive import ScorePolicy, scores_by_table

FloatArray = npt.NDArray[np.float64]
Floats32 = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
View = Callable[[Batch, FloatArray], FloatArray]  # the observation that the policy is given, called once a slot
PAIRS_SIDE_BY_SIDE = 256  # of parameter noise: so many that the processor's cache holds a slot of theirs
FIRST_EPISODE = 2 * 10**9  # far beyond the episodes that other training on the same stream uses


class PairedSearch:
    """The state of a search: the policy's actor, its optimizer, the running mean of its parameters.

    Args:
        policy: changed in place.
        new_view: makes the view of a round's orders; None: the market's own observation.
        parents: how its orders are worked; with the latent columns that the policy sees (`policy.privileged`).
    """

    def __init__(
        self, market: Market, policy: ScorePolicy, config: SearchConfig, seed: int, *,
        new_view: Callable[[], View] | None = None, parents: type[EpisodeBatch] = EpisodeBatch,
    ) -> None:  # fmt: skip
        self.market, self.policy, self.config, self.seed = market, policy, config, seed
        self.new_view = new_view or (lambda: lambda b, obs: obs)
        self.parents = parents
        self.parameters = actor_parameters(policy)
        self.optimizer = th.optim.Adam(self.parameters, lr=config.learning_rate, betas=(0.9, 0.99))
        self.round, self.decisions = 0, 0
        self.sums = [th.zeros_like(value) for value in self.parameters]
        self.averaged = 0

    def run(self, checkpoint: Path | None = None, after_round: Callable[[], bool] | None = None) -> None:
        """All rounds that are left, then the mean parameters in place of the last ones.

        Args:
            checkpoint: the search is saved there at each milestone, and goes on from it if it exists.
            after_round: called after each round, before a save; False stops the search there.

        Raises:
            UserError: a file that is not a search of these settings and this seed.
        """
        if checkpoint is not None and checkpoint.is_file():
            self.load(checkpoint)
        c = self.config
        side_by_side = c.pairs if c.noise == "scores" else min(c.pairs, PAIRS_SIDE_BY_SIDE)
        core = self.parents(
            self.market, 2 * side_by_side, self.seed, in_half_spreads=True, reduce_variance=c.reduce_variance,
            privileged=self.policy.privileged,
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
            go_on = after_round is None or after_round()
            if checkpoint is not None and (self.at_milestone or not go_on):
                self.save(checkpoint)
            if not go_on:
                return
        if self.averaged:
            with th.no_grad():
                for total, value in zip(self.sums, self.parameters, strict=True):
                    value.copy_(total / self.averaged)

    @property
    def at_milestone(self) -> bool:
        """A tenth of the rounds is done, or two, ..., or all."""
        return self.round % max(1, self.config.rounds // 10) == 0

    def _step(self, core: EpisodeBatch, std: float) -> None:
        """One round of pairs and one step of the optimizer."""
        rng = np.random.default_rng([self.seed, self.round])
        pairs = self.config.pairs
        numbers = FIRST_EPISODE + 2 * pairs * self.round + np.arange(pairs)
        self.optimizer.zero_grad()
        if self.config.noise == "parameters":
            gradient, decisions = parameter_noise_gradient(core, self.policy, self.new_view, std, rng, numbers)
            self.decisions += decisions
            for value, slope in zip(self.parameters, gradient, strict=True):
                value.grad = slope
        else:
            seen, weights = score_noise_gradient(core, self.policy, self.new_view(), std, rng, numbers)
            self.decisions += len(seen)
            scores = self.policy.mlp_extractor.forward_actor(seen)
            cast(Any, (scores * weights).sum()).backward()
        self.optimizer.step()

    def save(self, path: Path) -> None:
        """Everything that the rest of the search depends on; replaced atomically."""
        state = {
            "seed": self.seed, "config": self.config.model_dump(mode="json"), "round": self.round,
            "decisions": self.decisions, "parameters": [value.detach() for value in self.parameters],
            "optimizer": self.optimizer.state_dict(), "sums": self.sums, "averaged": self.averaged,
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
        self.round, self.decisions = state["round"], state["decisions"]
        self.sums, self.averaged = state["sums"], state["averaged"]


def pair_costs(
    core: EpisodeBatch, numbers: IntArray, view: View, decide: Callable[[IntArray, Floats32], Floats32]
) -> FloatArray:
    """Work each of the orders `numbers` twice, rows i and i + pairs, to their end; (2 pairs,) costs in half spreads.

    `decide`: (working rows, their observations) -> their actions.
    """
    core.start(np.tile(numbers, 2))
    b, cost = core.batch, np.zeros(2 * len(numbers))
    actions = np.zeros((core.n, 1 + len(core.market.routes)))
    while (rows := np.flatnonzero(b.order["active"])).size:
        actions[rows] = decide(rows, view(b, core.obs)[rows].astype(np.float32))
        reward, _ = core.step(actions)
        cost[rows] -= reward[rows]
    return cost


def score_noise_gradient(
    core: EpisodeBatch, policy: ScorePolicy, view: View, std: float, rng: np.random.Generator, numbers: IntArray
) -> tuple[th.Tensor, th.Tensor]:
    """One round of pairs on the orders `numbers`, whose scores are disturbed anew in every slot.

    Returns:
        (D, n_obs) observations of all decisions and (D, 1 + R) weights: the gradient of the expected cost of an order,
        in half spreads, is that of sum(weights x mean scores at the observations).
    """
    pairs, n_scores = len(numbers), 1 + len(core.market.routes)
    seen: list[Floats32] = []
    noises: list[Floats32] = []
    workings: list[IntArray] = []

    def decide(rows: IntArray, obs: Floats32) -> Floats32:
        with th.no_grad():
            mean = policy.mlp_extractor.forward_actor(th.from_numpy(obs)).numpy()
        noise = rng.standard_normal((pairs, n_scores)).astype(np.float32)
        noise = np.concatenate([noise, -noise])[rows]
        seen.append(obs)
        noises.append(noise)
        workings.append(rows)
        return np.asarray(mean + std * noise, np.float32)

    cost = pair_costs(core, numbers, view, decide)
    credit = (0.5 * (cost - np.roll(cost, pairs)) / (std * 2 * pairs)).astype(np.float32)
    weights = np.concatenate([credit[rows, None] * noise for rows, noise in zip(workings, noises, strict=True)])
    return th.from_numpy(np.concatenate(seen)), th.from_numpy(weights)


def parameter_noise_gradient(
    core: EpisodeBatch, policy: ScorePolicy, new_view: Callable[[], View], std: float, rng: np.random.Generator,
    numbers: IntArray,
) -> tuple[list[th.Tensor], int]:  # fmt: skip
    """One round of pairs on the orders `numbers`, each worked by the parameters plus and minus one disturbance.

    Orders of one length are worked side by side, as many pairs as `core` has room for: none waits for longer ones.

    Returns:
        The gradient of the expected cost of an order, in half spreads, by each of `actor_parameters`; decisions made.
    """
    parameters, pairs = actor_parameters(policy), len(numbers)
    noises = [th.from_numpy(rng.standard_normal((pairs, *p.shape)).astype(np.float32)) for p in parameters]
    difference, decisions = np.zeros(pairs), 0
    turn = np.argsort(core.market.horizon_slots(core.key, numbers), kind="stable")
    for some in np.split(turn, range(core.n // 2, pairs, core.n // 2)):
        with th.no_grad():
            steps = [std * noise[th.from_numpy(some)] for noise in noises]
            own = [th.cat([p + step, p - step]) for p, step in zip(parameters, steps, strict=True)]
        cost = pair_costs(core, numbers[some], new_view(), each_by_its_own(policy, own))
        difference[some] = cost[: len(some)] - cost[len(some) :]
        decisions += int(core.batch.episode["n_slots"][: len(cost)].sum())
    credit = th.from_numpy((0.5 * difference / (std * pairs)).astype(np.float32))
    return [th.tensordot(credit, noise, dims=1) for noise in noises], decisions


def each_by_its_own(policy: ScorePolicy, own: list[th.Tensor]) -> Callable[[IntArray, Floats32], Floats32]:
    """Scores of rows, each by its own parameters; `own` has them as `actor_parameters`, rows first."""
    extractor = cast(Any, policy.mlp_extractor)
    if (actor := extractor.additive) is not None:
        named = dict(zip([name for name, _ in actor.named_parameters()], own, strict=True))
        with th.no_grad():
            tables, biases = actor.tables(named["raw"], named["bias"])
        return lambda rows, obs: scores_by_table(obs, tables, biases, rows, actor.kind, actor.layout)
    named = dict(zip([name for name, _ in extractor.mlp.named_parameters()], own, strict=True))
    each = th.func.vmap(lambda parameters, x: th.func.functional_call(extractor.mlp, parameters, (x,)))

    def decide(rows: IntArray, obs: Floats32) -> Floats32:
        with th.no_grad():
            x = extractor.scaled(th.from_numpy(obs[:, : extractor.n_actor]))
            of_rows = {name: value[th.from_numpy(rows)] for name, value in named.items()}
            return cast(Floats32, extractor.bounded(each(of_rows, x)).numpy())

    return decide


def actor_parameters(policy: ScorePolicy) -> list[th.Tensor]:
    """What decides: the functions of an additive policy or the network of an MLP; not the critic, not the noise."""
    extractor = cast(Any, policy.mlp_extractor)
    return list((extractor.mlp if extractor.additive is None else extractor.additive).parameters())


def rounds_of(decisions: int, pairs: int, slots: int) -> int:
    """Rounds that see about `decisions` decisions in orders of `slots` slots."""
    return max(1, math.ceil(decisions / (2 * pairs * slots)))
