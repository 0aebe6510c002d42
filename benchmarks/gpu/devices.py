"""The devices that the run-book knows, by name."""

from benchmarks.gpu.device import Cpu, Cuda, Device
from benchmarks.gpu.stand_in import StandIn


def open_device(name: str) -> Device:
    """Return the machine called "cuda", "cpu" or "stand-in".

    Raises
    ------
    EnvironmentFaultError
        If this machine has no such device.
    """
    if name == "stand-in":
        return StandIn()
    return Cpu() if name == "cpu" else Cuda()
