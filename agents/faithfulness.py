"""Whether attributions say what the policy does: measured on decisions of a log, beside networks where runs are given.

A lead is the chosen route's score minus that of the route its reasons are about. Its parts are taken against one
reference, the middle of every feature's range, for additive policies and networks alike, and a feature of routes is one
feature: its parts are summed over the routes, and deleting it deletes it at every route.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from numpy.typing import NDArray
from scipy import stats

from ..envs.features import FEATURES, N_GLOBAL, N_ROUTE, observation_bounds
from ..explain.monotonicity import monotone_breaks
from ..tca.statistics import mean_interval
from .additive import ScorePolicy
from .integrated_gradients import MlpScorer, by_feature
from .policies import MlpPolicy, snapshot
from .runtime import E9, AdditiveRuntime

Floats = NDArray[np.float64]
Policy = AdditiveRuntime | MlpScorer
ORDERS = 10  # random orders, and random parameters
_NAMES = [f.name for f in FEATURES]
SYNTHETIC_TYPES = (0, 1, 2, 3, 3)
PLANTED, IGNORED = "markout_hs", "imbalance_signed"


@dataclass(frozen=True)
class Sample:
    """Decisions of a log."""

    obs: Floats  # (n, n_obs)
    chosen: NDArray[np.int64]  # (n,) rows of the scores: 1 + route
    rival: NDArray[np.int64]
    parents: NDArray[np.str_]  # (n,)

    @classmethod
    def of(cls, bodies: Iterable[Mapping[str, Any]], most: int) -> Sample:
        """Of decision bodies that have a rival, spread evenly over the log, at most `most`."""
        told = [b for b in bodies if b["against"] is not None]
        told = told[:: max(1, len(told) // most)][:most]
        routes = [[c["route"] for c in b["candidates"]] for b in told]
        leads = [next(m for m in b["margins"] if "against" in m["is"]) for b in told]
        chosen = [_row_with(b, lead) for b, lead in zip(told, leads, strict=True)]
        return cls(
            np.array([[float(x) for x in b["observation"]] for b in told]), np.array(chosen),
            np.array([r.index(b["against"]) for r, b in zip(routes, told, strict=True)]),
            np.array([b["parent_id"] for b in told]),
        )  # fmt: skip

    @property
    def mix(self) -> Floats:
        out = np.zeros((len(self.obs), 1 + (self.obs.shape[1] - N_GLOBAL) // N_ROUTE))
        rows = np.arange(len(self.obs))
        out[rows, self.chosen], out[rows, self.rival] = 1.0, -1.0
        return out


def _row_with(body: Mapping[str, Any], lead: Mapping[str, Any]) -> int:
    """The chosen candidate: what the lead and the rival's score add up to."""
    scores = [c["score_e9"] for c in body["candidates"]]
    rival = scores[[c["route"] for c in body["candidates"]].index(lead["over"])]
    mine = rival + lead["margin_e9"]
    return next(i for i, s in enumerate(scores) if i and s == mine)


def reference_of(n_obs: int) -> Floats:
    low, high = observation_bounds((n_obs - N_GLOBAL) // N_ROUTE)
    return np.asarray(0.5 * (low + high))


def lead_parts(policy: Policy, obs: Floats, mix: Floats) -> Floats:
    """(n, features): the lead's parts against the reference."""
    if isinstance(policy, MlpScorer):
        return by_feature(policy.attributions(obs, mix))
    reference = policy.contributions_e9(reference_of(obs.shape[1])[None])
    return np.asarray(np.einsum("erf,er->ef", (policy.contributions_e9(obs) - reference) / E9, mix))


def lead_of(policy: Policy, obs: Floats, mix: Floats) -> Floats:
    return np.asarray(np.einsum("er,er->e", policy.scores(obs), mix))


def _columns(n_obs: int) -> NDArray[np.int64]:
    """(n_obs,) feature of every column."""
    routes = (n_obs - N_GLOBAL) // N_ROUTE
    return np.concatenate([np.arange(N_GLOBAL), np.tile(N_GLOBAL + np.arange(N_ROUTE), routes)])


# --------------------------------------------------------------------------------------------- checks of a policy


def additivity(policy: Policy, sample: Sample) -> float:
    """Largest |score - bias - parts| in scores, over every score of every decision; of a network, the residual."""
    some = sample.obs if policy.exact else sample.obs[:100]
    gap = policy.scores_e9(some) - policy.biases_e9 - policy.contributions_e9(some).sum(axis=2)
    return float(np.abs(gap).max()) / E9


def monotone_response(policy: Policy, sample: Sample) -> float:
    """Share of cases where a tenth of the range more of a feature moves a route's score the wrong way by over 2e-9."""
    wrong, cases = 0, 0
    routes = (sample.obs.shape[1] - N_GLOBAL) // N_ROUTE
    before = policy.scores_e9(sample.obs)
    for j, f in enumerate(FEATURES[N_GLOBAL:]):
        for r in range(routes if f.monotone else 0):
            moved = sample.obs.copy()
            at = N_GLOBAL + r * N_ROUTE + j
            moved[:, at] = np.minimum(moved[:, at] + 0.1 * (f.high - f.low), f.high)
            change = (policy.scores_e9(moved) - before)[:, 1 + r] * f.monotone
            wrong, cases = wrong + int((change < -2).sum()), cases + len(change)
    return wrong / cases


def curves(policy: Policy, sample: Sample, seed: int = 1) -> tuple[Floats, Floats]:
    """((n,), (n,)): mean lead while features are deleted, largest part first, minus random orders; and inserted.

    Deleted: put at the reference. A faithful order loses the lead faster than a random one (negative), and wins it
    faster when inserted into the reference (positive).
    """
    rng, mix = np.random.default_rng(seed), sample.mix
    parts = lead_parts(policy, sample.obs, mix)
    n, features = parts.shape
    column, reference = _columns(sample.obs.shape[1]), reference_of(sample.obs.shape[1])

    def areas(rank: NDArray[np.int64]) -> tuple[Floats, Floats]:
        deleted, inserted = np.zeros(n), np.zeros(n)
        for step in range(1, features):
            first = rank[:, column] < step
            deleted += lead_of(policy, np.where(first, reference, sample.obs), mix) / (features - 1)
            inserted += lead_of(policy, np.where(first, sample.obs, reference), mix) / (features - 1)
        return deleted, inserted

    own = areas(np.argsort(np.argsort(-parts, axis=1), axis=1))
    random = [areas(np.argsort(rng.random((n, features)), axis=1)) for _ in range(ORDERS)]
    return own[0] - np.mean([r[0] for r in random], axis=0), own[1] - np.mean([r[1] for r in random], axis=0)


def rank_correlation(a: Floats, b: Floats) -> float:
    """Mean Spearman correlation of rows (n, features)."""
    x, y = (stats.rankdata(v, axis=1) for v in (a, b))
    x, y = x - x.mean(axis=1, keepdims=True), y - y.mean(axis=1, keepdims=True)
    norm = np.sqrt((x**2).sum(axis=1) * (y**2).sum(axis=1))
    return float(np.mean((x * y).sum(axis=1)[norm > 0] / norm[norm > 0]))


def randomised(policy: Policy, seed: int) -> Policy:
    """The same form with its parameters shuffled among themselves: all knots, or weights layer by layer."""
    rng = np.random.default_rng(seed)
    if isinstance(policy, AdditiveRuntime):
        table = rng.permutation(policy.table_e9.ravel()).reshape(policy.table_e9.shape)
        return AdditiveRuntime(table, rng.permutation(policy.bias_e9), policy.kind, policy.kind_names)
    network = copy.deepcopy(policy.network)
    with th.no_grad():
        for value in network.parameters():
            value.copy_(th.from_numpy(rng.permutation(value.numpy().ravel()).reshape(value.shape)))
    return MlpScorer(network)


def randomisation(policy: Policy, sample: Sample) -> float:
    """Mean rank correlation of the lead's parts with those of the policy's own parameters, shuffled."""
    parts = lead_parts(policy, sample.obs, sample.mix)
    found = [lead_parts(randomised(policy, seed), sample.obs, sample.mix) for seed in range(ORDERS)]
    return float(np.mean([rank_correlation(parts, other) for other in found]))


def stability(policies: Sequence[Policy], sample: Sample) -> tuple[float, float]:
    """Mean rank correlation over pairs of training seeds: of one decision's parts, and of features' mean sizes."""
    parts = [lead_parts(p, sample.obs, sample.mix) for p in policies]
    pairs = [(a, b) for i, a in enumerate(parts) for b in parts[i + 1 :]]
    sizes = [(np.abs(a).mean(axis=0)[None], np.abs(b).mean(axis=0)[None]) for a, b in pairs]
    return (
        float(np.mean([rank_correlation(a, b) for a, b in pairs])),
        float(np.mean([rank_correlation(a, b) for a, b in sizes])),
    )


# --------------------------------------------------------------------------------------------- policies with an answer


def synthetic_shares(form: str, planted: bool, seed: int = 1, steps: int | None = None) -> dict[str, float]:
    """Share of each feature in the mean size of the lead's parts, of a policy fitted to scores with a known answer.

    Planted: every score is a function of the route's markout alone. Else: of everything but `IGNORED`, which is noise.
    `steps` of the fit; None: as many as its misfit of the other features needs to fall below what is claimed.
    """
    steps = steps or (600 if form == "additive" else 1_500)
    rng = np.random.default_rng(seed)
    th.manual_seed(seed)
    routes = len(SYNTHETIC_TYPES)
    low, high = observation_bounds(routes)
    policy = ScorePolicy(
        gym.spaces.Box(low.astype(np.float32), high.astype(np.float32)), gym.spaces.Box(-20, 20, (1 + routes,)),
        lambda _: 1e-3, route_types=list(SYNTHETIC_TYPES), policy=form, monotone=False,
    )  # fmt: skip
    slopes = rng.uniform(0.5, 1.5, len(FEATURES)) * rng.choice([-1, 1], len(FEATURES))
    slopes = np.where([n == PLANTED if planted else n != IGNORED for n in _NAMES], slopes, 0.0)

    def target(obs: Floats) -> Floats:
        x = 2 * (obs - low) / (high - low) - 1
        bent = np.sin(2 * x)
        own = bent[:, N_GLOBAL:].reshape(len(obs), routes, N_ROUTE) @ slopes[N_GLOBAL:]
        sign = np.array([1 if kind % 2 else -1 for kind in SYNTHETIC_TYPES])  # a global feature must tell routes apart
        common = bent[:, :N_GLOBAL] @ slopes[:N_GLOBAL]
        return np.column_stack([0.0 * common, own + 0.5 * sign * common[:, None]])

    actor = policy.mlp_extractor
    parameters = [p for n, p in actor.named_parameters() if not n.startswith("critic")]
    optimiser = th.optim.Adam(parameters, lr=0.02 if form == "additive" else 0.003)
    rate = th.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.01, steps)
    for _ in range(steps):
        obs = rng.uniform(low, high, (1_024, low.size))
        loss = (actor.forward_actor(th.from_numpy(obs.astype(np.float32))) - th.from_numpy(target(obs))).square().mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        rate.step()
    fitted = snapshot(policy)
    scorer: Policy = MlpScorer(fitted) if isinstance(fitted, MlpPolicy) else fitted  # type: ignore[assignment]
    obs = rng.uniform(low, high, (1_000, low.size))
    mix = np.zeros((len(obs), 1 + routes))
    mix[:, 2], mix[:, 3] = 1.0, -1.0  # a post over a ping
    size = np.abs(lead_parts(scorer, obs, mix)).mean(axis=0)
    return dict(zip(_NAMES, (size / size.sum()).tolist(), strict=True))


def row(check: str, policy: str, value: float, claim: str, holds: bool | None, note: str = "") -> dict[str, Any]:
    """One line of the table; `holds` null: measured, nothing claimed."""
    return {"check": check, "policy": policy, "value": value, "claim": claim, "holds": holds, "note": note}


def faithfulness_rows(
    groups: Mapping[str, Sequence[Policy]], sample: Sample, config_monotone: bool
) -> list[dict[str, Any]]:
    """The table. `groups`: policies of several training seeds by form, "additive" and "mlp"; the first is examined."""
    found: list[dict[str, Any]] = []
    for form, policies in groups.items():
        policy, exact = policies[0], policies[0].exact
        gap = additivity(policy, sample)
        found.append(row("additivity error, scores", form, gap, "0" if exact else "<= 1e-3",
                         gap == 0 if exact else gap <= 1e-3))  # fmt: skip
        if isinstance(policy, AdditiveRuntime):
            breaks = len(monotone_breaks(policy.table_e9, policy.kind_names))
            found.append(row("knots against a stated direction", form, breaks, "0" if config_monotone else "-",
                             breaks == 0 if config_monotone else None))  # fmt: skip
        wrong = monotone_response(policy, sample)
        claimed = exact and config_monotone
        found.append(row("responses against a stated direction, share", form, wrong, "0" if claimed else "-",
                         wrong == 0 if claimed else None))  # fmt: skip
        for name, values, sign in zip(("deletion", "insertion"), curves(policy, sample), (-1, 1), strict=True):
            i = mean_interval(values, sample.parents, seed=1)
            claim = "< 0" if sign < 0 else "> 0"
            found.append(row(f"{name}: mean lead, own order minus random", form, i.mean, claim,
                             (i.hi < 0) if sign < 0 else (i.lo > 0), f"95 % [{i.lo:+.3f}, {i.hi:+.3f}]"))  # fmt: skip
        shuffled = randomisation(policy, sample)
        found.append(row("rank correlation with shuffled parameters", form, shuffled, "within 0.2 of 0",
                         abs(shuffled) <= 0.2))  # fmt: skip
        if len(policies) > 1:
            each, mean = stability(policies, sample)
            note = f"{len(policies)} training seeds"
            found.append(row("seeds: rank correlation of a decision's parts", form, each, "-", None, note))
            found.append(row("seeds: rank correlation of features' mean size", form, mean, "-", None, note))
    for form in groups:
        planted = synthetic_shares(form, True)[PLANTED]
        ignored = synthetic_shares(form, False)[IGNORED]
        found.append(row(f"planted feature's share (fitted: only {PLANTED} matters)", form, planted, ">= 0.95",
                         planted >= 0.95))  # fmt: skip
        found.append(row(f"ignored feature's share (fitted: {IGNORED} is noise)", form, ignored, "<= 0.01",
                         ignored <= 0.01))  # fmt: skip
    return found
