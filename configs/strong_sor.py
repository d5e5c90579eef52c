"""Settings of the strong rule-based router: the rule SOR's keys and what any desk's router has beside them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from .model import Frac, NonNegative
from .rule_sor import RuleSorConfig

# With these the strong router is the rule SOR, decision for decision.
EXTRAS_OFF: dict[str, Any] = {
    "scorecard": "raw", "order_type_by": "size", "rest_bonus_ratio": 1.0, "max_pools": 1, "dark_saving_hs": 1.0,
    "dark_share_by": "fixed", "max_posts": 1, "ahead_frac": 0.0, "behind_left_frac": 0.25, "behind_vol_power": 0.0,
    "catch_up_frac": 1.0, "take_spread_power": 0.0, "imbalance_against": 1.0, "against_take_ratio": 1.0,
    "against_take_slices": 0.0, "imbalance_with": 1.0, "with_take_ratio": 1.0,
}  # fmt: skip


class StrongSorConfig(RuleSorConfig):
    """Defaults are set by hand, as a desk would before it has measured anything; a search starts from them."""

    # the rule SOR's keys, where a desk that knows its scorecards would set them otherwise
    min_net_votes: int = 0
    rank_by: Literal["fill_rate", "net_value"] = "net_value"
    dark_fraction: Frac = 0.4
    post_by: Literal["fee", "net_value"] = "net_value"
    final_take_frac: Frac = 0.01
    behind_s: NonNegative = 200.0
    max_slices: NonNegative = 10.0

    # venues: by scorecard, fee and measured markout
    scorecard: Literal["raw", "shrunk"] = "shrunk"  # shrunk: towards a prior by its count, as learned policies see it
    order_type_by: Literal["size", "net_value"] = "net_value"  # of a dark child: ping or rest
    rest_bonus_ratio: NonNegative = 1.0  # on the rank of a rest, against a ping's
    max_pools: Annotated[int, Field(ge=1)] = 2
    dark_saving_hs: float = 2.0  # what a dark fill saves against a take later, half spreads
    dark_share_by: Literal["fixed", "net_value"] = "fixed"  # value: as dark against post, at most dark_fraction
    max_posts: Annotated[int, Field(ge=1)] = 2

    # pace: shares worked before they are due, how far behind is allowed (behind_s), and how fast the rest is taken
    ahead_frac: Frac = 0.02  # of the order
    behind_left_frac: NonNegative = 0.25  # behind_s at most this part of the time left
    behind_vol_power: float = 0.0  # allowed x volatility ratio to minus this: less patience when it moves
    catch_up_frac: Frac = 0.5  # of what is behind the allowance, taken in this slot
    take_spread_power: float = 0.5  # that x (half spread / usual) to minus this: take more when it is cheap

    # touch imbalance x side: + = the price is about to move against us; 1.0 = never
    imbalance_against: Frac = 0.8  # above: take now
    against_take_ratio: NonNegative = 1.2  # on what is taken to catch up
    against_take_slices: NonNegative = 0.0  # of what is due and within the allowance, taken at once
    imbalance_with: Frac = 0.8  # below minus this: wait and post
    with_take_ratio: NonNegative = 0.8  # on what is taken to catch up


def as_strong(config: RuleSorConfig) -> StrongSorConfig:
    """The same router in the strong router's keys."""
    return StrongSorConfig(**{**EXTRAS_OFF, **config.model_dump()})


__all__ = ["EXTRAS_OFF", "StrongSorConfig", "as_strong"]
