#!/usr/bin/env bash
# The result table with bounds and ladder -> benchmarks/results.md: the default (additive) policy, an MLP, routing only, and
# two privileged bounds, SEEDS training seeds each (default 1 2 3 4 5), on EPISODES held-out parents of the base market
# (default 10000) beside every baseline. LABELS names the policies (all by default; additive comes first). A run that is there is not trained
# again, and the default policies and MLPs are in benchmarks/policies. Two and a half hours on two cores for the rest.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH"
out=${1:-runs/results}
seeds=${SEEDS:-1 2 3 4 5}
mkdir -p "$out"
train() { # LABEL CONFIG [--set ...]
  local label=$1
  shift
  printf '%s\n' $seeds | xargs -P 2 -I{} sh -c "test -e $out/$label-s{}/policy.zip ||
    glasspool train $* --seed {} --out $out/$label-s{} --overwrite >$out/$label-s{}.log 2>&1"
}
labels=${LABELS:-additive routing_only venue_informed all_latents mlp}
for label in $labels; do
  case $label in
    routing_only) train routing_only default --set agent.routing_only=true ;;
    venue_informed) train venue_informed default --set agent.privileged=venue ;;
    all_latents) train all_latents default --set agent.privileged=all ;;
  esac
done
baselines=(random twap_lit vwap_lit post_XQLA post_XQLB post_XQLC rule_sor tuned_sor sor_strong kratz_schoeneborn)
for rule in ganchev agarwal llp thompson; do baselines+=("$rule" "${rule}_markout"); done
folders=()
for label in $labels; do
  against=(tuned_sor)
  if [ "$label" = additive ]; then against=("${baselines[@]}"); fi
  runs=()
  case $label in additive | mlp) from=benchmarks/policies ;; *) from=$out ;; esac
  for seed in $seeds; do runs+=("$from/$label-s$seed"); done
  glasspool evaluate "${runs[@]}" "${against[@]/#/--against=}" --episodes "${EPISODES:-10000}" --seed "${TEST_SEED:-7000}" \
    --market base --out "$out/evaluation-$label"
  folders+=("$label=$out/evaluation-$label")
done
{ python benchmarks/result_table.py "${folders[@]}" && cat benchmarks/results_notes.md; } >benchmarks/results.md
