"""The learning game of O6: the same volume every round over pools of unknown tails, only min(S, sent) is seen.

A round is scored by the exact expected fill of its split, so that what is left of chance is in what was learned. Parts
of lots are sent as they are (a router in the market rounds them), and min(S, sent) comes back.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...configs.allocator import GanchevConfig
from ...envs.counter_rng import derive, key_of
from ..oracles.pool_split import HiddenPool, contra_prob, greedy_split, tails, weighted_fill
from . import exponentiated_gradient, kaplan_meier, lagrangian, reinforcement, thompson

Floats = NDArray[np.float64]
POOLS = tuple(HiddenPool(p0=p0, beta=beta, m=50) for p0, beta in ((0.70, 0.5), (0.80, 0.9), (0.90, 0.25), (0.60, 1.3)))
VOLUME = 20
ROUNDS = 4_000


@dataclass(frozen=True)
class Game:
    """Pools and volume; all else about them is hidden from the rules."""

    pools: Sequence[HiddenPool] = POOLS
    volume: int = VOLUME

    def optimum(self) -> float:
        """Largest expected fill, lots a round."""
        tail = tails(self.pools, self.volume)
        return weighted_fill(tail, greedy_split(tail, self.volume))

    def contra(self, rounds: int, seed: int) -> NDArray[np.int64]:
        """(rounds, P) lots that stand in the pools."""
        rng = np.random.default_rng(seed)
        return np.stack(
            [np.searchsorted(np.cumsum(contra_prob(p)), rng.random(rounds)) for p in self.pools], axis=1
        ).astype(np.int64)

    def expected_fill(self, splits: Floats) -> Floats:
        """(rounds,) of (rounds, P) lots; parts of a lot by linear interpolation."""
        tail = tails(self.pools, self.volume + 1)
        at = np.arange(self.volume + 2)
        filled = np.concatenate([np.zeros((len(self.pools), 1)), np.cumsum(tail, axis=1)], axis=1)
        by_pool = [np.interp(splits[:, i], at, filled[i]) for i in range(len(self.pools))]
        return np.asarray(np.sum(by_pool, axis=0))


class Player(ABC):
    """A rule in the game: `split` writes the lots to send to `lots` (P,), `learn` reads what came back."""

    def __init__(self, game: Game, rounds: int, seed: int) -> None:
        n = len(game.pools)
        self.volume, self.rounds, self.turn = game.volume, rounds, 0
        self.key = np.uint64(derive(key_of("glasspool/learning game"), seed))
        self.state, self.tail = np.zeros((2, n, game.volume)), np.zeros((n, game.volume))
        self.value, self.lots = np.ones(n), np.zeros(n)

    @abstractmethod
    def split(self) -> None: ...

    @abstractmethod
    def learn(self, filled: Floats) -> None: ...


class KaplanMeier(Player):
    n_min = 0.0

    def split(self) -> None:
        kaplan_meier.split(self.state, self.value, self.volume, self.n_min, self.key, self.turn, self.tail, self.lots)

    def learn(self, filled: Floats) -> None:
        kaplan_meier.learn(self.state, self.lots, filled)


class Ganchev(KaplanMeier):
    n_min = GanchevConfig().least_tries


class Thompson(KaplanMeier):
    def split(self) -> None:
        thompson.split(self.state, self.value, self.volume, self.key, self.turn, self.tail, self.lots)


class Agarwal(Player):
    def __init__(self, game: Game, rounds: int, seed: int) -> None:
        super().__init__(game, rounds, seed)
        self.rate = float(np.sqrt(np.log(len(game.pools)) / rounds))
        exponentiated_gradient.start(self.state, self.value)

    def split(self) -> None:
        exponentiated_gradient.split(self.state, self.value, self.volume, self.lots)

    def learn(self, filled: Floats) -> None:
        exponentiated_gradient.learn(self.state, self.value, self.volume, filled, self.rate, False)


class Lagrangian(Player):
    def __init__(self, game: Game, rounds: int, seed: int) -> None:
        super().__init__(game, rounds, seed)
        lagrangian.start(self.state, self.value)

    def split(self) -> None:
        lagrangian.split(self.state, self.value, float(self.volume), 0.0, self.lots)

    def learn(self, filled: Floats) -> None:
        lagrangian.learn(self.state, self.value, self.lots, filled, np.minimum(1.0, np.ceil(self.lots)))


class Reinforcement(Player):
    def __init__(self, game: Game, rounds: int, seed: int) -> None:
        super().__init__(game, rounds, seed)
        reinforcement.start(self.state)

    def split(self) -> None:
        reinforcement.split(self.state, self.value, float(self.volume), 0.0, self.lots)

    def learn(self, filled: Floats) -> None:
        reinforcement.learn(self.state, self.value, float(self.volume), filled)


PLAYERS: dict[str, Callable[[Game, int, int], Player]] = {
    "Kaplan-Meier, no optimism": KaplanMeier,
    "optimistic Kaplan-Meier, N_min = 20": Ganchev,
    "Thompson per hazard": Thompson,
    "per-unit exponentiated gradient": Agarwal,
    "LLP reinforcement": Reinforcement,
    "LLP Lagrangian": Lagrangian,
}


def play(
    player: Callable[[Game, int, int], Player], seed: int, *, rounds: int = ROUNDS, game: Game | None = None
) -> Floats:
    """(rounds,) expected fill of each round's split, lots."""
    game = game or Game()
    contra = game.contra(rounds, seed).astype(float)
    one = player(game, rounds, seed)
    splits = np.zeros((rounds, len(game.pools)))
    for t in range(rounds):
        one.turn = t
        one.split()
        splits[t] = one.lots
        one.learn(np.minimum(contra[t], one.lots))
    return game.expected_fill(splits)
