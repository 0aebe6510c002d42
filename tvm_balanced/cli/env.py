"""`tvm-balanced env`: the facts for a bug report, and faults of the installation."""

import typer

from tvm_balanced.cli.console import out, print_json, print_table, step
from tvm_balanced.cli.model import Json


def env(json: Json = False) -> None:
    """Show versions, CPU, target and tuning-log key, and what is wrong. Exits with 1 if something stops work."""
    with step("looking around"):
        from tvm_balanced.runtime.environment import describe

        facts = describe()
    findings = facts.pop("findings")
    faults = [f.text for f in findings if f.fault]
    if json:
        print_json(facts | {"faults": faults, "limitations": [f.text for f in findings if not f.fault]})
    else:
        versions = [(name, version) for name, version in facts.pop("versions").items()]
        others = [(name, " ".join(value) if isinstance(value, list) else str(value)) for name, value in facts.items()]
        print_table("environment", ("what", "value"), [*versions, *others], width=100)
        for finding in findings:
            out.print(f"{'WRONG' if finding.fault else 'note'}: {finding.text}", highlight=False, soft_wrap=True)
        if not faults:
            out.print("nothing is wrong")
    if faults:
        raise typer.Exit(1)
