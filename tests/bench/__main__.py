"""``python -m tests.bench``: every benchmark, one after the other; with ``--tiny`` only to see that they run."""

import argparse
import platform
import sys
from importlib import import_module

from tests.bench.tiny import shrink

BENCHMARKS = (
    "training",
    "levers",
    "environment",
    "mujoco",
    "update",
    "remedies",
    "algorithms",
    "plasticity",
    "benchmarks",
    "load",
)

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="so small that the figures mean nothing")
    if parser.parse_args().tiny:
        shrink(setattr)
    del sys.argv[1:]
    for benchmark in BENCHMARKS:
        print(f"\n== {benchmark} ({platform.processor() or platform.machine()}, one core)", flush=True)
        import_module(f"tests.bench.{benchmark}").main()
