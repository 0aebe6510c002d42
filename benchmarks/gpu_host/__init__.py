"""What goes to a GPU host that reaches no package registry."""
