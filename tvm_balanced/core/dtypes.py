"""Dtypes by name: those of models, as NumPy has them."""

import ml_dtypes
import numpy as np

HALF_PRECISION = ("float16", "bfloat16")


def numpy_dtype(name: str) -> np.dtype[np.generic]:
    """Return NumPy's form of a dtype's name, bfloat16 included."""
    return np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)
