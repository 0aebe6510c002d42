"""`tvm-balanced tune`: search for better schedules of a model's kernels within a budget, and keep the results."""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.live import Live
from rich.table import Table

from tvm_balanced.cli.console import LINES_EVERY, duration, err, out, print_json, print_table, step
from tvm_balanced.cli.model import (
    Batch,
    Copies,
    DynamicBatch,
    Json,
    Kernel,
    Length,
    Masks,
    Model,
    Precision,
    Target,
    Threads,
    Weights,
    forced,
    import_model,
)
from tvm_balanced.core.files import require_writable

if TYPE_CHECKING:
    from tvm_balanced.tuning.result import Tuned
    from tvm_balanced.tuning.scheduler import Tuner

HEADER = ("kernel", "calls", "trials", "best us", "over default", "over dense", "share")


def tune(
    model: Model,
    work_dir: Annotated[
        Path | None, typer.Option("--work-dir", help="Folder of the logs; by default this user's, which compile reads.")
    ] = None,
    minutes: Annotated[float | None, typer.Option(help="Stop after this many minutes and keep the results.")] = None,
    trials: Annotated[int | None, typer.Option(min=1, help="Number of candidates to measure in all.")] = None,
    per_kernel: Annotated[int | None, typer.Option("--per-kernel", min=1, help="Number of candidates of each kernel.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the log's last run; its measurements count.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of the search.")] = 0,
    strategy: Annotated[
        str, typer.Option(help="model, transfer, replay, exhaustive or evolutionary; see docs/tuning.md.")
    ] = "model",
    shard: Annotated[str, typer.Option(metavar="I/N", help="Tune the I-th of N shares of the kernels.")] = "1/1",
    rpc: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Measure on the servers of this RPC tracker.")] = None,
    key: Annotated[str, typer.Option("--key", help="Key of the servers, with --rpc.")] = "cpu",
    workers: Annotated[int | None, typer.Option(min=1, help="Servers to use at once, with --rpc; all by default.")] = None,
    report: Annotated[Path | None, typer.Option("--report", help="Write an HTML page about the run.")] = None,
    target: Target = "cpu",
    threads: Threads = None,
    weights: Weights = None,
    masks: Masks = None,
    dynamic_batch: DynamicBatch = False,
    batch: Batch = None,
    length: Length = None,
    kernel: Kernel = None,
    copies: Copies = None,
    precision: Precision = "float32",
    json: Json = False,
) -> None:
    """Tune the kernels of MODEL for compile. Ends when the budget is spent or nothing improves; Ctrl-C is safe."""
    started = time.monotonic()
    overrides, share = forced(kernel), _shard(shard)
    if report is not None:
        require_writable(report, folder=True)
    with step("importing"):
        from tvm_balanced.tuning.rpc.tracker import RpcOptions
        from tvm_balanced.tuning.tune import TuneOptions, tune_imported

        remote = None if rpc is None else RpcOptions.parse(rpc, key, workers)
        imported = import_model(model, weights, dynamic_batch, masks, batch, length)
    options = TuneOptions(
        target=target,
        work_dir=work_dir,
        minutes=minutes,
        trials=trials,
        per_kernel=per_kernel,
        resume=resume,
        seed=seed,
        strategy=strategy,
        threads=threads,
        kernels=overrides,
        shard=share,
        rpc=remote,
        copies=copies,
        precision=precision,
    )
    with _showing(json) as show:
        result = tune_imported(imported, options, show, started)
    if report is not None:
        with step(f"writing {report}"):
            from tvm_balanced.tuning.report_page import write_page

            write_page(result, report)
    if json:
        print_json(result.to_json())
        return
    print_table(f"{result.ended} after {result.trials} trials", HEADER, [cells(row) for row in result.kernels])
    out.print(f"log in {result.folder}; compile with --logs {result.folder.parent}", highlight=False, soft_wrap=True)


def cells(row: "Tuned") -> tuple[str, ...]:
    """Return one kernel of a result as text."""

    def times(ratio: float | None, sure: bool = True) -> str:
        return "-" if ratio is None else f"{ratio:.2f}x" if sure else f"{ratio:.2f}x?"

    best = "-" if row.best_us is None else f"{row.best_us:.1f}"
    return (
        row.kernel,
        str(row.calls),
        f"{row.trials} of {row.space}",
        best,
        times(row.gain, row.won or row.gain == 1.0),
        times(row.over_dense),
        f"{row.share:.0%}",
    )


def _shard(text: str) -> tuple[int, int]:
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal()):
        raise typer.BadParameter(f'"{text}" is not of the form I/N', param_hint="--shard")
    return int(index), int(count)


@contextlib.contextmanager
def _showing(quiet: bool) -> Iterator[Callable[["Tuner"], None]]:
    """Yield a function that shows a tuner's progress: a live table on a terminal, a line now and then elsewhere."""
    if err.is_terminal and not quiet:
        with Live(console=err, refresh_per_second=4, transient=True) as live:
            yield lambda tuner: live.update(_table(tuner))
        return
    last = 0.0

    def line(tuner: "Tuner") -> None:
        nonlocal last
        if time.monotonic() - last >= LINES_EVERY:
            last = time.monotonic()
            err.print(_title(tuner), highlight=False)

    yield line


def _title(tuner: "Tuner") -> str:
    left, planned = tuner.budget.left(), tuner.budget.trials
    words = [tuner.phase, f"{tuner.trials} trials" if planned is None else f"{tuner.trials} of {planned} trials"]
    words += [] if left == float("inf") else [f"{duration(max(left, 0))} left"]
    return ", ".join(words + (["stopping"] if tuner.stopped else ["Ctrl-C stops and keeps what was found"]))


def _table(tuner: "Tuner") -> Any:
    from tvm_balanced.tuning.result import rows

    table = Table(*HEADER, title=_title(tuner), title_justify="left")
    for row in rows(tuner.states):
        table.add_row(*cells(row))
    return table
