"""What nobody on a desk can see, as extra observation columns: for bounds on what there is to gain, never for a router.

Two levels: `venue` adds each route's true fill rate, toxicity (in the regime of the moment) and leak weight; `all` also
adds the two latent alphas. Only a batch or environment that is asked for them by name carries these columns; the plain
observation, `info` and `RoutingState` hold nothing latent.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .compiled import compiled
from .features import Feature
from .scorecard import CARD_OF, expected_fill_rate, expected_markout_bps
from .state import TAKE, Batch
from .venues import Route, Rules

Level = Literal["none", "venue", "all"]
LEVELS: tuple[Level, ...] = ("none", "venue", "all")

PRIVILEGED_ROUTE: tuple[Feature, ...] = (
    Feature(
        "true_log_fill_rate", "log10 of a fraction", -3.0, 0.0, "venue", "log10 of the expected fill rate; 0 for a take"
    ),
    Feature("true_markout_hs", "half spreads", -4.0, 1.0, "venue", "law (3) at 10 s in the regime of the moment"),
    Feature("true_markout_300s_hs", "half spreads", -6.0, 1.0, "venue", "law (3) at 300 s in the regime of the moment"),
    Feature("true_leak_weight", "fraction", 0.0, 0.5, "venue", "impact weight of a share pinged and not filled"),
)
PRIVILEGED_GLOBAL: tuple[Feature, ...] = (
    Feature("alpha_fast_hs", "half spreads", -4.0, 4.0, "signal", "side x fast alpha / half spread"),
    Feature("alpha_slow_hs", "half spreads", -8.0, 8.0, "signal", "side x slow alpha / half spread"),
)
_N_ROUTE = len(PRIVILEGED_ROUTE)


def privileged_names(routes: list[Route], level: Level) -> list[str]:
    """Names of the extra columns: route by route, then the alphas."""
    if level == "none":
        return []
    names = [f"{r.name}.{f.name}" for r in routes for f in PRIVILEGED_ROUTE]
    return names + ([f.name for f in PRIVILEGED_GLOBAL] if level == "all" else [])


def privileged_bounds(n_routes: int, level: Level) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lower and upper bounds of the extra columns."""
    if level == "none":
        return np.zeros(0), np.zeros(0)
    table = PRIVILEGED_ROUTE * n_routes + (PRIVILEGED_GLOBAL if level == "all" else ())
    return np.array([f.low for f in table]), np.array([f.high for f in table])


@compiled
def write_truth(rules: Rules, b: Batch, rows: NDArray[np.int64], truth: NDArray[np.float64]) -> None:
    """What holds for the whole episode, (E, R, 4): log10 fill rate, markouts at 10 and 300 s in bps, leak weight."""
    for i in range(rows.shape[0]):
        e = rows[i]
        for r in range(rules.route_type.shape[0]):
            card, v = CARD_OF[rules.route_type[r]], rules.route_venue[r]
            for k in range(4):
                truth[e, r, k] = 0.0
            if card >= 0:
                truth[e, r, 0] = math.log10(max(1e-3, expected_fill_rate(rules, b, e, v, card)))
                truth[e, r, 1] = expected_markout_bps(rules, b, e, v, card, 10.0)
                truth[e, r, 2] = expected_markout_bps(rules, b, e, v, card, 300.0)
            truth[e, r, 3] = b.venue[e, v].leak_weight


@compiled
def write_privileged(
    rules: Rules, b: Batch, truth: NDArray[np.float64], low: NDArray[np.float64], high: NDArray[np.float64],
    obs: NDArray[np.float64], first: int,
) -> None:  # fmt: skip
    """Extra columns of every active row, from column `first` on; (K,) bounds say how many there are."""
    settings = rules.settings[0]
    n_routes = rules.route_type.shape[0]
    for e in range(b.order.shape[0]):
        order, ep = b.order[e], b.episode[e]
        if order.active == 0:
            continue
        row = b.tape[e, order.slot]
        half, usual = max(row.half_spread_bps, 1e-9), max(ep.half_spread_bps, 1e-9)
        for r in range(n_routes):
            factor = 1.0
            regime = b.venue_state[e, rules.route_venue[r]].regime
            if rules.route_type[r] != TAKE and regime != 0:
                factor = settings.toxic_factor if regime > 0 else settings.calm_factor
            at = first + r * _N_ROUTE
            obs[e, at] = truth[e, r, 0]
            obs[e, at + 1] = truth[e, r, 1] * factor / usual
            obs[e, at + 2] = truth[e, r, 2] * factor / usual
            obs[e, at + 3] = truth[e, r, 3]
        if low.shape[0] > n_routes * _N_ROUTE:
            at = first + n_routes * _N_ROUTE
            obs[e, at] = ep.side * row.fast_z * ep.sigma_fast_bps / half
            obs[e, at + 1] = ep.side * row.slow_z * ep.sigma_slow_bps / half
        for k in range(low.shape[0]):
            obs[e, first + k] = min(max(obs[e, first + k], low[k]), high[k])


class PrivilegedColumns:
    """Observations of a batch with the extra columns of a level; batch after batch of one shape."""

    def __init__(self, rules: Rules, n_rows: int, n_obs: int, level: Level) -> None:
        n_routes = rules.route_type.shape[0]
        self._rules, self._n_obs = rules, n_obs
        self._bounds = privileged_bounds(n_routes, level)
        self._truth = np.zeros((n_rows, n_routes, 4))
        self._wide = np.zeros((n_rows, n_obs + self._bounds[0].size))

    def widen(self, b: Batch, obs: NDArray[np.float64]) -> NDArray[np.float64]:
        """(E, n_obs) -> (E, n_obs + K), the same array at every call. Must see every order's first decision."""
        started = np.flatnonzero((b.order["active"] == 1) & (b.order["slot"] == 0))
        self._wide[:, : self._n_obs] = obs
        if not self._bounds[0].size:
            return self._wide
        write_truth(self._rules, b, started, self._truth)
        write_privileged(self._rules, b, self._truth, *self._bounds, self._wide, self._n_obs)
        return self._wide


__all__ = ["LEVELS", "PRIVILEGED_GLOBAL", "PRIVILEGED_ROUTE", "Level", "PrivilegedColumns", "privileged_bounds",
           "privileged_names", "write_privileged", "write_truth"]  # fmt: skip
