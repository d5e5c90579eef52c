"""The committee's page: one self-contained HTML file from an evaluation folder."""

from __future__ import annotations

from .page import write_report

__all__ = ["write_report"]
