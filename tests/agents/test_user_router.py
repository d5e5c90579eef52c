"""A user's own router: what it is shown, what it may answer, and what is refused. The page's examples are run."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glasspool.agents import line_process
from glasspool.agents.command_router import ORDER_FIELDS, ROUTE_FIELDS, SCHEMA, read_answer, requests
from glasspool.agents.live import load_router
from glasspool.agents.public_view import OpenOrders, PublicMarket
from glasspool.agents.registry import named_router
from glasspool.agents.router import LitVwap, Router
from glasspool.agents.user_router import UserRouter
from glasspool.configs.errors import UserError
from glasspool.envs.market import Market, step_proposals, stream_key
from glasspool.envs.routing_state import RoutingState
from glasspool.envs.state import Batch

MarketWith = Callable[..., Market]
PAGE = (Path(__file__).resolve().parents[2] / "docs" / "your_own_router.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"`(my_\w+\.py)`.*?```python\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.fixture(scope="module")
def short(market_with: MarketWith, plain: dict[str, Any]) -> Market:
    """15-minute orders of the large class."""
    return market_with(plain)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to run in, with the page's examples; modules made there are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    for name, text in EXAMPLES:
        (tmp_path / name).write_text(text)
    for name in [n for n in sys.modules if n.startswith("my_")]:
        monkeypatch.delitem(sys.modules, name)
    return tmp_path


def written(here: Path, body: str, name: str = "my_other") -> str:
    """A module `name` in the folder; its text is `body`. Returns the router's name."""
    sys.modules.pop(name, None)
    (here / f"{name}.py").write_text("import numpy as np\n" + textwrap.dedent(body))
    return f"{name}:Sor"


def program(here: Path, body: str) -> str:
    (here / "my_program.py").write_text("import json, sys, time\n" + textwrap.dedent(body))
    return f"cmd:{sys.executable} my_program.py"


def message_of(market: Market, run_router: Any, name: str, n: int = 3) -> str:
    with pytest.raises(UserError) as error:
        run_router(market, named_router(name), n)
    return str(error.value)


# --- the page


def test_the_page_has_an_example_of_each_kind() -> None:
    assert [name for name, _ in EXAMPLES] == ["my_sor.py", "my_sor_lines.py"]
    assert all(len(text.splitlines()) <= 20 for _, text in EXAMPLES)


@pytest.mark.parametrize("name", ["my_sor:CheapestTake", f"cmd:{sys.executable} my_sor_lines.py"])
def test_the_examples_cost_what_vwap_lit_costs(base_market: Market, run_router: Any, here: Path, name: str) -> None:
    mine, lit = run_router(base_market, named_router(name), 5), run_router(base_market, LitVwap(), 5)
    assert mine.order["cost_bps"].tobytes() == lit.order["cost_bps"].tobytes()
    assert mine.total.tobytes() == lit.total.tobytes()


def test_the_page_names_every_key() -> None:
    words = set(re.findall(r"`([^`\n]+)`", PAGE))
    assert {SCHEMA, *ORDER_FIELDS, *ROUTE_FIELDS} <= words
    assert {f.name for f in fields(PublicMarket)} <= words
    assert {f.name for f in fields(OpenOrders)} <= words


def test_the_command_evaluates_a_user_s_router(here: Path) -> None:
    args = ["evaluate", "my_sor:CheapestTake", "--against", "vwap_lit", "--episodes", "20", "--json", "out.json"]
    done = subprocess.run([Path(sys.executable).with_name("glasspool"), *args], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    payload = json.loads((here / "out.json").read_text())
    assert payload["comparisons"][0]["router"] == "my_sor:CheapestTake"
    assert payload["comparisons"][0]["mean_difference_bps"] == 0.0
    assert (here / "runs" / "evaluation-my_sor-CheapestTake-base" / "evaluation.json").is_file()


def test_a_live_router_may_be_a_user_s(short: Market, here: Path) -> None:
    b, obs = short.batch(1)
    short.reset(stream_key(1, "test"), [0], [0], b, obs)
    state = RoutingState.from_batch(short, b, 0, obs[0])
    live = load_router("my_sor:CheapestTake")
    live.market, live._b, live._obs = short, *short.batch(1)
    live._limits = type(live._limits).of(short)
    assert [c["route"] for c in live.decide(state).children] == ["XQLB:take"]


# --- what is shown


def at_slot(market: Market, n: int, slots: int) -> tuple[Batch, Any]:
    """A batch some slots into its orders, worked a little, so that nothing is at its first value."""
    b, obs = market.batch(n)
    market.reset(stream_key(4, "test"), np.arange(n), np.arange(n), b, obs)
    router = named_router("random")
    work, weights = np.zeros(n), np.zeros((n, len(market.routes)))
    for _ in range(slots):
        router.propose(market, b, obs, work, weights)
        step_proposals(market.rules, b, work, weights, obs)
    return b, obs


def test_the_view_is_the_routing_state(base_market: Market) -> None:
    b, obs = at_slot(base_market, 12, 30)
    rows = np.flatnonzero(b.order["active"] == 1)[::2]
    view = OpenOrders.of(base_market, b, obs, rows)
    assert len(view) == len(rows) > 3
    for i, e in enumerate(rows):
        state = RoutingState.from_batch(base_market, b, e, obs[e])
        assert view.number[i] == b.episode[e]["number"]
        for name in ORDER_FIELDS[1:]:
            assert getattr(view, name)[i] == getattr(state, name), name
        assert view.observation[i].tobytes() == state.observation.tobytes()
        for r, route in enumerate(base_market.routes):
            card = state.scorecard[route.venue].get(route.order_type, {})
            for name in ("attempts", "filled", "markouts", "markout_hs_sum"):
                assert getattr(view, name)[i, r] == card.get(name, 0), (name, route)
            assert view.fee_bps[i, r] == state.fees_bps[route.name]
            assert view.masked[i, r] == state.masked[route.name]
            assert view.min_quantity_shares[i, r] == state.min_quantity_shares[route.venue]


def test_the_view_holds_no_way_to_the_batch(base_market: Market) -> None:
    """Arrays own their memory and cannot be written to; what is hidden may change without changing them."""
    b, obs = at_slot(base_market, 6, 10)
    rows = np.arange(6)
    view = OpenOrders.of(base_market, b, obs, rows)
    for field in fields(view):
        array = getattr(view, field.name)
        assert array.base is None and not array.flags.writeable, field.name
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
    for name in ("fast_z", "slow_z", "toxicity_factor", "volume_shares", "slot_vwap_bps"):
        b.tape[name] = 9.0
    for name in ("kappa_fast", "supply_frac", "leak_weight", "life_s", "gamma_run_bps"):
        b.venue[name] = 9.0
    b.venue_state["regime"] = 1
    b.episode["market_vwap_bps"] = 9.0
    again = OpenOrders.of(base_market, b, obs, rows)
    for field in fields(view):
        assert getattr(view, field.name).tobytes() == getattr(again, field.name).tobytes(), field.name


def test_a_request_is_the_view_in_names(base_market: Market) -> None:
    b, obs = at_slot(base_market, 4, 10)
    b.tape["vol_ratio"][2] = np.nan
    view = OpenOrders.of(base_market, b, obs, np.arange(4))
    asked = json.loads(json.dumps(requests(PublicMarket.of(base_market), view), allow_nan=False))
    for i, request in enumerate(asked):
        assert set(request) == {"schema", "id", "market", "order", "observation", "routes"}
        assert set(request["order"]) == set(ORDER_FIELDS)
        state = RoutingState.from_batch(base_market, b, i, obs[i])
        assert request["observation"] == state.features
        assert {n: r["observation"] for n, r in request["routes"].items()} == state.route_features
        assert {n: r["fee_bps"] for n, r in request["routes"].items()} == state.fees_bps
        assert request["order"]["vol_ratio"] == (None if i == 2 else state.vol_ratio)


def test_only_open_orders_are_asked_about(base_market: Market, run_router: Any) -> None:
    """Orders end at different slots; every open one is in every call, and the rows of the others are left alone."""
    seen: list[int] = []

    class Counts:
        def propose(self, market: Any, orders: Any, obs: Any, work: Any, weights: Any) -> None:
            assert work.shape == (len(orders),) and obs is orders.observation
            seen.append(len(orders))
            weights[:, 0] = 1.0

    b = run_router(base_market, UserRouter("counts", Counts()), 8)
    assert seen[0] == 8 and sum(seen) == b.episode["n_slots"].sum()
    assert (b.order["remaining_shares"] == 0).all()


# --- what a class may do wrong


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("work[:] = 100.0", "weights sum to 0; must be 1"),
        ("work[:] = 100.0; weights[:, 0] = 0.7; weights[:, 3] = 0.2", "weights sum to 0.9; must be 1"),
        ("work[:] = 100.0; weights[:, 0] = np.nan", "weight of XQLA:take = nan"),
        ("weights[:, 1] = -1.0; weights[:, 0] = 2.0", "weight of XQLB:take = -1.0"),
        ("work[1] = np.nan; weights[:, 0] = 1.0", "order 1, slot 0: work = nan"),
        ("work[:] = np.inf; weights[:, 0] = 1.0", "work = inf"),
        ("work[:] = -100.0; weights[:, 0] = 1.0", "work = -100.0"),
        ("weights[:] = np.ones((2, 2))", r"raised ValueError: could not broadcast.*my_other.py, line 4"),
        ("weights.shape = (-1,)", "Keep their shapes"),
        ("return weights", "returned ndarray"),
        ("orders.remaining_shares[:] = 0", "read-only.*cannot be written to"),
        ("orders.observation[:] = 0", "read-only.*cannot be written to"),
        ("obs += 1", "read-only.*cannot be written to"),
        ("orders.remaining_shares = 0", "raised FrozenInstanceError"),
        ("market.rules", "raised AttributeError.*'rules'"),
        ("1 / 0", "raised ZeroDivisionError: division by zero .*my_other.py, line 4"),
    ],
)
@pytest.mark.filterwarnings("ignore:Setting the shape on a NumPy array:DeprecationWarning")
def test_a_wrong_class_is_refused(short: Market, run_router: Any, here: Path, body: str, says: str) -> None:
    name = written(here, f"class Sor:\n    def propose(self, market, orders, obs, work, weights):\n        {body}\n")
    said = message_of(short, run_router, name)
    assert re.search(says, said), said
    assert said.startswith("my_other:Sor: ")


@pytest.mark.parametrize(
    ("text", "name", "says"),
    [
        ("", "my_absent:Sor", "no module 'my_absent'"),
        ("", "my_other.part:Sor", "no module 'my_other.part'"),
        ("import my_absent", "my_other:Sor", "needs my_absent, which is not installed"),
        ("1 / 0", "my_other:Sor", "importing my_other raised ZeroDivisionError"),
        ("class Saw: ...", "my_other:Sor", "no class 'Sor'. Its classes: Saw"),
        ("Sor = 5", "my_other:Sor", "no class 'Sor'"),
        ("class Sor: ...", "my_other:Sor", "no method propose"),
        ("class Sor:\n    def __init__(self, x): ...", "my_other:Sor", "could not be made without arguments"),
        ("class Sor:\n    def propose(self, orders): ...", "my_other:Sor", "propose(orders) does not take the five"),
        ("", ":Sor", "write it as module:Class"),
        ("", "my_other:", "write it as module:Class"),
        ("", "cmd:", "no command"),
        ("", "cmd:'./open", "cannot be read"),
        ("", "cmd:./absent --fast", "cannot start './absent': No such file"),
        ("", "cmd:.", "cannot start '.': Permission denied"),
    ],
)
def test_a_router_that_cannot_be_made_is_refused_before_anything_runs(
    here: Path, text: str, name: str, says: str
) -> None:
    written(here, text)
    with pytest.raises(UserError) as error:
        named_router(name)
    assert says in str(error.value)


# --- what a program may do wrong

ECHO = """
for line in sys.stdin:
    asked = json.loads(line)
    answer = {"id": asked["id"], "work_shares": 100, "weights": {"XQLA:take": 1.0}}
    __CHANGE__
    print(json.dumps(answer), flush=True)
"""


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("answer = 5", "not a JSON object.*It answered: 5"),
        ("print('hello', flush=True)", "not JSON.*It answered: hello"),
        ("answer['id'] += 1", "id is 1, asked was 0"),
        ("answer['id'] = False", "id is False"),
        ("del answer['weights']", r"has the keys \['id', 'work_shares'\]"),
        ("answer['weights'] = [1.0]", "objects: a number by route name"),
        ("answer['weights'] = {'XQLZ:take': 1.0}", "no route 'XQLZ:take'"),
        ("answer['weights'] = {'XQLA:take': float('nan')}", "XQLA:take = nan: must be a number"),
        ("answer['weights'] = {'XQLA:take': '1'}", "XQLA:take = '1': must be a number"),
        ("answer['work_shares'] = True", "work_shares = True: must be a number"),
        ("answer['work_shares'] = -1", "work_shares = -1: must be a number"),
        ("answer['weights'] = {'XQLA:take': 0.5}", "weights sum to 0.5"),
        ("sys.exit(3)", 'ended with exit code 3 before it answered. Asked: {"schema":"glasspool-route/1"'),
        ("raise KeyError('price')", "ended with exit code 1.*It said: KeyError: 'price'"),
        ("print('x' * 2_000_000)", "more than 1,000,000 bytes"),
    ],
)
def test_a_wrong_program_is_refused(short: Market, run_router: Any, here: Path, change: str, says: str) -> None:
    said = message_of(short, run_router, program(here, ECHO.replace("__CHANGE__", change)))
    assert re.search(says, said, flags=re.DOTALL), said
    assert len(said) < 1_200


def test_a_program_that_does_not_answer_is_given_up(
    short: Market, run_router: Any, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line_process.LineProcess.__init__, "__defaults__", (0.3,))
    router = named_router(program(here, "time.sleep(60)"))
    process = router._proposer._process._process  # type: ignore[attr-defined]
    with pytest.raises(UserError, match=r"no answer within 0\.3 s"):
        run_router(short, router, 2)
    began = time.monotonic()
    del router
    assert process.wait(10) != 0 and time.monotonic() - began < 8  # it does not outlive its router


def test_child_orders_are_weights_in_shares(short: Market, run_router: Any, here: Path) -> None:
    """The same shares as `children` and as `work_shares` with `weights`."""
    split = "answer = {'id': asked['id'], 'children': {'XQLA:take': 100, 'XQLB:post': 300, 'XQLC:post': 0}}"
    same = "answer.update(work_shares=400, weights={'XQLA:take': 0.25, 'XQLB:post': 0.75})"
    runs = [run_router(short, named_router(program(here, ECHO.replace("__CHANGE__", c))), 3) for c in (split, same)]
    assert runs[0].total.tobytes() == runs[1].total.tobytes()
    assert runs[0].total["routed_shares"].sum() > 0


ROUTES = {"XQLA:take": 0, "XQLB:post": 1}


@given(st.dictionaries(st.sampled_from(sorted(ROUTES)), st.floats(0, 1e9)), st.integers(0, 10**9))
def test_children_become_work_and_weights(shares: dict[str, float], asked: int) -> None:
    work, weights = read_answer(json.dumps({"id": asked, "children": shares}), asked, ROUTES)
    assert work == pytest.approx(sum(shares.values()))
    if work > 0:
        assert sum(weights.values()) == pytest.approx(1.0)
        assert {n: w * work for n, w in weights.items()} == pytest.approx(shares)


@given(st.text() | st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists).map(json.dumps))
def test_any_other_text_is_refused_with_a_message(text: str) -> None:
    with pytest.raises(UserError):
        read_answer(text, 0, ROUTES)


def test_a_router_s_own_name_never_hides_another(here: Path) -> None:
    router: Router = named_router(written(here, "class Sor:\n    name = 'rule_sor'\n    propose = lambda *a: None\n"))
    assert router.name == "my_other:Sor"
