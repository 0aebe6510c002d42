"""The study of how much accuracy pruning costs."""
