"""The page of one decision: complete, self-contained, and no text from the log becomes markup."""

from __future__ import annotations

import copy
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from glasspool.configs.errors import UserError
from glasspool.tca.report import write_case


def _report_tests() -> ModuleType:
    spec = importlib.util.spec_from_file_location("report_inputs", Path(__file__).with_name("test_report.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["report_inputs"] = module
    spec.loader.exec_module(module)
    return module


RECORDS: list[dict[str, Any]] = _report_tests().log_records()
PROOF = {"index": 3, "size": 8, "root": "ab" * 32, "line": '{"v":1}', "steps": [("left", "cd" * 32)]}


def page(folder: Path, records: list[dict[str, Any]]) -> str:
    for record in records[2:4]:
        for i, order in enumerate(record["body"]["released"], start=1):
            order["child_id"] = f"c{i}"
    path = write_case(folder / "case.html", records, records[3], proof=PROOF, verdict="8 records are in order")
    return path.read_text()


def test_the_page_holds_reasons_routes_controls_outcome_and_proof(tmp_path: Path) -> None:
    html = page(tmp_path, copy.deepcopy(RECORDS))
    for text in (
        "P-1-0002", "SIMULATED", "XQDA:rest", "MAX_CHILD_SHARES", "the spread is tight", "lit take", "exec_id x1",
        "8 records are in order", "ab" * 32, "cd" * 32, "XQLA:post leads if", "data-chart",
    ):  # fmt: skip
        assert text in html, text
    assert 'src="http' not in html and '<link rel="stylesheet' not in html
    assert len(html) < 6_000_000


def test_text_from_the_log_cannot_become_markup(tmp_path: Path) -> None:
    records = copy.deepcopy(RECORDS)
    records[3]["body"]["sentence"] = records[6]["body"]["mic"] = "</pre><script>alert(1)</script>"
    assert "<script>alert(1)" not in page(tmp_path, records)


def test_a_decision_without_scores_and_a_place_that_is_no_file_are_refused(tmp_path: Path) -> None:
    records = copy.deepcopy(RECORDS)
    with pytest.raises(UserError, match="name a file in a folder that exists"):
        write_case(tmp_path, records, records[3], proof=PROOF, verdict="")
    for candidate in records[3]["body"]["candidates"]:
        candidate["score_e9"] = None
    with pytest.raises(UserError, match="every route was masked"):
        write_case(tmp_path / "case.html", records, records[3], proof=PROOF, verdict="")
    assert list(tmp_path.iterdir()) == []
