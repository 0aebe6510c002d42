"""A retrieval task from Debian's package descriptions: find a package's description by its one-line synopsis.

The descriptions come from Debian's archive by apt; each has the licence of its package, all of them free. Packages whose names
are in held_out.txt are queries; nothing is calibrated or trained on them.
"""

import random
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path("build/study")  # of what is downloaded and of results that need not be kept
HELD_OUT = Path(__file__).parent / "held_out.txt"
QUERIES = 4000  # held out in all
SHORTEST = 120  # characters of a description that can be told from another


@dataclass(frozen=True)
class Package:
    """A Debian package's name, its one-line synopsis and the first paragraph of its description."""

    name: str
    synopsis: str
    description: str


def packages(folder: Path = FOLDER) -> list[Package]:
    """Return the packages of Debian 12 with distinct descriptions, sorted by name; downloads the list at the first call.

    Raises
    ------
    RuntimeError
        If apt-get is missing or fails.
    """
    return parse(_translations(folder))


def parse(text: str) -> list[Package]:
    """Read a Translation-en file of Debian."""
    found: dict[str, Package] = {}
    seen: set[str] = set()
    for block in text.split("\n\n"):
        name = re.search(r"^Package: (.*)$", block, re.MULTILINE)
        both = re.search(r"^Description-en: (.*?)\n((?: .*\n?)*)", block, re.MULTILINE)
        if not name or not both:
            continue
        synopsis, description = both[1].strip(), _first_paragraph(both[2])
        if len(description) < SHORTEST or "transitional" in description or {synopsis, description[:80]} & seen:
            continue
        seen |= {synopsis, description[:80]}
        found[name[1]] = Package(name[1], synopsis, description)
    return [found[name] for name in sorted(found)]


def _first_paragraph(text: str) -> str:
    lines = [line.strip() for line in text.split("\n")]
    return " ".join(lines[: lines.index(".")] if "." in lines else lines).strip()


def split(all_packages: list[Package], held_out: Path = HELD_OUT) -> tuple[list[Package], list[Package]]:
    """Return (queries, in the order of the file, and the packages to calibrate and train with, shuffled)."""
    names = held_out.read_text().split()
    by_name = {package.name: package for package in all_packages}
    held = set(names)
    rest = [package for package in all_packages if package.name not in held]
    random.Random(0).shuffle(rest)
    return [by_name[name] for name in names if name in by_name], rest


def write_held_out(all_packages: list[Package], path: Path = HELD_OUT) -> None:
    """Draw the held-out packages and write their names."""
    names = [package.name for package in all_packages]
    random.Random(0).shuffle(names)
    path.write_text("\n".join(names[:QUERIES]) + "\n")


def _translations(folder: Path) -> str:
    lists = folder / "apt" / "lists"
    found = sorted(lists.glob("*_debian_dists_bookworm_main_i18n_Translation-en"))
    if not found:
        _download(folder / "apt")
        found = sorted(lists.glob("*_debian_dists_bookworm_main_i18n_Translation-en"))
    if not found:
        raise RuntimeError(f"apt-get left no descriptions of Debian 12 in {lists}; its sources must name bookworm main")
    return found[0].read_text()


def _download(folder: Path) -> None:
    """Fetch the lists into a folder of our own; those of the system stay as they are."""
    if shutil.which("apt-get") is None:
        raise RuntimeError("apt-get is not installed; the study takes its texts from Debian's package lists")
    lists, cache = folder.resolve() / "lists", folder.resolve() / "cache"
    (lists / "partial").mkdir(parents=True, exist_ok=True)
    (cache / "archives" / "partial").mkdir(parents=True, exist_ok=True)
    options = {
        "Acquire::Languages": "en",
        "Acquire::GzipIndexes": "false",
        "Dir::State::lists": lists,
        "Dir::Cache": cache,
        "APT::Sandbox::User": "",
    }
    command = ["apt-get", "--quiet", *(f"-o{name}={value}" for name, value in options.items()), "update"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {done.stderr.strip()}")
