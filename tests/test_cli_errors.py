"""What a user sees when the input is wrong: one message, exit 2, no traceback. And what programs read: --json."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pytest
import typer
import yaml
from pydantic import BaseModel, ConfigDict, Field

from glasspool import cli
from glasspool.agents.jobs.progress import progress_bar
from glasspool.configs.errors import UserError
from glasspool.configs.loading import load_market
from glasspool.console import print_table, write_json
from glasspool.evaluation_tables import print_fallbacks


class _Venue(BaseModel):
    model_config = ConfigDict(extra="forbid")
    kind: Literal["lit", "dark"]
    latency_us: Annotated[int, Field(gt=0)]


class _Market(BaseModel):
    model_config = ConfigDict(extra="forbid")
    venues: list[_Venue]


Run = Callable[[Callable[[], None]], tuple[int, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a function as `glasspool probe`; gives the exit code and standard error."""

    def run_as_command(command: Callable[[], None]) -> tuple[int, str]:
        monkeypatch.setattr(cli.app, "registered_commands", [])
        cli.app.command("probe")(command)
        with pytest.raises(SystemExit) as stopped:
            cli.main(["probe"])
        printed = capsys.readouterr()
        assert printed.out == ""
        return int(stopped.value.code or 0), printed.err

    return run_as_command


def _raiser(error: BaseException) -> Callable[[], None]:
    def command() -> None:
        raise error

    return command


def _reader(model: type[BaseModel], data: Any) -> Callable[[], None]:
    def command() -> None:
        model.model_validate(data)

    return command


def test_a_user_error_is_one_line_with_its_whole_sentence_and_exit_2(run: Run) -> None:
    sentence = "fills.csv, row 7, side: must be +1 or -1, got 3 [unsigned?]. " + "Pass the signed side. " * 10
    code, stderr = run(_raiser(UserError(sentence)))
    assert code == 2
    assert stderr == f"error: {sentence}\n"


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (lambda folder: (folder / "none.yaml").read_text(), "none.yaml: no such file"),
        (lambda folder: folder.read_text(), "is a folder"),
        (lambda folder: (folder / "locked").open(), "locked: permission denied"),
        (lambda folder: (folder / "here").mkdir() or (folder / "here").mkdir(), "here: exists already"),
        (lambda folder: bytes([0xFF]).decode(), "not UTF-8 text"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_a_mend(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, action: Callable[[Path], object], words: str
) -> None:
    real_open = Path.open

    def open_unless_locked(path: Path, *args: Any, **kwargs: Any) -> Any:  # root may read everything: refuse by hand
        if path.name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return real_open(path, *args, **kwargs)

    monkeypatch.setattr(Path, "open", open_unless_locked)
    code, stderr = run(lambda: action(tmp_path) and None)
    assert code == 2
    assert words in stderr
    assert "Traceback" not in stderr


def test_broken_yaml_is_reported_with_file_line_and_column(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "market.yaml"
    file.write_text("venues:\n  - kind: lit\n   latency_us: 3\n")

    def command() -> None:
        with file.open() as stream:
            yaml.safe_load(stream)

    code, stderr = run(command)
    assert code == 2
    assert f"{file}: line 3, column 4: not valid YAML" in stderr


def test_an_unknown_key_gets_its_dotted_place_its_value_and_the_near_name(run: Run) -> None:
    code, stderr = run(_reader(_Market, {"venues": [{"kind": "lit", "latency_us": 1, "latency": 150}]}))
    assert code == 2
    assert stderr == "error: venues.0.latency = 150: unknown key. Did you mean 'latency_us'?\n"


def test_an_unknown_key_near_nothing_gets_the_keys_known_at_that_place(run: Run) -> None:
    _, stderr = run(_reader(_Market, {"venues": [{"kind": "lit", "latency_us": 1, "zzz": 1}]}))
    assert stderr == "error: venues.0.zzz = 1: unknown key. Known here: kind, latency_us.\n"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("dark_pools.0.fill_rate={60: 20}", "Input should be less than 1. It is a share: 20 % is written 0.2."),
        ("dark_pools.0.fill_rate={60: 20%}", "20% is written 0.2."),
        ("dark_pools.0.fill_rate=0.2", "a mapping was expected here, written {key: value}."),
        ("noise.spread_log_sd=12 %", "12 % is written 0.12."),
        ("events.outage_prob=150", "Input should be less than or equal to 1.\n"),  # no percentage either
        ("noise.supply_persistence_300s=2", "1.\n"),  # no share
        ("dark_slots=[1", "--set dark_slots=[1: line 1"),
    ],
)
def test_a_value_of_another_form_is_told_the_form(run: Run, override: str, words: str) -> None:
    code, stderr = run(lambda: load_market("base", [override]))
    assert code == 2
    assert words in stderr


def test_yaml_broken_in_a_text_names_no_stream(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "m.yaml"
    file.write_text("base: base\ndark_pools: [{name: A\n")
    code, stderr = run(lambda: load_market(file))
    assert code == 2
    assert stderr.startswith(f"error: {file}: line 3, column 1: not valid YAML")


def test_every_wrong_setting_is_listed_and_the_file_noted_on_the_error_is_named(run: Run) -> None:
    def command() -> None:
        try:
            _Market.model_validate({"venues": [{"kind": "darc", "latency_us": 0}, {"kind": "lit"}]})
        except ValueError as error:
            error.add_note("configs/mine.yaml")
            raise

    code, stderr = run(command)
    assert code == 2
    assert stderr.splitlines() == [
        "error: configs/mine.yaml: 3 settings are wrong:",
        "  venues.0.kind = 'darc': Input should be 'lit' or 'dark'. Did you mean 'dark'?",
        "  venues.0.latency_us = 0: Input should be greater than 0.",
        "  venues.1.latency_us: missing. Add this key.",
    ]


def test_the_keys_known_at_a_place_are_listed_once(run: Run) -> None:
    bad = {"venues": [{"kind": "lit", "latency_us": 1, "zzz": 1}, {"kind": "lit", "latency_us": 1, "qqq": 2}]}
    code, stderr = run(lambda: _Market.model_validate(bad) and None)
    assert code == 2 and "venues.0.zzz" in stderr and "venues.1.qqq" in stderr
    assert stderr.count("Known here: kind, latency_us.") == 1


def test_in_a_file_progress_is_a_line_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("working", load_market("base")) as bar:
        task = bar.add_task("", total=1.0, note="")
        for done in (0.4, 0.5, 0.6):
            bar.update(task, completed=done, note="so far")
    lines = [line for line in capsys.readouterr().err.splitlines() if ", so far" in line]
    assert lines == ["working 40 %, 0 s, so far"]


def test_a_check_that_did_not_hold_is_exit_1_in_silence(run: Run) -> None:
    assert run(_raiser(typer.Exit(1))) == (1, "")


@pytest.mark.parametrize("defect", [ZeroDivisionError("1/0"), ValueError("shape"), OSError("no file named")])
def test_a_defect_of_ours_shows_its_traceback_and_is_neither_exit_1_nor_2(run: Run, defect: Exception) -> None:
    code, stderr = run(_raiser(defect))
    assert code == cli.EXIT_DEFECT
    assert "Traceback" in stderr
    assert "defect in glasspool" in stderr


@pytest.mark.parametrize("args", [["no-such-command"], ["--no-such-option"], ["audit", "no-such-command"]])
def test_a_usage_error_is_exit_2(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(args)
    assert stopped.value.code == 2
    assert "No such" in capsys.readouterr().err


def test_the_command_line_loads_no_heavy_library_before_a_command_runs() -> None:
    # Names, not seconds: a timed test fails on a busy machine. Registering the environments loads NumPy and Gymnasium.
    code = "import sys, glasspool.cli; print([m for m in ('torch', 'pandas', 'numba', 'plotly') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize("command", [["certify", "base"], ["rules"], ["oracle", "O1"], ["evaluate", "rule_sor"]])
def test_a_place_for_json_that_does_not_exist_is_refused_before_the_work(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "glasspool.agents.jobs", None)  # the work: to import it would be a defect, exit 70
    with pytest.raises(SystemExit) as stop:
        cli.main([*command, "--json", str(tmp_path / "nosuch" / "table.json")])
    said = capsys.readouterr()
    assert stop.value.code == 2
    assert "nosuch does not exist. Make it first." in " ".join(said.err.split()) and said.out == ""


def test_json_for_standard_output_sends_tables_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("slippage_bps (+ = cost)", ["router", "mean"], [["rule_sor", 1.5], ["none", None]], json_file="-")
    write_json("-", {"rule_sor": 1.5})
    printed = capsys.readouterr()
    assert json.loads(printed.out) == {"rule_sor": 1.5}
    assert "rule_sor" in printed.err and "1.50" in printed.err and "–" in printed.err


def test_a_wide_table_keeps_every_cell_in_a_pipe_and_its_brackets(capsys: pytest.CaptureFixture[str]) -> None:
    cells = [f"[{'x' * 25}{i}]" for i in range(6)]
    print_table("wide", [str(i) for i in range(6)], [cells])
    out = capsys.readouterr().out
    assert all(cell in out for cell in cells)


def test_a_row_that_does_not_fit_its_columns_is_refused() -> None:
    with pytest.raises(ValueError, match="row 1 has 1 cells for 2 columns"):
        print_table("t", ["a", "b"], [["x", 1], ["y"]])


def test_json_knows_numpy_and_paths_and_writes_null_for_what_json_lacks(tmp_path: Path) -> None:
    payload = {"mean": np.float64(1.5), "n": np.int64(3), "ci95": np.array([np.nan, 2.0]), "at": Path("a/b"), "t": (1,)}
    write_json(tmp_path / "o.json", payload)
    got = json.loads((tmp_path / "o.json").read_text())
    assert got == {"mean": 1.5, "n": 3, "ci95": [None, 2.0], "at": "a/b", "t": [1]}


def test_json_that_cannot_be_written_leaves_the_old_file_and_no_debris(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(partial: Path, target: Path) -> None:
        assert json.loads(partial.read_text()) == [1]  # the new text was whole before the old one would go
        raise OSError("no space left")

    file = tmp_path / "o.json"
    file.write_text("old")
    with pytest.raises(TypeError):
        write_json(file, {"x": object()})
    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OSError, match="no space left"):
        write_json(file, [1])
    assert [path.name for path in tmp_path.iterdir()] == ["o.json"]
    assert file.read_text() == "old"


def test_json_into_a_folder_that_is_not_there_says_which_one_to_make(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="none does not exist. Make it first"):
        write_json(tmp_path / "none" / "o.json", {})


def test_json_through_a_link_or_into_a_pipe_does_not_replace_it(tmp_path: Path) -> None:
    target, link, pipe = tmp_path / "target.json", tmp_path / "link.json", tmp_path / "pipe"
    target.write_text("old")
    link.symlink_to(target)
    write_json(link, [1])
    assert link.is_symlink() and json.loads(target.read_text()) == [1]
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_json(pipe, [2])
        assert json.loads(os.read(reader, 100)) == [2]
    finally:
        os.close(reader)
    assert pipe.is_fifo()


@pytest.mark.parametrize(
    ("words", "meant"),
    [(["evaluate", "rul_sor"], "rule_sor"), (["evaluate", "rule_sor", "--market", "bsae"], "base"),
     (["train", "defualt"], "default")],
)  # fmt: skip
def test_a_misspelt_name_is_met_with_the_nearest(
    words: list[str], meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    assert ended.value.code == 2 and f"Did you mean {meant!r}?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["evaluate", "rule_sor", "--episodes", "2"], "this folder is a bundle. Name another"),
        (["explain", "checkpoints/default"], "this folder is a bundle. Name another"),
        (["calibrate", "bars.csv"], "a market is a YAML file. Name it so, such as bundle.yaml"),
    ],
)
def test_an_out_that_would_write_over_something_else_is_refused(
    args: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "manifest.json").write_text("{}")
    with pytest.raises(SystemExit) as stopped:
        cli.main([*args, "--out", str(bundle)])
    assert stopped.value.code == 2 and told in " ".join(capsys.readouterr().err.split())
    assert [path.name for path in bundle.iterdir()] == ["manifest.json"]


def test_what_several_settings_break_together_is_said_without_the_whole_config(run: Run, tmp_path: Path) -> None:
    """The sentence names the settings; the config's first lines before it would bury it."""
    path = tmp_path / "desk.yaml"
    path.write_text("base: base\nname: desk\ndark_pools:\n  - {name: DESK, fill_rate: {60: 0.2}}\n")

    def probe() -> None:
        load_market(path)

    code, said = run(probe)
    assert code == 2
    assert said.startswith(f"error: {path}: 4 dark_slots (XQDA, XQDB, XQDC, XQDD) but only 1 dark_pools")
    assert "lit_venues" not in said


@pytest.mark.parametrize(("share", "warned"), [(0.19, False), (0.21, True)])
def test_a_row_that_the_fallback_made_is_warned_of(
    share: float, warned: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {"fallback": {"fallback_frac": share, "decisions": 1_000, "by_feature": {"log_evidence": 10}}}
    print_fallbacks({"routers": {"learned": row, "sor_strong": {}}})
    said = " ".join(capsys.readouterr().out.split())
    assert "features outside training: log_evidence 10" in said
    assert ("WARNING: the rule SOR, not the policy" in said) == warned
