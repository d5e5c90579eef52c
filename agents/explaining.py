"""Working sample orders one at a time and writing down why: the decision log and its Parquet twin.

The policy decides, the rule SOR proposes beside it, and in its place where a feature is outside what training saw.
Before every slot that sends shares dark the slot is run on the same tape with those shares lit instead. All of it is
simulated, and says so.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np

from ..configs.errors import UserError
from ..envs.market import Market, step_proposals, stream_key
from ..envs.mid_path import MidPath
from ..envs.routing_state import RoutingState
from ..envs.state import PING
from ..explain.decision_log import DecisionLog
from ..explain.facts import Body, Facts, Limits, Parent
from ..explain.lit_alternative import Costs, lit_alternative
from ..explain.records import control_body, lit_outcome_body, parent_body, run_body
from ..explain.release import Release
from .baseline import Baseline
from .decision_table import DecisionTable
from .fallback import FeatureRanges
from .guarded_decision import GuardedDecision, RuleProposal
from .integrated_gradients import MlpScorer
from .outcomes import BaselineOutcome, LitOutcomes, child_events
from .runtime import AdditiveRuntime

FIRST_DATE = datetime.date(2026, 3, 2)  # synthetic: order i of a log is worked on the i-th weekday from here
_NEW_YORK = ZoneInfo("America/New_York")
Event = tuple[int, str, Body]  # UTC ns, record type, body


def write_decision_log(
    market: Market, runtime: object, path: str | Path, *, orders: int, seed: int, stream: str, first_episode: int = 0,
    policy_id: str, ranges: FeatureRanges | None = None, run_facts: Mapping[str, object] | None = None,
    progress: Callable[[int], None] | None = None,
) -> dict[str, int]:  # fmt: skip
    """Work `orders` episodes of a stream and log every decision; `<path>` with the suffix .parquet is its table.

    Args:
        runtime: an AdditiveRuntime or an MlpScorer for this market's routes.
        ranges: of the features in training, beyond which the rule SOR decides; None: only where a feature is no number.
        run_facts: see explain.records.RUN_FACTS; `seeds` and `feature_ranges` are set here.
        progress: called with the number of orders done.

    Returns:
        {"orders", "decisions", "fallbacks", "children", "fills", "records"}.

    Raises:
        UserError: a policy that is not additive, or one for another number of routes, or fewer than one order.
    """
    if not isinstance(runtime, AdditiveRuntime | MlpScorer):
        raise UserError(
            f"policy {policy_id}: only additive and MLP policies can be explained, this is {type(runtime).__name__}. "
            "Name a run folder or a bundle."
        )
    if runtime.n_routes != len(market.routes):
        raise UserError(
            f"policy {policy_id} scores {runtime.n_routes} routes, but market {market.config.name} has "
            f"{len(market.routes)}. Use a policy with venue-shared functions (agent.share_venues)."
        )
    if orders < 1:
        raise UserError(f"orders = {orders}: log at least one order.")
    path = Path(path)
    counts = dict.fromkeys(("orders", "decisions", "fallbacks", "children", "fills", "records"), 0)
    ranges = ranges or FeatureRanges.unlimited()
    facts = {
        "seeds": [{"seed": seed, "stream": stream, "first_episode": first_episode, "orders": orders}],
        "feature_ranges": ranges.body() if ranges.limited else None,
    }
    with DecisionLog(path) as log, DecisionTable(path.with_suffix(".parquet")) as table:
        worker = _Worker(market, runtime, ranges, policy_id, log, table, counts)
        first_ns = _open_ns(market, 0, None)
        log.append("run", first_ns, run_body(worker.limits, policy_id, {**(run_facts or {}), **facts}, _clock(market)))
        key = stream_key(seed, stream)
        for i in range(orders):
            worker.work_order(key, stream, first_episode + i, i)
            counts["orders"] += 1
            if progress is not None:
                progress(i + 1)
        log.close()
        counts["records"] = log.records
    return counts


def _clock(market: Market) -> str:
    if market.replay is not None:
        return "simulated fills on the recorded days' clock"
    return f"synthetic: order i on weekday i from {FIRST_DATE.isoformat()}, session 09:30-16:00 New York"


def _open_ns(market: Market, index: int, episode: np.void | None) -> int:
    """UTC ns of the session's open: the replayed day's, or order `index`'s synthetic weekday."""
    date = np.busday_offset(FIRST_DATE, index).astype(object)
    if market.replay is not None and episode is not None:
        date = datetime.date.fromisoformat(market.replay.slots[int(episode["day"])].date)
    elif market.replay is not None:
        date = datetime.date.fromisoformat(min(day.date for day in market.replay.slots))
    opened = datetime.datetime.combine(date, datetime.time(9, 30), _NEW_YORK)
    return int(opened.timestamp()) * 1_000_000_000


class _Worker:
    """Works one order after another in a batch of one."""

    def __init__(
        self, market: Market, runtime: AdditiveRuntime | MlpScorer, ranges: FeatureRanges, policy_id: str,
        log: DecisionLog, table: DecisionTable, counts: dict[str, int],
    ) -> None:  # fmt: skip
        self.market, self.runtime, self.ranges, self.policy_id = market, runtime, ranges, policy_id
        self.log, self.table = log, table
        self.limits = Limits.of(market)
        self.baseline = Baseline(market)
        self.counts = counts
        self.b, self.obs = market.batch(1)
        self._work, self._weights = np.zeros(1), np.zeros((1, len(market.routes)))
        self._later: list[Event] = []  # outcomes that are not due yet

    def work_order(self, key: np.uint64, stream: str, number: int, index: int) -> None:
        """One episode from its arrival to its end, and its outcomes after that."""
        self.market.reset(key, [0], [number], self.b, self.obs, stream)
        self.path = MidPath(self.b, 0, self.market.rules.interval_s)
        state = self._state()
        parent = Parent.of(state, f"P-{number}", _open_ns(self.market, index, self.b.episode[0]))
        close_ns = parent.close_ns(state)
        children = 0
        while self.b.order["active"][0]:
            state = self._state()
            facts = Facts.of(self.market, self.b, 0, state, children)
            now_ns = parent.slot_ns(self.limits, facts.slot)
            if facts.slot == 0:
                self.log.append("parent", now_ns, parent_body(self.limits, parent, facts))
            self._flush(now_ns)
            decision = self._decide_and_step(parent, facts, state, close_ns)
            children += len(decision.children)
        self._flush(None)

    def _state(self) -> RoutingState:
        return RoutingState.from_batch(self.market, self.b, 0, self.obs[0])

    def _decide_and_step(self, parent: Parent, facts: Facts, state: RoutingState, close_ns: int) -> Release:
        market, b = self.market, self.b
        costs = Costs.of(market, b, 0, facts)
        rule = RuleProposal.of(self.baseline, b, self.obs, state)
        outside = self.ranges.found(self.limits.routes, facts.measured)
        guarded = GuardedDecision.of(self.runtime, outside, self.limits, parent, facts, rule)
        d = guarded.release
        lit = lit_alternative(self.limits, facts, costs, d.released)
        body = guarded.body(self.limits, parent, facts, self.runtime, self.policy_id, lit, self.ranges.admits)
        now_ns, end_ns = (parent.slot_ns(self.limits, facts.slot + i) for i in (0, 1))
        self.log.append("decision", now_ns, body)
        for control in body["controls"]:
            self.log.append("control", now_ns, control_body(body["decision_id"], control))
        other = BaselineOutcome.of(market, b, *self.baseline.proposal())
        outcomes = LitOutcomes.of(market, b, lit, d.released) if lit is not None else None
        events = child_events(market, b, parent, facts, d, body["decision_id"], self.limits, close_ns, self.path)
        self._work[0], self._weights[0] = d.work_shares, d.weights
        step_proposals(market.rules, b, self._work, self._weights, self.obs)
        if not np.array_equal(b.child_shares[0], d.released):
            raise RuntimeError(f"{body['decision_id']}: the market released {b.child_shares[0]}, the log {d.released}")
        events.after_step()
        self._later.extend(events.found)
        if outcomes is not None:
            ways = outcomes.after_step([r for r, t in enumerate(market.rules.route_type) if t >= PING])
            self._later.append((end_ns, "lit_outcome", lit_outcome_body(body["decision_id"], ways)))
        take = facts.completing_route  # what one way leaves undone is taken there

        def later_e6(shares: int) -> int:
            parts = costs.parts(self.limits.routes[take], take, shares, facts.fee_e6[take], 0)
            return int(parts["cost_e6"] - parts["impact_e6"])

        if (differs := other.after_step(body["decision_id"], d.released, later_e6)) is not None:
            self._later.append((end_ns, "baseline_outcome", differs))
        filled = b.fill_shares[0].sum(axis=1)
        self.table.add(body, now_ns, d, filled)
        self.counts["decisions"] += 1
        self.counts["fallbacks"] += bool(outside)
        self.counts["children"] += len(d.children)
        self.counts["fills"] += sum(kind == "fill" for _, kind, _ in events.found)
        return d

    def _flush(self, until_ns: int | None) -> None:
        """Write what is due, in time order; records of one time in the order they came to be."""
        due_ns = math.inf if until_ns is None else until_ns
        due = sorted((e for e in self._later if e[0] <= due_ns), key=lambda e: e[0])
        self._later = [e for e in self._later if e[0] > due_ns]
        for ts_ns, kind, body in due:
            self.log.append(kind, ts_ns, body)
