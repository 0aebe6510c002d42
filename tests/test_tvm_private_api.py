"""docs/tvm-private-api.md names every use of what TVM does not document, so that the next TVM is met with a list."""

import ast
import re

import pytest
from test_architecture import MODULES, ROOT

PAGE = ROOT / "docs" / "tvm-private-api.md"
# Modules that TVM's reference documents; what is imported from another one is on the page.
DOCUMENTED = {
    "tvm",
    "tvm.ir",
    "tvm.relax",
    "tvm.relax.analysis",
    "tvm.relax.dpl",
    "tvm.relax.expr_functor",
    "tvm.relax.frontend.torch",
    "tvm.relax.transform",
    "tvm.rpc",
    "tvm.runtime",
    "tvm.s_tir",
    "tvm.s_tir.dlight",
    "tvm.s_tir.meta_schedule",
    "tvm.script",
    "tvm.script.tirx",
    "tvm.sym",
    "tvm.target",
    "tvm.te",
    "tvm.tirx",
    "tvm.topi",
    "tvm.transform",
}
# Underscored attributes of what is not TVM's
OTHERS = {"self", "cls", "os", "torch"}
PYTORCHS = {
    *("_buffers", "_forward_pre_hooks", "_get_qualified_name", "_guards_code", "_parameters", "_schema", "_tensor_name"),
    *("_ConvNd", "_ConvTransposeNd", "_deregister_pytree_node", "_to_copy", "_version"),
    *("_cdist_forward", "_grouped_mm", "_transformer_encoder_layer_fwd", "_trilinear"),
}
# Of instances of our own classes that another instance or a class derived from them reads, and of Python's named tuples
OWN = {"_candidates", "_factors", "_fields", "_given", "_hessian", "_squares"}
# Functions whose first argument is the name of a global function or of a function's attribute
NAMED_FIRST = {"get_global_func", "register_global_func", "remove_global_func", "get_function", "with_attr", "without_attr"}
KNOWN = ("tvm_balanced", "global_symbol", "tirx.noalias")  # our own, and what TVM's tutorials use


def uses(source):
    """Names in a file that TVM does not document: attributes, imports, global functions, environment variables, annotations."""
    tree = ast.parse(source)
    constants = {
        node.targets[0].id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield from private_attribute(node)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from undocumented_import(node)
        elif isinstance(node, ast.Call):
            yield from name_in_call(node, constants)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from name_in_string(node.value)


def private_attribute(node):
    root = node.value
    while isinstance(root, (ast.Attribute, ast.Call, ast.Subscript)):
        root = root.func if isinstance(root, ast.Call) else root.value
    private = node.attr.startswith("_") and not node.attr.startswith("__")
    if private and node.attr not in PYTORCHS | OWN and not (isinstance(root, ast.Name) and root.id in OTHERS):
        yield node.attr


def undocumented_import(node):
    if isinstance(node, ast.Import):
        modules = [alias.name for alias in node.names]
        yield from (name for name in modules if name.split(".")[0] == "tvm" and name not in DOCUMENTED)
    elif (node.module or "").split(".")[0] == "tvm":
        yield from (
            f"{node.module}.{alias.name}"
            for alias in node.names
            if (node.module not in DOCUMENTED and f"{node.module}.{alias.name}" not in DOCUMENTED) or alias.name.startswith("_")
        )


def name_in_call(node, constants):
    """The name of a global function, or of an attribute of a function, block or loop."""
    called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    place = 0 if called in NAMED_FIRST else 1 if called in ("annotate", "unannotate") else None
    if place is not None and len(node.args) > place:
        given = node.args[place]
        name = given.value if isinstance(given, ast.Constant) else constants.get(getattr(given, "id", None))
        if isinstance(name, str) and not name.startswith(KNOWN):
            yield name
    if called in ("sblock_attr", "func_attr", "with_attrs") and isinstance(node.args[0], ast.Dict):
        yield from (key.value for key in node.args[0].keys if isinstance(key, ast.Constant) and not key.value.startswith(KNOWN))


def name_in_string(text):
    """What TVM knows by its name alone: a module, a function of the virtual machine, a library, a variable that it reads."""
    kinds = r"tvm(?:\.\w+)+", r"vm\.builtin\.\w+", r"tirx\.is_\w+", r"libtvm\w*\.so", r"TVM_(?!BALANCED)[A-Z_]+"
    if text not in DOCUMENTED and re.fullmatch("|".join(kinds), text):
        yield text


def listed():
    """From each name on the page to the files that it says use it."""
    rows = re.findall(r"^\| `([^`]+)` \| ([^|]+) \|", PAGE.read_text(), re.MULTILINE)
    return {name: set(re.findall(r"`([^`]+)`", where)) for name, where in rows}


def found():
    """From each name to the files that use it."""
    names = {}
    for path in MODULES.values():
        for name in uses(path.read_text()):
            names.setdefault(name, set()).add(str(path.relative_to(ROOT)))
    return names


def test_the_page_lists_what_the_sources_use():
    assert listed() == found()


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("tensor._create_view(shape)", "_create_view"),
        ("make().part._hidden", "_hidden"),
        ("from tvm.relax.pipeline import PIPELINE_MAP", "tvm.relax.pipeline.PIPELINE_MAP"),
        ("from tvm.ir import _private", "tvm.ir._private"),
        ("import tvm.relax.script.parser as parser", "tvm.relax.script.parser"),
        ('tvm.get_global_func("ir.RegisterOp")', "ir.RegisterOp"),
        ('NAME = "tvm_callback_x"\ntvm_ffi.register_global_func(NAME, f, override=True)', "tvm_callback_x"),
        ('session.get_function("runtime.config_threadpool")', "runtime.config_threadpool"),
        ('importlib.import_module("tvm.s_tir.tensor_intrin")', "tvm.s_tir.tensor_intrin"),
        ('symbol == "vm.builtin.alloc_storage"', "vm.builtin.alloc_storage"),
        ('os.environ["TVM_CUDA_COMPILE_MODE"] = "nvcc"', "TVM_CUDA_COMPILE_MODE"),
        ('sch.annotate(block, "explicit_read_region", [0])', "explicit_read_region"),
    ],
)
def test_a_use_is_found(line, name):
    assert set(uses(line)) == {name}


def test_what_is_documented_or_not_of_tvm_is_no_use():
    lines = (
        "from tvm import relax",
        "from tvm.ir import Op",
        "self._own()",
        "torch.cuda._sleep(1)",
        "get_function('tvm_balanced.x')",
    )
    assert list(uses("\n".join(lines))) == []
