#!/usr/bin/env bash
# mypy cannot read setuptools' package-dir, so show it the package as an import sees it: a tree of links, made from
# that map, under build/typecheck/glasspool. Arguments go to mypy; messages name the real files.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD
python=$root/.venv/bin/python
[ -x "$python" ] || python=python3

folders=$("$python" - <<'PY'
import tomllib

with open("pyproject.toml", "rb") as file:
    package_dir = tomllib.load(file)["tool"]["setuptools"]["package-dir"]
# A nested folder comes with its parent: a link of its own would be written through the parent's, into the sources.
print("\n".join(folder for folder in package_dir.values() if folder != "glasspool" and "/" not in folder))
PY
)

view=$root/build/typecheck
rm -rf "$view"
mkdir -p "$view/glasspool"
for file in "$root"/glasspool/*; do
  [ "$(basename "$file")" = __pycache__ ] || ln -s "$file" "$view/glasspool/"
done
for folder in $folders; do
  ln -s "$root/$folder" "$view/glasspool/$folder"
done

cd "$view"
"$python" -m mypy --config-file "$root/pyproject.toml" --cache-dir "$root/.mypy_cache" -p glasspool "$@" |
  sed -E "s#^glasspool/($(tr '\n' '|' <<<"$folders" | sed 's/|$//'))/#\1/#"
