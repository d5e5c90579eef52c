"""The decision log's table: one row a decision and candidate, as Parquet, for pandas and notebooks."""

from __future__ import annotations

import secrets
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ..envs.features import FEATURES
from ..explain.release import Release

_FLUSH_ROWS = 20_000
SCHEMA = pa.schema(
    [
        ("decision_id", pa.string()), ("parent_id", pa.string()), ("interval", pa.int64()), ("ts_ns", pa.int64()),
        ("route", pa.string()), ("mask", pa.string()), ("chosen", pa.bool_()), ("fallback", pa.bool_()),
        ("weight", pa.float64()), ("score_e9", pa.int64()), ("bias_e9", pa.int64()),
        *((f"{f.name}_attr_e9", pa.int64()) for f in FEATURES),
        ("released_shares", pa.int64()), ("filled_shares", pa.int64()),
    ]
)  # fmt: skip


class DecisionTable:
    """Writes the rows; the file appears when the block ends without an exception.

    `pace` is a candidate too: without weight, and with work as its shares. A masked route has no score. In a `fallback`
    weights and shares are the rule SOR's, scores what the policy thought.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
        self._writer = pq.ParquetWriter(self._partial, SCHEMA, compression="zstd")
        self._rows: list[dict[str, Any]] = []

    def add(self, body: dict[str, Any], ts_ns: int, decision: Release, filled: NDArray[np.int64]) -> None:
        """One decision's candidates; `filled` (R,) shares of the slot just worked."""
        for r, candidate in enumerate(body["candidates"], start=-1):  # -1 is the pace
            parts = candidate.get("feature_attr_e9", {})
            masks = candidate.get("masks", [])
            self._rows.append(
                {
                    "decision_id": body["decision_id"], "parent_id": body["parent_id"], "interval": body["interval"],
                    "ts_ns": ts_ns, "route": candidate["route"], "mask": masks[0] if masks else None,
                    "chosen": r >= 0 and r == decision.chosen, "fallback": body["fallback"] is not None,
                    "weight": None if r < 0 else float(decision.weights[r]),
                    "score_e9": candidate["score_e9"], "bias_e9": candidate.get("bias_e9"),
                    **{f"{name}_attr_e9": value for name, value in parts.items()},
                    "released_shares": int(decision.released.sum() if r < 0 else decision.released[r]),
                    "filled_shares": int(filled.sum() if r < 0 else filled[r]),
                }
            )  # fmt: skip
        if len(self._rows) >= _FLUSH_ROWS:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(pa.Table.from_pylist(self._rows, SCHEMA))
            self._rows = []

    def __enter__(self) -> DecisionTable:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._flush()
            self._writer.close()
            if kind is None:
                self._partial.replace(self.path)
        finally:
            self._partial.unlink(missing_ok=True)
