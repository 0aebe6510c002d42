"""`tvm-balanced bench`: median paired ratios against the baselines, in one process."""

from typing import Annotated

import typer

from tvm_balanced.cli.console import print_json, print_table, step
from tvm_balanced.cli.model import Factory, Json, Weights, load_module, one_entry, require_factory
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.errors import PatternError

app = typer.Typer(help="Time a kernel or a whole model against baselines.", no_args_is_help=True)
HEADER = ("what", "median us", "balanced is faster by", "20% to 80%")
OneThread = Annotated[int, typer.Option(min=1, help="Threads of every baseline and of ours.")]
Rounds = Annotated[int, typer.Option(min=5, help="Timed rounds.")]


@app.command("kernel")
def kernel(
    n: Annotated[int, typer.Option(min=1, help="Rows of the weight.")],
    k: Annotated[int, typer.Option(min=1, help="Columns of the weight.")],
    m: Annotated[int, typer.Option(min=1, help="Rows of x.")],
    pattern: Annotated[str, typer.Option(help="NNZ:BLOCK.")] = "2:16",
    dtype: Annotated[str, typer.Option(help="float32 or bfloat16.")] = "float32",
    threads: OneThread = 1,
    regime: Annotated[
        str,
        typer.Option(help="hot: one copy of the weights; cold: every side rotates through copies of 4x the last-level cache."),
    ] = "hot",
    kernel: Annotated[str | None, typer.Option(help="The kernel to time; by default the one that compile would choose.")] = None,
    rounds: Rounds = 31,
    json: Json = False,
) -> None:
    """Time one dense layer against oneDNN, PyTorch, CSR and the hand-written kernel."""
    parsed = BalancedPattern.parse(pattern)
    if regime not in ("hot", "cold"):
        raise typer.BadParameter(f'"{regime}" is neither hot nor cold', param_hint="--regime")
    if dtype not in ("float32", "bfloat16"):
        raise typer.BadParameter(f'"{dtype}" has no kernel; use float32 or bfloat16', param_hint="--dtype")
    if parsed.block > max(k, 16):
        raise PatternError(f"pattern {parsed} has blocks longer than K = {k}; choose a shorter block")
    with step("timing"):
        from tvm_balanced.bench.kernel import KernelBenchmark
        from tvm_balanced.bench.result import to_json

        results = KernelBenchmark(n, k, m, parsed, threads, regime, kernel, rounds, dtype).run()
    if json:
        settings = {
            "n": n,
            "k": k,
            "m": m,
            "pattern": str(parsed),
            "dtype": dtype,
            "threads": threads,
            "regime": regime,
        }
        print_json(settings | {"results": to_json(results)})
    else:
        print_table(
            f"{n}x{k}, M = {m}, {parsed}, {dtype}, {threads} threads, {regime}",
            HEADER,
            [row.cells() for row in results],
        )


@app.command("model")
def model(
    model: Factory,
    prune: Annotated[str | None, typer.Option(help="Prune to this pattern (NNZ:BLOCK) first.")] = None,
    include: Annotated[list[str] | None, typer.Option(help="Layers to prune, by name.")] = None,
    weights: Weights = None,
    threads: OneThread = 1,
    torch_compile: Annotated[
        bool, typer.Option(help="Also time torch.compile with freezing; compiling it takes a minute.")
    ] = True,
    rounds: Rounds = 31,
    json: Json = False,
) -> None:
    """Time a whole model against PyTorch eager, torch.compile and oneDNN-packed linears."""
    require_factory(model, "its rivals need the module itself")
    parsed = BalancedPattern.parse(prune) if prune else None
    with step("loading"):
        from tvm_balanced.bench.model import ModelBenchmark
        from tvm_balanced.bench.result import to_json
        from tvm_balanced.compiler.compile import CompileOptions, compile_imported
        from tvm_balanced.frontend.module import import_module
        from tvm_balanced.frontend.pruning.prune import prune as prune_module

        module, args = load_module(model, weights)
        args, kwargs = one_entry(model, args, "bench model")
        if kwargs:
            raise typer.BadParameter(f"{model} gives keyword inputs, and its rivals are called by place", param_hint="FACTORY")
        if parsed:
            prune_module(module, parsed, tuple(include or ("*",)))
    with step("compiling"):
        compiled = compile_imported(import_module(module, args), CompileOptions(threads=threads))
    with step("timing"):
        results = ModelBenchmark(module, args, threads, torch_compile, rounds).run(compiled)
    if json:
        print_json(
            {
                "model": model,
                "pattern": str(parsed or ""),
                "threads": threads,
                "max_error": compiled.facts.max_error,
                "results": to_json(results),
            }
        )
    else:
        print_table(f"{model}, {parsed or 'as it is'}, {threads} threads", HEADER, [row.cells() for row in results])
