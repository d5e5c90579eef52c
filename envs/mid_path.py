"""The mid between the nodes of a tape, for markouts at horizons off the slot grid. For logs only; no router sees it.

The state x = (M, A_f, A_s) of equation (1) is linear and Gaussian: x(t + u) = F(u) x(t) + noise of covariance Q(u).
Given both ends of a sub-step of length d, the state at u inside it is therefore Gaussian with

    mean = F(u) x_0 + G (x_1 - F(d) x_0),   covariance = Q(u) - G F(d - u) Q(u),   G = Q(u) F(d - u)' Q(d)^-1

(the bridge of a linear Gaussian process; derived by conditioning). Draws come from a stream of their own, so a log
changes no market, and a time that is asked for twice gets one answer.
"""

from __future__ import annotations

import bisect
import math

import numpy as np
from numpy.typing import NDArray

from .counter_rng import derive, normal
from .state import Batch

_STREAM_PATH = 9  # of an episode's key; episode_draw.py has 0 to 8
_Vector = NDArray[np.float64]


def transition(seconds: float, tau_s: tuple[float, float]) -> NDArray[np.float64]:
    """F(u), (3, 3): the alphas decay and hand what they lose to the mid."""
    e_f, e_s = (math.exp(-seconds / tau) for tau in tau_s)
    return np.array([[1.0, 1.0 - e_f, 1.0 - e_s], [0.0, e_f, 0.0], [0.0, 0.0, e_s]])


def noise(seconds: float, vol_bps: float, sigma_bps: tuple[float, float], tau_s: tuple[float, float]) -> _Vector:
    """Q(u), (3, 3) bps^2: market model, section 1, exact step."""
    left = [math.exp(-seconds / tau) for tau in tau_s]
    out = np.zeros((3, 3))
    out[0, 0] = vol_bps**2 * seconds - sum((s * (1 - e)) ** 2 for s, e in zip(sigma_bps, left, strict=True))
    for j, (s, e) in enumerate(zip(sigma_bps, left, strict=True), start=1):
        out[j, j] = s * s * (1 - e * e)
        out[0, j] = out[j, 0] = -s * s * e * (1 - e)
    return out


class MidPath:
    """The unaffected mid of row `e` at any time from its arrival to 300 s after its horizon, bps of the arrival mid.

    Replayed tapes have no alphas, and nothing is drawn: between two recorded mids it lies on the straight line.
    """

    def __init__(self, b: Batch, e: int, interval_s: float) -> None:
        ep = b.episode[e]
        self._k = int(ep["n_sub"])
        self._step_s = interval_s / self._k
        self._tape, self._nodes = b.tape[e], b.nodes[e]
        self._replayed, self._in_slot = bool(ep["replayed"]), bool(ep["fast_in_slot"])
        self._sigma = (0.0, 0.0) if self._replayed else (float(ep["sigma_fast_bps"]), float(ep["sigma_slow_bps"]))
        self._tau = float(ep["tau_fast_s"]), float(ep["tau_slow_s"])
        self._key = np.uint64(derive(ep["key"], _STREAM_PATH))
        self._known: dict[int, tuple[list[float], list[_Vector]]] = {}  # by sub-step: times, states

    def at(self, time_s: float) -> float:
        """Mid at `time_s` after arrival, bps."""
        i = int(math.floor(time_s / self._step_s + 1e-9))
        times, states = self._known.setdefault(i, self._ends(i))
        at = bisect.bisect_left(times, time_s - 1e-9)
        if abs(times[at] - time_s) > 1e-6:  # a microsecond: no mid moves by more than 0.01 bps in it
            times.insert(at, time_s)
            states.insert(at, self._between(i, times[at - 1], states[at - 1], time_s, times[at + 1], states[at]))
        return float(states[at][0])

    def after_fill(self, time_s: float, base_bps: float, displaced_bps: float, horizon_s: float) -> float:
        """Mid `horizon_s` after a fill inside a sub-step that printed at `base_bps` + `displaced_bps`, bps.

        The print's displacement comes back with the fast time constant, and what separates `base_bps` from the path
        fades to 0 at the sub-step's end, where the mid is what the tape says (market model, section 1).
        """
        end_s = (math.floor(time_s / self._step_s + 1e-9) + 1) * self._step_s
        left = max(0.0, 1.0 - horizon_s / max(end_s - time_s, 1e-9))
        apart = base_bps - self.at(time_s)
        return self.at(time_s + horizon_s) + left * apart + displaced_bps * math.exp(-horizon_s / self._tau[0])

    def print_base_bps(self, slot: int, post: bool, print_bps: float) -> float:
        """Where a fill inside `slot` would have printed without its displacement; of several sub-steps the print's own
        is not known, so there it is taken to have none."""
        row = self._tape[slot]
        if self._k > 1 or not self._in_slot:
            return print_bps
        return float(row["base_bps"]) + (0.5 * float(row["eps_bps"]) if post else 0.0)

    def _ends(self, i: int) -> tuple[list[float], list[_Vector]]:
        return [i * self._step_s, (i + 1) * self._step_s], [self._node(i), self._node(i + 1)]

    def _node(self, i: int) -> _Vector:
        row = self._tape[i] if self._k == 1 else self._nodes[i]
        s_f, s_s = self._sigma
        return np.array([float(row["mid_bps"]), s_f * float(row["fast_z"]), s_s * float(row["slow_z"])])

    def _between(self, i: int, from_s: float, x_0: _Vector, at_s: float, to_s: float, x_1: _Vector) -> _Vector:
        u, d = at_s - from_s, to_s - from_s
        if self._replayed:
            return x_0 + (x_1 - x_0) * (u / d)
        vol = float(self._tape[i // self._k]["vol_bps"])
        f_u, f_rest = transition(u, self._tau), transition(d - u, self._tau)
        q_u, q_d = noise(u, vol, self._sigma, self._tau), noise(d, vol, self._sigma, self._tau)
        gain = q_u @ f_rest.T @ np.linalg.pinv(q_d, hermitian=True)
        mean = f_u @ x_0 + gain @ (x_1 - f_rest @ f_u @ x_0)
        values, vectors = np.linalg.eigh(q_u - gain @ f_rest @ q_u)
        in_step = np.uint64(derive(self._key, i))
        own = np.uint64(derive(in_step, round(1e6 * (at_s - i * self._step_s))))  # by microsecond
        z = np.array([normal(own, 0, j) for j in range(3)])
        return np.asarray(mean + vectors @ (np.sqrt(np.maximum(values, 0.0)) * z))


__all__ = ["MidPath", "noise", "transition"]
