"""Pruning PyTorch modules."""
