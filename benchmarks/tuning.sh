#!/usr/bin/env bash
# Tunes the parametrised baselines on the base market -> configs/routers/tuned_sor.yaml, sor_strong.yaml. MINUTES of search each
# (default 15, the time that the learner has), and under a minute of finals. One core; the two run one after the other,
# because the second starts from what the first found.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH"
minutes=${MINUTES:-15}
glasspool tune base --router rule_sor --minutes "$minutes" --seed 1 --out configs/routers/tuned_sor.yaml
glasspool tune base --router sor_strong --minutes "$minutes" --seed 1 --start configs/routers/tuned_sor.yaml \
  --out configs/routers/sor_strong.yaml
