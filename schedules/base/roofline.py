"""The cost model's view of a machine: a roofline of arithmetic and memory."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Roofline:
    """Peak rates of the machine that a target describes.

    Parameters
    ----------
    cores : int
        Cores that a call may use.
    gmacs : float
        fp32 multiply-adds of one core, 10^9 a second, with fused multiply-add on full registers.
    gbytes : float
        Read bandwidth of one core from memory, 10^9 bytes a second.
    gbytes_all : float
        Read bandwidth of all cores together.
    lanes : int
        fp32 elements of a vector register.
    tensor_gmacs : float
        Multiply-adds of a GPU's tensor cores in half precision, 10^9 a second.
    launch : float
        Seconds to start a kernel.
    multiprocessors : int
        Multiprocessors of a GPU.
    dot_products : bool
        Whether a CPU multiplies and adds four bytes in one instruction.
    """

    cores: int
    gmacs: float
    gbytes: float
    gbytes_all: float
    lanes: int
    tensor_gmacs: float = 0.0
    launch: float = 0.0
    multiprocessors: int = 1
    dot_products: bool = False

    def seconds(self, macs: float, efficiency: float, nbytes: float) -> float:
        """Return the seconds of `macs` multiply-adds, at a share of the peak, that overlap with reading `nbytes`."""
        compute = macs / (self.gmacs * 1e9 * efficiency * self.cores)
        memory = nbytes / (min(self.gbytes * self.cores, self.gbytes_all) * 1e9)
        return self.launch + max(compute, memory)
