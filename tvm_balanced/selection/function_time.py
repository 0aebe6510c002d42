"""The modelled time of what no kernel of ours computes, in the units of the kernels' own cost models."""

from dataclasses import replace

from tvm_balanced.core.accounting import FunctionUse
from tvm_balanced.schedules.base.roofline import Roofline

RULES = 0.5
# A naive loop adds to one number, and waits 4 cycles for each addition; a vector unit begins two a cycle.
NAIVE = 1 / 8


def seconds(function: FunctionUse, roofline: Roofline) -> float:
    """Return the seconds of all calls of a function of TVM's own operators.

    Parameters
    ----------
    function : FunctionUse
    roofline : Roofline
        Of the machine, for the threads that a call may use.

    Returns
    -------
    float
        What a rule has scheduled runs at a share of the peak on all cores, as a kernel does. What none has runs on one core,
        one element after another.
    """
    if function.scheduled:
        return function.calls * roofline.launch + replace(roofline, launch=0.0).seconds(function.macs, RULES, function.nbytes)
    return replace(roofline, cores=1, launch=0.0).seconds(function.macs, NAIVE / roofline.lanes, function.nbytes)
