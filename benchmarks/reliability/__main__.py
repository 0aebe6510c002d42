"""What is done to artifacts, readers and kernels, and what came of it. Each run appends rows to data/; the same command goes on.

pip install atheris
python -m benchmarks.reliability attacks           # hostile and damaged artifacts
python -m benchmarks.reliability fuzz              # each reader for 600 seconds of the CPU; --cpu-seconds
python -m benchmarks.reliability inputs            # 500 random inputs for each of 2,000 random layers; --builds
python -m benchmarks.reliability soak              # load, call, save and reload for an hour; --minutes
python -m benchmarks.reliability shared            # a model of a gigabyte in two processes
python -m benchmarks.reliability page              # docs/reliability.md from the rows
"""

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def main() -> int:
    """Run one part."""
    sys.path.insert(0, str(ROOT / "tests"))
    options = _parse()
    if options.what == "attacks":
        from benchmarks.reliability import artifacts

        return 0 if artifacts.run(options.label) else 1
    if options.what == "fuzz":
        from benchmarks.reliability import fuzzing

        return 0 if fuzzing.run(options.label, options.cpu_seconds, options.corpus) else 1
    if options.what == "inputs":
        from benchmarks.reliability import random_inputs

        return 0 if random_inputs.run(options.label, options.builds) else 1
    if options.what == "soak":
        from benchmarks.reliability import soak

        return 0 if soak.run(options.label, options.minutes) else 1
    if options.what == "shared":
        from benchmarks.reliability import shared_weights

        shared_weights.run(options.label, options.gigabytes)
        return 0
    from benchmarks.reliability import page

    page.write(options.label)
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.reliability", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("attacks", "fuzz", "inputs", "soak", "shared", "page"))
    parser.add_argument("--label", default=f"{datetime.now(UTC):%Y-%m-%d}", help="of the rows; the date by default")
    parser.add_argument("--cpu-seconds", type=float, default=600, help="of fuzzing for each reader; %(default)s by default")
    parser.add_argument("--corpus", type=Path, default=ROOT / "build" / "fuzz", help="what fuzzing keeps; %(default)s by default")
    parser.add_argument("--builds", type=int, default=2000, help="random layers; %(default)s by default")
    parser.add_argument("--minutes", type=float, default=60, help="of the soak; %(default)s by default")
    parser.add_argument("--gigabytes", type=float, default=1, help="of weights; %(default)s by default")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
