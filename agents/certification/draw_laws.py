"""Draws held to their stated laws: the collector behind the lines "orders as drawn" and "venues as drawn".

A draw put through its law's distribution function is uniform (the probability integral transform: Rosenblatt, Annals of
Mathematical Statistics 23(3), 1952), which the Kolmogorov-Smirnov test judges; counts go to a chi-square test; what
has one value only is compared with it. A draw that its law cannot give fails at once, whatever the others are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2, chisquare, kstest, norm

from .check import FALSE_ALARM, Check, Floats

Ints = NDArray[np.int64]
_LEAST = 40  # draws for a verdict on a law
_EXPECTED = 20.0  # least count of a cell of the chi-square test, so that its far tail holds


class DrawLaws:
    """Verdicts of one line: p-values by law, and what cannot be."""

    def __init__(self) -> None:
        self.p: dict[str, float] = {}
        self.impossible: list[str] = []
        self.constants = 0  # values compared with the one they may have

    def uniform(self, name: str, places: Floats) -> None:
        """Places in [0, 1], which the law makes uniform."""
        if len(places) == 0:
            return
        if not np.isfinite(places).all():
            self.impossible.append(f"{name} is not a number")
        elif places.min() < -1e-6 or places.max() > 1 + 1e-6:
            worst = places[np.argmax(np.abs(places - 0.5))]
            self.impossible.append(f"{name} lies outside its range, at {worst:.3f} of it")
        elif len(places) >= _LEAST:
            self.p[name] = float(kstest(places, "uniform").pvalue)

    def ranged(self, name: str, drawn: Floats, bounds: tuple[float, float], *, log: bool = False) -> None:
        """Uniform, or log-uniform, between the bounds; the bound where they are one."""
        lo, hi = bounds
        if hi <= lo:
            self.equal(name, drawn, np.full(len(drawn), lo))
        elif log:
            with np.errstate(invalid="ignore", divide="ignore"):
                self.uniform(name, np.log(drawn / lo) / np.log(hi / lo))
        else:
            self.uniform(name, (drawn - lo) / (hi - lo))

    def normal(self, name: str, drawn: Floats, sd: float) -> None:
        """Mean 0; the width by itself too, of which the test of the distribution says little."""
        if sd == 0.0:
            self.equal(name, drawn, np.zeros(len(drawn)))
            return
        self.uniform(name, np.asarray(norm.cdf(drawn / sd)))
        if name in self.p:
            squares = float(((drawn / sd) ** 2).sum())
            tails = chi2.cdf(squares, len(drawn)), chi2.sf(squares, len(drawn))
            self.p[f"{name}, its width"] = float(2 * min(tails))

    def counts(self, name: str, seen: Ints, probabilities: Sequence[float]) -> None:
        """Outcomes 0..K-1 of stated probabilities; rare ones are counted together."""
        share, n_outcomes = np.asarray(probabilities, float), len(probabilities)
        known = (seen >= 0) & (seen < n_outcomes)
        if not known.all() or (share[seen] == 0.0).any():
            self.impossible.append(f"{name} has an outcome that cannot be")
            return
        counted, expected = np.bincount(seen, minlength=n_outcomes), share * len(seen)
        cells: list[tuple[float, float]] = []
        waiting = (0.0, 0.0)
        for k in np.argsort(expected, kind="stable"):
            waiting = (waiting[0] + counted[k], waiting[1] + expected[k])
            if waiting[1] >= _EXPECTED:
                cells.append(waiting)
                waiting = (0.0, 0.0)
        if waiting[1] > 0.0 and cells:
            cells[-1] = (cells[-1][0] + waiting[0], cells[-1][1] + waiting[1])
        if len(cells) > 1:
            self.p[name] = float(chisquare([c for c, _ in cells], [e for _, e in cells]).pvalue)

    def equal(self, name: str, drawn: Floats, stated: Floats | float) -> None:
        """What has one value only."""
        self.constants += np.size(drawn)
        if not np.allclose(drawn, stated, rtol=1e-9, atol=1e-12):
            self.impossible.append(f"{name} is not what the config states")

    def holds(self, name: str, right: NDArray[np.bool_]) -> None:
        """A rule that each draw obeys."""
        self.constants += right.size
        if not right.all():
            self.impossible.append(f"{name} fails in {int((~right).sum())} of {right.size} draws")

    def check(self, name: str, claim: str) -> Check:
        if self.impossible:
            return Check(name, claim, "; ".join(self.impossible[:3]), False)
        said, passed = f"{self.constants:,} constants as stated", True
        if self.p:
            worst = min(self.p, key=lambda k: self.p[k])
            passed = self.p[worst] >= FALSE_ALARM
            said = f"least p {self.p[worst]:.4f} of {len(self.p)} laws ({worst}); {said}"
        return Check(name, claim, said, passed, len(self.p) * FALSE_ALARM)
