#!/usr/bin/env bash
# Tunes the parametrised baselines on the base market -> configs/routers/tuned_sor.yaml, sor_strong.yaml, each started from the
# settings that stand there. MINUTES of search each (default 15, the time that the learner has), and under a minute of
# finals. One core; the two run one after the other, because the second starts also from what the first found.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH"
minutes=${MINUTES:-15}
simple=configs/routers/tuned_sor.yaml strong=configs/routers/sor_strong.yaml
glasspool tune base --router rule_sor --minutes "$minutes" --seed 1 --start $simple --out $simple
glasspool tune base --router sor_strong --minutes "$minutes" --seed 1 --start $simple --start $strong --out $strong
