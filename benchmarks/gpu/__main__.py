"""Check, tune and measure the GPU kernels within a budget: `python -m benchmarks.gpu --minutes 8 --out DIR`.

Needs a GPU, torch, and TVM from the archive of gpu_host/pack.sh. The same command continues where
it was stopped. Without a GPU, --stand-in rehearses everything on tiny shapes, and --dry-run prints
the plan.
"""

import argparse
import sys
import time
from itertools import groupby
from pathlib import Path

from benchmarks.gpu.folder import Folder
from benchmarks.gpu.report import write_report
from benchmarks.gpu.supervise import end_with_parent, supervise


def main() -> int:
    """Run the plan, or a slice of it, and write the report."""
    options = _parse()
    until = options.until or time.time() + 60 * options.minutes
    if options.worker:
        end_with_parent()
    if options.worker or options.dry_run:
        return _work(options, until)
    options.out.mkdir(parents=True, exist_ok=True)
    folder = Folder(options.out)
    folder.retry(options.retry)
    arguments = ["--out", str(options.out), "--until", str(until), "--slice", "/".join(map(str, options.slice))]
    arguments += ["--known", str(options.known)]
    arguments += [argument for pattern in options.only or () for argument in ("--only", pattern)]
    status = supervise([*arguments, *(["--stand-in"] if options.stand_in else [])], folder, until)
    if folder.facts():  # a device was opened, in this run or an earlier one
        print(write_report(folder))
    return status


def _work(options: argparse.Namespace, until: float) -> int:
    # heavy imports: the supervising process needs neither torch nor TVM
    from benchmarks.gpu.device import Absent
    from benchmarks.gpu.devices import open_device
    from benchmarks.gpu.known_code import use
    from benchmarks.gpu.plan import SHARES, RunBook, only, slice_of, work
    from tvm_balanced.errors import TvmBalancedError

    try:
        device = open_device("stand-in" if options.stand_in else "cuda")
    except TvmBalancedError as error:
        if not options.dry_run:
            print(error, file=sys.stderr)
            return 2
        device = Absent()
    if options.known.exists() and device.torch == "cuda":
        print(f"{use(options.known)} kernels are compiled already", flush=True)
    book = RunBook.of(device, Folder(options.out), until)
    units = slice_of(only(book.plan(), options.only), *options.slice)
    if options.dry_run:
        print(f"{len(units)} units on {device.name}, in this order:")
        for section, of_section in groupby(units, key=lambda unit: unit.section):
            print(f"{section}: {SHARES[section]:.0f} s" if section in SHARES else f"{section}: what is left")
            print("\n".join(f"{unit.seconds:6.0f} s  {unit.name}" for unit in of_section))
        return 0
    book.folder.learn({"units": len(units)})
    return work(book, units)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=8, help="begin nothing that would end later; %(default)s by default")
    parser.add_argument("--out", type=Path, default=Path("build/gpu"), help="folder of the results; %(default)s by default")
    parser.add_argument("--slice", type=_slice, default=(1, 1), metavar="I/N", help="the I-th of N parts of the plan, from 1 up")
    parser.add_argument(
        "--only", action="append", metavar="UNITS", help='a part of the plan by name, such as "measure: * m16 *"; may be repeated'
    )
    parser.add_argument("--retry", action="store_true", help="do again what failed or died, as after a kernel was mended")
    parser.add_argument("--stand-in", action="store_true", help="rehearse on the CPU through PoCL; times mean nothing")
    known = Path("build/gpu_kernels.zip")
    parser.add_argument("--known", type=Path, default=known, help="machine code of benchmarks.gpu.known_code")
    parser.add_argument("--dry-run", action="store_true", help="print the plan and end")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--until", type=float, help=argparse.SUPPRESS)
    return parser.parse_args()


def _slice(text: str) -> tuple[int, int]:
    part, _, parts = text.partition("/")
    if not (part.isdigit() and parts.isdigit() and 1 <= int(part) <= int(parts)):
        raise argparse.ArgumentTypeError(f'"{text}" is no slice; write for instance 1/3, the first of three')
    return int(part), int(parts)


if __name__ == "__main__":
    sys.exit(main())
