#!/usr/bin/env bash
# The five default policies (benchmarks/policies; POLICIES names another folder), trained on the base market, judged without retraining on other numbers and names of
# venues, on other mechanisms, and on another name's market -> benchmarks/shifts.md. EPISODES parents each (default 1000).
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH"
policies=${POLICIES:-benchmarks/policies}
out=${1:-runs/results}
mkdir -p "$out"
folders=()
for market in benchmarks/shifts/*.yaml ibm_2013 aapl_2012 bac_2013 amzn_2012 aig_2013; do
  name=$(basename "$market" .yaml)
  glasspool evaluate "$policies"/additive-s*/ --against rule_sor --against tuned_sor --against sor_strong --against vwap_lit \
    --market "$market" --episodes "${EPISODES:-1000}" --seed 7000 --out "$out/shift-$name"
  folders+=("$out/shift-$name")
done
{
  python benchmarks/scenarios_table.py "Other pools, other mechanisms, other names" benchmarks/shifts.sh "${folders[@]}"
  cat benchmarks/shifts_notes.md
} >benchmarks/shifts.md
