"""What lit would have cost, then and there: a model estimate at the decision, from what the router knows.

Money in $0.000001 a filled share, + = cost. The realised twin, `lit_outcome`, is measured on the same tape afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..envs.market import Market
from ..envs.scorecard import MARKOUT_PRIOR_WEIGHT
from ..envs.state import CARD_OF_TYPE, POST, TAKE, Batch
from .facts import Body, Facts, Limits, is_dark, type_of

COST_PARTS = ("spread_e6", "instant_e6", "adverse_e6", "fee_e6", "impact_e6")  # cost_e6 is their sum

ESTIMATORS = {"p_fill": "scorecard_rate_shrunk", "price": "quote_at_decision", "adverse": "scorecard_markout_10s"}


@dataclass(frozen=True, slots=True)
class Costs:
    """The cost model's inputs at one decision."""

    half_spread_e6: int
    price_e6: float  # arrival mid, the unit of bps
    markout_unit_bps: float  # a half spread of the scorecard
    markout_hs: tuple[float, ...]  # by route, shrunk; 0 for a take
    instant_bps: float  # of a take of the slot's whole forecast volume
    instant_exponent: float
    forecast_shares: float
    own_bps: float  # on the shares themselves, a share of effective volume
    trace_bps: float  # summed over what is left of the parent, a share of effective volume and of each share sent
    dark_weight: float

    @classmethod
    def of(cls, market: Market, b: Batch, e: int, facts: Facts) -> Costs:
        """From row `e`: forecast volume, usual volatility, scorecard. Nothing latent is read."""
        rules, ep, row = market.rules, b.episode[e], b.tape[e, facts.slot]
        scale = float(ep["daily_vol_bps"]) / float(ep["adv_shares"])
        permanent = float(ep["permanent_coef"]) / float(ep["adv_shares"])
        ahead = int(ep["n_slots"]) - facts.slot - 1
        kernel = scale * sum(
            w * d * (1 - d**ahead) / (1 - d) / ahead if ahead and d < 1 else 0.0
            for w, d in ((rules.weight_1, rules.decay_1), (rules.weight_2, rules.decay_2))
        )  # mean over the slots ahead of the kernel's decay, for a parent worked evenly
        markouts = []
        for r, route in enumerate(market.routes):
            card = CARD_OF_TYPE[int(rules.route_type[r])]
            at = b.card[e, market.venues.index(route.venue), card]
            known = float(at["markout_hs_sum"]) / (float(at["markouts"]) + MARKOUT_PRIOR_WEIGHT)
            markouts.append(0.0 if card < 0 else known)
        return cls(
            half_spread_e6=(facts.ask_e6 - facts.bid_e6) // 2,
            price_e6=1e6 * float(ep["price_usd"]),
            markout_unit_bps=float(max(ep["half_spread_bps"], 1e-9)),
            markout_hs=tuple(markouts),
            instant_bps=rules.eta * float(ep["daily_vol_bps"]) * float(row["vol_curve"]),
            instant_exponent=rules.exponent,
            forecast_shares=max(float(row["forecast_shares"]), float(rules.lot_shares)),
            own_bps=0.5 * ((rules.weight_1 + rules.weight_2) * scale + permanent),
            trace_bps=(kernel + permanent) if ahead else 0.0,
            dark_weight=rules.dark_weight,
        )

    def parts(self, route: str, r: int, shares: int, fee_e6: int, left_shares: int) -> Body:
        """Cost parts of `shares` at one route, if they fill; `left_shares`: of the parent, still to do after them.

        spread: from the midpoint. instant: equation 5. adverse: scorecard markout at 10 s, sign turned. impact: half of
        the own mark on the shares themselves, and its trace on what is left, worked evenly.
        """
        kind, unit = type_of(route), 1e-4 * self.price_e6
        weight = self.dark_weight if is_dark(route) else 1.0
        instant = self.instant_bps * (shares / self.forecast_shares) ** self.instant_exponent if kind == TAKE else 0.0
        body: Body = {
            "spread_e6": {TAKE: self.half_spread_e6, POST: -self.half_spread_e6}.get(kind, 0),
            "instant_e6": round(unit * instant),
            "adverse_e6": round(-unit * self.markout_unit_bps * self.markout_hs[r]),
            "fee_e6": fee_e6,
            "impact_e6": round(unit * weight * (self.own_bps * shares + self.trace_bps * left_shares)),
        }
        return body | {"cost_e6": sum(body[part] for part in COST_PARTS)}


def lit_alternative(limits: Limits, facts: Facts, costs: Costs, released: NDArray[np.int64]) -> Body | None:
    """{"shares", "basis", "dark", "take", "post"} for the released dark shares; None when nothing is sent dark.

    Several pools: their share-weighted mean, named together. take and post: the open route with the lowest cost; absent
    where none is open.
    """
    dark = [(r, int(n)) for r, n in enumerate(released) if n and is_dark(limits.routes[r])]
    shares = sum(n for _, n in dark)
    if not shares:
        return None
    left = max(0, facts.remaining_shares - shares)

    def entry(r: int) -> Body:
        route = limits.routes[r]
        return {"route": route, "p_fill_ppm": facts.p_fill_ppm[r]} | costs.parts(
            route, r, shares, facts.fee_e6[r], left
        )

    body: Body = {
        "shares": shares,
        "basis": "model",
        "estimators": ESTIMATORS,
        "dark": _mean([(entry(r), n) for r, n in dark], shares),
    }
    for name, kind in (("take", TAKE), ("post", POST)):
        ways = [entry(r) for r, route in enumerate(limits.routes) if type_of(route) == kind and not facts.masks[r]]
        if ways:
            body[name] = min(ways, key=lambda way: int(way["cost_e6"]))
    return body


def _mean(entries: list[tuple[Body, int]], shares: int) -> Body:
    if len(entries) == 1:
        return entries[0][0]
    body: Body = {"route": "+".join(str(entry["route"]) for entry, _ in entries)}
    for key in ("p_fill_ppm", *COST_PARTS):
        body[key] = round(sum(int(entry[key]) * n for entry, n in entries) / shares)
    return body | {"cost_e6": sum(body[part] for part in COST_PARTS)}
