"""Routers by name: baselines, runs and bundles by path."""

from __future__ import annotations

from ..configs.allocator import ALLOCATOR_CONFIGS
from ..configs.errors import UserError, near_miss
from ..configs.loading import load_router_settings, load_rule_sor
from ..configs.strong_sor import StrongSorConfig
from .allocators.kratz_schoeneborn import KratzSchoeneborn
from .allocators.router import RULES, AllocatorRouter
from .router import AlwaysPost, LitTwap, LitVwap, RandomRouter, Router
from .rule_based import RuleSor
from .strong_sor import StrongSor
from .user_router import is_user_router, user_router

ALLOCATORS = {f"{rule}{form}": (rule, form != "") for rule in RULES for form in ("", "_markout")}
BASELINES = (
    "random", "twap_lit", "vwap_lit", "rule_sor", "tuned_sor", "sor_strong", *ALLOCATORS, "kratz_schoeneborn",
    "post_<venue>",
)  # fmt: skip


def named_router(name: str) -> Router:
    """A baseline by name, or a user's own router as `module:Class` or `cmd:COMMAND`.

    Raises:
        UserError: no such name; the message lists the names. Of a user's router: no such module, class or command.
    """
    if is_user_router(name):
        return user_router(name)
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
        return AllocatorRouter(rule, load_router_settings(ALLOCATOR_CONFIGS[rule], name), aware=aware)
    if name == "rule_sor":
        return RuleSor()
    if name == "tuned_sor":
        return RuleSor(load_rule_sor(name), name)
    if name == "sor_strong":
        return StrongSor(load_router_settings(StrongSorConfig, name), name)
    if name.startswith("post_"):
        return AlwaysPost(name.removeprefix("post_"))
    raise UserError(
        f"router {name!r} is not known. {near_miss(name, BASELINES)}Baselines: {', '.join(BASELINES)}; or name a run "
        "folder, a bundle, or your own router as module:Class or cmd:COMMAND."
    )
