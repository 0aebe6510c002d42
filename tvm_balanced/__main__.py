"""`python -m tvm_balanced` is `tvm-balanced`."""

from tvm_balanced.cli import main

main()
