#!/usr/bin/env bash
# Tunes the parametrised baselines on the base market -> configs/routers/*.yaml: the SORs, then the allocators, each started from its
# default (an allocator's are its published constants), from the tuned SOR and from the settings that stand there. MINUTES of
# search each (default 15, the time that the learner has), and under a minute of finals. ROUTERS names the ones to tune (all by
# default), SEED another search. One core; one after the other, because each starts from what was found before.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH"
minutes=${MINUTES:-15}
folder=configs/routers
allocators=$(for form in "" _markout; do for rule in ganchev thompson agarwal llp; do echo "$rule$form"; done; done)
for router in ${ROUTERS:-rule_sor sor_strong $allocators}; do
  case $router in
    rule_sor) out=$folder/tuned_sor.yaml starts=(--start $folder/tuned_sor.yaml) ;;
    sor_strong) out=$folder/sor_strong.yaml starts=(--start $folder/tuned_sor.yaml --start $folder/sor_strong.yaml) ;;
    *) out=$folder/$router.yaml starts=(--start $folder/tuned_sor.yaml --start $folder/$router.yaml) ;;
  esac
  glasspool tune base --router "$router" --minutes "$minutes" --seed "${SEED:-1}" "${starts[@]}" --out "$out"
done
