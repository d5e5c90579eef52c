"""glasspool: a glass box for dark pools. Learned VWAP order routing whose every decision is explained and auditable."""

from gymnasium.envs.registration import register

__version__ = "0.1.0"

register(id="glasspool/VwapRouting-v0", entry_point="glasspool.envs.routing_env:VwapRoutingEnv")
