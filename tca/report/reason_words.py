"""Codes and features of the decision log in words."""

from __future__ import annotations

REASON_WORDS = {
    "SIZE_PCT_ADV_HIGH": "the parent order is large against daily volume",
    "SIZE_PCT_ADV_MID": "the parent order is of middling size",
    "SIZE_PCT_ADV_LOW": "the parent order is small against daily volume",
    "SPREAD_TIGHT_LIQUID": "the spread is tight and the stock liquid",
    "SPREAD_MID": "spread and liquidity are middling",
    "SPREAD_WIDE_ILLIQUID": "the spread is wide or the stock illiquid",
    "SPREAD_WIDE_PI_LARGE": "the wide spread makes a midpoint fill worth much",
    "VOL_LOW_STABLE_NBBO": "volatility is low and the quote stable",
    "VOL_MID": "volatility is middling",
    "VOL_HIGH": "volatility is high",
    "VENUE_QUALITY_GOOD": "the best pool has filled well and without adverse moves",
    "VENUE_MIXED": "the best pool's record is mixed",
    "VENUE_QUALITY_POOR": "the best pool's record is poor",
    "VENUE_SAMPLE_SMALL": "the best pool's record is too short to judge",
    "VENUE_FILL_PROB_HIGH": "the venue is likely to fill",
    "VENUE_MARKOUT_OK": "prices have not moved against us after fills there",
    "BEHIND_SCHEDULE": "the order is behind its schedule",
    "AHEAD_OF_SCHEDULE": "the order is ahead of its schedule",
    "TIME_RUNNING_OUT": "little time is left",
    "FEE_ADVANTAGE": "the fee is lower",
    "VETO_VOLATILITY": "high volatility vetoes dark venues",
    "VETO_VENUE": "the venue is vetoed by its record",
    "NET_VOTES_LIT": "the votes for dark are too few",
    "FALLBACK_RULE_SOR": "a control handed the decision to the rule-based SOR",
    "EXPLORATION": "exploration",
    "ON_SCHEDULE": "the order is on its schedule",
    "VENUE_LAST_VISIT": "what the last visit to the venue found",
    "SIGNAL_ADVERSE": "the quote's imbalance leans against the order",
    "SIGNAL_FAVOURABLE": "the quote's imbalance leans the order's way",
    "VOL_NO_DATA": "there is no reference for volatility",
}
MASK_WORDS = {
    "MASKED_HALT": "no quote",
    "MASKED_CROSSED": "the quote is crossed",
    "MASKED_VENUE_DOWN": "the venue is down",
    "MASKED_LOCKED": "the quote is locked, which closes dark pools",
    "MASKED_TOXICITY": "prices moved too far against us after fills there",
    "MASKED_CAP": "the order's share of dark fills is used up",
}
# Features that are told together have the same words: the groups of the reasons in a decision's record.
_SIZE, _LIQUIDITY, _VOLATILITY = "the order's size", "spread and daily volume", "volatility"
_SCHEDULE, _VISIT = "where the order stands (time left, shares left, schedule)", "the last visit to the pool"
FEATURE_WORDS = {
    "time_left_frac": _SCHEDULE, "remaining_frac": _SCHEDULE, "gap_frac": _SCHEDULE, "log_due_slices": _SCHEDULE,
    "log_pct_adv": _SIZE, "log_participation_pct": _SIZE, "log_slice_lots": _SIZE,
    "log_spread_bps": _LIQUIDITY, "log_spread_ratio": _LIQUIDITY, "log_adv_shares": _LIQUIDITY,
    "log_vol_ratio": _VOLATILITY, "log_move_per_spread": _VOLATILITY, "imbalance_signed": "the quote's imbalance",
    "log_fill_rate": "fill rate", "markout_hs": "markout of its record", "fee_hs": "fee",
    "log_evidence": "number of fills measured", "visit_age": _VISIT, "last_filled_frac": _VISIT,
}  # fmt: skip
