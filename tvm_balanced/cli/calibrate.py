"""`tvm-balanced calibrate`: measure this machine, for verdicts that rest on it."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from tvm_balanced.cli.console import out, print_json, print_table, step
from tvm_balanced.cli.model import Json


def calibrate(
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write; by default where compile looks.")] = None,
    json: Json = False,
) -> None:
    """Time every kernel on this machine for a minute; from then on verdicts are measured, not modelled."""
    with step("measuring"):
        from tvm_balanced import calibration
        from tvm_balanced.calibrate import measure
        from tvm_balanced.targets import host_target

        target = host_target()
        found = measure(target)
        path = output or calibration.user_file(target)
        calibration.save(found, path)
    if json:
        print_json({"path": str(path), **asdict(found)})
        return
    rows = [
        (name, *(f"{factor:.2f} from M = {m}" for m, factor in points), f"{found.memory[name]:.2f}")
        for name, points in found.arithmetic.items()
    ]
    columns = max(len(points) for points in found.arithmetic.values())
    print_table("measured time over modelled time", ("kernel", *["arithmetic"] * columns, "memory"), rows)
    out.print(f"written to {path}", highlight=False, soft_wrap=True)
