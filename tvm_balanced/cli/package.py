"""`tvm-balanced package`: a folder that runs an artifact without Python."""

from pathlib import Path
from typing import Annotated

import typer

from tvm_balanced.cli.console import print_json, print_lines, print_table, step
from tvm_balanced.cli.model import Artifact, Json


def package(
    artifact: Artifact,
    output: Annotated[Path, typer.Option("--output", "-o", help="The bundle: a directory that does not exist yet.")],
    program: Annotated[
        Path | None, typer.Option(help="A C++ source file of yours; by default one that runs .npy files and the self-test.")
    ] = None,
    cxx: Annotated[str | None, typer.Option(help="C++ compiler, for instance aarch64-linux-gnu-g++.")] = None,
    packages: Annotated[
        Path | None,
        typer.Option(help="Folder with the packages tvm and tvm_ffi of another machine, as pip install --target writes."),
    ] = None,
    json_include: Annotated[Path | None, typer.Option(help="Folder that holds nlohmann/json.hpp.")] = None,
    openssl: Annotated[
        bool,
        typer.Option("--openssl", help="Let the program check signatures, by OpenSSL's libcrypto, which it needs there."),
    ] = False,
    json: Json = False,
) -> None:
    """Gather a program, the runtime's libraries and an artifact: what a machine without Python needs. Needs a C++ compiler."""
    with step(f"compiling and writing {output}"):
        from tvm_balanced.runtime.bundle import package as run

        bundle = run(artifact, output, program, cxx, packages, json_include, openssl)
    total = sum(bundle.sizes.values())
    if json:
        print_json({"bundle": str(bundle.path), "bytes": bundle.sizes, "total": total, "needs": bundle.needs})
        return
    rows = [(part, f"{size:,}") for part, size in (*bundle.sizes.items(), ("all", total))]
    first = next(iter(bundle.sizes))
    print_table(f"{bundle.path}: run {first} model.tb there", ("part", "bytes"), rows)
    print_lines([f"the machine must have: {', '.join(bundle.needs)}"])
