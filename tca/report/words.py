"""Numbers as the page prints them, and the verdict in sentences."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal

from scipy.stats import norm

from ..statistics import minimum_detectable_effect
from .inputs import COMPONENTS, Comparison, Evaluation

MIN_PARENTS = 20  # under this many orders: the value in grey with n, without interval, rank or verdict
MIN_FILLS = 50
MUCH_FALLBACK = 0.2  # of decisions: beyond, a router's results say little of its policy
BASELINE_NAMES = {
    "rule_sor": "the rule-based SOR",
    "tuned_sor": "the tuned SOR",
    "sor_strong": "the strong SOR",
    "random": "random routing",
    "vwap_lit": "the lit-only VWAP schedule",
}
_MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the verdict: a state (good, bad, even, unknown) and a sentence."""

    state: str
    lead: str
    text: str


def number(value: float | None, places: int = 2, *, sign: bool = False) -> str:
    """Rounded half away from zero; a real minus sign; an en dash for an unknown value."""
    if value is None:
        return "\N{EN DASH}"
    rounded = Decimal(repr(float(value))).quantize(Decimal(1).scaleb(-places), rounding=ROUND_HALF_UP)
    text = f"{abs(rounded):,}"
    if rounded < 0:
        return _MINUS + text
    return "+" + text if sign and rounded > 0 else text


def percent(value: float | None, places: int = 1) -> str:
    return "\N{EN DASH}" if value is None else number(100 * value, places) + "\N{NO-BREAK SPACE}%"


def span(pair: list[float], places: int = 2, *, sign: bool = True) -> str:
    return f"{number(pair[0], places, sign=sign)} to {number(pair[1], places, sign=sign)}"


def state_of(c: Comparison) -> str:
    """good: the interval is below 0 (cheaper); bad: above 0; even: it holds 0; unknown: too few orders."""
    if c.episodes < MIN_PARENTS:
        return "unknown"
    if c.ci95_bps[1] < 0:
        return "good"
    return "bad" if c.ci95_bps[0] > 0 else "even"


STATE_WORDS = {"good": "cheaper", "bad": "more expensive", "even": "no difference shown", "unknown": "too few orders"}


def detectable_bps(c: Comparison) -> float:
    """Smallest true difference these orders would have found (5 %, power 80 %), in bps."""
    return minimum_detectable_effect((c.ci95_bps[1] - c.ci95_bps[0]) / (2 * float(norm.ppf(0.975))))


def subject(evaluation: Evaluation) -> str:
    """The router the page is about: the policy under its own name, else `learned`, else the first that is compared."""
    compared = [c.router for c in evaluation.comparisons]
    for name in (evaluation.policy, "learned", *compared):
        if name in evaluation.routers:
            return name
    return next(iter(evaluation.routers))


def comparison(evaluation: Evaluation, baseline: str) -> Comparison | None:
    name = subject(evaluation)
    found = [
        c for c in evaluation.comparisons if (c.router, c.baseline, c.metric) == (name, baseline, "vwap_slippage_bps")
    ]
    return found[0] if found else None


def _judged(evaluation: Evaluation) -> dict[str, Comparison | None]:
    """The SORs that a verdict is about: the rule-based one and the tuned one always, the strong one where compared."""
    name = subject(evaluation)
    found = {b: comparison(evaluation, b) for b in ("rule_sor", "tuned_sor", "sor_strong") if b != name}
    return {b: c for b, c in found.items() if c is not None or b != "sor_strong"}


def verdict(evaluation: Evaluation) -> list[Line]:
    """Against each SOR, then why, the bad tail and completion, the training seeds, the fallback."""
    judged = _judged(evaluation)
    lines = [_against(evaluation, baseline, c) for baseline, c in judged.items()]
    main = next((b for b in ("tuned_sor", "rule_sor", "sor_strong") if judged.get(b)), "rule_sor")
    lines += [_reason(judged.get(main)), _tail(evaluation, main), _seeds(evaluation, judged.get(main))]
    return lines + _fallback(evaluation)


def headline(evaluation: Evaluation) -> str:
    """The whole verdict in one sentence."""
    by_state: dict[str, list[str]] = {}
    for baseline, c in _judged(evaluation).items():
        by_state.setdefault(state_of(c) if c else "missing", []).append(BASELINE_NAMES[baseline])
    phrases = {
        "good": "costs less than {}",
        "bad": "costs more than {}",
        "even": "shows no difference from {}",
        "unknown": "has too few orders to judge it against {}",
        "missing": "was not compared with {}",
    }
    parts = [phrases[state].format(_listed(names, state)) for state, names in by_state.items()]
    return f"In simulation, {subject(evaluation)} {', but '.join(parts)}."


def _listed(names: list[str], state: str) -> str:
    if len(names) == 2 and state == "good":
        return f"both {names[0]} and {names[1]}"
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def _against(evaluation: Evaluation, baseline: str, c: Comparison | None) -> Line:
    name = BASELINE_NAMES[baseline]
    if c is None:
        text = f"this evaluation holds no such comparison. Run `glasspool evaluate ... --against {baseline}`."
        return Line("unknown", f"Not compared with {name}:", text)
    if (state := state_of(c)) == "unknown":
        text = f"{c.episodes} orders are too few for an interval or a verdict; at least {MIN_PARENTS} are needed."
        return Line("unknown", f"No verdict against {name}:", text)
    half_spreads = f"In half spreads: {number(c.mean_difference_hs, 2, sign=True)} ({span(c.ci95_hs)})."
    if state == "even":
        text = (
            f"the difference of {number(c.mean_difference_bps, sign=True)} bps has a 95 % interval that holds 0"
            f" ({span(c.ci95_bps)}, {c.episodes:,} paired orders); these orders would have shown a true difference of"
            f" {number(detectable_bps(c))} bps. {half_spreads}"
        )
        return Line("even", f"No difference from {name} was shown:", text)
    word, lead = ("less", "Better than") if state == "good" else ("more", "Worse than")
    text = (
        f"it costs {number(abs(c.mean_difference_bps))} bps {word} on the same {c.episodes:,} orders"
        f" (difference {number(c.mean_difference_bps, sign=True)}, 95 % interval {span(c.ci95_bps)} bps)."
        f" {half_spreads}"
    )
    hs_sign = (c.ci95_hs[0] > 0) - (c.ci95_hs[1] < 0)
    if hs_sign != (1 if state == "bad" else -1):
        text += " That interval does not agree: the result rests on the wide-spread orders, which weigh most in bps."
    return Line(state, f"{lead} {name}:", text)


def _reason(c: Comparison | None) -> Line:
    known = {k: v for k, v in (c.components_bps if c else {}).items() if k in COMPONENTS}
    if c is None or not known:
        return Line("unknown", "Why:", "the comparison is not split into its cost components.")
    saved = sorted((k for k in known if known[k] < 0), key=lambda k: known[k])[:2]
    lost = sorted((k for k in known if known[k] > 0), key=lambda k: -known[k])[:2]

    def tell(keys: list[str]) -> str:
        return " and ".join(f"{k} ({number(known[k], sign=True)} bps)" for k in keys) or "nowhere"

    text = f"against {BASELINE_NAMES[c.baseline]} it saves most in {tell(saved)} and pays more in {tell(lost)}."
    return Line("plain", "Where it comes from:", text)


def _tail(evaluation: Evaluation, baseline: str) -> Line:
    mine, theirs = evaluation.routers[subject(evaluation)], evaluation.routers.get(baseline)
    text = f"the worst 5 % of its orders cost {number(mine.tail5_bps, 1)} bps on average"
    state = "plain"
    if theirs is not None:
        text += f" ({BASELINE_NAMES[baseline]}: {number(theirs.tail5_bps, 1)})"
        # TCA gate: completion may not fall by more than 0.1 % of the shares.
        short = mine.completion_frac < theirs.completion_frac - 0.001
        state = "bad" if short else "plain"
        text += (
            f"; it completes {percent(mine.completion_frac, 2)} of the shares ({percent(theirs.completion_frac, 2)})."
        )
        if short:
            text += " That is more than 0.1 % less: a lower cost does not count while orders stay unfinished."
    else:
        text += f"; it completes {percent(mine.completion_frac, 2)} of the shares."
    return Line(state, "Bad days and completion:", text)


def _fallback(evaluation: Evaluation) -> list[Line]:
    """Who decided, where the rule SOR stands behind the policy."""
    fallback = evaluation.routers[subject(evaluation)].fallback
    if fallback is None:
        return []
    text = f"the rule-based SOR took {percent(fallback.fallback_frac, 2)} of {fallback.decisions:,} decisions"
    often = sorted(fallback.by_feature, key=lambda name: (-fallback.by_feature[name], name))[:3]
    if often:
        text += f", since features were outside what training met, most often {', '.join(often)}"
    if much := fallback.fallback_frac > MUCH_FALLBACK:
        text += "; these results say that much less of the policy"
    return [Line("bad" if much else "plain", "Who decided:", text + ".")]


def _seeds(evaluation: Evaluation, c: Comparison | None) -> Line:
    rows = c.per_seed if c else []
    if c is None or len(rows) < 2:
        text = "no result per training seed, so the luck in training is not known. Train at least 5 seeds."
        return Line("unknown", "Repeatability:", text)
    if state_of(c) == "unknown":
        return Line(
            "unknown", "Repeatability:", f"{c.episodes} orders are too few to compare {len(rows)} training seeds."
        )
    wins = sum(r.ci95_bps[1] < 0 for r in rows)
    worst = max(rows, key=lambda r: r.mean_difference_bps)
    text = (
        f"{wins} of {len(rows)} training seeds are cheaper than {BASELINE_NAMES[c.baseline]} on their own at 95 %;"
        f" the worst, seed {worst.seed}, differs by {number(worst.mean_difference_bps, sign=True)} bps."
    )
    return Line("plain", "Repeatability:", text)


def nice(value: float) -> str:
    """A knot or feature value with up to four significant digits."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else str(value)
    return f"{value:,.4g}".replace("-", _MINUS) if abs(value) >= 1e-4 else f"{value:.1e}".replace("-", _MINUS)
