"""Loading and running compiled modules. Imports nothing of the compiler."""
