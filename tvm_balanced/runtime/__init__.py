"""Load and run compiled modules. Imports nothing of the compiler."""
