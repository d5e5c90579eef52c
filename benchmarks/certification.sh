#!/usr/bin/env bash
# Certificates of the packaged synthetic markets -> benchmarks/certification.md. About ten minutes on one core.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH"
out=${1:-runs/certificates}
mkdir -p "$out"
for market in base volatile toxic thin one_tick wide_spread outage dark_drought leaky news_shock benign ibm_2013 bac_2013 aig_2013 aapl_2012 amzn_2012; do
  glasspool certify "$market" --json "$out/$market.json" || true # a line that fails is in the table
done
python benchmarks/certificates_table.py "$out" >benchmarks/certification.md
