"""What a policy sees of a problem with a known optimum: the problem's state, and nothing besides.

The market's observation with the columns of the routes (scorecards, last fills) held at their opening values. Where
adverse charges follow a hidden regime (O10), the column `imbalance_signed`, which says nothing in these markets,
carries 2 p - 1, p the belief in the first regime: 1 or 0 where the regime is seen before acting; from the router's own
fills, by the chain of `oracles/lot_regimes.py`, where they alone show it; else 1/2.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..envs.compiled import compiled
from ..envs.counter_rng import derive, uniform
from ..envs.features import GLOBAL_FEATURES, N_GLOBAL
from ..envs.market_step import _REGIME
from ..envs.state import Batch
from ..envs.venues import Rules
from .oracles.fill_paths import FillProblem
from .oracles.lot_problem import LotRoutingParams
from .oracles.lot_regimes import belief_chain

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
SIGNAL = [f.name for f in GLOBAL_FEATURES].index("imbalance_signed")


class ProblemView:
    """Shows the orders of a batch; to be called once after every reset or step, since beliefs move with the slots."""

    def __init__(self, rules: Rules, params: object) -> None:
        self.rules = rules
        self._opening: FloatArray | None = None
        self._chain = self._seen = None
        if isinstance(params, LotRoutingParams) and params.regimes is not None:
            self._chain, self._seen = belief_chain(params), params.regimes.seen
            self._route = 1 + params.revealing_pool()  # lit is the first route
            self._state = np.zeros(0, np.int64)

    def __call__(self, b: Batch, obs: FloatArray) -> FloatArray:
        """(E, n_obs) what is shown of `obs`, the market's own observations of the same rows."""
        if self._opening is None:
            self._opening = obs[0, N_GLOBAL:].copy()  # the same in every order of a problem
        shown = obs.copy()
        shown[:, N_GLOBAL:] = self._opening
        if self._chain is not None:
            self._move_beliefs(b)
            shown[:, SIGNAL] = 2 * self._chain.prob[self._state] - 1
        return shown

    def _move_beliefs(self, b: Batch) -> None:
        """The belief state of every row before its next decision."""
        chain, fresh = self._chain, b.order["slot"] == 0
        assert chain is not None
        if self._seen == "before_acting":
            regime = np.zeros(len(fresh), np.int64)
            _regimes_ahead(self.rules, b, self.rules.route_venue[self._route], regime)
            self._state = np.where(regime < 0, 0, 1)
            return
        if len(self._state) != len(fresh):
            self._state = np.full(len(fresh), chain.start[0][0])
        regime = b.venue_state["regime"][:, self.rules.route_venue[self._route]]  # of the slot just worked
        revealed = np.where(regime < 0, *chain.known)
        filled = b.fill_shares[:, self._route].sum(axis=1) > 0
        self._state = np.where(fresh, chain.start[0][0], np.where(filled, revealed, chain.after[self._state]))


@compiled
def _regimes_ahead(rules: Rules, b: Batch, venue: int, out: IntArray) -> None:
    """The regime of `venue` in the slot to come: +1 toxic, -1 calm; the market moves it as a slot starts."""
    for e in range(out.shape[0]):
        order, regime = b.order[e], b.venue_state[e, venue].regime
        moves = uniform(derive(b.venue[e, venue].key, _REGIME), order.slot, 1) >= rules.settings[0].regime_stay
        out[e] = -regime if order.slot == order.regime_slot and moves else regime


def n_slots_and_lots(params: object) -> tuple[int, int]:
    """Slots of a problem and the whole lots of its order, 1 where quantities are real."""
    if isinstance(params, LotRoutingParams):
        return len(params.u), params.lots
    problem: FillProblem = params.fill_problem()  # type: ignore[attr-defined]
    return problem.n_slots, 1
