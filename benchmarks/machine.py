"""What the machine can do at most: matrix products and copies of memory, measured."""

import os
import re
from dataclasses import asdict, dataclass

import torch

from bench.protocol.precision import computes_bf16
from bench.runner.provenance import device_name
from benchmarks.turns import median_seconds

__all__ = ["Machine", "measure_machine", "synchronize"]

# of the matrices; the small side is for a precision that a device only imitates, where a large product takes a minute
_SIDE, _SMALL_SIDE = 2048, 256
# far beyond any cache
_COPY_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Machine:
    """Limits of a device, in operations and bytes (read and written) a second."""

    name: str
    device: str
    cores: int
    threads: int
    torch: str
    flops_fp32: float
    flops_bf16: float
    copy_bytes: float

    @property
    def slug(self) -> str:
        """For file names: torch's release, device and threads."""
        words = f"torch {self.torch.partition('+')[0]} {self.name.replace(',', ' ')}"
        return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")

    def as_dict(self) -> dict[str, object]:
        """Return all fields, for JSON."""
        return asdict(self)


def measure_machine(device: torch.device) -> Machine:
    """Time a matrix product in each precision, and a copy of memory."""

    def product(dtype: torch.dtype, side: int = _SIDE) -> float:
        a = torch.randn(side, side, device=device).to(dtype)
        return 2 * side**3 / median_seconds(lambda: synchronize(a @ a))

    source = torch.ones(_COPY_BYTES // 4, device=device)
    target = torch.empty_like(source)
    return Machine(
        name=device_name(device),
        device=str(device),
        cores=os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        torch=torch.__version__,
        flops_fp32=product(torch.float32),
        flops_bf16=product(torch.bfloat16, _SIDE if computes_bf16(device) else _SMALL_SIDE),
        copy_bytes=2 * _COPY_BYTES / median_seconds(lambda: synchronize(target.copy_(source))),
    )


def synchronize(result: torch.Tensor) -> torch.Tensor:
    """Wait until the device has computed a tensor, and return it."""
    if result.device.type == "cuda":
        torch.cuda.synchronize(result.device)
    return result
