"""A page from a template beside the module that fills it."""

from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2

from tvm_balanced.errors import ArtifactError


def write_page(path: Path, package: str, template: str, **values: Any) -> None:
    """Write a page.

    Parameters
    ----------
    path : Path
        Its folder is made.
    package, template : str
        Where the jinja2 template lies.
    values
        What it names; text is escaped.

    Raises
    ------
    ArtifactError
        If the page cannot be written.
    """
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    text = environment.from_string((files(package) / template).read_text(encoding="utf-8")).render(**values)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ArtifactError(f"{path} cannot be written ({error.strerror or error}); choose another place") from None
