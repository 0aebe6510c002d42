"""How much accuracy does pruning cost? `python -m benchmarks.study [--quick] [--minutes 60] [--only MODEL]`.

MiniLM finds the descriptions of Debian packages, pruned by each method at each pattern. Small models are trained and pruned
gradually, with zeros of several structures. A row a point goes to data/accuracy.csv and data/accuracy_small.csv; points that are
there are not measured again, so the same command goes on. docs/accuracy.md is written from the rows.
"""

import argparse
import time

from benchmarks.study import minilm, page, small


def main() -> None:
    """Measure what is missing, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few points, and 1000 queries for MiniLM")
    parser.add_argument("--only", choices=["MiniLM", *small.TASKS], help="the points of one model")
    parser.add_argument("--queries", type=int, help="of those in held_out.txt; 4000, or 1000 with --quick")
    parser.add_argument(
        "--steps",
        type=int,
        default=0,
        help=f"of distillation for SparseGPT's models; {10 * minilm.STEPS_A_MINUTE} are ten minutes",
    )
    parser.add_argument("--minutes", type=float, default=1e9, help="begin no point after these")
    parser.add_argument("--measure", action="store_true", help="print the steps of distillation that this machine does, no more")
    options = parser.parse_args()
    if options.measure:
        print(f"{minilm.steps_a_minute():.0f} steps of {minilm.TEXTS} texts a minute")
        return
    until = time.monotonic() + 60 * options.minutes
    wanted = [options.only] if options.only else ["MiniLM", *small.TASKS]
    for model in wanted:
        if model == "MiniLM":
            whole = minilm.run(options.quick, options.queries, options.steps, until)
        else:
            whole = small.run(model, options.quick, until)
        if not whole:
            print("stopped; the same command goes on")
            break
    page.write()
    print(f"wrote {page.PAGE}")


if __name__ == "__main__":
    main()
