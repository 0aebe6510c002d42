"""Imported first by a process that needs no torch."""

from tvm_balanced.core.without_torch import without_torch

without_torch()
