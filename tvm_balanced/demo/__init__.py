"""The demonstration: a sentence encoder, pruned, compiled, checked and timed."""
