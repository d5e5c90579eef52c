#!/usr/bin/env bash
# The five default policies (benchmarks/policies; POLICIES names another folder) on replayed real days, and a policy trained on one recorded day and judged on
# another -> benchmarks/replays.md. Needs GLASSPOOL_DATA.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH"
: "${GLASSPOOL_DATA:?set it to the folder of the recorded days}"
policies=${POLICIES:-benchmarks/policies}
out=${1:-runs/results}
mkdir -p "$out"
for day in ibm_20131007 bac_20131007 aapl_20120621 amzn_20120621; do
  glasspool evaluate "$policies"/additive-s*/ --market "replay_$day" --episodes 1000 --seed 7000 --out "$out/replay-$day"
done
glasspool train replay --seed 1 --out "$out/trained-on-a-day" --overwrite >"$out/trained-on-a-day.log" 2>&1
glasspool evaluate "$out/trained-on-a-day" --out "$out/replay-trained-on-a-day"
python benchmarks/results_table.py "$out"/replay-*/ >benchmarks/replays.md
