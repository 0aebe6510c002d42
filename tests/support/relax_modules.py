"""Small Relax modules for the tests of passes."""

from tvm import relax


def module(build, *shapes):
    """Return a module whose main applies `build(builder, *inputs)` to float32 inputs of these shapes."""
    builder = relax.BlockBuilder()
    inputs = [relax.Var(f"x{i}", relax.TensorType(shape, "float32")) for i, shape in enumerate(shapes)]
    with builder.function("main", inputs):
        with builder.dataflow():
            result = builder.emit_output(build(builder, *inputs))
        builder.emit_func_output(result)
    return builder.get()
