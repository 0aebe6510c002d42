"""`tvm-balanced self-test`: check an artifact where it lands."""

from pathlib import Path
from typing import Annotated

import typer

from tvm_balanced.cli.console import print_json, print_table, step
from tvm_balanced.cli.model import Artifact, Json, Threads


def self_test(
    artifact: Artifact,
    verify_key: Annotated[
        Path | None, typer.Option("--verify-key", help="A PEM file with the ed25519 public key of who signed it.")
    ] = None,
    threads: Threads = None,
    json: Json = False,
) -> None:
    """Check an artifact's files, this machine, and the model's numbers; time a call. Needs no PyTorch.

    Exits with 1 if something is wrong. A slower call than where it was compiled is said, and not wrong.
    """
    with step("testing"):
        from tvm_balanced.runtime.self_test import self_test as run

        result = run(artifact, threads, verify_key)
    if json:
        print_json(result.to_json())
    else:
        said = {True: "ok", False: "WRONG", None: ""}
        rows = [(one.check, said[one.ok], one.text) for one in result.findings]
        print_table(f"{artifact}: {'nothing is wrong' if result.ok else 'WRONG'}", ("check", "", "found"), rows)
    if not result.ok:
        raise typer.Exit(1)
