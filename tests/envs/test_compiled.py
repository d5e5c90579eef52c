"""The compile cache follows every file that holds compiled code, not only the caller's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import glasspool.envs.compiled as compiled_module


def test_a_change_in_an_inlined_file_recompiles_its_callers(tmp_path: Path) -> None:
    home = tmp_path / "pkg" / "envs"
    home.mkdir(parents=True)
    source = Path(compiled_module.__file__).read_text()
    (home / "__init__.py").write_text("")
    (home.parent / "__init__.py").write_text("")
    (home / "compiled.py").write_text(source)
    (home / "caller.py").write_text(
        "from .compiled import compiled\nfrom .callee import constant\n\n\n"
        "@compiled\ndef value():\n    return constant() + 1\n"
    )
    answers = []
    for constant in (1, 41):
        (home / "callee.py").write_text(
            f"from .compiled import compiled\n\n\n@compiled\ndef constant():\n    return {constant}\n"
        )
        code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from pkg.envs.caller import value; print(value())"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        answers.append(int(done.stdout))
    assert answers == [2, 42]
