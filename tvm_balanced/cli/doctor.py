"""`tvm-balanced doctor`: what works on this machine, and how to get what does not."""

from dataclasses import asdict

from tvm_balanced.cli.console import print_json, print_lines, print_table, step
from tvm_balanced.cli.model import Json


def doctor(json: Json = False) -> None:
    """Show for each feature whether what it needs is here, what is missing, and how to get it."""
    with step("looking around"):
        from tvm_balanced.runtime.features import features

        found = features()
    if json:
        print_json([{"ready": not feature.missing, **asdict(feature)} for feature in found])
        return
    rows = [
        (feature.name, "no " + ", ".join(feature.missing), feature.remedy) if feature.missing else (feature.name, "ready", "")
        for feature in found
    ]
    print_table("what works here", ("feature", "state", "how to get it"), rows, width=110)
    print_lines(["tvm-balanced env says whether the versions that are installed work"])
