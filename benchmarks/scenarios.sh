#!/usr/bin/env bash
# The runs of the first table (benchmarks/first_table.sh), trained on the base market, judged on the scenarios without
# retraining or retuning -> benchmarks/scenarios.md. About ten minutes on one core.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH"
runs=${1:-runs/first-table}
for market in volatile toxic thin one_tick wide_spread outage dark_drought leaky news_shock; do
  glasspool evaluate "$runs"/s{1,2,3,4,5} --market "$market" --episodes 1000 --out "$runs/scenario-$market"
done
python benchmarks/scenarios_table.py "$runs"/scenario-* >benchmarks/scenarios.md
