"""How full the memory is that a training step uses: of a CUDA device, or of the host on a CPU run."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

__all__ = ["CudaMemory", "HostMemory", "MemoryProbe", "MemoryReading", "memory_probe"]

UNLIMITED = 1 << 60
"""A limit above this is none: version 1 of cgroups writes a page-rounded maximum for "no limit"."""


@dataclass(frozen=True, kw_only=True)
class MemoryReading:
    """Memory at one moment, other processes' use included where it counts against the same limit.

    Args:
        used_bytes: In use now.
        peak_bytes: The most in use since the peak was last reset.
        total_bytes: The limit.
    """

    used_bytes: int
    peak_bytes: int
    total_bytes: int

    @property
    def peak_share(self) -> float:
        """The peak as a share of the limit."""
        return self.peak_bytes / self.total_bytes


class MemoryProbe(Protocol):
    """Reads how full one memory is."""

    def read(self) -> MemoryReading:
        """Use and peak now."""

    def reset_peak(self) -> None:
        """Let the peak start again from what is in use."""


def memory_probe(device: torch.device) -> MemoryProbe | None:
    """The probe for the memory that training on a device fills, or None where it cannot be read."""
    if device.type == "cuda":
        return CudaMemory(device)
    if device.type == "cpu" and Path("/proc/self/status").exists():
        return HostMemory()
    return None


class CudaMemory:
    """Memory of one CUDA or ROCm device.

    The allocator's peak of live tensors, not of what it has reserved: a reservation never shrinks by itself, so it
    says nothing about the size in use now. Everything else on the device (contexts, other processes) is what the
    driver reports as used beyond this process's reservation.

    Args:
        device: The device.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def read(self) -> MemoryReading:
        free, total = torch.cuda.mem_get_info(self._device)
        others = max(0, total - free - torch.cuda.memory_reserved(self._device))
        return MemoryReading(
            used_bytes=others + torch.cuda.memory_allocated(self._device),
            peak_bytes=others + torch.cuda.max_memory_allocated(self._device),
            total_bytes=total,
        )

    def reset_peak(self) -> None:
        torch.cuda.reset_peak_memory_stats(self._device)


class HostMemory:
    """Memory of this process on Linux, against the limit that it is nearest to.

    Limits are the cgroup's, ``RLIMIT_DATA``, ``RLIMIT_AS`` and the physical memory. Against the physical memory the
    use of all other processes, data-loader workers among them, is counted as well, and against a cgroup's limit that
    of all processes in the group (what they have written themselves; the kernel can take back copies of files).
    ``RLIMIT_DATA`` and ``RLIMIT_AS`` hold for each process alone.

    Args:
        proc: The folder that stands for ``/proc``.
        cgroups: The folder that stands for ``/sys/fs/cgroup``.
    """

    def __init__(self, *, proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> None:
        self._proc = proc
        self._cgroups = cgroups

    def read(self) -> MemoryReading:
        return max(self._readings(), key=lambda reading: reading.peak_share)

    def reset_peak(self) -> None:
        try:
            (self._proc / "self" / "clear_refs").write_text("5")
        except OSError:
            return  # not permitted here: the peak is then that of the whole run

    def _readings(self) -> Iterator[MemoryReading]:
        status = _bytes_by_name(self._proc / "self" / "status")
        resident, peak = status["VmRSS"], status["VmHWM"]
        machine = _bytes_by_name(self._proc / "meminfo")
        others = max(0, machine["MemTotal"] - machine["MemAvailable"] - resident)
        yield MemoryReading(used_bytes=resident + others, peak_bytes=peak + others, total_bytes=machine["MemTotal"])
        written = status.get("RssAnon", resident) + status.get("RssShmem", 0)
        for limit, in_group in self._cgroup_limits():
            others = max(0, in_group - written)
            yield MemoryReading(used_bytes=resident + others, peak_bytes=peak + others, total_bytes=limit)
        # These two count what is reserved, touched or not. Its peak is estimated: reserved now and touched at the peak.
        for limit, used in (
            (_process_limit("RLIMIT_DATA"), status["VmData"]),
            (_process_limit("RLIMIT_AS"), status["VmSize"]),
        ):
            if limit < UNLIMITED:
                yield MemoryReading(used_bytes=used, peak_bytes=used + peak - resident, total_bytes=limit)

    def _cgroup_limits(self) -> Iterator[tuple[int, int]]:
        """Each limit that holds for this process, and what the processes of that group have written, in bytes."""
        try:
            lines = (self._proc / "self" / "cgroup").read_text().splitlines()
        except OSError:
            return
        for line in lines:
            number, controllers, path = line.split(":", 2)
            if number == "0":
                root, name = self._cgroups, "memory.max"
            elif "memory" in controllers.split(","):
                root, name = self._cgroups / "memory", "memory.limit_in_bytes"
            else:
                continue
            folder = root / path.strip("/")
            # The limit of every folder above holds too; in a container the path may be the host's and not exist.
            for place in (folder, *folder.parents):
                if place.is_relative_to(root) and (place / name).exists():
                    text = (place / name).read_text().strip()
                    if text != "max" and int(text) < UNLIMITED:
                        yield int(text), _written_in_group(place / "memory.stat")


def _written_in_group(path: Path) -> int:
    """Memory of a group's processes that is no copy of a file, in bytes; 0 where the kernel does not say."""
    try:
        numbers = dict(line.split() for line in path.read_text().splitlines())
    except OSError:
        return 0
    # Version 1 of cgroups counts the groups below apart from this one, and these names hold both.
    names = ("total_rss", "total_shmem") if "total_rss" in numbers else ("anon", "shmem")
    return sum(int(numbers.get(name, 0)) for name in names)


def _bytes_by_name(path: Path) -> dict[str, int]:
    """The lines ``Name:  123 kB`` of a file under /proc, in bytes."""
    pairs = (line.split(":", 1) for line in path.read_text().splitlines() if line.endswith(" kB"))
    return {name: int(value.split()[0]) * 1024 for name, value in pairs}


def _process_limit(name: str) -> int:
    if sys.platform == "win32":
        return UNLIMITED
    import resource

    limit = resource.getrlimit(getattr(resource, name))[0]
    return UNLIMITED if limit == resource.RLIM_INFINITY else limit
