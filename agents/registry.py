"""Routers by name: baselines, runs and bundles by path."""

from __future__ import annotations

from ..configs.errors import UserError
from ..configs.loading import load_rule_sor
from .allocators.kratz_schoeneborn import KratzSchoeneborn
from .allocators.router import RULES, AllocatorRouter
from .router import AlwaysPost, LitTwap, LitVwap, RandomRouter, Router
from .rule_based import RuleSor

ALLOCATORS = {f"{rule}{form}": (rule, form != "") for rule in RULES for form in ("", "_markout")}
BASELINES = (
    "random", "twap_lit", "vwap_lit", "rule_sor", "tuned_sor", *ALLOCATORS, "kratz_schoeneborn", "post_<venue>",
)  # fmt: skip


def named_router(name: str) -> Router:
    """A baseline by name.

    Raises:
        UserError: no such name; the message lists the names.
    """
    if name == "random":
        return RandomRouter()
    if name == "vwap_lit":
        return LitVwap()
    if name == "twap_lit":
        return LitTwap()
    if name == "kratz_schoeneborn":
        return KratzSchoeneborn()
    if name in ALLOCATORS:
        rule, aware = ALLOCATORS[name]
        return AllocatorRouter(rule, aware=aware)
    if name == "rule_sor":
        return RuleSor()
    if name == "tuned_sor":
        return RuleSor(load_rule_sor(name), name)
    if name.startswith("post_"):
        return AlwaysPost(name.removeprefix("post_"))
    raise UserError(
        f"router {name!r} is not known. Baselines: {', '.join(BASELINES)}; or name a run folder or a bundle."
    )
