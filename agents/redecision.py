"""Deciding again what a log says: the bundle's policy on the logged observation must give the logged record.

The record's own inputs (observation, quote, masks, schedule) are read back, `explain.decision` makes the body anew, and
the two are compared key by key: scores, attributions, weights, shares to work, child orders, limits, reasons, sentence.
Where a feature is outside the run's ranges the rule SOR must have decided, and does so again from `rule_inputs`. What
cannot be made again from the record is checked for its sums (the lit alternative) or taken as it is (what the rule SOR
would have done beside a decision of the policy: only a fallback record holds its scorecards).
"""

from __future__ import annotations

import math
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..configs.errors import UserError
from ..envs.controls import MASK_CODES
from ..envs.features import N_GLOBAL, N_ROUTE, observation_bounds, schema_sha256
from ..envs.state import ORDER_TYPES, TAKE
from ..envs.venues import routes_of
from ..explain.canonical import Record
from ..explain.counterfactual import OTHER, SENT, largest_orders
from ..explain.decision import column_names, decide
from ..explain.facts import Facts, Limits, Parent, is_dark, type_of
from ..explain.lit_alternative import COST_PARTS
from ..explain.what_if import what_if
from .bundle import Bundle
from .fallback import FeatureRanges
from .guarded_decision import GuardedDecision, RuleProposal
from .integrated_gradients import MlpScorer
from .log_accounts import Inconsistent, LogAccounts, check_features
from .rule_inputs import COUNTS, RuleInputs, VenueRules
from .runtime import AdditiveRuntime

Shares = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(gt=0)]


class _Body(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow", frozen=True)


class _Limits(_Body):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)
    routes: list[str]
    route_caps_shares: list[Shares]
    interval_s: str
    lot_shares: Positive
    max_routes: Positive
    weight_cut: str
    max_child_shares: Positive
    max_dark_frac: str
    band_frac: str
    full_band: bool
    completes: bool


class _Run(_Body):
    policy_id: str
    policy_sha256: str | None
    feature_schema_sha256: str
    control_limits: _Limits
    feature_ranges: dict[str, list[str]] | None


class _Parent(_Body):
    parent_id: str
    symbol: str
    side: str
    ordered_shares: Positive
    adv_shares: Positive
    n_slots: Positive
    tick_e6: Positive
    start_ns: str


class _Nbbo(_Body):
    bid_e6: Positive
    ask_e6: Positive
    changes_10s: Shares


class _Candidate(_Body):
    route: str
    masks: list[str] = []
    p_fill_ppm: Shares = 0
    fee_e6: int = 0
    min_qty: Shares = 0


class _Card(_Body):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)
    attempts: Shares
    filled: Shares
    markouts: Shares
    markout_hs_sum: str


class _RuleInputs(_Body):
    arrival_usd: str
    half_spread_bps: str
    fees_bps: dict[str, str]
    scorecard: dict[str, dict[str, _Card]]


class _Fallback(_Body):
    rule_inputs: _RuleInputs


class _Decision(_Body):
    decision_id: str
    parent_id: str
    policy_id: str
    interval: Shares
    remaining_shares: Positive
    dark_shares: Shares
    children_before: Shares
    schedule_now_frac: str
    schedule_next_frac: str
    completing_route: str
    nbbo: _Nbbo
    vol_ratio: str
    observation: list[str]
    beyond_range: dict[str, str]
    candidates: list[_Candidate]
    fallback: _Fallback | None
    baseline: dict[str, Any]
    lit_alternative: dict[str, Any] | None


class _Mismatch(Exception):
    """Why a record is not what the policy decides."""


class Redecider:
    """Call it with the records of a log, in order: None, or what is wrong.

    Orders, fills, controls and outcomes are held to their decisions, and those to what came before (`log_accounts`).

    Never raises for what a record holds. A record of a run on other venues is decided with the same functions where
    venues share them.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._run: _Run | None = None
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
        except (_Mismatch, Inconsistent) as mismatch:
            return str(mismatch)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
        except (UserError, KeyError, TypeError, ValueError, IndexError, OverflowError, ArithmeticError) as error:
            return f"the record cannot be decided again ({type(error).__name__}: {error})"
        return None

    def _read_run(self, body: Any) -> None:
        run = _Run.model_validate(body)
        bundle = self._bundle
        if self._run is not None:
            raise _Mismatch("a second run record")
        if run.policy_sha256 is None and not bundle.exact:
            raise _Mismatch("a log of an MLP's run folder, whose float32 network the bundle's need not equal")
        if run.policy_sha256 not in (None, bundle.policy_sha256):
            raise _Mismatch(
                f"policy_sha256 is {run.policy_sha256}, the bundle's {bundle.policy_file} has {bundle.policy_sha256}"
            )
        if run.policy_id != bundle.policy_id:
            raise _Mismatch(f"policy_id is {run.policy_id!r}, the bundle's is {bundle.policy_id!r}")
        if run.feature_schema_sha256 != schema_sha256():
            raise _Mismatch("feature_schema_sha256 is not that of this version's feature table")
        if run.feature_ranges not in (None, bundle.ranges.body()):
            raise _Mismatch("feature_ranges are not the bundle's")
        self._ranges = FeatureRanges.unlimited() if run.feature_ranges is None else bundle.ranges
        limits = _limits(run.control_limits)
        self._scorer = _scorer_for(bundle, limits)
        self._run, self._limits, self._rule_venues = run, limits, None

    def _read_parent(self, body: Any) -> None:
        parent = _Parent.model_validate(body)
        if parent.side not in ("buy", "sell"):
            raise _Mismatch(f"side {parent.side!r} is neither buy nor sell")
        if parent.parent_id in self._parents:
            raise _Mismatch(f"parent {parent.parent_id!r} stands in the log twice")
        self._accounts.open(parent.parent_id, body)
        self._parents[parent.parent_id] = Parent(
            parent.parent_id, parent.symbol, 1 if parent.side == "buy" else -1, parent.ordered_shares,
            parent.adv_shares, parent.n_slots, parent.tick_e6, _whole(parent.start_ns, "start_ns"),
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

    def _read(self, body: Any) -> tuple[_Decision, Limits, AdditiveRuntime | MlpScorer, Parent, Facts]:
        logged = _Decision.model_validate(body)
        if self._run is None or self._limits is None or self._scorer is None:
            raise _Mismatch("no run record before this decision")
        if logged.policy_id != self._run.policy_id:
            raise _Mismatch(f"policy_id is {logged.policy_id!r}, the run's is {self._run.policy_id!r}")
        parent = self._parents.get(logged.parent_id)
        if parent is None:
            raise _Mismatch(f"no parent record of {logged.parent_id!r} before this decision")
        return logged, self._limits, self._scorer, parent, _facts(logged, self._limits, parent)

    def _redecide(self, body: Any, ts_ns: int) -> None:
        logged, limits, scorer, parent, facts = self._read(body)
        self._accounts.before(ts_ns, limits, parent, facts)
        check_features(limits, parent, facts)
        outside = self._ranges.found(limits.routes, facts.measured)
        if bool(outside) != (logged.fallback is not None):
            named = ", ".join(o.feature for o in outside) or "nothing"
            raise _Mismatch(f"fallback: {named} is outside the ranges of training, the record says otherwise")
        rule = RuleProposal(0.0, (), logged.baseline, {})
        if logged.fallback is not None:
            state = _rule_inputs(logged.fallback.rule_inputs, limits, parent, facts)
            rule = RuleProposal.of_state(self._venues(limits), state)
        guarded = GuardedDecision.of(scorer, outside, limits, parent, facts, rule)
        again = guarded.body(
            limits, parent, facts, scorer, logged.policy_id, logged.lit_alternative, self._ranges.admits
        )
        if (place := _difference(body, again, "")) is not None:
            raise _Mismatch(place)
        dark = sum(c.shares for c in guarded.release.children if is_dark(limits.routes[c.route]))
        _check_lit(logged.lit_alternative, dark)
        self._accounts.decided(parent, body)

    def _venues(self, limits: Limits) -> VenueRules:
        """The run's venues as the rule SOR sees them, made when first asked for."""
        if self._rule_venues is None:
            self._rule_venues = VenueRules.of(limits, self._bundle.config.market)
        return self._rule_venues


def _rule_inputs(logged: _RuleInputs, limits: Limits, parent: Parent, facts: Facts) -> RuleInputs:
    return RuleInputs.of(
        limits, parent, facts, arrival_usd=_number(logged.arrival_usd, "arrival_usd"),
        half_spread_bps=_number(logged.half_spread_bps, "half_spread_bps"),
        fees_bps={route: _number(fee, f"fees_bps.{route}") for route, fee in logged.fees_bps.items()},
        scorecard={
            venue: {
                kind: {name: getattr(card, name) for name in COUNTS}
                | {"markout_hs_sum": _number(card.markout_hs_sum, "markout_hs_sum")}
                for kind, card in cards.items()
            }
            for venue, cards in logged.scorecard.items()
        },
    )  # fmt: skip


def _limits(body: _Limits) -> Limits:
    n = len(body.routes)
    if len(body.route_caps_shares) != n or not n or len(set(body.routes)) != n:
        raise _Mismatch("control_limits: routes and route_caps_shares do not match")
    for route in body.routes:
        if route.partition(":")[2] not in ORDER_TYPES:
            raise _Mismatch(f"control_limits: {route!r} is no route")
    return Limits(
        tuple(body.routes), tuple(body.route_caps_shares), _number(body.interval_s, "interval_s"), body.lot_shares,
        body.max_routes, _number(body.weight_cut, "weight_cut"), body.max_child_shares,
        _number(body.max_dark_frac, "max_dark_frac"), _number(body.band_frac, "band_frac"), body.full_band,
        body.completes,
    )  # fmt: skip


def _scorer_for(bundle: Bundle, limits: Limits) -> AdditiveRuntime | MlpScorer:
    """The bundle's policy on the run's routes."""
    own = [r.name for r in routes_of(bundle.config.market)]
    if list(limits.routes) == own:
        return bundle.scorer()
    runtime = bundle.runtime
    if not isinstance(runtime, AdditiveRuntime) or not runtime.shared:
        raise _Mismatch("the run has other routes than the bundle, whose policy belongs to its own venues")
    return runtime.for_routes(limits.route_types, runtime.name)


def _facts(logged: _Decision, limits: Limits, parent: Parent) -> Facts:
    n = len(limits.routes)
    routes = logged.candidates[1:]
    if [c.route for c in routes] != list(limits.routes):
        raise _Mismatch("candidates: not the pace and then the run's routes in order")
    if len(logged.observation) != N_GLOBAL + n * N_ROUTE:
        raise _Mismatch(f"observation: {len(logged.observation)} values, the routes need {N_GLOBAL + n * N_ROUTE}")
    for c in routes:
        if len(c.masks) > 1 or any(mask not in MASK_CODES[1:] for mask in c.masks):
            raise _Mismatch(f"candidates: {c.route} has unknown masks {c.masks}")
    if logged.interval >= parent.n_slots:
        raise _Mismatch(f"interval {logged.interval} is beyond the parent's {parent.n_slots}")
    if logged.remaining_shares + logged.dark_shares > parent.ordered_shares:
        raise _Mismatch("remaining_shares and dark_shares exceed the parent's ordered_shares")
    if logged.completing_route not in limits.routes or type_of(logged.completing_route) != TAKE:
        raise _Mismatch(f"completing_route {logged.completing_route!r} is not a take of this run")
    observation = tuple(_any_number(x, f"observation[{i}]") for i, x in enumerate(logged.observation))
    return Facts(
        slot=logged.interval,
        remaining_shares=logged.remaining_shares,
        dark_shares=logged.dark_shares,
        children_before=logged.children_before,
        schedule_now_frac=_number(logged.schedule_now_frac, "schedule_now_frac"),
        schedule_next_frac=_number(logged.schedule_next_frac, "schedule_next_frac"),
        bid_e6=logged.nbbo.bid_e6,
        ask_e6=logged.nbbo.ask_e6,
        nbbo_moves_10s=logged.nbbo.changes_10s,
        vol_ratio=math.nan if logged.vol_ratio == "nan" else _number(logged.vol_ratio, "vol_ratio"),
        observation=observation,
        masks=tuple(c.masks[0] if c.masks else "" for c in routes),
        p_fill_ppm=tuple(c.p_fill_ppm for c in routes),
        fee_e6=tuple(c.fee_e6 for c in routes),
        min_qty_shares=tuple(c.min_qty for c in routes),
        completing_route=limits.routes.index(logged.completing_route),
        measured=_measured(logged, limits, observation),
    )


def _measured(logged: _Decision, limits: Limits, observation: tuple[float, ...]) -> tuple[float, ...]:
    """The observation before the clip to its ranges, which must give it."""
    measured = dict(zip(column_names(limits.routes), observation, strict=True))
    if unknown := sorted(set(logged.beyond_range) - set(measured)):
        raise _Mismatch(f"beyond_range: {unknown[0]!r} is no feature")
    for name, text in logged.beyond_range.items():
        measured[name] = _any_number(text, f"beyond_range.{name}")
    values = np.array(list(measured.values()))
    seen = np.clip(values, *observation_bounds(len(limits.routes)))
    wrong = np.flatnonzero(~((seen == observation) | (np.isnan(seen) & np.isnan(observation))))
    if wrong.size:
        raise _Mismatch(f"observation[{wrong[0]}]: {observation[wrong[0]]!r} where {values[wrong[0]]!r} was measured")
    return tuple(values.tolist())


def _number(text: str, name: str) -> float:
    """A finite float in the one form that the log writes."""
    value = _any_number(text, name)
    if not math.isfinite(value):
        raise _Mismatch(f"{name}: {text!r} is not finite")
    return value


def _any_number(text: str, name: str) -> float:
    """A float, nan and inf included, in the one form that the log writes."""
    value = float(text)
    if repr(value) != text:
        raise _Mismatch(f"{name}: {text!r} is not the repr of a float")
    return value


def _whole(text: str, name: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 20:
        raise _Mismatch(f"{name}: {text!r} is not a decimal integer")
    return int(text)


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
            raise _Mismatch(f"lit_alternative: {dark_shares} shares went dark, the record says otherwise")
        return
    if lit.get("shares") != dark_shares or "dark" not in lit:
        raise _Mismatch(f"lit_alternative: {lit.get('shares')} shares, {dark_shares} were sent dark")
    for way in ("dark", "take", "post"):
        if way in lit and sum(lit[way][part] for part in COST_PARTS) != lit[way]["cost_e6"]:
            raise _Mismatch(f"lit_alternative.{way}: the parts do not add up to cost_e6")
