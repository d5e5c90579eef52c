"""The policies that a command names: run folders and bundles, for the routes of a market, under the fallback."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ...configs.errors import UserError
from ...configs.experiment import ExperimentConfig
from ...configs.loading import dump_yaml
from ...envs.market import Market
from ..bundle import load_bundle, policy_text
from ..comparison import Learned
from ..fallback import FallbackRouter, FeatureRanges
from ..integrated_gradients import MlpScorer
from ..onnx_policy import OnnxMlp
from ..policies import MlpPolicy
from ..registry import named_router
from ..router import Router, ScoreRouter, ScoringRouter
from ..runs import Run, is_bundle, load_run, training_summary, what_lies
from ..runtime import AdditiveRuntime
from ..user_router import is_user_router
from ..views import router_of


def of_bundle(path: Path) -> Learned:
    """The policy of a bundle under its fallback. Raises UserError as `load_bundle`."""
    found = load_bundle(path)
    return Learned(
        guarded(found.runtime, found.ranges, found.config), found.config.seed, found.config,
        policy_sha256=found.policy_sha256, config_sha256=str(found.manifest["config_sha256"]),
    )  # fmt: skip


def of_run(run: Run) -> Learned:
    """The policy of a run under its fallback, with the hashes that its bundle will have."""
    policy = policy_text(run.policy) if isinstance(run.policy, AdditiveRuntime) else None
    config = dump_yaml(run.config.model_copy(update={"seed": run.seed}))
    return Learned(
        guarded(run.policy, run.ranges, run.config), run.seed, run.config, run.path,
        policy_sha256=None if policy is None else _sha256(policy), config_sha256=_sha256(config),
    )  # fmt: skip


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def resolve(policies: Sequence[str]) -> tuple[list[Learned], list[Router]]:
    """Learned policies (run folders and bundles) and baselines among the names."""
    learned: list[Learned] = []
    named: list[Router] = []
    for name in policies:
        path = Path(name)
        if is_bundle(path):
            learned.append(of_bundle(path))
        elif path.is_dir():
            learned.append(of_run(load_run(path)))
            training_summary(path)
        elif not is_user_router(name) and ("/" in name or name.endswith((".yaml", ".zip"))):
            raise UserError(f"{name}: no such run folder or bundle. {what_lies(path)}")
        else:
            named.append(named_router(name))
    if len({item.seed for item in learned}) < len(learned):
        raise UserError("two of the runs have the same training seed; name the runs of different seeds of one config.")
    if len({item.config.model_copy(update={"seed": 0}).model_dump_json() for item in learned}) > 1:
        raise UserError(
            "the runs come from different configs, so they cannot be pooled as training seeds of one policy. Evaluate "
            "them one by one."
        )
    return learned, named


def _policy(item: Learned) -> object:
    return getattr(item.router, "policy", None)


def fitted(item: Learned, market: Market) -> Learned:
    """The policy for this market's routes: venue-shared tables work on any venues, others need those of training."""
    policy = getattr(item.router, "policy", None)
    if isinstance(policy, AdditiveRuntime) and policy.shared:
        return replace(
            item, router=guarded(policy.for_routes(market.rules.route_type, policy.name), ranges_of(item), item.config)
        )
    routes = getattr(policy, "n_routes", len(market.routes))
    if routes != len(market.routes):
        raise UserError(
            f"the policy of seed {item.seed} scores {routes} routes, market {market.config.name!r} has "
            f"{len(market.routes)}. Name a market with the venues of training, or train an additive policy with "
            "share_venues: true."
        )
    return item


def scorer_of(item: Learned) -> AdditiveRuntime | MlpScorer:
    """The policy as explanations see it; a network by Integrated Gradients."""
    policy = _policy(item)
    if isinstance(policy, MlpPolicy | OnnxMlp):
        return MlpScorer(policy)
    if not isinstance(policy, AdditiveRuntime):
        raise UserError(f"only additive and MLP policies can be explained, this is {type(policy).__name__}.")
    return policy


def ranges_of(item: Learned) -> FeatureRanges | None:
    return item.router.ranges if isinstance(item.router, FallbackRouter) else None


def guarded(
    policy: ScoringRouter, ranges: FeatureRanges | None, config: ExperimentConfig
) -> ScoreRouter | FallbackRouter:
    """The policy as a router, under the fallback where the ranges of its features are known. Bounds have none."""
    router = router_of(policy, config.agent)
    return router if ranges is None or config.agent.privileged != "none" else FallbackRouter(router, ranges)
