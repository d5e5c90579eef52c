"""Self-contained HTML pages: the committee's report of an evaluation folder, and one decision of a log."""

from __future__ import annotations

from .case import write_case
from .page import write_report

__all__ = ["write_case", "write_report"]
