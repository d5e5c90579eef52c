"""What a log's fills add up to, parent by parent: what a decision's record must say was left, filled dark and sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from ..explain.facts import Facts, Parent, is_dark

_TYPES = frozenset({"route_event", "fill"})


class _Event(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow", frozen=True)
    decision_id: str
    child_id: str
    event: str
    mic: str
    order_type: str


class _Fill(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow", frozen=True)
    child_id: str
    shares: int = Field(gt=0)


@dataclass(slots=True)
class _Sums:
    children: int = 0
    filled_shares: int = 0
    dark_shares: int = 0


class FillAccounts:
    """Hand it the records of a log in order; ask it before each decision.

    Raises:
        pydantic.ValidationError, KeyError, ValueError: a record that is no event or fill of a decision before it.
    """

    types = _TYPES

    def __init__(self) -> None:
        self._sums: dict[str, _Sums] = {}  # by parent
        self._parent_of: dict[str, str] = {}  # by decision
        self._child: dict[str, tuple[_Sums, bool]] = {}  # its parent's sums, dark

    def read(self, kind: str, body: Any) -> None:
        """A `route_event` or a `fill`."""
        if kind == "fill":
            fill = _Fill.model_validate(body)
            sums, dark = self._child[fill.child_id]
            sums.filled_shares += fill.shares
            sums.dark_shares += fill.shares if dark else 0
            return
        event = _Event.model_validate(body)
        if event.event == "MEOR":
            sums = self._sums[self._parent_of[event.decision_id]]
            sums.children += 1
            self._child[event.child_id] = (sums, is_dark(f"{event.mic}:{event.order_type}"))

    def difference(self, decision_id: str, parent: Parent, facts: Facts) -> str | None:
        """The first of three numbers that a decision's record tells otherwise than the records before it; then notes
        the decision."""
        sums = self._sums.setdefault(parent.parent_id, _Sums())
        self._parent_of[decision_id] = parent.parent_id
        for name, told, found in (
            ("remaining_shares", facts.remaining_shares, parent.ordered_shares - sums.filled_shares),
            ("dark_shares", facts.dark_shares, sums.dark_shares),
            ("children_before", facts.children_before, sums.children),
        ):
            if told != found:
                return f"{name} is {told}, but by the orders and fills before it in the log it is {found}"
        return None
