"""Deciding again what a log says: the bundle's policy on the logged observation must give the logged record.

The record's own inputs (observation, quote, masks, schedule) are read back, `explain.decision` makes the body anew, and
the two are compared key by key: scores, attributions, weights, shares to work, child orders, limits, reasons, sentence.
Where a feature is outside the run's ranges the rule SOR must have decided, and does so again from `rule_inputs`. What
cannot be made again from the record is checked for its sums (the lit alternative) or taken as it is (what the rule SOR
would have done beside a decision of the policy: only a fallback record holds its scorecards).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import ValidationError

from ..configs.errors import UserError
from ..envs.features import schema_sha256
from ..envs.venues import routes_of
from ..explain.canonical import Record
from ..explain.counterfactual import OTHER, SENT, largest_orders
from ..explain.decision import decide
from ..explain.facts import Facts, Limits, Parent, is_dark
from ..explain.lit_alternative import COST_PARTS
from ..explain.what_if import what_if
from .bundle import Bundle
from .fallback import FeatureRanges
from .guarded_decision import GuardedDecision, RuleProposal
from .integrated_gradients import MlpScorer
from .log_accounts import Inconsistent, LogAccounts, check_features
from .logged import (
    LoggedDecision,
    LoggedParent,
    LoggedRun,
    Mismatch,
    facts_of,
    limits_of,
    rule_inputs_of,
    whole_of,
)
from .rule_inputs import VenueRules
from .runtime import AdditiveRuntime


class Redecider:
    """Call it with the records of a log, in order: None, or what is wrong.

    Orders, fills, controls and outcomes are held to their decisions, and those to what came before (`log_accounts`).

    Never raises for what a record holds. A record of a run on other venues is decided with the same functions where
    venues share them.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._run: LoggedRun | None = None
        self._limits: Limits | None = None
        self._scorer: AdditiveRuntime | MlpScorer | None = None
        self._ranges = FeatureRanges.unlimited()
        self._rule_venues: VenueRules | None = None
        self._parents: dict[str, Parent] = {}
        self._accounts = LogAccounts()

    def __call__(self, record: Record) -> str | None:
        try:
            kind, body = record["type"], record["body"]
            if kind == "run":
                self._read_run(body)
            elif kind == "parent":
                self._read_parent(body)
            elif kind == "decision":
                self._redecide(body, int(record["ts_ns"]))
            elif kind in self._accounts.read:
                self._accounts.read[kind](body)
        except (Mismatch, Inconsistent) as mismatch:
            return str(mismatch)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
        except (UserError, KeyError, TypeError, ValueError, IndexError, OverflowError, ArithmeticError) as error:
            return f"the record cannot be decided again ({type(error).__name__}: {error})"
        return None

    def _read_run(self, body: Any) -> None:
        run = LoggedRun.model_validate(body)
        bundle = self._bundle
        if self._run is not None:
            raise Mismatch("a second run record")
        if run.policy_sha256 is None and not bundle.exact:
            raise Mismatch("a log of an MLP's run folder, whose float32 network the bundle's need not equal")
        if run.policy_sha256 not in (None, bundle.policy_sha256):
            raise Mismatch(
                f"policy_sha256 is {run.policy_sha256}, the bundle's {bundle.policy_file} has {bundle.policy_sha256}"
            )
        if run.policy_id != bundle.policy_id:
            raise Mismatch(f"policy_id is {run.policy_id!r}, the bundle's is {bundle.policy_id!r}")
        if run.feature_schema_sha256 != schema_sha256():
            raise Mismatch("feature_schema_sha256 is not that of this version's feature table")
        if run.feature_ranges not in (None, bundle.ranges.body()):
            raise Mismatch("feature_ranges are not the bundle's")
        self._ranges = FeatureRanges.unlimited() if run.feature_ranges is None else bundle.ranges
        limits = limits_of(run.control_limits)
        self._scorer = _scorer_for(bundle, limits)
        self._run, self._limits, self._rule_venues = run, limits, None

    def _read_parent(self, body: Any) -> None:
        parent = LoggedParent.model_validate(body)
        if parent.side not in ("buy", "sell"):
            raise Mismatch(f"side {parent.side!r} is neither buy nor sell")
        if parent.parent_id in self._parents:
            raise Mismatch(f"parent {parent.parent_id!r} stands in the log twice")
        self._accounts.open(parent.parent_id, body)
        self._parents[parent.parent_id] = Parent(
            parent.parent_id, parent.symbol, 1 if parent.side == "buy" else -1, parent.ordered_shares,
            parent.adv_shares, parent.n_slots, parent.tick_e6, whole_of(parent.start_ns, "start_ns"),
        )  # fmt: skip

    def turned(self, body: Any, flip: Any, value: str) -> str | None:
        """What a decision becomes with the quantity of one of its record's `flips` at `value`: where its largest order
        goes, lit or dark; of a flip to another route: other, or same; of one that sent nothing: sent. "fallback" where
        the policy would not decide at all.

        Decided again in full from the changed observation; None: nothing was sent. The records before it must have
        been read.
        """
        _, limits, scorer, parent, facts = self._read(body)
        routes = limits.routes

        def first(facts: Facts, chosen: int | None) -> int:
            d = decide(scorer, limits, parent, facts)
            scores = np.array([p.score_e9 for p in d.explanation.routes])
            return int(largest_orders(d.released[None], scores[None], chosen)[0])

        now = first(facts, None)
        changed = what_if(limits, parent, facts, flip["lever"], flip["route"], value)
        if self._ranges.found(limits.routes, changed.measured):
            return "fallback"
        then = first(changed, now if now >= 0 else None)
        if then < 0:
            return None
        if flip["to"] == SENT:
            return SENT
        if flip["to"] == OTHER:
            return "same" if then == now else OTHER
        return "dark" if is_dark(routes[then]) else "lit"

    def _read(self, body: Any) -> tuple[LoggedDecision, Limits, AdditiveRuntime | MlpScorer, Parent, Facts]:
        logged = LoggedDecision.model_validate(body)
        if self._run is None or self._limits is None or self._scorer is None:
            raise Mismatch("no run record before this decision")
        if logged.policy_id != self._run.policy_id:
            raise Mismatch(f"policy_id is {logged.policy_id!r}, the run's is {self._run.policy_id!r}")
        parent = self._parents.get(logged.parent_id)
        if parent is None:
            raise Mismatch(f"no parent record of {logged.parent_id!r} before this decision")
        return logged, self._limits, self._scorer, parent, facts_of(logged, self._limits, parent)

    def _redecide(self, body: Any, ts_ns: int) -> None:
        logged, limits, scorer, parent, facts = self._read(body)
        self._accounts.before(ts_ns, limits, parent, facts)
        check_features(limits, parent, facts)
        outside = self._ranges.found(limits.routes, facts.measured)
        if bool(outside) != (logged.fallback is not None):
            named = ", ".join(o.feature for o in outside) or "nothing"
            raise Mismatch(f"fallback: {named} is outside the ranges of training, the record says otherwise")
        rule = RuleProposal(0.0, (), logged.baseline, {})
        if logged.fallback is not None:
            state = rule_inputs_of(logged.fallback.rule_inputs, limits, parent, facts)
            rule = RuleProposal.of_state(self._venues(limits), state)
        guarded = GuardedDecision.of(scorer, outside, limits, parent, facts, rule)
        again = guarded.body(
            limits, parent, facts, scorer, logged.policy_id, logged.lit_alternative, self._ranges.admits
        )
        if (place := _difference(body, again, "")) is not None:
            raise Mismatch(place)
        dark = sum(c.shares for c in guarded.release.children if is_dark(limits.routes[c.route]))
        _check_lit(logged.lit_alternative, dark)
        self._accounts.decided(parent, body)

    def _venues(self, limits: Limits) -> VenueRules:
        """The run's venues as the rule SOR sees them, made when first asked for."""
        if self._rule_venues is None:
            self._rule_venues = VenueRules.of(limits, self._bundle.config.market)
        return self._rule_venues


def _scorer_for(bundle: Bundle, limits: Limits) -> AdditiveRuntime | MlpScorer:
    """The bundle's policy on the run's routes."""
    own = [r.name for r in routes_of(bundle.config.market)]
    if list(limits.routes) == own:
        return bundle.scorer()
    runtime = bundle.runtime
    if not isinstance(runtime, AdditiveRuntime) or not runtime.shared:
        raise Mismatch("the run has other routes than the bundle, whose policy belongs to its own venues")
    return runtime.for_routes(limits.route_types, runtime.name)


def _difference(logged: Any, again: Any, place: str) -> str | None:
    """The first place where two bodies differ, in words; None: they are the same."""
    if type(logged) is not type(again):
        return f"{place or 'body'}: {_short(logged)} in the log, {_short(again)} decided again"
    if isinstance(logged, dict):
        if wrong := sorted(set(logged) ^ set(again)):
            return f"{place or 'body'}: key {wrong[0]!r} is {'not due' if wrong[0] in logged else 'missing'}"
        return next((d for k in logged if (d := _difference(logged[k], again[k], f"{place}.{k}".lstrip(".")))), None)
    if isinstance(logged, list):
        if len(logged) != len(again):
            return f"{place}: {len(logged)} entries in the log, {len(again)} decided again"
        pairs = enumerate(zip(logged, again, strict=True))
        return next((d for i, (a, b) in pairs if (d := _difference(a, b, f"{place}[{i}]"))), None)
    return None if logged == again else f"{place}: {_short(logged)} in the log, {_short(again)} decided again"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _check_lit(lit: dict[str, Any] | None, dark_shares: int) -> None:
    """Its shares are those sent dark, and its parts add up."""
    if lit is None or not dark_shares:
        if lit is not None or dark_shares:
            raise Mismatch(f"lit_alternative: {dark_shares} shares went dark, the record says otherwise")
        return
    if lit.get("shares") != dark_shares or "dark" not in lit:
        raise Mismatch(f"lit_alternative: {lit.get('shares')} shares, {dark_shares} were sent dark")
    for way in ("dark", "take", "post"):
        if way in lit and sum(lit[way][part] for part in COST_PARTS) != lit[way]["cost_e6"]:
            raise Mismatch(f"lit_alternative.{way}: the parts do not add up to cost_e6")
