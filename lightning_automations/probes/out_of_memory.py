"""Which errors mean that memory ran out, and what to do before trying again."""

from __future__ import annotations

import ctypes
import gc
import sys
import traceback

import torch

__all__ = ["free_cached_memory", "is_out_of_memory", "release"]

_MESSAGES = (
    "out of memory",  # CUDA, HIP, XPU, MPS, and the runtime's own "CUDA error: out of memory"
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_NOT_SUPPORTED",  # what cuDNN says when no algorithm's workspace fits
    "CUBLAS_STATUS_ALLOC_FAILED",
    "HIPBLAS_STATUS_ALLOC_FAILED",
    "rocblas_status_memory_error",
    "miopenStatusAllocFailed",
    "OUT_OF_DEVICE_MEMORY",  # Level Zero, under XPU
    "OUT_OF_HOST_MEMORY",
    "OUT_OF_RESOURCES",
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",
    "std::bad_alloc",
)
_WHOLE_MESSAGES = ("could not create a primitive",)
"""All that oneDNN says where memory does not suffice for the work of a convolution or a recurrent layer (measured under
``RLIMIT_DATA``). What it cannot compute at all has a longer text, of a primitive descriptor."""
_HANDLE_MESSAGES = ("CUBLAS_STATUS_NOT_INITIALIZED", "HIPBLAS_STATUS_NOT_INITIALIZED")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a device or on the host.

    >>> is_out_of_memory(RuntimeError("CUDA error: out of memory"))
    True
    >>> is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    False
    """
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    if not isinstance(error, RuntimeError):
        return False
    message = str(error)
    if message in _WHOLE_MESSAGES or any(text in message for text in _MESSAGES):
        return True
    # cuBLAS says "not initialized" when there is no room for its handle; elsewhere the same status is a fault.
    return "cublasCreate" in message and any(text in message for text in _HANDLE_MESSAGES)


def release(error: BaseException) -> None:
    """Let go of the tensors that an error's traceback keeps alive; its text and its lines stay.

    Call it after the ``except`` block: frames that still run keep their variables.
    """
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        traceback.clear_frames(link.__traceback__)
        link = link.__cause__ or link.__context__


def free_cached_memory(device: torch.device) -> None:
    """Collect garbage and give back what the device's allocator, or the host's, has kept for later."""
    gc.collect()
    if device.type != "cpu":
        torch.get_device_module(device).empty_cache()
    elif sys.platform == "linux":
        c_library = ctypes.CDLL(None)
        if hasattr(c_library, "malloc_trim"):  # glibc; measured: 150 of 590 MiB come back after a failed step
            c_library.malloc_trim(0)
