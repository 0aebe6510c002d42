"""The pages that people read: their links lead somewhere, and the README stays short."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
WRITTEN = {"build", "demo"}  # by commands; the virtual environment begins with a dot
TOPS = [path for path in ROOT.iterdir() if path.is_dir() and path.name not in WRITTEN and not path.name.startswith(".")]
# a page that is there under two names, by a symbolic link, is checked once
PAGES = sorted({page.resolve() for page in (*ROOT.glob("*.md"), *(page for top in TOPS for page in top.rglob("*.md")))})
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
MOST_README_LINES = 110


def links(text):
    """Targets of the links and images of a page, apart from those in its code."""
    return LINK.findall(re.sub(r"^(```.*?^```|    .*?$)|`[^`\n]*`", "", text, flags=re.DOTALL | re.MULTILINE))


def anchors(text):
    """What GitHub calls the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def broken(page, text):
    """Relative links of a page that lead nowhere."""
    for link in links(text):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (anchor and anchor not in anchors(target.read_text())):
            yield link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    assert list(broken(page, page.read_text())) == []


def test_links_that_lead_nowhere_are_found(tmp_path):
    (tmp_path / "there.md").write_text("# A heading, here\n")
    text = "[a](there.md) ![b](not.svg) [c](there.md#a-heading-here) [d](there.md#none) [e](https://x.org) `[f](code.md)`\n"
    assert list(broken(tmp_path / "page.md", text)) == ["not.svg", "there.md#none"]


def test_every_page_is_checked():
    assert {"README.md", "docs/design.md", "benchmarks/README.md"} <= {str(page.relative_to(ROOT)) for page in PAGES}


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= MOST_README_LINES
