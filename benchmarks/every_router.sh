#!/usr/bin/env bash
# Every router on every scenario and, with GLASSPOOL_DATA, on every replayed day -> benchmarks/every_router.md: the five default policies
# and five MLPs of benchmarks/policies, all baselines, and such privileged policies as RUNS holds (benchmarks/results.sh trains them).
# EPISODES parents a market (default 1000). Half an hour on two cores.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH"
runs=${1:-runs/results}
out=$runs/every
mkdir -p "$out"
baselines=(random twap_lit vwap_lit post_XQLA post_XQLB post_XQLC rule_sor tuned_sor sor_strong kratz_schoeneborn)
for rule in ganchev agarwal llp thompson; do baselines+=("$rule" "${rule}_markout"); done
markets=(volatile toxic thin one_tick wide_spread outage dark_drought leaky news_shock benign)
if [ -n "${GLASSPOOL_DATA:-}" ]; then
  markets+=(replay_ibm_20131007 replay_bac_20131007 replay_aapl_20120621 replay_amzn_20120621)
fi
for market in "${markets[@]}"; do
  for label in additive mlp venue_informed all_latents; do
    case $label in
      additive) policies=(benchmarks/policies/additive-s*/) against=("${baselines[@]}") ;;
      mlp) policies=(benchmarks/policies/mlp-s*/) against=(tuned_sor) ;;
      *) policies=("$runs/$label"-s*/) against=(tuned_sor) ;;
    esac
    if [ -d "${policies[0]}" ]; then
      glasspool evaluate "${policies[@]}" "${against[@]/#/--against=}" --market "$market" --episodes "${EPISODES:-1000}" \
        --seed 7000 --out "$out/$market/$label"
    fi
  done
done
{ python benchmarks/every_router.py "${markets[@]/#/$out/}" && cat benchmarks/every_router_notes.md; } >benchmarks/every_router.md
