"""Evaluate vector expressions on many numbers, with reference values."""

import math

import numpy as np
import tvm
from tvm.script import tirx as T

from tvm_balanced.runtime.host import host_target

POINTS = np.concatenate([np.linspace(-20, 20, 200_001), np.linspace(-0.01, 0.01, 2001)]).astype(np.float32)
POINTS = POINTS[: len(POINTS) // 16 * 16]


def evaluate(function, x, lanes=16):
    """Run an expression on float32 values, `lanes` at a time."""
    n = len(x)

    @T.prim_func(s_tir=True)
    def main(a: T.Buffer((n,), "float32"), b: T.Buffer((n,), "float32")):
        for i in range(n // lanes):
            if lanes == 1:
                b[i] = function(a[i])
            else:
                b[T.ramp(i * lanes, 1, lanes)] = function(a[T.ramp(i * lanes, 1, lanes)])

    library = tvm.compile(main, host_target())
    y = tvm.runtime.tensor(np.zeros(n, np.float32))
    library["main"](tvm.runtime.tensor(x), y)
    return y.numpy()


erf = np.vectorize(math.erf, otypes=[np.float64])
