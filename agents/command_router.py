"""A program as a router: one JSON line an order and decision to its standard input, one JSON line back.

The request and the answer are described in docs/your_own_router.md; `SCHEMA` changes when a field does. Orders are
asked about one after another in their order, and each waits for its answer, so a run is deterministic if the program
is.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..configs.errors import UserError
from ..envs.features import GLOBAL_FEATURES, N_GLOBAL, N_ROUTE, ROUTE_FEATURES
from .line_process import LineProcess, cut
from .public_view import OpenOrders, PublicMarket

SCHEMA = "glasspool-route/1"
ORDER_FIELDS = (
    "number", "side", "ordered_shares", "remaining_shares", "dark_shares", "adv_shares", "slot", "n_slots", "time_s",
    "target_shares", "slice_shares", "bid_e6", "ask_e6", "tick_e6", "half_spread_bps", "vol_ratio", "nbbo_moves_10s",
    "arrival_usd",
)  # fmt: skip
ROUTE_FIELDS = (
    "masked", "fee_bps", "attempts", "filled", "markouts", "markout_hs_sum", "min_quantity_shares",
)  # fmt: skip
Floats = NDArray[np.float64]


class CommandRouter:
    """A proposer that asks a program, which it starts."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._process = LineProcess(name, name.removeprefix("cmd:"))
        self._asked = 0

    def propose(self, market: PublicMarket, orders: OpenOrders, obs: Floats, work: Floats, weights: Floats) -> None:
        names = {r.name: i for i, r in enumerate(market.routes)}
        for row, request in enumerate(requests(market, orders)):
            request["id"] = self._asked
            answer = self._process.ask(json.dumps(request, separators=(",", ":")))
            try:
                work[row], by_route = read_answer(answer, self._asked, names)
            except UserError as error:
                raise UserError(f"{self._name}: {error} It answered: {cut(answer)}") from None
            for name, weight in by_route.items():
                weights[row, names[name]] = weight
            self._asked += 1


def requests(market: PublicMarket, orders: OpenOrders) -> list[dict[str, Any]]:
    """A request an order, `id` not yet in it. Numbers that are not known (NaN) are null."""
    head = {k: v for k, v in asdict(market).items() if k not in ("routes", "features")}
    order = {name: _plain(getattr(orders, name)) for name in ORDER_FIELDS}
    route = {name: _plain(getattr(orders, name)) for name in ROUTE_FIELDS}
    observed = _plain(orders.observation)
    out: list[dict[str, Any]] = []
    for i in range(len(orders)):
        routes = {}
        for r, named in enumerate(market.routes):
            at = N_GLOBAL + r * N_ROUTE
            features = zip(ROUTE_FEATURES, observed[i][at : at + N_ROUTE], strict=True)
            routes[named.name] = {
                "venue": named.venue, "order_type": named.order_type, **{name: route[name][i][r] for name in route},
                "observation": {f.name: x for f, x in features},
            }  # fmt: skip
        out.append({
            "schema": SCHEMA, "id": 0, "market": head, "order": {name: order[name][i] for name in order},
            "observation": {f.name: x for f, x in zip(GLOBAL_FEATURES, observed[i], strict=False)}, "routes": routes,
        })  # fmt: skip
    return out


def _plain(values: NDArray[Any]) -> list[Any]:
    """As nested lists; what is not finite is None."""
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        return np.where(np.isfinite(values), values, None).tolist()  # type: ignore[call-overload, no-any-return]
    listed: list[Any] = values.tolist()
    return listed


def read_answer(text: str, asked: int, names: dict[str, int]) -> tuple[float, dict[str, float]]:
    """(shares to work, weights by route) of an answer: `work_shares` and `weights`, or `children` in shares.

    Raises:
        UserError: not such an object, another id, a route that is not known, or a number that is none.
    """
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"the answer is not JSON ({error}). Write one object on one line.") from None
    if not isinstance(answer, dict):
        raise UserError("the answer is not a JSON object. Write one object on one line.")
    forms = ({"id", "work_shares", "weights"}, {"id", "children"})
    if set(answer) not in forms:
        raise UserError(
            f"the answer has the keys {sorted(answer)}. Write id, work_shares and weights, or id and children."
        )
    if answer["id"] != asked or isinstance(answer["id"], bool):
        raise UserError(f"the answer's id is {answer['id']!r}, asked was {asked}. Answer every line once, in order.")
    by_route = answer["weights"] if "weights" in answer else answer["children"]
    if not isinstance(by_route, dict):
        raise UserError("weights and children are objects: a number by route name.")
    if unknown := sorted(set(by_route) - set(names)):
        raise UserError(f"no route {unknown[0]!r}. Routes are named as in the request.")
    given = {name: _number(name, value) for name, value in by_route.items()}
    if "weights" in answer:
        return _number("work_shares", answer["work_shares"]), given
    total = math.fsum(given.values())
    return total, {name: shares / total for name, shares in given.items()} if total > 0 else {}


def _number(name: str, value: Any) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e15:
        return float(value)
    raise UserError(f"{name} = {value!r}: must be a number from 0.")


__all__ = ["ORDER_FIELDS", "ROUTE_FIELDS", "SCHEMA", "CommandRouter", "read_answer", "requests"]
