"""The command line: one file per command, thin over the library. Before a command runs, only what
`--help` needs is imported.
"""

import gc
import sys

# Objects that are made before the collector of cycles looks at the young ones: importing torch and exporting a model make
# millions that stay. By Python's own 700, `inspect` of BERT-base spends 1.6 of 11.4 CPU seconds in the collector, by this 0.5.
YOUNG = 20_000


def main() -> None:
    """Run `tvm-balanced`; ends the process with 0 (done), 1 (the work failed) or 2 (wrong usage)."""
    gc.set_threshold(YOUNG)
    from tvm_balanced.cli.app import run

    sys.exit(run(sys.argv[1:]))
