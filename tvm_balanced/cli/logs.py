"""`tvm-balanced logs`: list, show, check, race, compare, merge, compact, export and import tuning logs."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from tvm_balanced.cli.console import out, print_json, print_table, step
from tvm_balanced.cli.model import Json

app = typer.Typer(help="List, show, check, race, compare, merge, compact, export and import tuning logs.", no_args_is_help=True)
Folder = Annotated[Path | None, typer.Argument(metavar="FOLDER", help="Folder of the logs; by default this user's.")]


def _folder(folder: Path | None) -> Path:
    from tvm_balanced.runtime.host import user_folder

    return folder or user_folder()


@app.command("list")
def list_(folder: Folder = None, json: Json = False) -> None:
    """Show which target keys have a log, where it was made, and how much it holds."""
    with step("reading"):
        from tvm_balanced.tuning.log.tools import listed

        rows = [asdict(row) for row in listed(_folder(folder))]
    if json:
        print_json(rows)
        return
    header = ("key", "device", "date", "runs", "trials", "failed", "winners", "won")
    print_table(f"logs in {_folder(folder)}", header, [tuple(str(row[name]) for name in header) for row in rows])


@app.command("show")
def show(folder: Folder = None, json: Json = False) -> None:
    """Show the winner of every kernel: its decisions, and how much faster they are than the default's."""
    with step("reading"):
        from tvm_balanced.tuning.log.log import logs_in
        from tvm_balanced.tuning.log.tools import title, winners_of

        winners = [
            (log.key, title(outcome), winner)
            for log in logs_in(_folder(folder))
            for outcome, winner in winners_of(log.read().records).items()
        ]
    if json:
        print_json([{"key": key, "title": name, **asdict(winner)} for key, name, winner in winners])
        return
    rows = [
        (
            key,
            name,
            str([list(d) for d in winner.decisions]) if winner.won else "default",
            f"{winner.gain.p50:.2f}x ({winner.gain.p20:.2f} to {winner.gain.p80:.2f})",
            winner.at[:10],
        )
        for key, name, winner in winners
    ]
    print_table("winners", ("key", "kernel", "decisions", "best over default", "date"), rows)


@app.command("merge")
def merge(
    destination: Annotated[Path, typer.Argument(metavar="DESTINATION", help="Folder that receives the records.")],
    sources: Annotated[list[Path], typer.Argument(metavar="SOURCE", help="Folders to read.")],
    json: Json = False,
) -> None:
    """Add the records of other folders, for instance of shards, without duplicates."""
    with step("merging"):
        from tvm_balanced.tuning.log.tools import merge as run

        added = run(sources, destination)
    if json:
        print_json(added)
        return
    for key, count in added.items():
        out.print(f"{key}: {count} records came in", highlight=False, soft_wrap=True)


@app.command("compact")
@app.command("prune", hidden=True)  # its name up to version 0.1
def compact(
    folder: Folder = None,
    trials: Annotated[bool, typer.Option("--keep-trials", help="Drop only winners that later ones replaced.")] = False,
    json: Json = False,
) -> None:
    """Keep only the winners, as in a shipped log; damaged lines are removed as well."""
    with step("compacting"):
        from tvm_balanced.tuning.log.tools import compact as run

        gone = run(_folder(folder), trials)
    if json:
        print_json({"dropped": gone})
    else:
        out.print(f"{gone} records dropped", highlight=False)


@app.command("verify")
def verify(folder: Folder = None, json: Json = False) -> None:
    """Check every line of every log, and that winners still fit their kernels. Exits with 1 if something is wrong."""
    with step("checking"):
        from tvm_balanced.tuning.log.tools import verify as run

        faults = run(_folder(folder))
    if json:
        print_json({"faults": faults})
    else:
        for fault in faults or ["nothing is wrong"]:
            out.print(fault, highlight=False, soft_wrap=True)
    if faults:
        raise typer.Exit(1)


@app.command("race")
def race(folder: Folder = None, json: Json = False) -> None:
    """Race the winners of this machine's log with the defaults again, three times; those that lose here are not used any more."""
    with step("racing"):
        from tvm_balanced.tuning.log.tools import title
        from tvm_balanced.tuning.race import host_log, race_winners

        winners = list(race_winners(host_log(_folder(folder))))
    if json:
        print_json([asdict(winner) for winner in winners])
        return
    rows = [
        (
            title((winner.workload, winner.threads)),
            f"{winner.gain.p50:.2f}x ({winner.gain.p20:.2f} to {winner.gain.p80:.2f})",
            "stays" if winner.won else "dropped",
        )
        for winner in winners
    ]
    print_table("winners that were raced again", ("kernel", "over the default", "winner"), rows)


@app.command("export")
def export(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of the logs.")],
    database: Annotated[Path, typer.Argument(metavar="DATABASE", help="New folder, for a database of MetaSchedule.")],
    key: Annotated[str | None, typer.Option(help="Which log, if there are several.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Of how many threads, if there are several.")] = None,
    trials: Annotated[bool, typer.Option("--trials", help="Every measurement, not just what compile would use.")] = False,
    json: Json = False,
) -> None:
    """Write a log as a JSON database of MetaSchedule, for TVM's own tools."""
    with step("exporting"):
        from tvm_balanced.tuning.log.exchange import export_database

        count = export_database(folder, database, key, threads, trials)
    if json:
        print_json({"records": count})
    else:
        out.print(f"{count} records in {database}", highlight=False, soft_wrap=True)


@app.command("import")
def import_(
    database: Annotated[Path, typer.Argument(metavar="DATABASE", help="The work_dir of MetaSchedule.")],
    folder: Folder = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of a timed call; by default the target's cores.")] = None,
    json: Json = False,
) -> None:
    """Add what MetaSchedule measured of our kernels to the logs; the next tune races the fastest with the default."""
    with step("importing"):
        from tvm_balanced.tuning.log.exchange import import_database

        imported = import_database(database, _folder(folder), threads)
    if json:
        print_json(asdict(imported))
        return
    out.print(
        f"{imported.added} measurements came in, {imported.known} were known, {imported.foreign} are of no space of ours",
        highlight=False,
        soft_wrap=True,
    )


@app.command("diff")
def diff(
    left: Annotated[Path, typer.Argument(metavar="LEFT", help="Folder of logs.")],
    right: Annotated[Path, typer.Argument(metavar="RIGHT", help="Folder of logs to compare it with.")],
    json: Json = False,
) -> None:
    """Show the kernels whose winners differ between two folders of logs."""
    with step("comparing"):
        from tvm_balanced.tuning.log.tools import diff as run

        rows = run(left, right)
    if json:
        print_json(rows)
        return
    if not rows:
        out.print("no winners differ")
        return
    header = ("key", "kernel", "left", "right")
    print_table(f"left is {left}, right is {right}", header, [tuple(row[name] for name in header) for row in rows])
