"""Why, in codes and in one sentence: derived from the quantities of the decision, never from free text.

The chosen route is held against the best open route of the other kind (dark against lit). What the features add to that
lead, `attr_e9`, is told by group: a decision factor's features together, of a venue's record each for itself, both of
the last visit together. With the difference of the biases the groups add up to the lead. The codes are those of the
rule-based SOR and a few more for learned policies: ON_SCHEDULE, VENUE_LAST_VISIT, SIGNAL_ADVERSE and SIGNAL_FAVOURABLE
name quantities that the rule-based SOR does not read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..configs.rule_sor import RuleSorConfig
from ..envs.features import FEATURES, GLOBAL_FEATURES, N_GLOBAL, N_ROUTE, ROUTE_FEATURES, Feature
from ..envs.state import PING, POST, TAKE
from .attribution import E9, Explanation
from .facts import Body, Facts, Limits, Parent, is_dark, type_of, venue_of

MAX_REASONS, MAX_OBJECTIONS = 3, 2
_RULES = RuleSorConfig()  # the boundaries between the words
_TIME_RUNNING_OUT_FRAC = 0.1
_LONG_AGO = 1.0 - math.exp(-10.0)  # visit_age after five minutes
COLUMN = {f.name: i for i, f in enumerate(GLOBAL_FEATURES)} | {f.name: i for i, f in enumerate(ROUTE_FEATURES)}
_VISITS = ("visit_age", "last_filled_frac")
_VERBS = ("Take", "Post", "Ping", "Rest")


@dataclass(frozen=True, slots=True)
class Story:
    """What the words are made from."""

    limits: Limits
    parent: Parent
    facts: Facts
    explanation: Explanation
    chosen: int | None
    rival: int | None  # best open route of the other kind, else the best other open route
    released: tuple[int, ...]
    work_shares: float

    @classmethod
    def of(
        cls, limits: Limits, parent: Parent, facts: Facts, explanation: Explanation, chosen: int | None,
        released: NDArray[np.int64], work_shares: float,
    ) -> Story:  # fmt: skip
        return cls(
            limits, parent, facts, explanation, chosen, _rival(limits, facts, explanation, chosen),
            tuple(released.tolist()), work_shares,
        )  # fmt: skip

    @property
    def completing(self) -> bool:
        return self.limits.completes and self.facts.slot == self.parent.n_slots - 1

    def value(self, feature: str, route: int = 0) -> float:
        """A feature as the policy saw it; `route` counts for features of routes only."""
        column = COLUMN[feature]
        scoped = feature in {f.name for f in ROUTE_FEATURES}
        return self.facts.observation[N_GLOBAL + route * N_ROUTE + column if scoped else column]


def _rival(limits: Limits, facts: Facts, explanation: Explanation, chosen: int | None) -> int | None:
    if chosen is None:
        return None
    others = explanation.order([r for r, mask in enumerate(facts.masks) if not mask and r != chosen])
    dark = is_dark(limits.routes[chosen])
    return next((r for r in others if is_dark(limits.routes[r]) != dark), others[0] if others else None)


def reasons(story: Story) -> list[Body]:
    """[{"code", "attr_e9", "features"}], the largest contribution to the lead first, at most MAX_REASONS.

    A group's contribution is that of all its features, those that spoke against the route included.
    """
    masks = sorted(set(story.facts.masks) - {""})
    if story.chosen is None:
        return [_reason(mask, 0, []) for mask in masks]
    if story.completing:
        return [_reason("TIME_RUNNING_OUT", 0, [])]
    closed = not _open_dark(story) and not is_dark(story.limits.routes[story.chosen])
    forced = [_reason(mask, 0, []) for mask in masks if closed]
    if story.rival is None:
        return forced
    spoke_for = [reason for reason in _lead_by_group(story, story.rival) if reason["attr_e9"] > 0]
    return forced + spoke_for[: max(0, MAX_REASONS - len(forced))]


def objections(story: Story) -> list[Body]:
    """[{"attr_e9", "features"}] of what spoke for that other route, the largest first, at most MAX_OBJECTIONS.

    Without codes, which tell a number as it speaks for the chosen route.
    """
    if story.chosen is None or story.completing or story.rival is None:
        return []
    against = [reason for reason in _lead_by_group(story, story.rival) if reason["attr_e9"] < 0]
    return [{key: reason[key] for key in ("attr_e9", "features")} for reason in against[::-1][:MAX_OBJECTIONS]]


def _lead_by_group(story: Story, rival: int) -> list[Body]:
    """The chosen route's lead over another by group of features, the largest part first."""
    assert story.chosen is not None
    mine = story.explanation.routes[story.chosen].feature_attr_e9
    theirs = story.explanation.routes[rival].feature_attr_e9
    features: dict[str, list[str]] = {}
    lead: dict[str, int] = {}
    for f in FEATURES:
        if gain := mine[f.name] - theirs[f.name]:
            group = group_of(f)
            features.setdefault(group, []).append(f.name)
            lead[group] = lead.get(group, 0) + gain
    factors = {f.name: f.factor for f in FEATURES}
    return [
        _reason(_code(story, features[group][0], factors[features[group][0]]), lead[group], features[group])
        for group in sorted(lead, key=lambda group: -lead[group])
    ]


def group_of(feature: Feature) -> str:
    """What a feature's part is told with: its decision factor; of venues' features itself, or the last visit."""
    if feature.factor != "venue":
        return feature.factor
    return "last_visit" if feature.name in _VISITS else feature.name


def _reason(code: str, attr_e9: int, features: Sequence[str]) -> Body:
    return {"code": code, "attr_e9": attr_e9, "features": list(features)}


def _open_dark(story: Story) -> bool:
    return any(is_dark(story.limits.routes[r]) and not mask for r, mask in enumerate(story.facts.masks))


def _code(story: Story, feature: str, factor: str) -> str:
    if factor == "size":
        return _size_code(story)
    if factor == "liquidity":
        return _liquidity_code(story)
    if factor == "volatility":
        return _volatility_code(story)
    if factor == "schedule":
        return _schedule_code(story)
    if factor == "signal":
        return "SIGNAL_ADVERSE" if story.value("imbalance_signed") > 0 else "SIGNAL_FAVOURABLE"
    return _venue_code(story, feature)


def _size_code(story: Story) -> str:
    pct = 100 * story.parent.ordered_shares / story.parent.adv_shares
    if pct > _RULES.size_large_pct_adv:
        return "SIZE_PCT_ADV_HIGH"
    return "SIZE_PCT_ADV_LOW" if pct < _RULES.size_small_pct_adv else "SIZE_PCT_ADV_MID"


def _liquidity_code(story: Story) -> str:
    spread_e6, adv = story.facts.ask_e6 - story.facts.bid_e6, story.parent.adv_shares
    one_tick = spread_e6 <= story.parent.tick_e6
    if not one_tick and _spread_bps(story) > _RULES.wide_spread_bps:
        dark = story.chosen is not None and is_dark(story.limits.routes[story.chosen])
        return "SPREAD_WIDE_PI_LARGE" if dark else "SPREAD_WIDE_ILLIQUID"
    if adv < _RULES.illiquid_adv_shares:
        return "SPREAD_WIDE_ILLIQUID"
    tight = one_tick or _spread_bps(story) <= _RULES.tight_spread_bps
    return "SPREAD_TIGHT_LIQUID" if tight and adv >= _RULES.liquid_adv_shares else "SPREAD_MID"


def _volatility_code(story: Story) -> str:
    ratio, moves = story.facts.vol_ratio, story.facts.nbbo_moves_10s
    if moves >= _RULES.fast_nbbo_moves_10s or ratio > _RULES.vol_high_ratio:
        return "VOL_HIGH"
    if math.isnan(ratio):
        return "VOL_NO_DATA"
    return "VOL_LOW_STABLE_NBBO" if ratio <= _RULES.vol_calm_ratio else "VOL_MID"


def _schedule_code(story: Story) -> str:
    if story.value("time_left_frac") <= _TIME_RUNNING_OUT_FRAC:
        return "TIME_RUNNING_OUT"
    gap = story.value("gap_frac")
    if gap == 0:
        return "ON_SCHEDULE"
    return "BEHIND_SCHEDULE" if gap > 0 else "AHEAD_OF_SCHEDULE"


def _venue_code(story: Story, feature: str) -> str:
    route = _about(story, feature)
    kind = type_of(story.limits.routes[route])
    if feature == "fee_hs":
        fee_e6, rival = story.facts.fee_e6, story.rival
        return "FEE_ADVANTAGE" if rival is not None and fee_e6[route] < fee_e6[rival] else "VENUE_MIXED"
    if feature in _VISITS:
        return "VENUE_LAST_VISIT"
    markout, rate = story.value("markout_hs", route), story.facts.p_fill_ppm[route] / 1e6
    good_rate = rate >= (_RULES.ping_fill_good if kind == PING else _RULES.rest_fill_good)
    if feature == "log_fill_rate":
        return "VENUE_FILL_PROB_HIGH" if good_rate else "VENUE_MIXED"
    if fills_behind(story, route) < _RULES.min_fills:
        return "VENUE_SAMPLE_SMALL"
    if markout < _RULES.venue_markout_poor_hs:
        return "VENUE_QUALITY_POOR"
    good_markout = markout >= _RULES.venue_markout_good_hs
    if feature == "markout_hs":
        return "VENUE_MARKOUT_OK" if good_markout else "VENUE_MIXED"
    return "VENUE_QUALITY_GOOD" if good_markout and good_rate else "VENUE_MIXED"


def _about(story: Story, feature: str) -> int:
    """The route that a venue feature speaks of: the chosen one; the rival where the chosen one's is a constant (a take
    has no record; only pools have visits)."""
    assert story.chosen is not None  # venue codes come from a comparison
    kind = type_of(story.limits.routes[story.chosen])
    constant = kind <= POST if feature in _VISITS else kind == TAKE and feature not in ("fee_hs", "log_fill_rate")
    return story.rival if constant and story.rival is not None else story.chosen


def fills_measured(facts: Facts, route: int) -> int:
    """Fills that a route's record holds."""
    log_evidence = facts.observation[N_GLOBAL + route * N_ROUTE + COLUMN["log_evidence"]]
    return int(round(10.0**log_evidence - 1.0))


def fills_behind(story: Story, route: int) -> int:
    return fills_measured(story.facts, route)


def _spread_bps(story: Story) -> float:
    bid, ask = story.facts.bid_e6, story.facts.ask_e6
    return 2e4 * (ask - bid) / (bid + ask)


def sentence(story: Story) -> str:
    """One plain sentence with the logged numbers."""
    total = sum(story.released)
    if story.chosen is None:
        return f"Send nothing: every route is masked ({', '.join(sorted(set(story.facts.masks) - {''}))})."
    route = story.limits.routes[story.chosen]
    if total == 0:
        return f"Send nothing: the pace asks for {story.work_shares:.1f} shares. {route} has the highest score."
    kind = type_of(route)
    start = (
        f"{_VERBS[kind]} {story.released[story.chosen]:,} of the {total:,} shares sent now "
        f"{'in' if kind >= PING else 'at'} "
        f"{venue_of(route)}"
    )
    rest = [f"{n:,} to {story.limits.routes[r]}" for r, n in enumerate(story.released) if n and r != story.chosen]
    start += f" ({', '.join(rest)})" if rest else ""
    if story.completing:
        return f"{start}: the last interval takes what is left of the order."
    found = [(r, phrase(story, str(r["code"]), r["features"])) for r in reasons(story)]
    told = [text + (f" ({r['attr_e9'] / E9:+.3f})" if r["attr_e9"] else "") for r, text in found]
    mine = story.explanation.routes[story.chosen].score_e9 / E9
    if story.rival is None:
        return f"{start}: no other route is open."
    theirs = story.explanation.routes[story.rival].score_e9 / E9
    rival = story.limits.routes[story.rival]
    other_kind = is_dark(rival) != is_dark(route)
    best = f", the best {'dark' if is_dark(rival) else 'lit'} route" if other_kind else ""
    second = story.explanation.order([r for r, m in enumerate(story.facts.masks) if not m and r != story.chosen])[0]
    score = f"score {mine:.3f} against "
    if second != story.rival:
        score += f"{story.explanation.routes[second].score_e9 / E9:.3f} for {story.limits.routes[second]} and "
    score += f"{theirs:.3f} for {rival}{best}"
    return f"{start}: {score}" + (f"; over {rival}: {'; '.join(told)}." if told else ".")


def phrase(story: Story, code: str, features: Sequence[str]) -> str:
    """A reason code in words, with this decision's numbers; of a venue's record those of `features` alone."""
    facts, parent = story.facts, story.parent
    if code.startswith("SIZE_"):
        return f"the order is {100 * parent.ordered_shares / parent.adv_shares:.3g} % of ADV"
    if code.startswith("SPREAD_"):
        ticks = (facts.ask_e6 - facts.bid_e6) / parent.tick_e6
        return f"spread {_spread_bps(story):.2f} bps ({ticks:g} ticks), ADV {parent.adv_shares:,}"
    if code.startswith("VOL_"):
        return f"volatility {facts.vol_ratio:.2f} x normal, {facts.nbbo_moves_10s} NBBO changes in 10 s"
    if code == "TIME_RUNNING_OUT" or code.endswith("_SCHEDULE"):
        gap = story.value("gap_frac")
        where = f"{abs(100 * gap):.2f} % of the order {'behind' if gap > 0 else 'ahead of'}" if gap else "on"
        return f"{parent.n_slots - facts.slot} of {parent.n_slots} intervals left, {where} schedule"
    if code.startswith("SIGNAL_"):
        imbalance = story.value("imbalance_signed")
        way = "against" if imbalance > 0 else "the way of"
        return f"an imbalance of {abs(imbalance):.2f} that leans {way} the order"
    if code.startswith("MASKED_"):
        return f"dark is closed ({code})"
    return _venue_phrase(story, code, features)


def _venue_phrase(story: Story, code: str, features: Sequence[str]) -> str:
    about = _about(story, features[0])
    route = story.limits.routes[about]
    if code == "FEE_ADVANTAGE" and story.rival is not None:
        fees = [f"${story.facts.fee_e6[r] / 1e6:.4f}" for r in (about, story.rival)]
        return f"fee {fees[0]} a share against {fees[1]}"
    if code == "VENUE_LAST_VISIT":
        age = story.value("visit_age", about)
        if age >= _LONG_AGO:
            return f"no visit to {route} in the last five minutes"
        filled = 100 * story.value("last_filled_frac", about)
        return f"last visit to {route} {abs(30.0 * math.log(1.0 - age)):.0f} s ago, {filled:.0f} % filled"
    told, other = [], story.rival if story.rival != about else story.chosen
    known = other is not None and type_of(story.limits.routes[other]) != TAKE  # a take has no record
    if "log_fill_rate" in features:
        prior = "" if fills_behind(story, about) or type_of(route) == TAKE else " (nothing has filled there yet)"
        rate = f"fill rate {story.facts.p_fill_ppm[about] / 1e4:.1f} %{prior}"
        told.append(rate + (f" against {story.facts.p_fill_ppm[other] / 1e4:.1f} %" if other is not None else ""))
    if "markout_hs" in features:
        against = f" against {story.value('markout_hs', other):+.2f}" if known and other is not None else ""
        told.append(f"10 s markout {story.value('markout_hs', about):+.2f}{against} half spreads (- = adverse)")
    if "log_evidence" in features:
        told.append(f"{fills_behind(story, about):,} fills measured")
    if "fee_hs" in features:
        told.append(f"fee ${story.facts.fee_e6[about] / 1e6:.4f} a share")
    return f"{route} {', '.join(told)}"
