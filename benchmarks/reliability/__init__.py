"""What is done to artifacts, readers and kernels, and what came of it; see __main__.py."""
