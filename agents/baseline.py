"""What the rule-based SOR would have done with the same decision, as the log tells it: votes, rule, reasons."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ..envs.market import Market
from ..envs.state import CARDS, PING, REST, Batch
from .rule_based import RULE_CODES, VENUE_MASKED, RuleSor
from .rule_inputs import RuleMarket, RuleState

BASELINE_ID = "rule-sor-1"
_CODES = {
    "size": {1: "SIZE_PCT_ADV_HIGH", 0: "SIZE_PCT_ADV_MID", -1: "SIZE_PCT_ADV_LOW"},
    "liquidity": {1: "SPREAD_TIGHT_LIQUID", 0: "SPREAD_MID", -1: "SPREAD_WIDE_ILLIQUID"},
    "volatility": {1: "VOL_LOW_STABLE_NBBO", 0: "VOL_MID", -1: "VOL_HIGH"},
    "venue": {1: "VENUE_QUALITY_GOOD", 0: "VENUE_MIXED", -1: "VENUE_QUALITY_POOR"},
}


class Baseline:
    """The rule SOR beside another router, for batches of one order."""

    def __init__(self, market: RuleMarket, sor: RuleSor | None = None) -> None:
        self.market = market
        self.sor = sor or RuleSor()
        self._work = np.zeros(1)
        self._weights = np.zeros((1, len(market.routes)))

    def body(self, b: Batch, obs: NDArray[np.float64], state: RuleState) -> dict[str, Any]:
        """The `baseline` part of a decision record. `top` is null when it would send nothing."""
        market, sor = self.market, self.sor
        self._weights[:] = 0.0
        sor.propose(cast(Market, market), b, obs, self._work, self._weights)  # it reads the rules and nothing else
        why, votes = sor.why[0], sor.votes[0]
        rule, top = RULE_CODES[int(why["rule"])], int(why["route"])
        factors = {name: int(why[name]) for name in ("size", "liquidity", "volatility")}
        pool = self._pool(votes)
        codes = [_CODES[name][vote] for name, vote in factors.items()]
        if not why["vol_known"] and factors["volatility"] == 0:
            codes[2] = "VOL_NO_DATA"
        if pool is not None:
            factors["venue"] = int(votes[pool])
            codes.append(self._venue_code(state, pool, factors["venue"]))
        return {
            "policy_id": BASELINE_ID,
            "top": None if top < 0 else market.routes[top].name,
            "rule": rule,
            "votes": int(why["votes"]),
            "factor_votes": factors,
            "venue_votes": {
                market.venues[v]: None if votes[v] == VENUE_MASKED else int(votes[v])
                for v in range(market.rules.n_lit, len(market.venues))
            },
            "work_shares": f"{float(self._work[0]):.6f}",
            "reasons": codes + self._rule_codes(state, rule, bool(why["behind"])) + sor.more_codes(0),
            "justification": self._words(state, factors["size"], pool),
        }

    def proposal(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Copies of the shares to work (1,) and weights (1, R) behind the last `body`."""
        return self._work.copy(), self._weights.copy()

    def _pool(self, votes: NDArray[np.int64]) -> int | None:
        """The pool that the venue vote is about: the one it sends to, else the open one with the most votes."""
        rules = self.market.rules
        sent = [int(rules.route_venue[r]) for r in np.flatnonzero(self._weights[0]) if rules.route_type[r] >= PING]
        if sent:
            return sent[0]
        open_pools = [v for v in range(rules.n_lit, rules.n_venues) if votes[v] != VENUE_MASKED]
        return max(open_pools, key=lambda v: int(votes[v])) if open_pools else None

    def _card(self, state: RuleState, pool: int) -> tuple[str, Mapping[str, float]]:
        """Row of the order type sent there; where none is, of what the rules would send: rest for a large order, else
        ping."""
        types, venues = self.market.rules.route_type, self.market.rules.route_venue
        sent = [int(types[r]) for r in np.flatnonzero(self._weights[0]) if venues[r] == pool]
        rests = sent[0] == REST if sent else int(self.sor.why[0]["size"]) == 1
        kind = CARDS[1] if rests else CARDS[0]
        return kind, state.scorecard[self.market.venues[pool]][kind]

    def _venue_code(self, state: RuleState, pool: int, vote: int) -> str:
        _, card = self._card(state, pool)
        small = card["attempts"] < self.sor.config.min_attempts or card["markouts"] < self.sor.config.min_fills
        return "VENUE_SAMPLE_SMALL" if vote == 0 and small else _CODES["venue"][vote]

    def _rule_codes(self, state: RuleState, rule: str, behind: bool) -> list[str]:
        codes = {"BEST_VENUE": [], "NOTHING_DUE": ["AHEAD_OF_SCHEDULE"]}.get(rule, [rule])
        if rule == "MASKED":
            codes = sorted(set(state.mask_codes.values()) - {""})
        return codes + (["BEHIND_SCHEDULE"] if behind else [])

    def _words(self, state: RuleState, size_vote: int, pool: int | None) -> list[str]:
        """The four factors as sentences, with this decision's numbers."""
        spread_e6 = state.ask_e6 - state.bid_e6
        bps = 2e4 * spread_e6 / (state.bid_e6 + state.ask_e6)
        called = "was" if size_vote == 1 else "was not"
        words = [
            f"Parent is {100 * state.ordered_shares / state.adv_shares:.3g} % of ADV (large above "
            f"{self.sor.config.size_large_pct_adv:g} %): impact mitigation {called} called for.",
            f"Spread {bps:.2f} bps ({spread_e6 / state.tick_e6:g} ticks): a midpoint fill would save "
            f"${spread_e6 / 2e6:.4f} a share; ADV {state.adv_shares:,}.",
            f"Volatility {state.vol_ratio:.2f} x normal, {state.nbbo_moves_10s} NBBO changes in 10 s.",
        ]
        if pool is not None:
            kind, card = self._card(state, pool)
            rate = 100 * card["filled"] / card["attempts"] if card["attempts"] else 0.0
            markout = card["markout_hs_sum"] / card["markouts"] if card["markouts"] else 0.0
            words.append(
                f"{self.market.venues[pool]}: {kind} fill rate {rate:.1f} %, 10 s markout {markout:+.2f} half-spreads, "
                f"{card['attempts']:,.0f} attempts."
            )
        return words
