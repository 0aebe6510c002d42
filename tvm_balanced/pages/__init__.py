"""Pages that people look at: HTML from templates, with figures inside. Needs jinja2 and matplotlib, the extra report."""

from importlib.util import find_spec

from tvm_balanced.errors import EnvironmentFaultError

for package in ("jinja2", "matplotlib"):
    if find_spec(package) is None:
        raise EnvironmentFaultError(f"pages need the package {package}, which is missing; pip install 'tvm-balanced[report]'")
