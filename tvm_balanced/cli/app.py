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
    env,
    inspect,
    logs,
    package,
    profile_machine,
    prune,
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
    add_completion=False,
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


app.command("demo")(demo.demo)
app.command("inspect")(inspect.inspect)
app.command("prune")(prune.prune)
app.command("allocate")(allocate.allocate)
app.command("distill")(distill.distill)
app.command("compile")(compile.compile)
app.command("run")(run_command.run)
app.command("package")(package.package)
app.command("self-test")(self_test_command.self_test)
app.add_typer(bench.app, name="bench")
app.command("profile-machine")(profile_machine.profile_machine)
app.command("calibrate", hidden=True)(profile_machine.profile_machine)  # its name up to version 0.1
app.command("tune")(tune.tune)
app.add_typer(logs.app, name="logs")
app.command("serve-rpc")(serve_rpc.serve_rpc)
app.command("env")(env.env)


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
