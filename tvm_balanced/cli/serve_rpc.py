"""`tvm-balanced serve-rpc`: let remote tuners measure on this machine."""

from json import dumps
from typing import Annotated

import typer

from tvm_balanced.cli.console import err, out, step
from tvm_balanced.cli.model import Json


def serve_rpc(
    key: Annotated[str, typer.Option(help="The name of this kind of machine; tuners request it with --key.")] = "cpu",
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the tracker; if it is taken, the next free one.")] = 9190,
    workers: Annotated[int, typer.Option(min=1, help="Servers, each for one tuner at a time.")] = 1,
    tracker: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Join this tracker instead of starting one.")] = None,
    json: Json = False,
) -> None:
    """Serve this machine to tune --rpc until Ctrl-C. RPC runs uploaded code: whoever reaches it can do anything."""
    with step("starting"):
        from tvm_balanced.tuning.rpc.serve import LOOPBACK, serve, watch

    if host not in LOOPBACK:
        err.print(
            f"{host} is not loopback: everyone who reaches it can run any code here; an ssh tunnel is safer", style="yellow"
        )
    try:
        with serve(host, key, workers, tracker, port) as fleet:
            _say(fleet.tracker, key, len(fleet.servers), json)
            for revived in watch(fleet):
                err.print(f"{revived} servers had ended and were started anew", highlight=False)
    except KeyboardInterrupt:  # from the first line on: the reader of that line may end this at once
        return


def _say(tracker: str, key: str, servers: int, json: bool) -> None:
    if json:
        typer.echo(dumps({"tracker": tracker, "key": key, "servers": servers}))  # at once: the command goes on
        return
    out.print(
        f"tune with --rpc {tracker} --key {key}; RPC runs uploaded code and asks nobody who they are",
        highlight=False,
        soft_wrap=True,
    )
