"""`tvm-balanced profile-machine`: measure this machine, so that verdicts rest on measurements."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from tvm_balanced.cli.console import out, print_json, print_table, step
from tvm_balanced.cli.model import Json
from tvm_balanced.core.files import require_writable


def profile_machine(
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write; by default where compile looks.")] = None,
    json: Json = False,
) -> None:
    """Time every kernel on this machine for a minute; verdicts are then measured instead of modelled."""
    if output is not None:
        require_writable(output, folder=True)
    with step("measuring") as show:
        from tvm_balanced.runtime.host import host_target
        from tvm_balanced.selection import machine_profile
        from tvm_balanced.timing.profile_machine import measure

        target = host_target()
        times = measure(target, lambda at: show(f"measuring {at}"))
        path = output or machine_profile.user_file(target)
        machine_profile.save(times, path)
        found = machine_profile.MachineProfile.of(target, times)
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
