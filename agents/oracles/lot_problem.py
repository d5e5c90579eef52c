"""O9 (`lot_routing`): its parameters, costs and laws: lit and dark pools with censored partial fills, in whole lots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from .parameters import Finite, FloatArray, NonNegative, Params, Positive, Probability


class LitCost(Params):
    """Cost of x lit lots in slot t: linear x + quadratic x^2 / u_t, at most `max` lots a slot."""

    linear: Finite
    quadratic: NonNegative
    max: Annotated[int, Field(ge=0)]


class LeftoverCost(Params):
    """Cost of q lots left after the last slot: linear q + quadratic q^2."""

    linear: Finite
    quadratic: Finite


class PoolParams(Params):
    """A dark pool: contra size Pr[S = 0] = p0, Pr[S = s] ~ s^-beta for s = 1..m lots; fill min(S, order)."""

    p0: Probability
    beta: Annotated[float, Field(ge=-100, le=100)]  # power-law exponent of the contra size
    m: Annotated[int, Field(ge=1)]  # largest contra size, lots
    max: Annotated[int, Field(ge=0)]  # largest order, lots
    fee: Finite  # per filled lot
    adverse: Finite  # expected adverse move, per filled lot


class RegimeParams(Params):
    """A hidden two-state chain behind the adverse charges (O10); it moves after each slot, from a stationary start.

    adverse: two rows, one a regime, each with the charge a filled lot of every pool (in place of the pools' own).
    seen: before_acting; fills_only: any fill in `pool` shows the regime of its slot; never.
    pool: index from 0; left out, the only pool whose charge differs.
    """

    adverse: tuple[tuple[Finite, ...], tuple[Finite, ...]]
    stay: Probability
    seen: Literal["before_acting", "fills_only", "never"]
    pool: Annotated[int, Field(ge=0)] | None = None


class LotRoutingParams(Params):
    """Problem file of kind `lot_routing`: O9, or O10 with `regimes`."""

    kind: Literal["lot_routing"] = "lot_routing"
    lots: Annotated[int, Field(ge=1)]
    u: Annotated[tuple[Positive, ...], Field(min_length=1)]  # relative volume, one entry a slot
    lit: LitCost
    leftover: LeftoverCost
    tracking: NonNegative = 0.0  # times (lots left - target)^2 after every slot
    pools: Annotated[tuple[PoolParams, ...], Field(max_length=5)] = ()  # run time grows as the product of their `max`
    regimes: RegimeParams | None = None

    @model_validator(mode="after")
    def _regimes_fit_the_pools(self) -> LotRoutingParams:
        if self.regimes is None:
            return self
        n = len(self.pools)
        for row in self.regimes.adverse:
            if len(row) != n:
                raise ValueError(
                    f"regimes.adverse must be two rows (one a regime) of {n} charges (one a pool), but a row has "
                    f"{len(row)}"
                )
        if self.regimes.pool is None and len(self.differing()) != 1:
            raise ValueError(f"regimes.pool is needed: {len(self.differing())} pools differ between the regimes")
        if self.regimes.pool is not None and self.regimes.pool >= n:
            raise ValueError(f"regimes.pool = {self.regimes.pool}, but pools count from 0 to {n - 1}")
        return self

    def differing(self) -> list[int]:
        """Pools whose charge differs between the regimes."""
        if self.regimes is None:
            return []
        return [i for i, (a, b) in enumerate(zip(*self.regimes.adverse, strict=True)) if a != b]

    def revealing_pool(self) -> int:
        """The pool whose fills show the regime."""
        if self.regimes is None:
            raise ValueError("a problem without regimes has no revealing pool")
        return self.differing()[0] if self.regimes.pool is None else self.regimes.pool

    def in_regime(self, calm_prob: float) -> LotRoutingParams:
        """The problem without regimes whose charges are the mean at a belief in the first regime."""
        if self.regimes is None:
            return self
        charges = zip(self.pools, *self.regimes.adverse, strict=True)
        pools = tuple(
            pool.model_copy(update={"adverse": calm_prob * a + (1 - calm_prob) * b}) for pool, a, b in charges
        )
        return self.model_copy(update={"pools": pools, "regimes": None})


def fills_law(pools: Sequence[PoolParams], orders: Sequence[int]) -> tuple[FloatArray, float]:
    """Law of the total fill, Pr[f lots] for f = 0..sum(orders), and the expected charge on the fills."""
    total_prob, charge = np.ones(1), 0.0
    for pool, order in zip(pools, orders, strict=True):
        contra = size_prob(pool)
        fill_prob = np.zeros(order + 1)
        fill_prob[: len(contra)] = contra[: order + 1]
        fill_prob[-1] += contra[order + 1 :].sum()  # min(S, order): a larger contra side fills the order
        charge += (pool.fee + pool.adverse) * float(fill_prob @ np.arange(order + 1))
        total_prob = np.convolve(total_prob, fill_prob)
    return total_prob, charge


def size_prob(pool: PoolParams) -> FloatArray:
    """Pr[S = s] for s = 0..m lots."""
    log_weight = -pool.beta * np.log(np.arange(1, pool.m + 1))
    weight = np.exp(log_weight - log_weight.max())  # a steep power law may not overflow
    return np.concatenate(([pool.p0], (1 - pool.p0) * weight / weight.sum()))


def lit_cost(params: LotRoutingParams, slot: int) -> FloatArray:
    x = np.arange(params.lit.max + 1)
    return params.lit.linear * x + params.lit.quadratic * x * x / params.u[slot]


def leftover_cost(params: LotRoutingParams) -> FloatArray:
    left = np.arange(params.lots + 1)
    return params.leftover.linear * left + params.leftover.quadratic * left * left


def tracking_cost(params: LotRoutingParams, slot: int) -> FloatArray:
    off_target = np.arange(params.lots + 1) - float(target_lots(params.lots, params.u)[slot])
    return params.tracking * off_target * off_target


def target_lots(lots: int, weights: Sequence[float]) -> FloatArray:
    """(n_slots,) lots that the schedule has left after each slot, not rounded; the last is exactly 0."""
    done: FloatArray = np.cumsum(weights, dtype=np.float64)
    return lots * (1 - done / float(done[-1]))
