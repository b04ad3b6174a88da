"""Where a model can live: cpu, cuda, mps."""

import platform
from pathlib import Path

import torch

from labbench.bench.errors import BenchError

CPUINFO = Path("/proc/cpuinfo")  # Linux; elsewhere the platform module knows the processor


def available() -> tuple[str, ...]:
    """Every device here that a model can be loaded on, the one that "auto" means first."""
    cuda = [f"cuda:{number}" for number in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    mps = ["mps"] if torch.backends.mps.is_available() else []
    return (*cuda, *mps, "cpu")


def machine() -> str:
    """Processor, what torch uses of it, system and GPU: with another one, figures differ in their last digits."""
    lines = CPUINFO.read_text(encoding="utf-8").splitlines() if CPUINFO.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    processor = names[0] if names else platform.processor() or platform.machine()
    gpu = [torch.cuda.get_device_name(0)] if torch.cuda.is_available() else []
    return ", ".join([processor, torch.backends.cpu.get_cpu_capability(), platform.system(), *gpu])


def pick(name: str) -> torch.device:
    """The device of a name; "auto" is cuda, else mps, else cpu. Raises `BenchError` for one that is not here."""
    names = available()
    if name == "auto":
        return torch.device(names[0])
    full = "cuda:0" if name == "cuda" else name
    if full not in names:
        raise BenchError(f"no device {name!r} here; there is auto, {', '.join(names)}")
    return torch.device(full)
