"""Exact optimum of the all-or-nothing family (`fill_paths.py`) by recursion on the knots of V'.

V_n is convex and piecewise quadratic, so V'_n is increasing and piecewise linear. With G(k) = V'_{n+1}(k) +
2 phi (k - R_{n+1}), the marginal cost of k units left after slot n:

    b_n = G^-1(gamma),  W(k) = p min(G(k), gamma) + (1 - p) G(k),  k + W(k)+ / (2 lam_n) = X
    x = X - k,  y = (k - b_n)+,  V'_n(X) = 2 q X + W(k),  V_n(0) = V_{n+1}(0) + phi R_{n+1}^2

The last slot: V'(X) = 2 (lam + q) X. Computed with 60 digits: the tracking term makes V a difference of large numbers.

Source of the structure (dark orders cover only the part above b_n): Kratz (2012), arXiv 1204.2498.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, localcontext

from .fill_paths import FillProblem

_DIGITS = 60
_Number = Decimal


@dataclass(frozen=True, slots=True)
class _Slopes:
    """An increasing piecewise-linear function on [0, inf): knots, values there, slope beyond the last."""

    at: list[_Number]
    value: list[_Number]
    tail: _Number


@dataclass(frozen=True, slots=True)
class _SlotRule:
    """k, the units kept back from the lit market, as a function of X: linear between knots; and b."""

    at: list[float]
    kept: list[float]
    tail: float
    threshold: float  # inf: the pool is not used


@dataclass(frozen=True, slots=True)
class FillSolution:
    """The optimum: value V_0(x0), and the policy.

    threshold: (n_slots - 1,) b_n: the dark order leaves this much to later slots; inf where it is never used.
    """

    value: float
    threshold: tuple[float, ...]
    rules: tuple[_SlotRule, ...]

    def policy(self, slot: int, remaining: float) -> tuple[float, float]:
        """The optimal (lit, dark) quantities with `remaining` left at the start of a slot before the last."""
        rule = self.rules[slot]
        i = len(rule.at) - 1
        while i > 0 and rule.at[i] > remaining:
            i -= 1
        if i == len(rule.at) - 1:
            kept = rule.kept[i] + rule.tail * (remaining - rule.at[i])
        else:
            slope = (rule.kept[i + 1] - rule.kept[i]) / (rule.at[i + 1] - rule.at[i])
            kept = rule.kept[i] + slope * (remaining - rule.at[i])
        kept = min(max(kept, 0.0), remaining)
        return remaining - kept, max(kept - rule.threshold, 0.0)

    def no_fill_path(self, x0: float) -> list[tuple[float, float]]:
        """(lit, dark) of every slot if the dark order never fills; the last slot takes the rest."""
        left, path = x0, []
        for slot in range(len(self.rules)):
            path.append(self.policy(slot, left))
            left -= path[-1][0]
        return [*path, (left, 0.0)]


def solve_fill_problem(problem: FillProblem) -> FillSolution:
    """The optimum and its policy; see the head of this file."""
    with localcontext() as context:
        context.prec = _DIGITS
        p, q, gamma, phi, x0 = (Decimal(v) for v in (problem.p, problem.q, problem.gamma, problem.phi, problem.x0))
        zero, two = Decimal(0), Decimal(2)
        slopes = _Slopes([zero], [zero], two * (Decimal(problem.lam[-1]) + q))
        at_zero = zero
        rules: list[_SlotRule] = []
        for n in range(problem.n_slots - 2, -1, -1):
            lam, target = Decimal(problem.lam[n]), Decimal(problem.target[n + 1])
            marginal = _Slopes(
                slopes.at,
                [v + two * phi * (k - target) for k, v in zip(slopes.at, slopes.value, strict=True)],
                slopes.tail + two * phi,
            )
            threshold = _first_at(marginal, gamma)
            kept = _with_knot(marginal, gamma)
            worth = [p * min(g, gamma) + (1 - p) * g for g in kept.value]
            tail = kept.tail if threshold is None else (1 - p) * kept.tail
            waits = _with_knot(_Slopes(kept.at, worth, tail), zero)
            at = [k + max(w, zero) / (two * lam) for k, w in zip(waits.at, waits.value, strict=True)]
            lit_tail = waits.tail if waits.value[-1] >= 0 else zero
            kept_tail = 1 / (1 + lit_tail / (two * lam))
            slopes = _Slopes(
                at,
                [two * q * x + w for x, w in zip(at, waits.value, strict=True)],
                two * q + waits.tail * kept_tail,
            )
            at_zero += phi * target * target
            rules.append(
                _SlotRule(
                    [float(x) for x in at], [float(k) for k in waits.at], float(kept_tail),
                    float("inf") if threshold is None else float(threshold),
                )
            )  # fmt: skip
        value = float(at_zero + _integral(slopes, x0))
    rules.reverse()
    return FillSolution(value, tuple(rule.threshold for rule in rules), tuple(rules))


def _first_at(slopes: _Slopes, level: _Number) -> _Number | None:
    """The least k >= 0 with f(k) >= level, or None."""
    if slopes.value[0] >= level:
        return slopes.at[0]
    for i in range(1, len(slopes.at)):
        if slopes.value[i] >= level:
            low, high = slopes.value[i - 1], slopes.value[i]
            return slopes.at[i - 1] + (slopes.at[i] - slopes.at[i - 1]) * (level - low) / (high - low)
    if slopes.tail <= 0:
        return None
    return slopes.at[-1] + (level - slopes.value[-1]) / slopes.tail


def _with_knot(slopes: _Slopes, level: _Number) -> _Slopes:
    """The same function with a knot where it first reaches `level`, and exactly that value there."""
    at = _first_at(slopes, level)
    if at is None or at == slopes.at[0]:
        return slopes
    i = sum(k < at for k in slopes.at)
    rest = i + 1 if i < len(slopes.at) and slopes.at[i] == at else i  # rounding may put it on a knot
    return _Slopes([*slopes.at[:i], at, *slopes.at[rest:]], [*slopes.value[:i], level, *slopes.value[rest:]],
                   slopes.tail)  # fmt: skip


def _at(slopes: _Slopes, x: _Number) -> _Number:
    i = max(j for j, k in enumerate(slopes.at) if k <= x)
    if i == len(slopes.at) - 1:
        return slopes.value[i] + slopes.tail * (x - slopes.at[i])
    part = (x - slopes.at[i]) / (slopes.at[i + 1] - slopes.at[i])
    return slopes.value[i] + part * (slopes.value[i + 1] - slopes.value[i])


def _integral(slopes: _Slopes, x: _Number) -> _Number:
    """Of the function over [0, x]."""
    knots = [k for k in slopes.at if k < x] + [x]
    values = [_at(slopes, k) for k in knots]
    total = Decimal(0)
    for i in range(1, len(knots)):
        total += (knots[i] - knots[i - 1]) * (values[i] + values[i - 1]) / 2
    return total
