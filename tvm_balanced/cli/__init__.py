"""The command line: one file per command, thin over the library. Before a command runs, only what
`--help` needs is imported.
"""

import sys


def main() -> None:
    """Run `tvm-balanced`; ends the process with 0 (done), 1 (the work failed) or 2 (wrong usage)."""
    from tvm_balanced.cli.app import run

    sys.exit(run(sys.argv[1:]))
