"""The functions are monotone where they say so, knot by knot; and the page of plots shows all of them."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from glasspool.agents.runtime import AdditiveRuntime
from glasspool.envs.features import FEATURES
from glasspool.envs.state import ORDER_TYPES
from glasspool.explain.monotonicity import monotone_breaks
from glasspool.explain.shape_page import shape_page, write_shape_page

NAMES = ("pace", *ORDER_TYPES)


def monotone_table() -> np.ndarray:
    rng = np.random.default_rng(1)
    table = rng.integers(-(10**9), 10**9, (len(NAMES), len(FEATURES), 9))
    for i, f in enumerate(FEATURES):
        if f.monotone:
            table[:, i] = np.sort(table[:, i], axis=1)[:, :: f.monotone]
    return table


@pytest.mark.parametrize("feature", [f.name for f in FEATURES if f.monotone])
def test_one_unit_against_the_direction_at_one_knot_is_found(feature: str) -> None:
    table = monotone_table()
    assert monotone_breaks(table, NAMES) == []
    f = [f.name for f in FEATURES].index(feature)
    table[3, f, 5] = table[3, f, 4] - FEATURES[f].monotone
    (said,) = [text for text in monotone_breaks(table, NAMES) if "by 1 " in text]
    assert said.startswith(f"ping: {feature}")


def test_the_pace_and_features_without_a_direction_are_free() -> None:
    table = monotone_table()
    table[0] = np.random.default_rng(2).integers(-9, 9, table[0].shape)
    assert monotone_breaks(table, NAMES) == []


def test_the_page_holds_every_function_and_no_address() -> None:
    runtime = AdditiveRuntime(monotone_table(), np.arange(5), np.array([1, 2, 3, 4]), NAMES)
    page = shape_page(runtime.to_json(), "<b>policy</b>", "Checked.")
    assert "<b>policy</b>" not in page
    own = re.sub(r"<script>/\*\*.*?</script>", "", page, flags=re.DOTALL)  # without plotly's library
    assert 'src="' not in own and 'href="http' not in own
    for f in FEATURES:
        assert f.name in own


BROWSER, DRIVER = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")


@pytest.mark.skipif(not BROWSER or not DRIVER, reason="needs chromium and chromedriver on the PATH")
def test_the_page_draws_every_plot_in_a_real_browser(tmp_path: Path) -> None:
    from selenium import webdriver

    runtime = AdditiveRuntime(monotone_table(), np.arange(5), np.array([1, 2, 3, 4]), NAMES)
    path = write_shape_page(runtime.to_json(), tmp_path / "shapes.html", "policy", "Checked.")
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER or ""
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1200,2000"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=DRIVER))
    try:
        driver.get(path.as_uri())
        drawn = driver.execute_script("return document.querySelectorAll('.chart .main-svg .trace').length")
        errors = [e for e in driver.get_log("browser") if e["level"] == "SEVERE"]
    finally:
        driver.quit()
    globals_ = sum(1 for f in runtime.to_json()["features"] if f["scope"] == "global")
    assert drawn == 4 * len(FEATURES) + globals_
    assert json.dumps(errors) == "[]"
    assert [p.name for p in tmp_path.iterdir()] == ["shapes.html"]
