"""Passes that mend what TVM 0.27 does wrong.

Each file says the fault, a minimal case, and its issue with TVM. The test of that name in tests/transform/workarounds shows the
fault in plain TVM: it fails once TVM is mended, and then the pass may go.
"""
