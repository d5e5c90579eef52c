"""Time and memory of the reader of own fills: `python benchmarks/fills_reader.py` rewrites fills_reader.md.

Each size is read in a fresh process, so that its peak memory is its own. The files are made up: 14 columns, three fills
to a child order, a hundred child orders to a parent, cents and half-cents, one row in ten a miss.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import numpy as np

from glasspool.tca.fills import read_fills

SIZES = (1_000_000, 5_000_000)
COLUMNS = "ts,child_id,side,shares,price,bid,ask,venue,venue_type,parent_id,routed_shares,tif,fee_per_share,mid_10s"


def write_fills(path: Path, n_rows: int, seed: int = 0) -> None:
    """A fills file that keeps the contract; times rise by a millisecond a row."""
    rng = np.random.default_rng(seed)
    mid_half_cents = 20_000 + np.cumsum(rng.integers(-1, 2, n_rows))
    miss = rng.random(n_rows) < 0.1
    shares = 100 * rng.integers(1, 4, n_rows)
    with path.open("w") as file:
        file.write(COLUMNS + "\n")
        for i in range(n_rows):
            child, second = i // 3, i // 1000
            bid, ask = (mid_half_cents[i] - 1) // 2, (mid_half_cents[i] + 2) // 2
            venue, parent = child % 7, child // 100
            clock = f"{second // 3600 % 24:02d}:{second // 60 % 60:02d}:{second % 60:02d}.{i % 1000:03d}"
            fill = f"0,,{bid / 100}" if miss[i] else f"{shares[i]},{bid / 100},{bid / 100}"
            file.write(
                f"2026-03-{2 + second // 86400:02d}T{clock}Z,C-{child},{'sell' if parent % 2 else 'buy'},{fill},"
                f"{ask / 100},V{venue},{'dark' if venue > 2 else 'lit'},P-{parent},900,IOC,0.0010,"
                f"{mid_half_cents[i] / 200}\n"
            )


def measure(path: Path) -> None:
    """Print seconds and the peak memory of this process above what it was before reading, in GiB."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    n = len(read_fills(path))
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(n, seconds, (peak - before) / 2**20, peak / 2**20)


def main() -> None:
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fills.csv"
        for n_rows in SIZES:
            write_fills(path, n_rows)
            runs = []
            for _ in range(3):
                out = subprocess.run(
                    [sys.executable, __file__, str(path)], check=True, capture_output=True, text=True
                ).stdout
                runs.append([float(x) for x in out.split()])
                assert runs[-1][0] == n_rows
            seconds = [run[1] for run in runs]
            added, peak = max(run[2] for run in runs), max(run[3] for run in runs)
            lines.append(
                f"| {n_rows:,} | {path.stat().st_size / 1e6:,.0f} | {min(seconds):.1f} | {max(seconds):.1f} "
                f"| {added:.2f} | {peak:.2f} |"
            )
            print(lines[-1], flush=True)
    machine = f"{os.cpu_count()} cores of {platform.machine()}, {date.today().isoformat()}"
    Path(__file__).with_suffix(".md").write_text(
        "# Reader of own fills\n\n"
        f"`python benchmarks/fills_reader.py`, {machine}. Three fresh processes a size; a made-up file of 14 columns "
        "(three fills to a child order, cents and half-cents, one row in ten a miss). Memory is the largest of the "
        "three peaks; *added* leaves out what the process held before it read.\n\n"
        "| rows | MB of text | fastest, s | slowest, s | added GiB | peak GiB |\n|---|---|---|---|---|---|\n"
        + "\n".join(lines)
        + "\n"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", type=Path, help="a fills file: read once and measured, no table written")
    file = parser.parse_args().file
    measure(file) if file else main()
