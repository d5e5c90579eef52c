#!/usr/bin/env bash
# The five default policies (benchmarks/policies; POLICIES names another folder), trained on the base market, judged on the scenarios without
# retraining or retuning -> benchmarks/scenarios.md. About ten minutes on one core.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH"
policies=${POLICIES:-benchmarks/policies}
runs=${1:-runs/results}
for market in volatile toxic thin one_tick wide_spread outage dark_drought leaky news_shock benign; do
  glasspool evaluate "$policies"/additive-s*/ --against rule_sor --against tuned_sor --against sor_strong --against vwap_lit \
    --market "$market" --episodes 1000 --seed 7000 --out "$runs/scenario-$market"
done
{
  python benchmarks/scenarios_table.py "Policies trained on the base market, judged on the scenarios" \
    benchmarks/scenarios.sh "$runs"/scenario-*/
  cat benchmarks/scenarios_notes.md
} >benchmarks/scenarios.md
