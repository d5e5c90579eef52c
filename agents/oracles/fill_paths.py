"""One lit market and one dark pool that fills whole or not at all, in slots: the family of O1, O2 and O3.

A slot starts with X units. Lit x and dark y, x, y >= 0 and x + y <= X; y fills whole with probability p.
Its cost is q X^2 + lam_n x^2 + gamma (filled y) + phi (X_after - R_{n+1})^2. The last slot takes x = X.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from ...configs.errors import UserError

DarkFillPolicy = Callable[[int, float], tuple[float, float]]  # (slot, remaining) -> (lit x, dark y)

_SLACK = 1e-9  # of the position: how far x + y may pass it by rounding before the policy is refused
_MAX_POSITIONS = 1_000_000  # twenty slots of a policy whose fill paths never meet again


@dataclass(frozen=True, slots=True)
class FillProblem:
    """A member of the family.

    lam: (n_slots,) lit impact, x costs lam[n] x^2.
    target: (n_slots + 1,) the schedule R_n: units that should be left when slot n starts; the first is x0, the last 0.
    """

    lam: tuple[float, ...]
    target: tuple[float, ...]
    p: float
    x0: float
    q: float = 0.0
    gamma: float = 0.0
    phi: float = 0.0

    @property
    def n_slots(self) -> int:
        return len(self.lam)


def even_targets(x0: float, n_slots: int) -> tuple[float, ...]:
    """The schedule of equal parts."""
    return tuple(x0 * (1 - n / n_slots) for n in range(n_slots + 1))


def cost_of_policy(problem: FillProblem, policy: DarkFillPolicy) -> float:
    """Exact expected cost of a deterministic policy, over all fill paths.

    Args:
        policy: called as policy(slot, remaining) with slot in 0..n_slots-2 and remaining in (0, x0]; returns
            the lit quantity x and the dark quantity y, both >= 0, x + y <= remaining, in the unit of x0. The
            last slot takes what is left without asking, and a finished order is not asked.

    Raises:
        UserError: an action outside those bounds, or more positions than can be held (20 slots of branching).
    """
    cost = 0.0
    law = {problem.x0: 1.0}  # position -> probability; paths that meet again are one position
    for slot in range(problem.n_slots - 1):
        law_after: dict[float, float] = {}
        for remaining, prob in law.items():
            lit, dark = 0.0, 0.0
            if remaining > 0:
                lit, dark = _checked_action(slot, remaining, *policy(slot, remaining))
            cost += prob * (problem.q * remaining**2 + problem.lam[slot] * lit**2 + problem.p * problem.gamma * dark)
            unfilled = max(remaining - lit, 0.0)
            for after, branch_prob in ((unfilled, 1 - problem.p), (max(unfilled - dark, 0.0), problem.p)):
                if branch_prob > 0:
                    law_after[after] = law_after.get(after, 0.0) + prob * branch_prob
                    cost += prob * branch_prob * problem.phi * (after - problem.target[slot + 1]) ** 2
        if len(law_after) > _MAX_POSITIONS:
            raise UserError(
                f"The policy reaches more than {_MAX_POSITIONS:,} positions by slot {slot + 1}, too many for an exact "
                f"cost. Lower n_slots ({problem.n_slots}) to 20 or fewer."
            )
        law = law_after
    return cost + sum(prob * (problem.q + problem.lam[-1]) * remaining**2 for remaining, prob in law.items())


def regrets_on_paths(problem: FillProblem, policy: DarkFillPolicy, best: DarkFillPolicy) -> list[tuple[float, float]]:
    """(probability, regret) of every decision of `policy` on its fill paths, slot by slot.

    Regret: what the decision costs above that of `best`, if `best` decides everything after it.
    """
    regrets, law = [], {problem.x0: 1.0}
    for slot in range(problem.n_slots - 1):
        rest = replace(problem, lam=problem.lam[slot:], target=problem.target[slot:])
        law_after: dict[float, float] = {}
        for remaining, prob in law.items():
            if remaining <= 0:
                continue
            lit, dark = policy(slot, remaining)

            def once(later: int, left: float, slot: int = slot) -> tuple[float, float]:
                return (policy if later == 0 else best)(slot + later, left)

            def always(later: int, left: float, slot: int = slot) -> tuple[float, float]:
                return best(slot + later, left)

            here = replace(rest, x0=remaining)
            regrets.append((prob, cost_of_policy(here, once) - cost_of_policy(here, always)))
            unfilled = max(remaining - lit, 0.0)
            for after, branch_prob in ((unfilled, 1 - problem.p), (max(unfilled - dark, 0.0), problem.p)):
                law_after[after] = law_after.get(after, 0.0) + prob * branch_prob
        law = law_after
    return regrets


def best_catch_up_cost(problem: FillProblem) -> float:
    """Cost of the best simple rule: lit brings the position to the schedule, the rest waits or rests in the pool."""

    def catch_up(dark: bool) -> DarkFillPolicy:
        def rule(slot: int, remaining: float) -> tuple[float, float]:
            lit = min(remaining, max(0.0, remaining - problem.target[slot + 1]))
            return lit, remaining - lit if dark else 0.0

        return rule

    return min(cost_of_policy(problem, catch_up(dark)) for dark in (False, True))


def _checked_action(slot: int, remaining: float, lit: float, dark: float) -> tuple[float, float]:
    lit, dark = float(lit), float(dark)
    if not (lit >= 0 and dark >= 0 and lit + dark <= remaining * (1 + _SLACK)):  # written so that NaN is refused too
        raise UserError(
            f"An action must have lit >= 0, dark >= 0 and lit + dark <= remaining, but the policy returned ({lit}, "
            f"{dark}) in slot {slot} with {remaining} remaining. Clip the policy's output to what is left."
        )
    return lit, dark
