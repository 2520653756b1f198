"""Reading how full a memory is."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from lightning_automations.probes.memory import CudaMemory, HostMemory, MemoryReading, memory_probe

MEBI = 1 << 20


def proc(folder: Path, *, resident: int = 100, peak: int = 150, total: int = 1000, available: int = 600) -> Path:
    """A folder like /proc, sizes in MiB."""
    own = folder / "proc" / "self"
    own.mkdir(parents=True)
    lines = {"VmHWM": peak, "VmRSS": resident, "VmData": 300, "VmSize": 900}
    (own / "status").write_text(
        "Name:\tpython\n" + "".join(f"{key}:\t{size * 1024} kB\n" for key, size in lines.items())
    )
    (own / "clear_refs").write_text("")
    (own.parent / "meminfo").write_text(f"MemTotal: {total * 1024} kB\nMemAvailable: {available * 1024} kB\n")
    return folder / "proc"


def test_against_the_physical_memory_all_processes_count(tmp_path: Path) -> None:
    """400 of 1000 MiB are in use, 100 of them ours, whose peak was 150."""
    reading = HostMemory(proc=proc(tmp_path), cgroups=tmp_path).read()
    assert reading == MemoryReading(used_bytes=400 * MEBI, peak_bytes=450 * MEBI, total_bytes=1000 * MEBI)
    assert reading.peak_share == pytest.approx(0.45)


@pytest.mark.parametrize(
    ("membership", "file", "text", "total"),
    [
        ("0::/run/job", "run/job/memory.max", "209715200", 200),
        ("0::/run/job", "run/memory.max", "209715200", 200),
        ("0::/run/job", "memory.max", "209715200", 200),
        ("0::/run/job", "memory.max", "max", 1000),
        ("4:memory:/job", "memory/job/memory.limit_in_bytes", "209715200", 200),
        ("4:cpu,memory:/job", "memory/memory.limit_in_bytes", "209715200", 200),
        ("4:memory:/job", "memory/memory.limit_in_bytes", "9223372036854771712", 1000),
        ("4:cpu:/job", "memory/memory.limit_in_bytes", "209715200", 1000),
    ],
)
def test_the_limit_of_a_cgroup_counts(tmp_path: Path, membership: str, file: str, text: str, total: int) -> None:
    """Of both versions, of this group and those above it; none where the file says so."""
    folder = proc(tmp_path)
    (folder / "self" / "cgroup").write_text(f"{membership}\n")
    limit = tmp_path / "cgroup" / file
    limit.parent.mkdir(parents=True)
    limit.write_text(text + "\n")
    assert HostMemory(proc=folder, cgroups=tmp_path / "cgroup").read().total_bytes == total * MEBI


@pytest.mark.parametrize(
    ("membership", "folder", "limit", "stat"),
    [
        ("0::/job", "job", "memory.max", "anon 230686720\nfile 999999999\nshmem 31457280\n"),
        ("4:memory:/job", "memory/job", "memory.limit_in_bytes", "rss 1\ntotal_rss 230686720\ntotal_shmem 31457280\n"),
    ],
)
def test_the_workers_of_a_cgroup_count(tmp_path: Path, membership: str, folder: str, limit: str, stat: str) -> None:
    """250 MiB are written in the group, 90 of them by this process: 160 by its workers; the cache of files is none."""
    process, group = proc(tmp_path), tmp_path / "cgroup" / folder
    with (process / "self" / "status").open("a") as status:
        status.write(f"RssAnon:\t{80 * 1024} kB\nRssShmem:\t{10 * 1024} kB\n")
    (process / "self" / "cgroup").write_text(f"{membership}\n")
    group.mkdir(parents=True)
    (group / limit).write_text(f"{400 * MEBI}\n")
    (group / "memory.stat").write_text(stat)
    reading = HostMemory(proc=process, cgroups=tmp_path / "cgroup").read()
    assert reading == MemoryReading(used_bytes=260 * MEBI, peak_bytes=310 * MEBI, total_bytes=400 * MEBI)


@pytest.mark.parametrize(("name", "used"), [("RLIMIT_DATA", 300), ("RLIMIT_AS", 900)])
def test_the_limit_of_the_process_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, used: int) -> None:
    """Against it, what is reserved counts, and the peak above what is resident now."""
    import resource

    def getrlimit(which: int) -> tuple[int, int]:
        return (1000 * MEBI if which == getattr(resource, name) else resource.RLIM_INFINITY, resource.RLIM_INFINITY)

    monkeypatch.setattr(resource, "getrlimit", getrlimit)
    reading = HostMemory(proc=proc(tmp_path, available=950), cgroups=tmp_path).read()
    assert reading == MemoryReading(used_bytes=used * MEBI, peak_bytes=(used + 50) * MEBI, total_bytes=1000 * MEBI)


def test_windows_has_no_limit_of_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no module to ask there."""
    monkeypatch.setattr(sys, "platform", "win32")
    assert HostMemory(proc=proc(tmp_path), cgroups=tmp_path).read().total_bytes == 1000 * MEBI


def test_the_peak_is_reset_where_that_is_permitted(tmp_path: Path) -> None:
    """5 into clear_refs; where the file is missing or read-only, the peak stays that of the run."""
    folder = proc(tmp_path)
    memory = HostMemory(proc=folder, cgroups=tmp_path)
    memory.reset_peak()
    assert (folder / "self" / "clear_refs").read_text() == "5"
    (folder / "self" / "clear_refs").unlink()
    (folder / "self" / "clear_refs").mkdir()
    memory.reset_peak()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_peak_of_this_process_is_seen() -> None:
    """A tensor that is gone again is in the peak and not in the use."""
    memory = HostMemory()
    memory.reset_peak()
    torch.zeros(64 * MEBI // 4)
    after = memory.read()
    # Other processes count in both, and cancel.
    assert after.peak_bytes - after.used_bytes > 48 * MEBI
    memory.reset_peak()
    again = memory.read()
    assert again.peak_bytes - again.used_bytes < 16 * MEBI


def test_on_cuda_what_is_reserved_but_free_is_not_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others: what the driver reports beyond our reservation. Ours: what the allocator has given out."""
    numbers = {"memory_reserved": 500, "memory_allocated": 200, "max_memory_allocated": 350}
    for name, value in numbers.items():
        monkeypatch.setattr(torch.cuda, name, lambda device, value=value: value)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (400, 1000))
    reset: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", reset.append)
    memory = CudaMemory(torch.device("cuda", 0))
    assert memory.read() == MemoryReading(used_bytes=300, peak_bytes=450, total_bytes=1000)
    memory.reset_peak()
    assert reset == [torch.device("cuda", 0)]


def test_each_device_has_its_probe() -> None:
    """CUDA its own, the CPU the host's, anything else none."""
    assert isinstance(memory_probe(torch.device("cuda")), CudaMemory)
    assert isinstance(memory_probe(torch.device("cpu")), HostMemory)
    assert memory_probe(torch.device("meta")) is None
