"""What the machine can do at most: matrix products and copies of memory, measured."""

import os
import re
from dataclasses import asdict, dataclass

import torch

from bench.protocol.precision import computes_bf16
from bench.runner.provenance import device_name
from benchmarks.turns import median_seconds

SIDE = 2048  # of the matrices
SMALL_SIDE = 256  # of those that a device computes in a precision that it only imitates: a minute for a large product
COPY_BYTES = 256 * 2**20  # far beyond any cache


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
        return asdict(self)


def measure_machine(device: torch.device) -> Machine:
    def product(dtype: torch.dtype, side: int = SIDE) -> float:
        a = torch.randn(side, side, device=device).to(dtype)
        return 2 * side**3 / median_seconds(lambda: waited(a @ a))

    source = torch.ones(COPY_BYTES // 4, device=device)
    target = torch.empty_like(source)
    return Machine(
        name=device_name(device),
        device=str(device),
        cores=os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        torch=torch.__version__,
        flops_fp32=product(torch.float32),
        flops_bf16=product(torch.bfloat16, SIDE if computes_bf16(device) else SMALL_SIDE),
        copy_bytes=2 * COPY_BYTES / median_seconds(lambda: waited(target.copy_(source))),
    )


def waited(result: torch.Tensor) -> torch.Tensor:
    """The same, when the device has done it."""
    if result.device.type == "cuda":
        torch.cuda.synchronize(result.device)
    return result
