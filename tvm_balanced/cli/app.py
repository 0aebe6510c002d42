"""Assemble the commands, and report errors."""

import os
import signal
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from tvm_balanced import __version__
from tvm_balanced.cli import (
    allocate,
    bench,
    compile,
    demo,
    distill,
    doctor,
    env,
    inspect,
    logs,
    package,
    profile_machine,
    prune,
    report,
    serve_rpc,
    tune,
)
from tvm_balanced.cli import run as run_command
from tvm_balanced.cli import self_test as self_test_command
from tvm_balanced.cli.console import err
from tvm_balanced.core.stderr_filter import VERBOSE
from tvm_balanced.errors import Terminated, TvmBalancedError

app = typer.Typer(
    name="tvm-balanced",
    help="Compile pruned PyTorch models into modules that run several times faster, and show why, layer by layer.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tvm-balanced {__version__}")
        raise typer.Exit


Version = Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")]


Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show everything that TVM and PyTorch print.")]


@app.callback()
def options(version: Version = False, verbose: Verbose = False) -> None:
    """Handle the options that stand before a command."""
    if verbose:
        os.environ[VERBOSE] = "1"


PRUNE, COMPILE, TUNE, DEPLOY, MACHINE = "Prune", "Look and compile", "Tune", "Deploy", "This machine"
for panel, name, command in (
    ("Start here", "demo", demo.demo),
    (PRUNE, "prune", prune.prune),
    (PRUNE, "allocate", allocate.allocate),
    (PRUNE, "distill", distill.distill),
    (COMPILE, "inspect", inspect.inspect),
    (COMPILE, "compile", compile.compile),
    (COMPILE, "report", report.report),
    (COMPILE, "bench", bench.app),
    (TUNE, "tune", tune.tune),
    (TUNE, "logs", logs.app),
    (TUNE, "serve-rpc", serve_rpc.serve_rpc),
    (DEPLOY, "run", run_command.run),
    (DEPLOY, "self-test", self_test_command.self_test),
    (DEPLOY, "package", package.package),
    (MACHINE, "doctor", doctor.doctor),
    (MACHINE, "env", env.env),
    (MACHINE, "profile-machine", profile_machine.profile_machine),
):
    if isinstance(command, typer.Typer):
        app.add_typer(command, name=name, rich_help_panel=panel)
    else:
        app.command(name, rich_help_panel=panel)(command)
app.command("calibrate", hidden=True)(profile_machine.profile_machine)  # its name up to version 0.1


def _terminate(*_: Any) -> None:
    raise Terminated(143)


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; signals are handled as before when it returns."""
    before = signal.signal(signal.SIGTERM, _terminate)  # an exit cleans up what is half written, a kill would not
    try:
        app(list(arguments), prog_name="tvm-balanced")
    except TvmBalancedError as error:
        err.print(f"error: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        return error.exit_code
    except SystemExit as end:  # typer exits like this, with 2 after wrong usage and 130 after Ctrl-C
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)  # None: set by what is not Python
    return 0
