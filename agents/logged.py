"""What the records of a log say, read strictly: the inputs of a decision, in the one form that the log writes."""

from __future__ import annotations

import math
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from ..envs.controls import MASK_CODES
from ..envs.features import N_GLOBAL, N_ROUTE, observation_bounds
from ..envs.state import ORDER_TYPES, TAKE
from ..explain.decision import column_names
from ..explain.facts import Facts, Limits, Parent, type_of
from .rule_inputs import COUNTS, RuleInputs

Shares = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(gt=0)]


class Mismatch(Exception):
    """Why a record is not what the policy decides."""


class _Body(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow", frozen=True)


class LoggedLimits(_Body):
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


class LoggedRun(_Body):
    policy_id: str
    policy_sha256: str | None
    feature_schema_sha256: str
    control_limits: LoggedLimits
    feature_ranges: dict[str, list[str]] | None


class LoggedParent(_Body):
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


class LoggedRuleInputs(_Body):
    arrival_usd: str
    half_spread_bps: str
    fees_bps: dict[str, str]
    scorecard: dict[str, dict[str, _Card]]


class _Fallback(_Body):
    rule_inputs: LoggedRuleInputs


class LoggedDecision(_Body):
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


def rule_inputs_of(logged: LoggedRuleInputs, limits: Limits, parent: Parent, facts: Facts) -> RuleInputs:
    return RuleInputs.of(
        limits, parent, facts, arrival_usd=number_of(logged.arrival_usd, "arrival_usd"),
        half_spread_bps=number_of(logged.half_spread_bps, "half_spread_bps"),
        fees_bps={route: number_of(fee, f"fees_bps.{route}") for route, fee in logged.fees_bps.items()},
        scorecard={
            venue: {
                kind: {name: getattr(card, name) for name in COUNTS}
                | {"markout_hs_sum": number_of(card.markout_hs_sum, "markout_hs_sum")}
                for kind, card in cards.items()
            }
            for venue, cards in logged.scorecard.items()
        },
    )  # fmt: skip


def limits_of(body: LoggedLimits) -> Limits:
    n = len(body.routes)
    if len(body.route_caps_shares) != n or not n or len(set(body.routes)) != n:
        raise Mismatch("control_limits: routes and route_caps_shares do not match")
    for route in body.routes:
        if route.partition(":")[2] not in ORDER_TYPES:
            raise Mismatch(f"control_limits: {route!r} is no route")
    return Limits(
        tuple(body.routes), tuple(body.route_caps_shares), number_of(body.interval_s, "interval_s"), body.lot_shares,
        body.max_routes, number_of(body.weight_cut, "weight_cut"), body.max_child_shares,
        number_of(body.max_dark_frac, "max_dark_frac"), number_of(body.band_frac, "band_frac"), body.full_band,
        body.completes,
    )  # fmt: skip


def facts_of(logged: LoggedDecision, limits: Limits, parent: Parent) -> Facts:
    n = len(limits.routes)
    routes = logged.candidates[1:]
    if [c.route for c in routes] != list(limits.routes):
        raise Mismatch("candidates: not the pace and then the run's routes in order")
    if len(logged.observation) != N_GLOBAL + n * N_ROUTE:
        raise Mismatch(f"observation: {len(logged.observation)} values, the routes need {N_GLOBAL + n * N_ROUTE}")
    for c in routes:
        if len(c.masks) > 1 or any(mask not in MASK_CODES[1:] for mask in c.masks):
            raise Mismatch(f"candidates: {c.route} has unknown masks {c.masks}")
    if logged.interval >= parent.n_slots:
        raise Mismatch(f"interval {logged.interval} is beyond the parent's {parent.n_slots}")
    if logged.remaining_shares + logged.dark_shares > parent.ordered_shares:
        raise Mismatch("remaining_shares and dark_shares exceed the parent's ordered_shares")
    if logged.completing_route not in limits.routes or type_of(logged.completing_route) != TAKE:
        raise Mismatch(f"completing_route {logged.completing_route!r} is not a take of this run")
    observation = tuple(_any_number(x, f"observation[{i}]") for i, x in enumerate(logged.observation))
    return Facts(
        slot=logged.interval,
        remaining_shares=logged.remaining_shares,
        dark_shares=logged.dark_shares,
        children_before=logged.children_before,
        schedule_now_frac=number_of(logged.schedule_now_frac, "schedule_now_frac"),
        schedule_next_frac=number_of(logged.schedule_next_frac, "schedule_next_frac"),
        bid_e6=logged.nbbo.bid_e6,
        ask_e6=logged.nbbo.ask_e6,
        nbbo_moves_10s=logged.nbbo.changes_10s,
        vol_ratio=math.nan if logged.vol_ratio == "nan" else number_of(logged.vol_ratio, "vol_ratio"),
        observation=observation,
        masks=tuple(c.masks[0] if c.masks else "" for c in routes),
        p_fill_ppm=tuple(c.p_fill_ppm for c in routes),
        fee_e6=tuple(c.fee_e6 for c in routes),
        min_qty_shares=tuple(c.min_qty for c in routes),
        completing_route=limits.routes.index(logged.completing_route),
        measured=_measured(logged, limits, observation),
    )


def _measured(logged: LoggedDecision, limits: Limits, observation: tuple[float, ...]) -> tuple[float, ...]:
    """The observation before the clip to its ranges, which must give it."""
    measured = dict(zip(column_names(limits.routes), observation, strict=True))
    if unknown := sorted(set(logged.beyond_range) - set(measured)):
        raise Mismatch(f"beyond_range: {unknown[0]!r} is no feature")
    for name, text in logged.beyond_range.items():
        measured[name] = _any_number(text, f"beyond_range.{name}")
    values = np.array(list(measured.values()))
    seen = np.clip(values, *observation_bounds(len(limits.routes)))
    wrong = np.flatnonzero(~((seen == observation) | (np.isnan(seen) & np.isnan(observation))))
    if wrong.size:
        raise Mismatch(f"observation[{wrong[0]}]: {observation[wrong[0]]!r} where {values[wrong[0]]!r} was measured")
    return tuple(values.tolist())


def number_of(text: str, name: str) -> float:
    """A finite float in the one form that the log writes."""
    value = _any_number(text, name)
    if not math.isfinite(value):
        raise Mismatch(f"{name}: {text!r} is not finite")
    return value


def _any_number(text: str, name: str) -> float:
    """A float, nan and inf included, in the one form that the log writes."""
    value = float(text)
    if repr(value) != text:
        raise Mismatch(f"{name}: {text!r} is not the repr of a float")
    return value


def whole_of(text: str, name: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 20:
        raise Mismatch(f"{name}: {text!r} is not a decimal integer")
    return int(text)
