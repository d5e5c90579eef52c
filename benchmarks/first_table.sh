#!/usr/bin/env bash
# The first result table: 5 training seeds of the default config against the baselines, on 4,000 held-out synthetic parents
# and on replayed real days (set GLASSPOOL_DATA; without it the replays are left out). About 25 minutes on 2 cores.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH"
out=${1:-runs/first-table}
mkdir -p "$out"
printf '%s\n' 1 2 3 4 5 | xargs -P 2 -I{} sh -c "glasspool train default --seed {} --out $out/s{} >$out-s{}.log 2>&1"
runs="$out/s1 $out/s2 $out/s3 $out/s4 $out/s5"
glasspool evaluate $runs --out "$out/evaluation-base"
if [ -n "${GLASSPOOL_DATA:-}" ]; then
  for day in ibm_20131007 bac_20131007 aapl_20120621 amzn_20120621; do
    glasspool evaluate $runs --market "replay_$day" --episodes 1000 --out "$out/evaluation-replay_$day"
  done
fi
if [ -n "${GLASSPOOL_DATA:-}" ]; then # trained on one recorded day, judged on another
  glasspool train replay --seed 1 --out "$out/replay1" >"$out-replay1.log" 2>&1
  glasspool evaluate "$out/replay1" --out "$out/evaluation-replay_2013"
fi
python benchmarks/results_table.py "$out"/evaluation-* >benchmarks/first_table.md
