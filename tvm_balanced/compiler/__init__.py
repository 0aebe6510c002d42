"""From an imported model to a compiled module."""
