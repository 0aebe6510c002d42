"""Which weights of a model its folded ones are made of, and which weights nothing reads, for the report."""

from collections.abc import Collection, Mapping, Sequence

import torch
from torch.export import ExportedProgram

from tvm_balanced.core.accounting import Folded, Unread, WeightOrigins
from tvm_balanced.frontend.constant_folding import ASSERTION


def weights_read(program: ExportedProgram) -> set[str]:
    """Return the names of the weights that some operator of a program reads."""
    placeholders = program.graph.find_nodes(op="placeholder")
    inputs = {node.name for node in placeholders if any(str(user.target) != ASSERTION for user in node.users)}
    return {str(spec.target) for spec in program.graph_signature.input_specs if getattr(spec.arg, "name", "") in inputs}


def weight_origins(
    program: ExportedProgram, folded: Mapping[str, Sequence[str]], names: Mapping[int, str], before: Collection[str]
) -> WeightOrigins:
    """Return where the weights of a program come from.

    Parameters
    ----------
    program : torch.export.ExportedProgram
        In core ATen operators, with its weights folded and aligned.
    folded : mapping
        Name of each folded weight to the names of the weights that it is made of, the one that it mostly is first.
    names : mapping
        Address of a weight to its name in the model, as the report has it.
    before : collection of str
        What was read before weights were folded: a mask of a folded weight is in it.
    """
    tensors = {name: t for name, t in {**program.state_dict, **program.constants}.items() if _counts(t, names)}
    made = {name: [tensors[source] for source in sources if source in tensors] for name, sources in folded.items()}
    made = {name: sources for name, sources in made.items() if sources and name in tensors}
    return WeightOrigins(
        {tensors[name].data_ptr(): _folded(tensors[name], sources) for name, sources in made.items()},
        _unread(program, tensors, made, names, before),
    )


def _counts(tensor: object, names: Mapping[int, str]) -> bool:
    return isinstance(tensor, torch.Tensor) and tensor.is_floating_point() and tensor.data_ptr() in names


def _folded(value: torch.Tensor, sources: Sequence[torch.Tensor]) -> Folded:
    elements = sum({source.data_ptr(): source.numel() for source in sources}.values())
    whole = value.numel() >= sources[0].numel()
    return Folded(min(value.numel(), elements), sources[0].data_ptr() if whole else value.data_ptr())


def _unread(
    program: ExportedProgram,
    tensors: Mapping[str, torch.Tensor],
    made: Mapping[str, Sequence[torch.Tensor]],
    names: Mapping[int, str],
    before: Collection[str],
) -> dict[str, Unread]:
    """Return what no output depends on: whole weights, and the rest of those of which folded ones are parts."""
    read = {tensors[name].data_ptr() for name in weights_read(program) if name in tensors}
    parts = {tensors[name].data_ptr(): (sources[0].data_ptr(), tensors[name].numel()) for name, sources in made.items()}
    kept: dict[int, int] = {source.data_ptr(): source.numel() for sources in made.values() for source in sources[1:]}
    for origin, elements in parts.values():
        kept[origin] = kept.get(origin, 0) + elements
    merged = {tensors[name].data_ptr() for name in before if name in tensors} - {origin for origin, _ in parts.values()}
    found = {}
    for tensor in {t.data_ptr(): t for t in tensors.values()}.values():
        address, size = tensor.data_ptr(), tensor.numel()
        left = 0 if address in read or address in merged else size - kept.get(address, 0)
        if left > 0:
            zeros = size - int(torch.count_nonzero(tensor))
            found[names[address]] = Unread(left, zeros * left // size)
    return found
