"""Pieces of TensorIR that kernels and rules share."""
