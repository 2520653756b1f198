"""Errors that say that memory ran out, and what they hold."""

from __future__ import annotations

import ctypes
import sys
import weakref
from types import SimpleNamespace

import pytest
import torch

from lightning_automations.probes.out_of_memory import free_cached_memory, is_out_of_memory, release


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of"),
        MemoryError(),
        RuntimeError("CUDA error: out of memory\nCompile with `TORCH_USE_CUDA_DSA`"),
        RuntimeError("HIP out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("MPS backend out of memory (MPS allocated: 17.94 GB, max allowed: 18.13 GB)"),
        RuntimeError("XPU out of memory. Tried to allocate 4.00 GiB"),
        RuntimeError("UR backend failed. UR backend returns:40 (UR_RESULT_ERROR_OUT_OF_RESOURCES)"),
        RuntimeError("level_zero backend failed with error: 39 (UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY)"),
        RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED."),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:80] data. DefaultCPUAllocator: not enough memory: you tried to"),
        RuntimeError("std::bad_alloc"),
        RuntimeError("could not create a primitive"),
    ],
)
def test_errors_of_every_allocator_are_known(error: BaseException) -> None:
    """CUDA, cuDNN, cuBLAS, HIP, XPU, MPS, the CPU allocator, oneDNN, and Python itself."""
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("mat1 and mat2 shapes cannot be multiplied (4x3 and 4x3)"),
        RuntimeError("CUDA error: device-side assert triggered"),
        RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasGemmEx`"),
        RuntimeError("could not create a primitive descriptor for a convolution forward propagation primitive"),
        ValueError("the pool of names is out of memory"),
        KeyError("exp_avg"),
        KeyboardInterrupt(),
    ],
)
def test_other_errors_are_not(error: BaseException) -> None:
    """Anything else passes through, also where a text of another kind of error speaks of memory."""
    assert not is_out_of_memory(error)


def test_the_real_error_of_the_cpu_allocator_is_known() -> None:
    """What torch raises here for a tensor that no machine holds."""
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


def test_a_released_error_holds_no_tensors_and_keeps_its_text() -> None:
    """The tensors of the failed step die; message and lines of the traceback stay, also along a chain of errors."""
    died: list[weakref.ref[torch.Tensor]] = []

    def step() -> None:
        activations = torch.zeros(1000)
        died.append(weakref.ref(activations))
        raise RuntimeError("out of memory")

    def outer() -> None:
        more = torch.zeros(1000)
        died.append(weakref.ref(more))
        try:
            step()
        except RuntimeError as error:
            raise RuntimeError("outer") from error

    caught: BaseException | None = None
    try:
        outer()
    except RuntimeError as error:
        caught = error
    assert caught is not None
    assert all(reference() is not None for reference in died)
    release(caught)
    assert all(reference() is None for reference in died)
    assert str(caught) == "outer"
    assert caught.__traceback__ is not None


def test_a_chain_that_bites_its_tail_ends() -> None:
    """Errors can refer to each other."""
    first, second = RuntimeError("a"), RuntimeError("b")
    first.__context__, second.__context__ = second, first
    release(first)
    assert first.__context__ is second


def test_memory_of_the_host_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the C library can be asked for it; one that cannot, and another system, are left alone."""
    trimmed: list[int] = []
    libraries = iter([SimpleNamespace(malloc_trim=trimmed.append), SimpleNamespace()])
    monkeypatch.setattr(ctypes, "CDLL", lambda _: next(libraries))
    monkeypatch.setattr(sys, "platform", "linux")
    free_cached_memory(torch.device("cpu"))
    free_cached_memory(torch.device("cpu"))
    monkeypatch.setattr(sys, "platform", "darwin")
    free_cached_memory(torch.device("cpu"))
    assert trimmed == [0]
    assert next(libraries, None) is None


def test_the_cache_of_a_device_is_emptied(monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the device's own module."""
    emptied: list[bool] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(True))
    free_cached_memory(torch.device("cuda"))
    assert emptied == [True]
