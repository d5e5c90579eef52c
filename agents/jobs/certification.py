"""Certify a market."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

from ...configs.loading import load_market
from ..certification import certify
from .progress import progress_bar


def certify_job(market: str, orders: int, seed: int) -> dict[str, Any]:
    """Run every check with a progress bar; the certificate as numbers and words."""
    config = load_market(market)
    started = time.perf_counter()
    with progress_bar("certifying", config) as bar:
        task = bar.add_task("", total=1.0, note="")
        checks = certify(
            config, orders=orders, seed=seed,
            progress=lambda name, i, n: bar.update(task, completed=i / n, note=name),
        )  # fmt: skip
        bar.update(task, completed=1.0, note="")
    return {
        "market": config.name, "orders": orders, "seed": seed, "seconds": time.perf_counter() - started,
        "passed": all(c.passed is not False for c in checks), "unjudged": [c.name for c in checks if c.unjudged],
        "checks": [asdict(c) for c in checks],
    }  # fmt: skip
