"""Memory that compiled code has, as a tensor of another library: by DLPack, for the time of a call."""

import ctypes
from collections.abc import Sequence
from typing import Any

CODES = {"float32": (2, 32), "float16": (2, 16), "bfloat16": (4, 16)}  # DLPack's type codes, and bits
DEVICES = {"llvm": 1, "cuda": 2}  # DLPack's devices, by the kind of a target


class _Device(ctypes.Structure):
    _fields_ = (("type", ctypes.c_int32), ("index", ctypes.c_int32))


class _Dtype(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16))


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", _Device),
        ("ndim", ctypes.c_int32),
        ("dtype", _Dtype),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


class _Managed(ctypes.Structure):
    _fields_ = (("tensor", _Tensor), ("context", ctypes.c_void_p), ("deleter", ctypes.c_void_p))


_new = ctypes.pythonapi.PyCapsule_New
_new.restype, _new.argtypes = ctypes.py_object, (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)


class Borrowed:
    """Tensors of a library over memory that it does not own.

    The descriptions live as long as this object, so drop the tensors before it.

    Parameters
    ----------
    from_dlpack : callable
        The library's, from a capsule to a tensor.
    kind : str
        The kind of the target, "cuda" or "llvm".
    index : int
        Number of the device.
    """

    def __init__(self, from_dlpack: Any, kind: str, index: int = 0) -> None:
        self.from_dlpack, self.device = from_dlpack, _Device(DEVICES[kind], index)
        self.kept: list[_Managed] = []

    def __call__(self, address: ctypes.c_void_p, dtype: str, shape: Sequence[int], strides: Sequence[int]) -> Any:
        """Return a tensor over the memory at an address; `strides` are in elements."""
        integers = ctypes.c_int64 * len(shape)
        managed = _Managed()
        managed.tensor = _Tensor(
            address, self.device, len(shape), _Dtype(*CODES[dtype], 1), integers(*shape), integers(*strides), 0
        )
        self.kept.append(managed)  # its deleter is NULL: nobody frees the memory
        return self.from_dlpack(_new(ctypes.addressof(managed), b"dltensor", None))
