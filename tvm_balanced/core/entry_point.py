"""EntryPoint: one of the functions that a model is compiled to, as the caller asks for it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tvm_balanced.core.validation import check_donate, check_examples, require
from tvm_balanced.errors import InputError

# What TVM's virtual machine gives instead of a model's function of that name.
TAKEN = frozenset(
    "get_function_arity get_function_param_name get_output get_output_arity invoke_closure invoke_stateful save_function "
    "set_input set_input_with_param_module set_instrument vm_initialization".split()
)


@dataclass(frozen=True, eq=False)  # tensors do not compare to one truth
class EntryPoint:
    """One function of a model that is compiled to several, which share its weights: prefill and decode of a language model.

    Parameters
    ----------
    args, kwargs
        Example arguments of it: tensors of the shapes and dtypes that calls will have.
    dynamic_shapes : optional
        As torch.export.export takes it.
    method : str, optional
        The method of the module that it is; by default what calling the module runs.
    donate : mapping, optional
        Name of an input to the name of the output that takes its place: after a call the caller's own buffer holds the output.

    Raises
    ------
    InputError
        Where one is of another type.
    """

    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] | None = None
    dynamic_shapes: Any = None
    method: str | None = None
    donate: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        if hasattr(self.args, "__dlpack__"):  # one tensor, as `compile` takes it
            object.__setattr__(self, "args", (self.args,))
        check_examples(self.args, self.kwargs, self.dynamic_shapes)
        check_donate(self.donate)
        if self.method is not None:
            require("method", self.method, str, "the name of a method of the module")


def check_entry_points(value: Any) -> Mapping[str, EntryPoint]:
    """Return entry points by their names; raises InputError where `value` is none, or a name is no identifier of Python."""
    expected = 'a mapping of names to EntryPoints, for instance {"prefill": EntryPoint((tokens,))}'
    require("entry_points", value or None, Mapping, expected)
    for name, entry in value.items():
        require("a name of entry_points", name, str, expected)
        require(f'entry point "{name}"', entry, EntryPoint, "an EntryPoint, for instance EntryPoint((tokens,))")
        if not name.isidentifier() or name in TAKEN:
            raise InputError(f'"{name}" cannot name an entry point; give a name of letters, digits and underscores, as "decode"')
    entry_points: Mapping[str, EntryPoint] = value
    return entry_points
