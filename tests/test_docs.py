"""The pages in docs/ say what the code says: tables, commands, names, links."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import typer
import typer.main

from glasspool.agents.oracle_problems import PROBLEMS, optimum_of
from glasspool.agents.registry import ALLOCATORS
from glasspool.agents.rule_based import RULE_CODES
from glasspool.cli import app
from glasspool.configs.rule_sor import RuleSorConfig
from glasspool.configs.strong_sor import EXTRAS_OFF
from glasspool.envs.controls import MASK_CODES
from glasspool.envs.features import GLOBAL_FEATURES, ROUTE_FEATURES, Feature
from glasspool.envs.state import COMPONENTS
from glasspool.explain.decision_log import RECORD_TYPES
from glasspool.explain.verification import REASONS

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted((ROOT / "docs").glob("*.md"))
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))
MONOTONE = {0: "–", 1: "never falls", -1: "never rises"}
MAX_LINES = 250
CODE_FOLDERS = "configs|envs|explain|tca|agents|checkpoints|glasspool|tests|scripts"


def text_of(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def section(text: str, heading: str) -> str:
    """What stands below `heading` up to the next heading."""
    return re.split(r"\n#", text.split(f"\n{heading}\n", 1)[1], maxsplit=1)[0]


def table_rows(text: str) -> list[list[str]]:
    """Cells of the table rows in a text, without header and rule; an escaped bar belongs to its cell."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[c.strip().replace(r"\|", "|") for c in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return cells[2:]


def fenced(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def words_in_code(text: str) -> set[str]:
    return set(re.findall(r"`([^`\n]+)`", text))


@pytest.mark.parametrize(
    ("heading", "features"), [("### Global features", GLOBAL_FEATURES), ("### Route features", ROUTE_FEATURES)]
)
def test_the_feature_table_is_the_code_s(heading: str, features: tuple[Feature, ...]) -> None:
    written = table_rows(section(text_of("environment.md"), heading))
    assert written == [
        [f"`{f.name}`", f.unit, f"{f.low:g} to {f.high:g}", f.factor, f.formula, MONOTONE[f.monotone]] for f in features
    ]


def test_the_rule_sor_page_has_every_setting_with_its_default() -> None:
    rows = table_rows(section(text_of("rule_sor.md"), "## Settings"))
    pairs = [pair for row in rows for pair in (row[:2], row[2:]) if pair[0]]
    written = {key.strip("`"): value for key, value in pairs}
    assert written == {key: str(value) for key, value in RuleSorConfig().model_dump().items()}


def test_the_strong_sor_s_table_has_every_key_with_its_off_value() -> None:
    rows = table_rows(section(text_of("rule_sor.md"), "## The strong SOR"))
    assert {row[0].strip("`"): row[1] for row in rows} == {key: str(value) for key, value in EXTRAS_OFF.items()}


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("environment.md", COMPONENTS),
        ("environment.md", [code for code in MASK_CODES if code]),
        ("rule_sor.md", RULE_CODES),
        ("allocators.md", [*ALLOCATORS, "kratz_schoeneborn", "twap_lit"]),
        ("audit.md", RECORD_TYPES),
        ("audit.md", list(REASONS)),
    ],
)
def test_every_name_of_the_code_is_explained(page: str, names: Sequence[str]) -> None:
    assert set(names) <= words_in_code(text_of(page))


def test_the_oracle_table_has_every_problem_with_its_optimum_and_mark() -> None:
    rows = {row[0]: row for row in table_rows(text_of("oracles.md").split("\n## ")[0])}
    assert set(rows) == set(PROBLEMS)
    for name, problem in PROBLEMS.items():
        _, kind, _, optimum, mark = rows[name]
        assert kind == f"`{problem.params.kind}`"
        assert float(optimum) == pytest.approx(optimum_of(problem.params), abs=5e-13)
        assert mark == f"{problem.mark_percent:g} %"


# --- commands


def commands() -> Iterator[tuple[str, list[str]]]:
    """(page, words) of every glasspool command in a shell block."""
    for page in PAGES:
        for block in fenced(page.read_text(encoding="utf-8"), "bash"):
            for line in block.replace("\\\n", " ").splitlines():
                if line.startswith("glasspool "):
                    yield page.name, shlex.split(line, comments=True)


def parse(words: Sequence[str]) -> None:
    """Let the command line read the words without running anything; raises for an unknown command or option."""
    command: Any = typer.main.get_command(app)
    rest = list(words[1:])
    while hasattr(command, "commands"):
        assert rest[0] in command.commands, f"no command {rest[0]!r} in {words}"
        command = command.commands[rest.pop(0)]
    command.make_context(words[0], rest)


@pytest.mark.parametrize("words", [words for _, words in commands()], ids=" ".join)
def test_every_command_in_the_pages_is_understood(words: list[str]) -> None:
    parse(words)


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("glasspool tarin", "AssertionError"),
        ("glasspool train default --sede 1", "NoSuchOption"),
        ("glasspool train", "MissingParameter"),
        ("glasspool tune --samples many", "BadParameter"),
    ],
)
def test_a_wrong_command_would_be_seen(line: str, error: str) -> None:
    try:
        parse(line.split())
    except Exception as found:  # by name: the class's module differs between releases of typer
        assert type(found).__name__ == error
    else:
        pytest.fail(f"{line}: understood")


def test_every_command_has_an_example_in_the_how_to() -> None:
    command: Any = typer.main.get_command(app)
    names = {name for name, c in command.commands.items() if not hasattr(c, "commands")} | {"audit"}
    assert names <= {words[1] for page, words in commands() if page == "howto.md"}


# --- names, links, form


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_every_packaged_config_is_in_the_how_to(path: Path) -> None:
    assert path.stem in words_in_code(text_of("howto.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_files_named_in_a_page_exist(page: Path) -> None:
    named = [w for w in words_in_code(page.read_text(encoding="utf-8")) if re.match(rf"({CODE_FOLDERS})/[\w/.]*$", w)]
    assert [w for w in named if not (ROOT / w).exists()] == []


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_internal_links_resolve(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = page.parent / name if name else page
        assert file.is_file(), f"{page.name}: {target}"
        assert not anchor or anchor in anchors(file), f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_pages_have_no_absolute_paths_and_are_short(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert re.findall(r"(?:^|[\s`\"'(=])(?:/[A-Za-z]|~/|[A-Z]:\\)[^\s`]*", text) == []
    assert len(text.splitlines()) < MAX_LINES


def test_every_page_is_reached_from_the_architecture_page() -> None:
    links = {t.partition("#")[0] for t in re.findall(r"\]\(([^)\s]+)\)", text_of("architecture.md"))}
    assert {p.name for p in PAGES} - {"architecture.md"} <= links


def test_an_escaped_bar_stays_in_its_cell() -> None:
    assert table_rows("| a | b |\n|---|---|\n| 1 + \\|d\\| | x |\n") == [["1 + |d|", "x"]]
