"""Certification of a market: what must hold before anything learned on it means anything (docs/certification.md)."""

from __future__ import annotations

from .suite import certify

__all__ = ["certify"]
