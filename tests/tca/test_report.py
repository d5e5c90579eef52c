"""The committee page: what it says for known numbers, what it refuses, and how it opens in a real headless browser."""

from __future__ import annotations

import copy
import json
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glasspool.configs.errors import UserError
from glasspool.tca.report import write_report
from glasspool.tca.report.inputs import COMPONENTS
from glasspool.tca.report.words import number, span

# --- a small but realistic evaluation folder -----------------------------------------------------------------------

# name: (slippage bps, sd, half spreads, dark, post, tail)
ROUTERS = {
    "learned": (9.41, 21.3, 3.31, 0.14, 0.41, 61.2),
    "tuned_sor": (9.96, 22.0, 3.62, 0.13, 0.34, 64.0),
    "rule_sor": (11.90, 24.1, 4.30, 0.04, 0.26, 73.5),
    "post_XQLA": (12.52, 23.8, 4.47, 0.0, 0.34, 72.0),
    "vwap_lit": (15.80, 27.9, 5.61, 0.0, 0.0, 90.3),
    "random": (16.94, 29.5, 5.93, 0.36, 0.29, 97.7),
}
SHARE = dict(zip(COMPONENTS, (0.34, 0.10, 0.30, 0.12, 0.01, 0.02, 0.05, 0.04, 0.02), strict=True))
VENUES = [
    ("XQLA", "lit", "take"),
    ("XQLA", "lit", "post"),
    ("XQLB", "lit", "post"),
    ("XQDA", "dark", "ping"),
    ("XQDA", "dark", "rest"),
    ("XQDB", "dark", "rest"),
    ("XQDC", "dark", "ping"),
]


def _metric(mean: float, sd: float) -> dict[str, Any]:
    half = 1.96 * sd / np.sqrt(4_000)
    return {"mean": mean, "sd": sd, "ci95": [mean - half, mean + half]}


def _components(total: float) -> dict[str, float]:
    return {k: v * total for k, v in SHARE.items()}


def _venue(i: int, row: tuple[str, str, str]) -> dict[str, Any]:
    venue, kind, order_type = row
    fills = [9_120, 5_210, 3_877, 801, 1_544, 612, 31][i]
    rate = [1.0, 0.31, 0.22, 0.05, 0.11, 0.08, 0.004][i]
    return {
        "venue": venue,
        "kind": kind,
        "order_type": order_type,
        "attempts": int(fills / rate),
        "filled_orders": fills,
        "routed_shares": int(230 * fills / rate),
        "filled_shares": 190 * fills,
        "fill_rate_orders": rate,
        "fill_rate_shares": 0.8 * rate,
        "improvement_bps": 0.0 if order_type == "take" else 1.4,
        "markout_10s_bps": -0.6 + 0.1 * i,
        "markout_300s_bps": None if i == 6 else -0.8 + 0.1 * i,
        "n_fills": fills,
    }


def evaluation() -> dict[str, Any]:
    routers = {
        name: {
            "vwap_slippage_bps": _metric(bps, sd),
            "vwap_slippage_hs": _metric(hs, 5.0),
            "arrival_cost_bps": _metric(bps + 0.3, 3 * sd),
            "vwap_affected_bps": _metric(0.8 * bps, sd),
            "components_bps": _components(bps),
            "dark_frac": dark,
            "post_frac": post,
            "take_frac": 1 - dark - post,
            "tail5_bps": tail,
            "completion_frac": 0.9998,
            "venues": [_venue(i, v) for i, v in enumerate(VENUES)] if "sor" in name or name == "learned" else [],
        }
        for name, (bps, sd, hs, dark, post, tail) in ROUTERS.items()
    }
    comparisons = []
    for name, (bps, _, hs, *_rest) in ROUTERS.items():
        if name != "learned":
            d, dh = ROUTERS["learned"][0] - bps, ROUTERS["learned"][2] - hs
            parts = _components(d)
            parts["adverse"] += 0.4
            parts["spread"] -= 0.4
            comparisons.append(
                {
                    "router": "learned",
                    "baseline": name,
                    "metric": "vwap_slippage_bps",
                    "mean_difference_bps": d,
                    "ci95_bps": [d - 0.31, d + 0.31],
                    "mean_difference_hs": dh,
                    "ci95_hs": [dh - 0.08, dh + 0.08],
                    "episodes": 4_000,
                    "components_bps": parts,
                    "per_seed": [
                        {"seed": s, "mean_difference_bps": d + e, "ci95_bps": [d + e - 0.4, d + e + 0.4]}
                        for s, e in ((1, -0.12), (2, 0.05), (3, 0.21), (4, -0.2), (5, 0.06))
                    ],
                }
            )
    return {
        "policy": "learned",
        "market": "default",
        "simulated": True,
        "seeds": [1, 2, 3, 4, 5],
        "test_seed": 900,
        "episodes": 4_000,
        "interval_s": 10,
        "interval_method": "95 % t interval over 5 training seeds (outer) crossed with 4,000 episodes (inner)",
        "command": "glasspool evaluate runs/default-s1 runs/default-s2 --against rule_sor tuned_sor --episodes 4000",
        "created": "2026-03-02T14:35:00Z",
        "price_paths": "synthetic",
        "routers": routers,
        "comparisons": comparisons,
        "hashes": {"policy_sha256": "ab" * 32},
    }


def training(seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    curve = []
    for i in range(25):
        gain = 3.2 * (1 - np.exp(-i / 5)) + 0.1 * rng.normal()
        d = 1.1 - gain
        curve.append(
            {
                "step": i * 200_000,
                "seconds": 7.0 * i,
                "train_slippage_bps": 13.2 - gain + 0.5 * rng.normal(),
                "validation_slippage_bps": 13.0 - gain,
                "validation_vs_sor_bps": d,
                "validation_vs_sor_ci95_bps": [d - 0.5, d + 0.5],
                "dark_frac": 0.3 - 0.007 * i,
                "post_frac": 0.25 + 0.006 * i,
                "fill_rate_ping": 0.03 + 0.001 * i,
                "fill_rate_rest": None if i == 0 else 0.08 + 0.001 * i,
                "fill_rate_post": 0.28,
            }
        )
    return {"seed": seed, "config": "default", "seconds": 175.0, "steps": 4_800_000, "curve": curve}


FEATURES = [
    ("pct_adv", "% of ADV", "order_size", "parent size against daily volume", "global", [0.1, 1, 3, 10, 20]),
    ("spread_bps", "bps", "liquidity", "quoted spread at the decision", "global", [0.5, 2, 5, 12, 30]),
    ("vol_ratio", "ratio", "volatility", "volatility against its usual level", "global", [0.4, 0.8, 1.25, 2.0, 4.0]),
    ("gap_frac", "fraction", "schedule", "how far behind the schedule", "global", [-0.05, -0.01, 0, 0.01, 0.05]),
    ("venue_fill_rate", "fraction", "venue_quality", "shrunk fill rate of the route", "route", [0.0, 0.05, 0.1, 0.3]),
    (
        "venue_markout_hs",
        "half spreads",
        "venue_quality",
        "shrunk 10 s markout of the venue",
        "route",
        [-1.5, -1, -0.5, 0, 0.5],
    ),
    ("fee_hs", "half spreads", "venue_quality", "fee of the route", "route", [-0.3, 0.0, 0.3]),
    ("imbalance", "fraction", "signal", "book imbalance, own side", "global", [-1, -0.5, 0, 0.5, 1]),
    ("unused", "fraction", "signal", "moves nothing", "global", [0, 1]),
]
KINDS = ["take", "post", "ping", "rest"]


def policy() -> dict[str, Any]:
    def shape(k: int, f: int, knots: list[float]) -> list[int]:
        slope = [0.5, -0.3, 0.7, 0.9][k] * [0.3, 0.7, -0.5, -0.6, 1.2, 0.8, -0.4, 0.3][f]
        return [int(1e9 * slope * np.tanh((i - len(knots) / 2) / 1.5)) for i in range(len(knots))]

    used = [(f, name, knots) for f, (name, *_x, knots) in enumerate(FEATURES) if name != "unused"]
    return {
        "kinds": KINDS,
        "features": [
            dict(zip(("name", "unit", "factor", "description", "scope", "knots"), f, strict=True)) for f in FEATURES
        ],
        "bias_e9": {"take": -350_000_000, "post": 120_000_000, "ping": 50_000_000, "rest": 200_000_000},
        "shapes_e9": {
            kind: {name: shape(k, f, knots) for f, name, knots in used} | {"unused": [0, 0]}
            for k, kind in enumerate(KINDS)
        },
        "pace": {
            "bias_e9": -100_000_000,
            "shapes_e9": {"gap_frac": [-900_000_000, -300_000_000, 0, 300_000_000, 900_000_000]},
        },
    }


def _candidate(route: str, bias: int, parts: dict[str, int] | None, weight: int, p_fill: int) -> dict[str, Any]:
    score = bias + sum(parts.values()) if parts is not None else None
    return {
        "route": route,
        "masks": [] if parts is not None else ["MASKED_TOXICITY"],
        "p_fill_ppm": p_fill,
        "exp_price_e6": 100_020_000,
        "fee_e6": 1_000,
        "bias_e9": bias,
        "feature_attr_e9": parts or {},
        "attr_e9": {"venue": sum((parts or {}).values())},
        "residual_e9": 0,
        "score_e9": score,
        "weight_ppm": weight,
    }


def decision(decision_id: str, baseline_top: str) -> dict[str, Any]:
    attr = {
        "pct_adv": 90,
        "spread_bps": 210,
        "vol_ratio": 130,
        "venue_fill_rate": 170,
        "venue_markout_hs": 90,
        "gap_frac": -40,
    }
    post = {
        "pct_adv": 10,
        "spread_bps": 80,
        "vol_ratio": 45,
        "venue_fill_rate": 110,
        "venue_markout_hs": 40,
        "gap_frac": -55,
    }
    take = {"pct_adv": -40, "spread_bps": 55, "vol_ratio": 20, "gap_frac": 65}
    e9 = {
        route: {k: v * 1_000_000 for k, v in a.items()} for route, a in (("rest", attr), ("post", post), ("take", take))
    }
    leg = {"spread_e6": 0, "instant_e6": 0, "adverse_e6": 1_500, "fee_e6": 1_000, "impact_e6": 5_200, "cost_e6": 7_700}
    return {
        "decision_id": decision_id,
        "parent_id": "P-1",
        "policy_id": "learned",
        "remaining_shares": 987_900,
        "candidates": [
            _candidate("XQLA:take", -350_000_000, e9["take"], 171_636, 1_000_000),
            _candidate("XQLA:post", 120_000_000, e9["post"], 312_741, 420_000),
            _candidate("XQDA:rest", 200_000_000, e9["rest"], 515_623, 310_000),
            _candidate("XQDB:ping", 0, None, 0, 180_000),
            {"route": "pace", "bias_e9": 0, "attr_e9": {}, "score_e9": 2_000_000_000},
        ],
        "controls": [{"code": "MAX_CHILD_SHARES", "limit": 200, "seen": 300, "outcome": "clip"}],
        "released": [{"route": "XQLA:post", "shares": 200}, {"route": "XQDA:rest", "shares": 200}],
        "baseline": {
            "policy_id": "rule-sor-1",
            "top": baseline_top,
            "votes": 3,
            "reasons": ["SPREAD_TIGHT_LIQUID", "VOL_LOW_STABLE_NBBO"],
        },
        "lit_alternative": {
            "shares": 200,
            "basis": "model",
            "dark": {"route": "XQDA:rest", "p_fill_ppm": 310_000, **leg},
            "take": {"route": "XQLA:take", "p_fill_ppm": 1_000_000, **leg, "spread_e6": 10_000, "cost_e6": 43_000},
            "post": {"route": "XQLA:post", "p_fill_ppm": 420_000, **leg, "spread_e6": -10_000, "cost_e6": 13_500},
        },
        "reasons": [
            {"code": "SPREAD_TIGHT_LIQUID", "attr_e9": 210_000_000},
            {"code": "VENUE_FILL_PROB_HIGH", "attr_e9": 170_000_000},
        ],
        "counterfactual": "XQLA:post leads if venue_markout_hs of XQDA is below -0.92",
    }


def log_records() -> list[dict[str, Any]]:
    bodies = [
        ("run", {"run_id": "r1", "policy_sha256": "cd" * 32, "code_commit": "0123abc"}),
        ("parent", {"parent_id": "P-1", "symbol": "SIMA", "side": "buy", "ordered_shares": 1_000_000}),
        ("decision", decision("P-1-0001", "XQDA:rest")),  # dark, but no fill, and the SOR agrees
        ("decision", decision("P-1-0002", "XQDA:ping")),  # dark, filled, differs: the one to tell
        ("route_event", {"decision_id": "P-1-0002", "child_id": "c1", "event": "MEOR", "mic": "XQDA", "shares": 200}),
        ("route_event", {"decision_id": "P-1-0002", "child_id": "c2", "event": "MEOR", "mic": "XQLA", "shares": 200}),
        ("fill", {"exec_id": "x1", "child_id": "c1", "mic": "XQDA", "shares": 100, "price_e6": 100_020_000}),
        ("decision", decision("P-1-0003", "XQDA:ping")),
    ]
    return [
        {"v": 1, "seq": i, "type": t, "ts_ns": str(1_772_462_112_427_000_000 + i), "body": b}
        for i, (t, b) in enumerate(bodies)
    ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "evaluation.json").write_text(json.dumps(evaluation()))
    return tmp_path


def _complete(folder: Path) -> Path:
    (folder / "evaluation.json").write_text(json.dumps(evaluation()))
    for seed in (1, 2, 3):
        (folder / f"training-s{seed}.json").write_text(json.dumps(training(seed)))
    (folder / "policy.json").write_text(json.dumps(policy()))
    (folder / "decisions.jsonl").write_text("".join(json.dumps(r) + "\n" for r in log_records()))
    return folder


def _page(folder: Path, change: Callable[[dict[str, Any]], object] | None = None) -> str:
    data = copy.deepcopy(evaluation())
    if change:
        change(data)
    (folder / "evaluation.json").write_text(json.dumps(data))
    text = write_report(folder).read_text()
    return text[: text.index("/**")] if "/**" in text else text  # without the chart library


# --- what it says --------------------------------------------------------------------------------------------------


def test_the_verdict_names_both_baselines_with_their_intervals(folder: Path) -> None:
    page = _page(folder)
    assert "In simulation, learned costs less than both the rule-based SOR and the tuned SOR." in page
    assert (
        "it costs 2.49 bps less on the same 4,000 orders (difference −2.49, 95 % interval −2.80 to −2.18 bps)" in page
    )
    assert "it costs 0.55 bps less" in page


def test_an_interval_that_holds_0_is_no_difference_with_its_detectable_effect(folder: Path) -> None:
    def change(data: dict[str, Any]) -> None:
        tuned = data["comparisons"][0]
        tuned |= {"mean_difference_bps": -0.2, "ci95_bps": [-0.69999, 0.29999]}  # se 0.2551, times 2.801585 = 0.7147

    page = _page(folder, change)
    assert "learned costs less than the rule-based SOR, but shows no difference from the tuned SOR." in page
    assert "would have shown a true difference of 0.71 bps" in page


def test_the_strong_sor_is_in_the_verdict_where_it_was_compared(folder: Path) -> None:
    def change(data: dict[str, Any]) -> None:
        dearer = {"baseline": "sor_strong", "mean_difference_bps": 0.29, "ci95_bps": [0.13, 0.45]}
        data["comparisons"].append(copy.deepcopy(data["comparisons"][0]) | dearer)
        data["routers"]["sor_strong"] = copy.deepcopy(data["routers"]["tuned_sor"])

    page = _page(folder, change)
    assert "costs less than both the rule-based SOR and the tuned SOR, but costs more than the strong SOR." in page
    assert "Worse than the strong SOR:" in page and "strong SOR" not in _page(folder)


def test_a_sor_is_not_judged_against_itself(folder: Path) -> None:
    def change(data: dict[str, Any]) -> None:
        data["policy"] = "rule_sor"
        data["routers"].pop("learned")
        data["routers"] = {"rule_sor": data["routers"].pop("rule_sor"), **data["routers"]}
        data["comparisons"] = [c | {"router": "rule_sor"} for c in data["comparisons"] if c["baseline"] == "tuned_sor"]

    page = _page(folder, change)
    assert "rule_sor costs less than the tuned SOR." in page and "--against rule_sor`" not in page


def test_a_dearer_policy_is_called_worse(folder: Path) -> None:
    page = _page(folder, lambda d: d["comparisons"][1].update(mean_difference_bps=0.9, ci95_bps=[0.5, 1.3]))
    assert "Worse than the rule-based SOR:" in page
    assert "That interval does not agree" in page  # half spreads still say cheaper


def test_under_20_orders_there_is_no_interval_rank_or_verdict(folder: Path) -> None:
    def change(data: dict[str, Any]) -> None:
        data["episodes"] = 19
        for c in data["comparisons"]:
            c["episodes"] = 19

    page = _page(folder, change)
    assert "19 orders are too few" in page
    assert "Better than" not in page
    assert "8.75 to 10.07" not in page  # the interval of learned
    assert "8.75 to 10.07" in _page(folder)


def test_unfinished_orders_are_not_hidden_behind_a_lower_cost(folder: Path) -> None:
    page = _page(folder, lambda d: d["routers"]["learned"].update(completion_frac=0.99))
    assert "a lower cost does not count while orders stay unfinished" in page


@pytest.mark.parametrize(("frac", "state"), [(0.004, "plain"), (0.31, "bad")])
def test_the_verdict_tells_what_the_fallback_decided(folder: Path, frac: float, state: str) -> None:
    fallback = {"decisions": 12_345, "fallback_frac": frac, "by_feature": {"urgency": 2, "log_volume": 50}}
    page = _page(folder, lambda d: d["routers"]["learned"].update(fallback=fallback))
    (line,) = [x for x in page.splitlines() if "Who decided:" in x]
    assert f'class="{state}"' in line and f"{100 * frac:.2f}" in line and "12,345 decisions" in line
    assert "most often log_volume, urgency" in line and ("less of the policy" in line) == (state == "bad")
    assert "Who decided:" not in _page(folder)  # no fallback behind it, as of a user's own router


def test_what_was_read_into_the_market_stands_among_the_facts(folder: Path) -> None:
    note = "pool 'desk', class 'large': fill_rate means <b>supply_frac</b> 0.01"
    page = _page(folder, lambda d: d.update(market_notes=[note, "another"]))
    assert "fill_rate means &lt;b&gt;supply_frac&lt;/b&gt; 0.01<br>another</dd>" in page
    assert "Read into it" not in _page(folder)


def test_venues_under_50_fills_are_grey(folder: Path) -> None:
    page = _page(folder)
    assert '<tr class="grey"><td>XQDC</td>' in page
    assert "<tr><td>XQDA</td>" in page


def test_missing_optional_files_are_named_with_the_command_that_makes_them(folder: Path) -> None:
    page = _page(folder)
    for text in ("no <code>training.json</code>", "no <code>policy.json</code>", "no <code>decisions.jsonl</code>"):
        assert text in page
    for command in ("glasspool train", "glasspool export", "--decisions 5"):
        assert command in page


def test_the_decision_told_went_dark_filled_and_differs_from_the_sor(folder: Path) -> None:
    page = _page(_complete(folder))
    assert "Decision P-1-0002. The first decision in the log that sent shares dark, got a fill, differs from" in page
    assert (
        "left of order P-1 (buy 1,000,000 shares of stock SIMA), the policy sent 200 to XQLA:post, 200 to XQDA:rest."
        in page
    )
    assert "XQDA:rest had the highest score, 0.850. Second was XQLA:post with 0.350" in page
    assert "The rule-based SOR would have sent first to XQDA:ping (votes for dark less votes for lit: +3" in page
    assert "XQDA filled 100 of 200 at 100.0200; XQLA filled 0 of 200." in page
    assert page.count("add up to the score exactly") == 2


def test_a_score_that_does_not_add_up_raises_the_alarm(folder: Path) -> None:
    records = log_records()
    records[3]["body"]["candidates"][2]["bias_e9"] += 1  # one unit of 1e-9
    _complete(folder)
    (folder / "decisions.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    page = _page(folder)
    assert "do not add up to the logged score" in page
    assert page.count("add up to the score exactly") == 1


def test_text_from_the_inputs_cannot_become_markup(folder: Path) -> None:
    evil = "<script>alert(1)</script><img src=x onerror=alert(1)>"

    def change(data: dict[str, Any]) -> None:
        data["market"] = data["command"] = evil
        data["routers"][evil] = data["routers"].pop("random")
        data["comparisons"][-1]["baseline"] = evil

    page = _page(folder, change)
    assert "<script>alert" not in page
    assert "<img" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_chart_data_cannot_end_its_script_element(folder: Path) -> None:
    blocks = re.findall(r'data-chart="[^"]+">(.*?)</script>', _page(_complete(folder)), flags=re.DOTALL)
    assert len(blocks) == 18
    for block in blocks:
        assert not set("<>") & set(block)
        assert json.loads(block)["data"]


def test_the_same_folder_gives_the_same_bytes_and_nothing_else_is_left(folder: Path) -> None:
    first = write_report(folder).read_bytes()
    assert write_report(folder).read_bytes() == first
    assert sorted(p.name for p in folder.iterdir()) == ["evaluation.json", "report.html"]


def test_numbers_are_rounded_half_away_from_zero_with_a_real_minus() -> None:
    assert [number(0.125), number(-0.125), number(1234.5, 0), number(-0.001), number(None)] == [
        "0.13",
        "−0.13",
        "1,235",
        "0.00",
        "–",
    ]
    assert span([-0.5, 0.25]) == "−0.50 to +0.25"


# --- what it refuses -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("evaluation.json", None, "no evaluation.json in it.*glasspool evaluate"),
        ("evaluation.json", "{\n oops", "evaluation.json: row 2: not JSON"),
        ("evaluation.json", "[]", "evaluation.json: field"),
        ("evaluation.json", json.dumps(evaluation() | {"simulated": False}), "field simulated"),
        (
            "evaluation.json",
            json.dumps(evaluation() | {"routers": {"learned": {}}}),
            r"field routers.learned.vwap_slippage_bps: .*\(",
        ),
        (
            "evaluation.json",
            json.dumps(evaluation()).replace("9.41", "NaN", 1),
            "field routers.learned.vwap_slippage_bps.mean",
        ),
        (
            "evaluation.json",
            json.dumps(evaluation()).replace('"baseline": "random"', '"baseline": "rnd"'),
            "names 'rnd'",
        ),
        (
            "policy.json",
            json.dumps(policy()).replace("[0.0, 0.05, 0.1, 0.3]", "[0.0]"),
            "venue_fill_rate has 4 values for 1 knots",
        ),
        ("training.json", "{}", "training.json: field seed"),
        ("decisions.jsonl", '{"type": "run", "body": {}}\n{"type"\n', "decisions.jsonl: row 2: not JSON"),
        ("decisions.jsonl", "3\n", "decisions.jsonl: row 1: not a log record"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_and_the_old_page_stays(
    folder: Path, name: str, text: str | None, sentence: str
) -> None:
    (folder / "report.html").write_text("old")
    (folder / name).unlink(missing_ok=True)
    if text is not None:
        (folder / name).write_text(text)
    with pytest.raises(UserError, match=sentence):
        write_report(folder)
    assert (folder / "report.html").read_text() == "old"


def test_a_folder_that_is_not_there_is_named() -> None:
    with pytest.raises(UserError, match="nowhere: no such folder"):
        write_report(Path("nowhere"))


# --- in a real browser ---------------------------------------------------------------------------------------------

BROWSER, DRIVER = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if not (BROWSER and DRIVER):
        pytest.skip("needs chromium and chromedriver on the PATH")
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium (the dev extra)")
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
        driver.get("about:blank")  # the new-tab page asks for a hundred things of its own
        yield driver
        driver.quit()


def _open(browser: Any, page: Path, width: int) -> None:
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600},
    )
    browser.get(page.as_uri())


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_opens_in_chromium_without_errors_or_network(browser: Any, tmp_path: Path, width: int) -> None:
    page = write_report(_complete(tmp_path))
    browser.get_log("browser"), browser.get_log("performance")  # drop what came before
    _open(browser, page, width)
    n_charts = int(browser.execute_script("return document.documentElement.dataset.charts || 0"))
    drawn = browser.execute_script(
        "return [...document.querySelectorAll('.chart')].filter(b => b.querySelector('svg.main-svg') &&"
        " b.querySelector('.cartesianlayer .trace, .cartesianlayer .point, .cartesianlayer .js-line')).length"
    )
    # 4 cost and component charts, 4 curves, 8 features with an effect, 2 waterfalls
    assert n_charts == drawn == 18
    assert [line for line in browser.get_log("browser") if line["level"] in ("SEVERE", "WARNING")] == []
    events = [json.loads(line["message"])["message"] for line in browser.get_log("performance")]
    asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    assert [url for url in asked if not url.startswith("data:")] == [page.as_uri()]
    # Tables scroll inside their own box; the page itself never scrolls sideways.
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.execute_script("return document.title").startswith("SIMULATED")


def test_hostile_names_stay_text_in_the_browser(browser: Any, folder: Path) -> None:
    evil = "</script><script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">"
    data = evaluation()
    data["routers"][evil] = data["routers"].pop("random")
    data["comparisons"][-1]["baseline"] = evil
    (folder / "evaluation.json").write_text(json.dumps(data))
    _open(browser, write_report(folder), 1280)
    assert browser.title.startswith("SIMULATED")
    assert browser.execute_script("return document.querySelectorAll('img').length") == 0
    assert int(browser.execute_script("return document.documentElement.dataset.charts")) == 4
