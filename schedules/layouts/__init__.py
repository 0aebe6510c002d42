"""Weight layouts in memory: NumPy code that packs them."""
