"""Which precisions a device computes in."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

__all__ = ["computes_bf16", "computes_tf32", "fp32_means_fp32", "products_in"]

# of an NVIDIA GPU's compute capability: Ampere
_FIRST_WITH_TF32 = 8


def computes_bf16(device: torch.device) -> bool:
    """Return whether the device multiplies in bf16 by itself.

    Any processor accepts bf16. One without the instructions imitates it, number by number: a convolution of the VGG
    took ten times the time of fp32, where one with them takes a third.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    # older releases do not tell
    capabilities: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name) for name in ("amx_bf16", "avx512_bf16", "bf16", "sve_bf16"))


def computes_tf32(device: torch.device) -> bool:
    """Return whether the device multiplies in TF32: an NVIDIA GPU, Ampere or later."""
    if device.type != "cuda" or torch.version.cuda is None:
        return False
    return torch.cuda.get_device_capability(device)[0] >= _FIRST_WITH_TF32


def fp32_means_fp32() -> None:
    """Switch off TF32, which cuDNN uses by default: it would give convolutions, alone, a lower precision."""
    _allow_tf32(False)


@contextmanager
def products_in(precision: str) -> Iterator[None]:
    """Multiply in TF32 inside if that is the precision; what is recorded inside keeps it. Afterwards fp32 is fp32."""
    _allow_tf32(precision == "tf32")
    try:
        yield
    finally:
        _allow_tf32(False)


def _allow_tf32(allow: bool) -> None:
    torch.backends.cudnn.allow_tf32 = allow
    torch.backends.cuda.matmul.allow_tf32 = allow
