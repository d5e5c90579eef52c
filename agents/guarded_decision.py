"""One decision under the control FALLBACK_RULE_SOR: the policy's, or where a feature is outside the rule SOR's.

The writer of a log and its verifier both come through here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..envs.state import Batch, allocate
from ..explain.attribution import Scorer
from ..explain.counterfactual import Admits
from ..explain.decision import Decision, decide, decision_body
from ..explain.facts import Body, Facts, Limits, Parent
from ..explain.fallback_record import Outside, fallback_body, rule_release
from ..explain.release import Release
from .baseline import Baseline
from .rule_inputs import RuleMarket, RuleState, inputs_body, put_state


@dataclass(frozen=True, slots=True)
class RuleProposal:
    """What the rule SOR proposes, why, and what it read."""

    work_shares: float
    weights: tuple[float, ...]  # by route
    said: Body  # `baseline` of a decision's body
    inputs: Body

    @classmethod
    def of(cls, baseline: Baseline, b: Batch, obs: np.ndarray, state: RuleState) -> RuleProposal:
        """Of row 0, which holds `state`."""
        said = baseline.body(b, obs, state)
        work, weights = baseline.proposal()
        return cls(float(work[0]), tuple(weights[0].tolist()), said, inputs_body(state))

    @classmethod
    def of_state(cls, market: RuleMarket, state: RuleState) -> RuleProposal:
        """Of plain values alone. Raises UserError: a quote that its half spread does not give."""
        b = allocate(1, state.n_slots, 0, len(market.venues), len(market.routes), 1, 1)
        put_state(state, market, b)
        b.masked[0] = [state.mask_codes[r.name] != "" for r in market.routes]
        return cls.of(Baseline(market), b, np.zeros((1, 0)), state)


@dataclass(frozen=True, slots=True)
class GuardedDecision:
    """What is released, and the policy's own decision: one and the same where nothing is outside."""

    release: Release
    own: Decision | None  # None: a feature is no number, so that the policy has no score
    outside: tuple[Outside, ...]
    rule: RuleProposal

    @classmethod
    def of(
        cls, scorer: Scorer, outside: tuple[Outside, ...], limits: Limits, parent: Parent, facts: Facts,
        rule: RuleProposal,
    ) -> GuardedDecision:  # fmt: skip
        """`outside` as the ranges find it; what is not a number is always in it."""
        own = decide(scorer, limits, parent, facts) if all(map(math.isfinite, facts.observation)) else None
        if own is not None and not outside:
            return cls(own, own, (), rule)
        release = rule_release(limits, parent, facts, rule.work_shares, np.array(rule.weights), rule.said["top"])
        return cls(release, own, outside, rule)

    def body(
        self, limits: Limits, parent: Parent, facts: Facts, scorer: Scorer, policy_id: str,
        lit_alternative: Body | None, admits: Admits,
    ) -> Body:  # fmt: skip
        """Body of the `decision` record; `admits`: of the ranges that `outside` was found with."""
        if self.own is not None and not self.outside:
            return decision_body(
                limits, parent, facts, self.own, scorer, policy_id=policy_id, baseline=self.rule.said,
                lit_alternative=lit_alternative, admits=admits,
            )  # fmt: skip
        return fallback_body(
            limits, parent, facts, self.release, self.own, self.outside, policy_id=policy_id, baseline=self.rule.said,
            rule_inputs=self.rule.inputs, lit_alternative=lit_alternative,
        )  # fmt: skip
