"""What mkdocs does before it builds the site of docs/: the README is its first page, the command line gets a page, and files of
the repository that pages link to come along, so that every link leads somewhere inside the site.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"(\]\()([^)\s#]+)(#[^)\s]*)?(?=\))")
LISTING = "index.md"
CODE = re.compile(r"(^```.*?^```|^    .*?$|`[^`\n]*`)", flags=re.DOTALL | re.MULTILINE)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the README, the page of the command line, and what pages link to, and pages that those link to."""
    files.append(File.generated(config, "index.md", abs_src_path=str(ROOT / "README.md")))
    files.append(File.generated(config, "cli.md", content=_command_line()))
    todo = [file.src_uri for file in files.documentation_pages()]
    todo += [uri for uri in _of_nav(config["nav"]) if uri.startswith("repo/")]
    seen: set[str] = set()
    while todo:
        uri = todo.pop()
        if uri in seen:
            continue
        seen.add(uri)
        if files.get_file_from_path(uri) is None:
            source = _source(uri)
            held = {"content": _listing(source.parent)} if _is_listing(uri) else {"abs_src_path": str(source)}
            files.append(File.generated(config, uri, **held))
        if uri.endswith(".md") and uri != "cli.md":
            todo += [target for link in LINK.finditer(_text(uri)) if (target := _target(uri, link[2]))]
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let the links of a page lead to where the site has their targets."""

    def moved(link: re.Match[str]) -> str:
        target = _target(page.file.src_uri, link[2])
        if target is None:
            return link[0]
        return link[1] + posixpath.relpath(target, posixpath.dirname(page.file.src_uri) or ".") + (link[3] or "")

    parts = CODE.split(markdown)
    return "".join(part if at % 2 else LINK.sub(moved, part) for at, part in enumerate(parts))


def _of_nav(entry: Any) -> list[str]:
    if isinstance(entry, str):
        return [entry]
    return [uri for below in (entry.values() if isinstance(entry, dict) else entry) for uri in _of_nav(below)]


def _source(uri: str) -> Path:
    """Return the file of the repository that a page or file of the site is."""
    if uri == "index.md":
        return ROOT / "README.md"
    return ROOT / uri.removeprefix("repo/") if uri.startswith("repo/") else ROOT / "docs" / uri


def _target(uri: str, link: str) -> str | None:
    """Return what of the site a link leads to; None if it leads elsewhere, or nowhere, which mkdocs then reports."""
    if re.match(r"[a-z]+:", link):
        return None
    path = (_source(uri).parent / link).resolve()
    if path.is_dir():
        path = path / ("README.md" if (path / "README.md").is_file() else LISTING)
    elif not path.is_file():
        return None
    if path == ROOT / "README.md":
        return "index.md"
    inside = path.relative_to(ROOT)
    return inside.relative_to("docs").as_posix() if inside.parts[0] == "docs" else f"repo/{inside.as_posix()}"


def _is_listing(uri: str) -> bool:
    return uri.startswith("repo/") and uri.endswith(f"/{LISTING}")


def _listing(folder: Path) -> str:
    """Return the page of a folder that has no README."""
    names = sorted(path.name for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    return "\n".join([f"# {folder.relative_to(ROOT)}", "", *(f"- [{name}]({name})" for name in names)])


def _text(uri: str) -> str:
    return _listing(_source(uri).parent) if _is_listing(uri) else _source(uri).read_text()


def _command_line() -> str:
    import typer
    from typer.cli import get_docs_for_click

    from tvm_balanced.cli.app import app

    command = typer.main.get_command(app)
    return get_docs_for_click(obj=command, ctx=typer.Context(command), name="tvm-balanced")
