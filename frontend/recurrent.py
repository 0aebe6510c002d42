"""Recurrent layers, LSTM, GRU and RNN: whole operators of any length, from torch.export to Relax."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch._C import DispatchKey
from torch._decomp import decomposition_table
from tvm import relax

import tvm_balanced.transform  # noqa: F401 - registers the operators
from tvm_balanced.ops import recurrence, recurrent_state

aten = torch.ops.aten
RECURRENT = (aten.lstm.input, aten.gru.input, aten.rnn_tanh.input, aten.rnn_relu.input)


@contextmanager
def any_length() -> Iterator[None]:
    """Within it, torch traces recurrent layers as one node for any number of steps.

    To learn the shapes of what such a node returns, torch runs its own decomposition on fake tensors: a Python loop over the
    steps, which fixes their number to the example's. Here it is told the shapes. Eager calls of other threads are not concerned.
    """
    kernels = {op: dict(op.py_kernels) for op in RECURRENT}
    decompositions: dict[Any, Any] = {op: decomposition_table[op] for op in RECURRENT}
    try:
        for op in RECURRENT:
            _set_kernels(op, {**kernels[op], DispatchKey.CompositeImplicitAutograd: _shapes})
        decomposition_table.update(dict.fromkeys(decompositions, _shapes))
        yield
    finally:
        for op in RECURRENT:
            _set_kernels(op, kernels[op])
        decomposition_table.update(decompositions)


def _set_kernels(op: Any, kernels: dict[Any, Any]) -> None:
    op.py_kernels.clear()
    op.py_kernels.update(kernels)
    op._dispatch_cache.clear()


def _shapes(
    x: torch.Tensor,
    states: torch.Tensor | Sequence[torch.Tensor],
    params: Sequence[torch.Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[torch.Tensor, ...]:
    """Tensors of the shapes that a recurrent layer returns."""
    states = [states] if isinstance(states, torch.Tensor) else states
    y = x.new_empty((*x.shape[:2], states[0].shape[2] * (2 if bidirectional else 1)))
    return (y, *(state.new_empty(state.shape) for state in states))


def layers(cell: str, node: Any, importer: Any) -> relax.Expr:
    """Convert a stack of recurrent layers: for each and each direction, a dense layer over all steps, and the steps.

    Returns
    -------
    relax.Expr
        A tuple as torch has it: y, and the last state of all layers.
    """
    x, states, params, has_biases, count, dropout, train, bidirectional, batch_first = node.args
    if dropout and train:
        raise NotImplementedError("it drops out at random; export the model in eval mode")
    env, emit = importer.env, importer.block_builder.emit
    x, initial = env[x], [env[state] for state in (states if cell == "lstm" else [states])]
    directions = 2 if bidirectional else 1
    each = len(params) // (count * directions)
    weights = [env[param] for param in params]
    last: list[list[relax.Expr]] = []
    for layer in range(count):
        outputs = []
        for direction in range(directions):
            place = layer * directions + direction
            own = [emit(relax.op.squeeze(emit(relax.op.strided_slice(s, [0], [place], [place + 1])), [0])) for s in initial]
            y, *after = _direction(
                emit, x, own, weights[place * each : (place + 1) * each], has_biases,
                cell=cell, reverse=direction == 1, batch_first=batch_first,
            )  # fmt: skip
            outputs.append(y)
            last.append(after)
        x = emit(relax.op.concat(outputs, axis=2)) if bidirectional else outputs[0]
    return (x, *(emit(relax.op.stack(list(state), axis=0)) for state in zip(*last, strict=True)))


def _direction(
    emit: Any, x: relax.Expr, initial: Sequence[relax.Expr], params: Sequence[relax.Expr], has_biases: bool, **attrs: Any
) -> list[relax.Expr]:
    """Return y and the last states of a layer in one direction, whose weights are `params` in torch's order."""
    of_input, of_state, *others = params
    biases = others[:2] if has_biases else [None, None]
    gates = emit(relax.op.linear(x, of_input, biases[0]))
    products = [emit(relax.op.linear(emit(recurrent_state(initial[0], gates)), of_state, biases[1]))]
    products += [
        emit(relax.op.linear(emit(recurrent_state(initial[1], gates)), projection)) for projection in others[2 * has_biases :]
    ]
    result = emit(recurrence(gates, *initial, *products, **attrs))
    return [emit(relax.TupleGetItem(result, place)) for place in range(1 + len(initial))]
