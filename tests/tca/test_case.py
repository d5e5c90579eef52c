"""The page of one decision: complete, self-contained, and no text from the log becomes markup."""

from __future__ import annotations

import copy
import importlib.util
import json
import re
import sys
from html import unescape
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from glasspool import cli
from glasspool.configs.errors import UserError
from glasspool.explain.decision_log import DecisionLog, read_log
from glasspool.explain.merkle import merkle_root, verify_inclusion
from glasspool.tca.report import write_case


def _report_tests() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tca_report_tests", Path(__file__).with_name("test_report.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["tca_report_tests"] = module
    spec.loader.exec_module(module)
    return module


_REPORT = _report_tests()
RECORDS: list[dict[str, Any]] = _REPORT.log_records()
browser, open_page = _REPORT.browser, _REPORT._open  # a fixture, and what opens a page in it
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


def test_what_the_rule_sor_would_have_sent_and_filled_is_told(tmp_path: Path) -> None:
    records = copy.deepcopy(RECORDS)
    way = {"sent": {"XQDA:ping": 100, "XQLA:post": 200}, "filled_shares": 100, "cost_e6": 5}
    outcome = {"decision_id": "P-1-0002", "policy": way, "baseline": way, "worth_e6": -24_900, "later_e6": 0}
    records.append({"seq": 99, "type": "baseline_outcome", "body": outcome})
    html = page(tmp_path, records)
    assert "The rule-based SOR would have sent 100 to XQDA:ping, 200 to XQLA:post (votes for dark" in html
    assert "it would have filled 100; the policy&#39;s way was $0.02 dearer" in html


def test_the_last_interval_is_decided_by_a_control(tmp_path: Path) -> None:
    records = copy.deepcopy(RECORDS)
    body = records[3]["body"]
    body.update(
        last_slot=True, proposed=body["released"], released=[{"route": "XQLA:take", "shares": 429}],
        counterfactual=None,
        controls=[{"code": "TIME_RUNNING_OUT", "limit": 429, "seen": 100, "outcome": "complete"}],
    )  # fmt: skip
    html = page(tmp_path, records)
    for text in (
        "a control sent 429 to XQLA:take: it was the last interval. The policy had proposed",
        "all 429 shares that are left are sent", "no score counts in the last interval, since a control sends",
        "a control, which sends what is left in the last interval, in the place of policy",
    ):  # fmt: skip
        assert text in html, text
    assert "XQLA:take had the highest score" not in html


def test_text_from_the_log_cannot_become_markup(tmp_path: Path) -> None:
    records = copy.deepcopy(RECORDS)
    records[3]["body"]["sentence"] = records[6]["body"]["mic"] = "</pre><script>alert(1)</script>"
    assert "<script>alert(1)" not in page(tmp_path, records)


def test_a_place_that_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="name a file in a folder that exists"):
        write_case(tmp_path / "none" / "case.html", RECORDS, RECORDS[3], proof=PROOF, verdict="")
    with pytest.raises(UserError, match="a page is an HTML file"):
        write_case(tmp_path / "decisions.jsonl", RECORDS, RECORDS[3], proof=PROOF, verdict="")
    assert list(tmp_path.iterdir()) == []


def masked(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The told decision, every route halted."""
    body = records[3]["body"]
    for candidate in body["candidates"][:-1]:
        candidate.update(score_e9=None, masks=["MASKED_HALT"])
    body.update(
        released=[], reasons=[{"code": "MASKED_HALT", "attr_e9": 0}], lit_alternative=None, counterfactual=None,
        controls=[{"code": "MASKED_HALT", "limit": 0, "seen": 600, "outcome": "block"}],
        sentence="Send nothing: every route is masked (MASKED_HALT).",
    )  # fmt: skip
    return records


def fallen_back(records: list[dict[str, Any]], scored: bool) -> list[dict[str, Any]]:
    """The told decision, taken by the rule SOR because the volatility was too high, or missing."""
    body = records[3]["body"]
    control = {"code": "FALLBACK_RULE_SOR", "feature": "log_vol_ratio", "route": None, "limit": ["-1.5", "2.5"],
               "seen": "4.0" if scored else "nan", "outcome": "fallback"}  # fmt: skip
    orders = [{"route": "XQDB:rest", "shares": 700}] if scored else None
    body.update(controls=[control, *body["controls"]], fallback={"policy_orders": orders}, counterfactual=None)
    body["released"] = [{"route": "XQLA:post", "shares": 400}]
    if not scored:
        for candidate in body["candidates"]:
            candidate["score_e9"] = candidate["weight_ppm"] = None
    return records


def test_a_fully_masked_decision_is_told_without_scores(tmp_path: Path) -> None:
    html = page(tmp_path, masked(copy.deepcopy(RECORDS)))
    for text in (
        "Send nothing: every route is masked (MASKED_HALT).", "No route has a score in this decision.",
        "the policy sent nothing", "No route was open (MASKED_HALT), so none has a score.", "ab" * 32,
    ):  # fmt: skip
        assert text in html, text
    assert html.count("<td>masked</td>") == 4 and 'id="chart' not in html


@pytest.mark.parametrize("scored", [True, False])
def test_a_fallback_says_who_decided_what_was_outside_and_what_the_policy_wanted(tmp_path: Path, scored: bool) -> None:
    html = page(tmp_path, fallen_back(copy.deepcopy(RECORDS), scored))
    assert "the rule-based SOR, in the policy&#39;s place, sent 400 to XQLA:post" in html
    assert (
        "The rule-based SOR led with XQDA:ping (votes for dark less votes for lit: +3" in html
        and "had the highest score" not in html
    )
    assert "MAX_CHILD_SHARES stepped in" in html and "FALLBACK_RULE_SOR stepped in" not in html
    if scored:
        assert "log_vol_ratio was 4.000, in training \N{MINUS SIGN}1.500 to 2.500." in html
        assert "The policy would have sent 700 to XQDB:rest." in html
        assert "The policy&#39;s own choice, not sent: XQDA:rest" in html  # the highest score, not what was released
    else:
        assert "The policy could not decide: log_vol_ratio was nan" in html
        assert "No route has a score in this decision." in html


def test_the_report_tells_a_decision_of_the_policy(tmp_path: Path) -> None:
    folder = _REPORT._complete(tmp_path)
    records = fallen_back(copy.deepcopy(RECORDS), True)
    (folder / "decisions.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    html = _REPORT.write_report(folder).read_text()
    assert "Decision P-1-0003" in html and "Decision P-1-0002." not in html


# --- on a real log, and in a real browser


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The records as a log on disk: a masked decision, a fallback, and one of the policy."""
    records = copy.deepcopy(RECORDS)
    folder = tmp_path_factory.mktemp("log")
    records[2]["body"] = masked(copy.deepcopy(RECORDS))[3]["body"] | {"decision_id": "P-1-0001"}
    records[7]["body"] = fallen_back(copy.deepcopy(RECORDS), False)[3]["body"] | {"decision_id": "P-1-0003"}
    with DecisionLog(folder / "decisions.jsonl") as log:
        for record in records:
            log.append(record["type"], int(record["ts_ns"]), record["body"])
    return folder / "decisions.jsonl"


def show(log: Path, *args: str) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(["audit", "show", str(log), *args])
    return int(ended.value.code or 0)


@pytest.mark.parametrize("decision_id", ["P-1-0001", "P-1-0002", "P-1-0003"])
def test_the_command_writes_the_page_with_a_proof_that_holds(
    log: Path, tmp_path: Path, decision_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "case.html"
    assert show(log, decision_id, "--out", str(out)) == 0
    assert f"open: {out}" in capsys.readouterr().out
    html = unescape(out.read_text())
    lines = log.read_bytes().splitlines()
    index = next(i for i, r in enumerate(read_log(log)) if r["body"].get("decision_id") == decision_id)
    proof = re.findall(r"<td>\d+</td><td>(?:left|right)</td><td><code>([0-9a-f]{64})</code></td>", html)
    assert lines[index].decode() in html and merkle_root(lines) in html
    assert verify_inclusion(lines[index], index, len(lines), proof, merkle_root(lines))


def test_the_command_refuses_unknown_decisions_and_makes_no_page_of_a_broken_log(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "case.html"
    assert show(log, "P-9", "--out", str(out)) == 2
    assert "no decision 'P-9'" in capsys.readouterr().err
    broken = tmp_path / "broken.jsonl"
    broken.write_bytes(log.read_bytes().replace(b"XQDA:rest", b"XQDA:best"))
    assert show(broken, "P-1-0002", "--out", str(out)) == 1
    assert "HASH_MISMATCH" in capsys.readouterr().out and not out.exists()


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize(("decision_id", "charts"), [("P-1-0001", 0), ("P-1-0002", 2), ("P-1-0003", 0)])
def test_the_page_opens_in_chromium_without_errors_or_network(
    browser: Any, log: Path, tmp_path: Path, decision_id: str, charts: int, width: int
) -> None:
    out = tmp_path / "case.html"
    assert show(log, decision_id, "--out", str(out)) == 0
    browser.get_log("browser"), browser.get_log("performance")  # drop what came before
    open_page(browser, out, width)
    assert int(browser.execute_script("return document.documentElement.dataset.charts || 0")) == charts
    drawn = "return document.querySelectorAll('.chart svg.main-svg .cartesianlayer').length"
    assert (browser.execute_script(drawn) > 0) == (charts > 0)
    assert [line for line in browser.get_log("browser") if line["level"] in ("SEVERE", "WARNING")] == []
    events = [json.loads(line["message"])["message"] for line in browser.get_log("performance")]
    asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    assert [url for url in asked if not url.startswith("data:")] == [out.as_uri()]
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.title == f"SIMULATED \N{EN DASH} decision {decision_id}"
