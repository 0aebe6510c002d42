"""Which kernel computes a layer: cost models, the machine's profile, break-even points."""
