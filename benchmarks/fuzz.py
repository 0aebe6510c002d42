"""Fuzz the readers of what comes from elsewhere, guided by coverage.

    pip install atheris
    python -m benchmarks.fuzz manifest --seconds 600    # or npy, pattern, state_dict, checkpoint, bitmask, log

It keeps what reaches new code in tests/data/fuzz/NAME, at most 8 KB each, and ends with an error and the input where a reader
does something else than to give a result or one sentence.
"""

import argparse
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LONGEST = 8192  # bytes of an input; a manifest has some thousand


def main() -> None:
    """Run one reader."""
    import atheris  # no test needs it

    sys.path.insert(0, str(ROOT / "tests"))
    with atheris.instrument_imports(include=["tvm_balanced", "support.fuzz_targets"]):
        from support.fuzz_targets import TARGETS, seeds
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=TARGETS)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--corpus", type=Path, default=ROOT / "tests" / "data" / "fuzz")
    options = parser.parse_args()
    folder = options.corpus / options.name
    folder.mkdir(parents=True, exist_ok=True)
    for i, seed in enumerate(seeds(options.name)):
        (folder / f"seed{i}").write_bytes(seed)
    arguments = [sys.argv[0], str(folder), f"-max_total_time={options.seconds}", f"-max_len={LONGEST}", "-print_final_stats=1"]
    arguments.append(f"-artifact_prefix={options.corpus / options.name}-")
    print(f"starting took {time.process_time():.1f} s of the CPU", flush=True)
    atheris.Setup(arguments, TARGETS[options.name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
