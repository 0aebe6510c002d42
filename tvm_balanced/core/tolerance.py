"""How much a compiled module's outputs may differ from the original model's."""

# Largest difference to the original model, relative to the largest output (or 1 if that is less), by output dtype.
TOLERANCE = {"float64": 1e-4, "float32": 1e-4, "float16": 2e-2, "bfloat16": 1e-1}
