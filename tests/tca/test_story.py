"""Sentences of a decision page, from small records set by hand."""

from __future__ import annotations

from typing import Any

from glasspool.envs.features import FEATURES
from glasspool.explain.reasons import group_of
from glasspool.tca.report import aftermath, story
from glasspool.tca.report.reason_words import FEATURE_WORDS

LIMITS = {"lot_shares": 100, "max_routes": 3, "band_frac": "0.05", "full_band": False}


def candidate(route: str, score: float, weight: float, fills: int = 10, **parts: float) -> dict[str, Any]:
    return {
        "route": route, "score_e9": round(score * 1e9), "weight_ppm": round(1e6 * weight), "fills_measured": fills,
        "masks": [], "feature_attr_e9": {k: round(v * 1e9) for k, v in parts.items()},
    }  # fmt: skip


def decision(sent: dict[str, int], work: float = 1_600, **more: Any) -> dict[str, Any]:
    pace = {"route": "pace", "score_e9": 0, "lo_shares": "0.0", "hi_shares": "2000.0", "work_shares": str(work)}
    body = {
        "candidates": [
            pace, candidate("XQLA:post", 3.0, 0.50, fee_hs=0.5), candidate("XQLB:post", 2.5, 0.30, fills=0, fee_hs=0.1),
            candidate("XQDA:rest", 1.0, 0.06), candidate("XQLB:take", 0.9, 0.05),
        ],
        "released": [{"route": route, "shares": n} for route, n in sent.items()], "controls": [], "gap_shares": -30,
        "against": "XQDA:rest", "counterfactual": None, "flips": [], "fallback": None, "last_slot": False,
        "margins": [
            {"over": "XQLB:post", "is": ["runner_up"],
             "feature_attr_e9": {"log_pct_adv": 700_000_000, "log_slice_lots": -900_000_000, "fee_hs": 400_000_000}},
            {"over": "XQDA:rest", "is": ["against"], "feature_attr_e9": {"log_vol_ratio": 2_000_000_000}},
        ],
    }  # fmt: skip
    return body | more


def test_features_that_are_told_together_have_the_same_words() -> None:
    words = {f.name: FEATURE_WORDS[f.name] for f in FEATURES}
    for f in FEATURES:
        for g in FEATURES:
            assert (words[f.name] == words[g.name]) == (group_of(f) == group_of(g)), (f.name, g.name)


def test_both_rivals_are_told_by_groups_and_priors_as_assumed() -> None:
    text = story.why(decision({"XQLA:post": 1_600}))
    assert text == (
        "XQLA:post had the highest score, 3.000. Second was XQLB:post with 2.500 (for XQLA:post: fee +0.400; for "
        "XQLB:post: the order's size +0.200; all else +0.300). The best dark route was XQDA:rest with 1.000 (for "
        "XQLA:post: volatility +2.000; all else 0.000). Nothing has filled at XQLB:post yet: fill rate and markout "
        "there are assumed, not measured."
    )


def test_the_band_the_pace_and_its_rounding_are_told() -> None:
    text = story.pace(decision({"XQLA:post": 1_600}, work=1_580.0), LIMITS)
    assert (
        "30 shares ahead of schedule; its band allowed 0 to 2,000 shares (the schedule at the interval's end, give"
        in text
    )
    assert "asked for 1,580, 79\N{NO-BREAK SPACE}% of the way up it. The band follows the schedule" in text
    assert text.endswith(
        "Rounded to the nearest whole lot of 100, which may pass the band, and after the controls 1,600 went out."
    )


def test_further_orders_are_shared_out_by_weight_and_a_take_s_precedence_is_told() -> None:
    text = story.others(decision({"XQLA:post": 1_000, "XQLB:post": 500, "XQLB:take": 100}), LIMITS)
    assert "XQLA:post 50.0\N{NO-BREAK SPACE}% of all, 59\N{NO-BREAK SPACE}% of these" in text
    two = story.others(decision({"XQLA:post": 200, "XQLB:post": 100}), LIMITS | {"weight_cut": "0.05"})
    assert "XQDA:rest 6.0\N{NO-BREAK SPACE}% of all, 7\N{NO-BREAK SPACE}% of these" in two  # it comes to no lot
    assert "Best of what was left out: XQDA:rest (6.0\N{NO-BREAK SPACE}%)" in text
    assert "XQLB:take came before it, since a take whose weight comes to half a lot (50 shares; here 80.0 of" in text
    assert "all of it went to the largest" in story.others(decision({"XQLA:post": 100}, work=90.0), LIMITS)


def test_what_a_cap_cuts_goes_to_the_others() -> None:
    clip = {"code": "MAX_CHILD_SHARES", "route": "XQLA:post", "seen": 5_800, "limit": 5_000, "outcome": "clip"}
    (text,) = story.controls(decision({}, controls=[clip]))
    assert "the limit is 5,000; what is cut goes to the other routes in turn, a lot at a time" in text


def test_routes_that_a_control_closed_are_named() -> None:
    body = decision({"XQLA:post": 100})
    body["candidates"].append({"route": "XQDB:rest", "masks": ["MASKED_TOXICITY"], "score_e9": None})
    assert story.closed(body) == (
        "Closed by a control, and so without a score: XQDB:rest (prices moved too far against us after fills there; "
        "MASKED_TOXICITY)."
    )


def test_a_turn_that_stays_lit_says_that_none_goes_dark() -> None:
    told = decision({"XQLA:post": 100}, counterfactual="X", flips=[{"to": "other"}])
    neither = "no change found of one quantity within its range sends the largest order dark"
    assert aftermath.turn(told, LIMITS) == f"by the smallest change found of one quantity, X; {neither}"
    assert aftermath.turn(told | {"flips": [{"to": "other"}, {"to": "dark"}]}, LIMITS).endswith("quantity, X")
    nothing = decision({}, counterfactual="X", flips=[{"to": "sent"}])
    assert aftermath.turn(nothing, LIMITS) == "by the smallest change found of one quantity, X"
    two = decision({"XQLA:post": 100, "XQLB:post": 100}, counterfactual="X", flips=[{"to": "dark"}])
    assert aftermath.turn(two, LIMITS).startswith("its largest orders are equal")


def test_of_nothing_sent_the_band_that_would_have_sent_a_lot_is_told() -> None:
    """The pace is three quarters up the band: it comes to 50 shares where the band ends at 67."""
    body = decision({}, work=30.0)
    body["candidates"][0]["hi_shares"] = "40.0"
    text = aftermath.turn(body, LIMITS)
    assert text.startswith(
        "a band that ended at 67 shares instead of 40: the same pace, 75\N{NO-BREAK SPACE}% of the way"
    )
    assert "100 would have gone to XQLA:post" in text


def test_what_would_have_changed_the_size_is_told() -> None:
    clip = {"code": "MAX_DARK_FRAC", "route": "XQDA:rest", "seen": 200, "limit": 120, "outcome": "clip"}
    one = decision({"XQDA:rest": 100}, work=51.3, counterfactual="X", flips=[{"to": "lit"}], controls=[clip])
    assert aftermath.turn(one, LIMITS) == (
        "by the smallest change found of one quantity, X; without the control MAX_DARK_FRAC, 200 would have gone to "
        "XQDA:rest; nothing would have been sent at a pace under 50 shares instead of 51.3"
    )
