"""The repository's folders and the installed package are the same thing, and imports point one way."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import importlib.util
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SETUPTOOLS = PYPROJECT["tool"]["setuptools"]
NOT_PACKAGED = {"tests", "benchmarks", "docs", "scripts", "build", "dist", "runs"}
# Who may import whom: only folders with a smaller number. explain and tca do not know each other.
RANK = {"checkpoints": 0, "configs": 0, "envs": 1, "explain": 2, "tca": 2, "agents": 3, "": 4}


def _packages_in_the_tree() -> dict[str, Path]:
    found = {}
    for top in ROOT.iterdir():
        if top.is_dir() and top.name not in NOT_PACKAGED and not top.name.startswith("."):
            for init in top.rglob("__init__.py"):
                parts = init.parent.relative_to(ROOT).parts
                found[".".join(parts if parts[0] == "glasspool" else ("glasspool", *parts))] = init.parent
    return found


TREE = _packages_in_the_tree()
MODULES = sorted(path for folder in TREE.values() for path in folder.glob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))


def _module_name(path: Path) -> str:
    package = next(name for name, folder in TREE.items() if folder == path.parent)
    return package if path.stem == "__init__" else f"{package}.{path.stem}"


def _imports(path: Path) -> Iterator[tuple[int, str]]:
    """(level, absolute name) of every import in a file; `from ..x import y` in glasspool.z gives (2, glasspool.x.y)."""
    package = next((name for name, folder in TREE.items() if folder == path.parent), "")
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = importlib.util.resolve_name("." * node.level + (node.module or ""), package or "tests")
            yield from ((node.level, f"{base}.{alias.name}") for alias in node.names)


def _folder(module: str) -> str | None:
    """The top-level folder of a module of ours: "" for glasspool's own modules, None for everybody else's."""
    parts = module.split(".")
    if parts[0] != "glasspool":
        return None
    return parts[1] if len(parts) > 1 and parts[1] in RANK else ""


def test_every_folder_with_an_init_is_a_listed_package() -> None:
    assert sorted(SETUPTOOLS["packages"]) == sorted(TREE)


@pytest.mark.parametrize("package", SETUPTOOLS["packages"])
def test_a_package_imports_from_its_own_folder(package: str) -> None:
    assert Path(importlib.import_module(package).__file__ or "") == TREE[package] / "__init__.py"


def test_every_file_in_a_package_travels_with_an_installation() -> None:
    travels = {path for folder in TREE.values() for path in folder.glob("*.py")}
    for package, patterns in SETUPTOOLS["package-data"].items():
        travels |= {path for pattern in patterns for path in TREE[package].glob(pattern)}
    files = {
        path
        for folder in TREE.values()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith(".")
    }
    assert sorted(files - travels) == []


def test_nobody_imports_our_folders_under_a_second_name() -> None:
    # `import envs` would load the module twice, as envs and as glasspool.envs.
    second_names = {folder.relative_to(ROOT).parts[0] for folder in TREE.values()} - {"glasspool"}
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in [*MODULES, *TESTS]
        for _, name in _imports(path)
        if name.split(".")[0] in second_names
    ]
    assert wrong == []


def test_inside_the_package_imports_are_relative() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in MODULES
        for level, name in _imports(path)
        if level == 0 and _folder(name) is not None
    ]
    assert wrong == []


def test_imports_point_one_way() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in MODULES
        for _, name in _imports(path)
        if (theirs := _folder(name)) is not None
        and theirs != (ours := _folder(_module_name(path)))
        and RANK[theirs] >= RANK[ours or ""]
    ]
    assert wrong == []


def test_every_requirement_is_pinned_at_a_version_that_it_allows() -> None:
    pins = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            name, version = line.split("==")
            pins[_plain(name)] = version
    project = PYPROJECT["project"]
    for text in [*project["dependencies"], *project["optional-dependencies"]["dev"]]:
        requirement = Requirement(text)
        assert requirement.specifier.contains(pins[_plain(requirement.name)]), text


def test_the_constraints_pull_no_cuda_and_name_no_local_build() -> None:
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    pins = [line for line in text.splitlines() if not line.startswith("#")]
    assert [line for line in pins if re.search(r"nvidia|cuda|triton|\+", line)] == []


def test_the_installed_command_tells_the_version_of_the_project_file() -> None:
    script = Path(sys.executable).with_name("glasspool")
    printed = subprocess.run([script, "--version"], capture_output=True, text=True, check=True).stdout
    assert printed == f"glasspool {PYPROJECT['project']['version']}\n"


def test_the_package_tells_checkers_that_it_is_typed() -> None:
    assert (ROOT / "glasspool" / "py.typed").is_file()


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
