"""Routers of a user's own: a class of an importable module (`module:Class`), or a program (`cmd:COMMAND`).

Both are shown the public state and nothing else, and what they propose is checked before it is used: a router that is
wrong stops the evaluation with one message, and is not mended silently.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
import traceback
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from ..configs.errors import UserError
from ..envs.market import Market
from ..envs.state import Batch
from .command_router import CommandRouter
from .public_view import OpenOrders, PublicMarket

Floats = NDArray[np.float64]
_SUM_TOLERANCE = 1e-6


class Proposer(Protocol):
    """What a user writes."""

    def propose(self, market: PublicMarket, orders: OpenOrders, obs: Floats, work: Floats, weights: Floats) -> None:
        """Fill `work` (n,) shares and `weights` (n, R) >= 0, each row summing to 1. `obs` is `orders.observation`."""


class UserRouter:
    """A proposer as a router: shows it the public state of the open orders, checks and copies what it proposes."""

    def __init__(self, name: str, proposer: Proposer) -> None:
        self.name = name
        self._proposer = proposer
        self._of: Market | None = None
        self._market: PublicMarket | None = None

    def propose(self, market: Market, b: Batch, obs: Floats, work: Floats, weights: Floats) -> None:
        """As every router.

        Raises:
            UserError: the proposal is wrong, or the user's code failed; the message says where.
        """
        if self._market is None or self._of is not market:
            self._of, self._market = market, PublicMarket.of(market)
        rows = np.flatnonzero(b.order["active"] == 1)
        orders = OpenOrders.of(market, b, obs, rows)
        own_work, own_weights = np.zeros(len(rows)), np.zeros((len(rows), weights.shape[1]))
        self._ask(orders, own_work, own_weights)
        check_proposal(self.name, self._market, orders, own_work, own_weights)
        work[rows], weights[rows] = own_work, own_weights

    def _ask(self, orders: OpenOrders, work: Floats, weights: Floats) -> None:
        assert self._market is not None
        shapes = work.shape, weights.shape
        try:
            answer: Any = self._proposer.propose(self._market, orders, orders.observation, work, weights)  # type: ignore[func-returns-value]
        except UserError:
            raise
        except Exception as error:
            at = traceback.extract_tb(error.__traceback__)[-1]
            hint = " What is shown cannot be written to: fill work and weights." if "read-only" in str(error) else ""
            raise UserError(
                f"{self.name}: propose raised {type(error).__name__}: {error} ({at.filename}, line {at.lineno})."
                f"{hint or ' Mend the router.'}"
            ) from error
        if answer is not None:
            raise UserError(
                f"{self.name}: propose returned {type(answer).__name__}. Fill work and weights; return nothing."
            )
        if (work.shape, weights.shape) != shapes:
            raise UserError(
                f"{self.name}: propose made work {work.shape} and weights {weights.shape} of {shapes[0]} and "
                f"{shapes[1]}. Keep their shapes: orders, and orders x routes."
            )


def check_proposal(name: str, market: PublicMarket, orders: OpenOrders, work: Floats, weights: Floats) -> None:
    """Refuse what no controls could turn into child orders.

    Raises:
        UserError: work or a weight that is negative or no finite number, or weights of a worked order that do not sum
            to 1. Orders all of whose routes are masked may have any sum: nothing goes out.
    """

    def refuse(row: int, what: str, rule: str) -> None:
        where = f"order {orders.number[row]}, slot {orders.slot[row]}"
        raise UserError(f"{name}: {where}: {what}; must be {rule}. Mend the router.")

    if (bad := np.flatnonzero(~(np.isfinite(work) & (work >= 0)))).size:
        refuse(bad[0], f"work = {work[bad[0]]}", "a number of shares from 0")
    wrong = np.argwhere(~(np.isfinite(weights) & (weights >= 0)))
    if len(wrong):
        row, r = wrong[0]
        refuse(row, f"weight of {market.routes[r].name} = {weights[row, r]}", "a finite number from 0")
    sums = weights.sum(axis=1)
    off = (work > 0) & (np.abs(sums - 1.0) > _SUM_TOLERANCE) & ~orders.masked.all(axis=1)
    if (bad := np.flatnonzero(off)).size:
        refuse(bad[0], f"weights sum to {sums[bad[0]]:.9g}", "1 where shares are worked")


def is_user_router(name: str) -> bool:
    """Whether a name means a user's own router."""
    return name.startswith("cmd:") or (":" in name and "/" not in name)


def user_router(name: str) -> UserRouter:
    """`module:Class` or `cmd:COMMAND` as a router of that name.

    Raises:
        UserError: no such module, class or command, or a class that is not one of a router.
    """
    if name.startswith("cmd:"):
        return UserRouter(name, CommandRouter(name))
    return UserRouter(name, _made(name, _found(name)))


def _found(name: str) -> Any:
    module_name, _, class_name = name.partition(":")
    if not module_name or not class_name:
        raise UserError(f"router {name!r}: write it as module:Class, for example our_sor:OurSor, or as cmd:COMMAND.")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # last: a file here must not hide an installed package
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise UserError(f"{name}: importing {module_name} needs {error.name}, which is not installed.") from error
        raise UserError(
            f"{name}: no module {error.name!r}. Run this in the folder that it lies in, or install it."
        ) from error
    except Exception as error:
        raise UserError(f"{name}: importing {module_name} raised {type(error).__name__}: {error}. Mend it.") from error
    found = getattr(module, class_name, None)
    if not inspect.isclass(found):
        known = sorted(n for n, v in vars(module).items() if inspect.isclass(v) and v.__module__ == module.__name__)
        raise UserError(
            f"{name}: module {module_name!r} has no class {class_name!r}. Its classes: {', '.join(known) or 'none'}."
        )
    return found


def _made(name: str, made_of: Any) -> Proposer:
    try:
        proposer = made_of()
    except Exception as error:
        raise UserError(
            f"{name}: the class could not be made without arguments: {type(error).__name__}: {error}. Give its "
            "arguments defaults."
        ) from error
    propose = getattr(proposer, "propose", None)
    wanted = "propose(self, market, orders, obs, work, weights)"
    if not callable(propose):
        raise UserError(f"{name}: the class has no method propose. Write {wanted}.")
    try:
        inspect.signature(propose).bind(*range(5))
    except TypeError as error:
        raise UserError(
            f"{name}: propose{inspect.signature(propose)} does not take the five arguments of a router. Write {wanted}."
        ) from error
    return cast(Proposer, proposer)


__all__ = ["Proposer", "UserRouter", "check_proposal", "is_user_router", "user_router"]
