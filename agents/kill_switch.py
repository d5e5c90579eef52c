"""The control KILL of a live router: while it is on nothing is routed, and only a named resume with a reason ends it.

Kill, resume and every decision that was asked for in between go to a chained log, when there is one. The router holds
no open orders: whoever sends them cancels them.
"""

from __future__ import annotations

import time

from ..configs.errors import UserError
from ..explain.decision_log import DecisionLog
from ..explain.facts import Body

CODE = "KILL"


class KillSwitch:
    """On or off. `log` gets `control` records and is closed by its owner."""

    def __init__(self, log: DecisionLog | None = None) -> None:
        self._log = log
        self._killed: tuple[str, str] | None = None  # by, why

    @property
    def killed(self) -> bool:
        return self._killed is not None

    def kill(self, by: str, reason: str, ts_ns: int | None = None) -> None:
        """Raises UserError: no name or reason, or it is on already."""
        if self._killed is not None:
            raise UserError(f"the router was killed by {self._killed[0]} already ({self._killed[1]}). Resume it first.")
        self._write("kill", by, reason, ts_ns, None)
        self._killed = (by, reason)

    def resume(self, by: str, reason: str, ts_ns: int | None = None) -> None:
        """Raises UserError: no name or reason, or it is not on."""
        if self._killed is None:
            raise UserError("the router is not killed, so there is nothing to resume.")
        self._write("resume", by, reason, ts_ns, None)
        self._killed = None

    def block(self, decision_id: str, ts_ns: int | None = None) -> str:
        """Log that a decision was asked for while it is on; returns the sentence that says why nothing goes out."""
        if self._killed is None:
            raise UserError("the router is not killed, so it blocks nothing.")
        by, reason = self._killed
        self._write("block", by, reason, ts_ns, decision_id)
        return f"Send nothing: killed by {by} ({reason}). Only a named resume ends it."

    def _write(self, action: str, by: str, reason: str, ts_ns: int | None, decision_id: str | None) -> None:
        if not by.strip() or not reason.strip():
            raise UserError(f"{action} needs a name and a reason. Pass by=... and reason=...")
        if self._log is not None:
            body: Body = {
                "action": action, "decision_id": decision_id, "code": CODE, "route": None, "limit": None, "seen": None,
                "approver": by, "reason": reason,
            }  # fmt: skip
            self._log.append("control", time.time_ns() if ts_ns is None else ts_ns, body)
