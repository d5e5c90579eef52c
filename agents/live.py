"""A router behind one call: a routing state in, child orders with scores, attributions and reasons out.

The state is put back into a batch of one, so that live decisions pass the same compiled routers and the same controls
as simulated ones. What a state says twice (masks and what they come from, features before and after their clip) must
agree; a state that contradicts itself is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..configs.errors import UserError
from ..configs.loading import load_market
from ..envs.controls import MASK_CODES, NOT_LAST, mask_code, release_rows
from ..envs.features import observation_bounds, observation_names
from ..envs.market import Market
from ..envs.routing_state import RoutingState
from ..envs.state import Batch
from ..explain.decision import decide, decision_body
from ..explain.decision_log import DecisionLog
from ..explain.facts import Body, Facts, Limits, Parent
from ..explain.fallback_record import Outside, fallback_reasons, fallback_sentence
from ..explain.release import child_body, children_of
from .baseline import Baseline
from .bundle import load_bundle
from .fallback import FeatureRanges
from .integrated_gradients import MlpScorer
from .kill_switch import CODE as KILL
from .kill_switch import KillSwitch
from .policies import MlpPolicy
from .registry import ALLOCATORS, named_router
from .router import Router, ScoringRouter
from .rule_based import RuleSor
from .rule_inputs import put_state
from .runs import is_bundle, load_run, refuse_bounds
from .runtime import AdditiveRuntime
from .user_router import is_user_router

_MAX_SHARES = 10**12  # an exact float64, and far from any overflow on the way


@dataclass(frozen=True, slots=True)
class RoutingDecision:
    """What goes out, and why. Scores and attributions are None where the proposal came from rules."""

    proposed_by: str
    children: tuple[Body, ...]  # child_id, route, shares, limit_e6, tif; dark: min_qty
    scores_e9: dict[str, int] | None  # by candidate, the pace first
    attributions_e9: dict[str, dict[str, int]] | None  # by candidate and feature; with the bias they sum to the score
    reasons: tuple[Body, ...]  # code, attr_e9, features
    sentence: str
    fallback_features: tuple[str, ...]  # outside training, so that the rule SOR proposed


class LiveRouter:
    """Decides states of one market."""

    def __init__(
        self, market: Market, router: Router | AdditiveRuntime | MlpScorer, ranges: FeatureRanges | None = None,
        log: DecisionLog | None = None,
    ) -> None:  # fmt: skip
        self.market, self.name = market, router.name
        self.switch = KillSwitch(log)
        self._router = router
        self._ranges = ranges or FeatureRanges.unlimited()
        self._limits = Limits.of(market)
        self._b, self._obs = market.batch(1)

    def decide(self, state: RoutingState, *, parent_id: str = "P", children_before: int = 0) -> RoutingDecision:
        """One decision; nothing while the router is killed, whatever the state.

        Raises:
            UserError: a state of other routes, one that contradicts itself, or numbers that no order or quote has. A
                feature that is missing (NaN), not finite or outside training is no error: the rule SOR proposes.
        """
        b, market = self._b, self.market
        if self.switch.killed:
            said = self.switch.block(f"{parent_id}-{state.slot:04d}" if isinstance(state.slot, int) else parent_id)
            reason: Body = {"code": KILL, "attr_e9": 0, "features": []}
            return RoutingDecision(self.name, (), None, None, (reason,), said, ())
        _put(state, market, b)
        parent = Parent.of(state, parent_id, 0)
        facts = Facts.of(market, b, 0, state, children_before)
        self._obs[0] = state.observation
        if isinstance(self._router, AdditiveRuntime | MlpScorer):
            if outside := self._ranges.found(self._limits.routes, facts.measured):
                return self._by_rules(RuleSor(), parent, facts, state, outside)
            return self._scored(self._router, parent, facts)
        return self._by_rules(self._router, parent, facts, state, ())

    def _scored(self, scorer: AdditiveRuntime | MlpScorer, parent: Parent, facts: Facts) -> RoutingDecision:
        d = decide(scorer, self._limits, parent, facts)
        body = decision_body(
            self._limits, parent, facts, d, scorer, policy_id=self.name, baseline={}, lit_alternative=None,
            admits=self._ranges.admits,
        )  # fmt: skip
        parts = (d.explanation.pace, *d.explanation.routes)
        return RoutingDecision(
            self.name, tuple(body["released"]), {p.route: p.score_e9 for p in parts},
            {p.route: p.feature_attr_e9 for p in parts}, tuple(body["reasons"]), body["sentence"], (),
        )  # fmt: skip

    def _by_rules(
        self, router: Router, parent: Parent, facts: Facts, state: RoutingState, outside: tuple[Outside, ...]
    ) -> RoutingDecision:
        market, b, limits = self.market, self._b, self._limits
        said = Baseline(market, router).body(b, self._obs, state) if isinstance(router, RuleSor) else None
        work, weights = np.zeros(1), np.zeros((1, len(market.routes)))
        router.propose(market, b, self._obs, work, weights)
        release_rows(market.rules, b, work, weights)
        children = children_of(limits, parent, facts, b.child_shares[0])
        orders = tuple(child_body(limits, parent, facts, c) for c in children)
        reasons: list[Body] = []
        words = ""
        if said is not None and outside:
            reasons, words = fallback_reasons(outside, said), fallback_sentence(outside, said)
        elif said is not None:
            reasons = [{"code": code, "attr_e9": 0, "features": []} for code in said["reasons"]]
            words = " ".join(said["justification"])
        named = tuple(o.feature for o in outside)
        return RoutingDecision(router.name, orders, None, None, tuple(reasons), words, named)


def load_router(
    path_or_name: str | Path, market: str | Path | None = None, log: DecisionLog | None = None
) -> LiveRouter:
    """A router by bundle, run folder, baseline name, `module:Class` or `cmd:COMMAND`, ready to decide.

    Args:
        market: whose venues it works; by default those of training, for a baseline the packaged base market. Other
            venues than those of training need an additive policy with venue-shared functions.
        log: gets a `control` record of every kill, resume and decision blocked in between; closed by its owner.

    Raises:
        UserError: nothing of that name, a damaged file, a policy for other venues, or an allocator, which needs its
            own fills.
    """
    name, path = str(path_or_name), Path(path_or_name)
    named = "/" not in name and not name.endswith((".yaml", ".zip"))
    if name in ALLOCATORS or name == "kratz_schoeneborn":
        raise UserError(
            f"router {name!r} decides on its own fills of the order so far, which a state does not hold. Use it in "
            "`glasspool evaluate`; live, name a run, a bundle or rule_sor."
        )
    if is_user_router(name) or (named and not path.is_dir()):
        return LiveRouter(Market(load_market(market or "base")), named_router(name), log=log)
    ranges: FeatureRanges | None = None
    policy: ScoringRouter
    if is_bundle(path) or not (path / "policy.zip").is_file():
        bundle = load_bundle(path)
        policy, ranges, config = bundle.runtime, bundle.ranges, bundle.config
    else:
        run = load_run(path)
        refuse_bounds(run, "run live")
        policy, ranges, config = run.policy, run.ranges, run.config
    on = Market(load_market(market) if market is not None else config.market)
    if isinstance(policy, AdditiveRuntime) and policy.shared:
        return LiveRouter(on, policy.for_routes(on.rules.route_type, policy.name), ranges, log)
    scorer = MlpScorer(policy) if isinstance(policy, MlpPolicy) else policy
    if not isinstance(scorer, AdditiveRuntime | MlpScorer) or scorer.n_routes != len(on.routes):
        raise UserError(
            f"{name}: does not score the {len(on.routes)} routes of market {on.config.name!r}. Name the market of "
            "training, or train an additive policy with share_venues: true."
        )
    return LiveRouter(on, scorer, ranges, log)


def _put(s: RoutingState, market: Market, b: Batch) -> None:
    """Write a state to row 0 of a batch."""
    _check_numbers(s, market)
    _check_features(s, market)
    put_state(s, market, b)
    b.episode[0]["start_s"] = s.time_s - s.slot * s.interval_s
    for v, name in enumerate(market.venues):
        down = any(s.mask_codes[r.name] == "MASKED_VENUE_DOWN" for r in market.routes if r.venue == name)
        venue = b.venue[0, v]
        venue["down_from"], venue["down_until"] = 0, s.n_slots + 1 if down else 0
        venue["min_quantity_shares"] = s.min_quantity_shares[name]
    for r, route in enumerate(market.routes):
        code = MASK_CODES[mask_code(market.rules, b, 0, r)]
        if s.mask_codes[route.name] != code or s.masked[route.name] != (code != ""):
            raise UserError(
                f"mask_codes of {route.name} = {s.mask_codes[route.name]!r}, but by the state's own quote, scorecard "
                f"and fills it is {code!r}. A control cannot be left out; pass the state as it was read."
            )
        b.masked[0, r] = code != ""
    b.plan[1, 0] = NOT_LAST


def _check_numbers(s: RoutingState, market: Market) -> None:
    """Refuse what no order, quote or scorecard has; the message names the field."""
    whole = {
        "ordered_shares": (s.ordered_shares, 1, _MAX_SHARES),
        "remaining_shares": (s.remaining_shares, 1, s.ordered_shares),
        "dark_shares": (s.dark_shares, 0, s.ordered_shares), "adv_shares": (s.adv_shares, 1, _MAX_SHARES),
        "n_slots": (s.n_slots, 1, market.n_slots), "slot": (s.slot, 0, s.n_slots - 1),
        "tick_e6": (s.tick_e6, 1, 10**9), "bid_e6": (s.bid_e6, 1, _MAX_SHARES), "ask_e6": (s.ask_e6, 1, _MAX_SHARES),
        "nbbo_moves_10s": (s.nbbo_moves_10s, 0, 10**9),
    }  # fmt: skip
    for name, (value, low, high) in whole.items():
        _refuse(name, value, isinstance(value, int | np.integer) and low <= value <= high, f"whole, {low} to {high}")
    _refuse("side", s.side, s.side in (1, -1), "+1 (buy) or -1 (sell)")
    for name, number in {"schedule_now_frac": s.schedule_now_frac, "schedule_next_frac": s.schedule_next_frac}.items():
        _refuse(name, number, 0.0 <= number <= 1.0, "from 0 to 1")
    _refuse("arrival_usd", s.arrival_usd, 0.0 < s.arrival_usd < 1e9, "a price above 0")
    _refuse("half_spread_bps", s.half_spread_bps, 0.0 <= s.half_spread_bps <= 1e4, "from 0 to 10,000")
    _refuse("time_s", s.time_s, 0.0 <= s.time_s <= 86_400.0, "seconds of a day")
    same = s.interval_s == market.rules.interval_s
    _refuse("interval_s", s.interval_s, same, f"{market.rules.interval_s}, the market's")
    routes = {r.name for r in market.routes}
    for where, mapping in (("fees_bps", s.fees_bps), ("masked", s.masked), ("mask_codes", s.mask_codes)):
        _same_names(where, mapping, routes)
    for route, fee in s.fees_bps.items():
        _refuse(f"fees_bps of {route}", fee, abs(fee) < 1e4, "a finite fee in bps")
    for where, by_venue in (("scorecard", s.scorecard), ("min_quantity_shares", s.min_quantity_shares)):
        _same_names(where, by_venue, set(market.venues))
    for venue, quantity in s.min_quantity_shares.items():
        _refuse(f"min_quantity_shares of {venue}", quantity, 0 <= quantity <= _MAX_SHARES, "0 or more")
    for venue, cards in s.scorecard.items():
        lit = market.venues.index(venue) < market.rules.n_lit
        _same_names(f"scorecard of {venue}", cards, {"post"} if lit else {"ping", "rest"})
        for kind, card in cards.items():
            where = f"scorecard of {venue}, {kind}"
            _same_names(where, card, {"attempts", "filled", "markouts", "markout_hs_sum"})
            for field in ("attempts", "filled", "markouts"):
                _refuse(f"{where}: {field}", card[field], 0 <= card[field] <= _MAX_SHARES, "0 or more")
            _refuse(f"{where}: markout_hs_sum", card["markout_hs_sum"], abs(card["markout_hs_sum"]) < 1e15, "finite")


def _check_features(s: RoutingState, market: Market) -> None:
    """`observation` must be `measured` within the ranges of the feature table, where `measured` is a finite number."""
    for name, values in (("observation", s.observation), ("measured", s.measured)):
        if np.shape(values) != (market.n_obs,):
            raise UserError(f"{name} has the shape {np.shape(values)}; this market's features are ({market.n_obs},).")
    measured = np.asarray(s.measured, np.float64)
    clipped = np.clip(measured, *observation_bounds(len(market.routes)))
    wrong = np.flatnonzero(np.isfinite(measured) & (clipped != s.observation))
    if wrong.size:
        at = int(wrong[0])
        raise UserError(
            f"observation of {observation_names(market.routes)[at]} = {s.observation[at]!r}, but measured "
            f"{measured[at]!r}. Pass the state as it was read."
        )
    of_routes = {f"{r}.{name}": x for r, values in s.route_features.items() for name, x in values.items()}
    flat = dict(zip(observation_names(market.routes), np.asarray(s.observation).tolist(), strict=True))
    _same_names("features, route_features", named := {**s.features, **of_routes}, set(flat))
    for name, x in flat.items():
        _refuse(f"features: {name}", named[name], named[name] == x or (x != x and named[name] != named[name]), f"{x!r}")
    for name, shares, frac in (
        ("target_shares", s.target_shares, s.schedule_next_frac),
        ("slice_shares", s.slice_shares, s.schedule_now_frac - s.schedule_next_frac),
    ):
        _refuse(name, shares, shares == s.ordered_shares * frac, f"{s.ordered_shares * frac!r}, by the schedule")


def _refuse(name: str, value: object, fits: bool, rule: str) -> None:
    if not fits:
        raise UserError(f"{name} = {value!r}: must be {rule}. Mend the state before it is decided.")


def _same_names(where: str, mapping: Mapping[str, object], names: set[str]) -> None:
    if set(mapping) != names:
        odd = sorted(set(mapping) ^ names)[0]
        raise UserError(
            f"{where}: {odd!r} is {'not known here' if odd in mapping else 'missing'}. Pass a state of this router's "
            "market, or load the router for yours."
        )


__all__ = ["LiveRouter", "RoutingDecision", "load_router"]
