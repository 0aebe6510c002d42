"""How weights lie in memory: NumPy that packs them."""
