"""Base classes of kernels and rules, and the data that describes them."""
