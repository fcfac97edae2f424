"""Samples as 8-bit codes, the classes of next-sample prediction, and codes as samples again."""

from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from bench.errors import UserError

# packing and statistics take codings, too, and have no torch
if TYPE_CHECKING:
    import torch

__all__ = ["CODES", "CODINGS", "Coding", "get_coding"]

# of every coding: 8 bits
CODES = 256

# an array of numpy, or a tensor on any device
Values = TypeVar("Values", npt.NDArray[Any], "torch.Tensor")


@dataclass(frozen=True, eq=False)
class Coding:
    """A map of int16 samples to 256 codes, ascending, and of each code to the sample that stands for it.

    A table of each way is all there is: encoding is one look-up, the same on every device to the bit.
    """

    name: str
    # of samples -32,768 to 32,767: (65536,) uint8
    codes: npt.NDArray[np.uint8] = field(repr=False)
    # of codes 0 to 255: (256,) int16
    samples: npt.NDArray[np.int16] = field(repr=False)

    @property
    def levels(self) -> npt.NDArray[np.float64]:
        """Return the amplitude that each code stands for, full scale being 1: (256,), ascending."""
        return self.samples / 32768

    def encode(self, samples: Values) -> Values:
        """Return the codes of int16 samples, of any shape: of an array uint8, of a tensor int64, as losses want it.

        Raises TypeError for samples that are not int16.
        """
        if isinstance(samples, np.ndarray):
            _require(samples.dtype == np.int16, samples)
            return self.codes[samples.astype(np.int32) + 32768]
        import torch

        _require(samples.dtype == torch.int16, samples)
        return _table(self.name, "codes", samples.device)[samples.int() + 32768].long()

    def decode(self, codes: Values) -> Values:
        """Return the int16 samples that codes 0 to 255 stand for, in the shape of the codes."""
        if isinstance(codes, np.ndarray):
            return self.samples[codes]
        return _table(self.name, "samples", codes.device)[codes.long()]


def _require(is_int16: bool, samples: Any) -> None:
    if not is_int16:
        raise TypeError(f"samples to encode are int16, these are {samples.dtype}")


@lru_cache(maxsize=16)
def _table(name: str, which: str, device: "torch.device") -> "torch.Tensor":
    """Return a coding's table as a tensor, made once for each device."""
    import torch

    return torch.from_numpy(getattr(CODINGS[name], which)).to(device)


def _mu_law() -> Coding:
    """Make the mu-law coding: steps in proportion to the level, as the ear hears them.

    y = sgn(x) ln(1 + 255 |x|) / ln(256), then 256 equal steps of y (van den Oord et al., "WaveNet", arXiv:1609.03499),
    with the rounding of torchaudio.functional.mu_law_encoding. Silence is code 128, which stands for 3 of 32,768: no
    code stands for 0.
    """
    mu = CODES - 1
    x = np.arange(-32768, 32768) / 32768
    y = np.sign(x) * np.log1p(mu * np.abs(x)) / np.log1p(mu)
    codes = ((y + 1) / 2 * mu + 0.5).astype(np.uint8)
    y = np.arange(CODES) / mu * 2 - 1
    x = np.sign(y) * np.expm1(np.abs(y) * np.log1p(mu)) / mu
    return Coding("mu_law", codes, _int16(np.rint(32768 * x)))


def _linear() -> Coding:
    """Make the linear coding, 8-bit PCM: 256 equal steps, rounded to the nearest. Silence is code 128, which is 0."""
    codes = np.minimum((np.arange(65536) + 128) // 256, CODES - 1).astype(np.uint8)
    return Coding("linear", codes, _int16((np.arange(CODES) - 128) * 256))


def _int16(samples: npt.NDArray[Any]) -> npt.NDArray[np.int16]:
    # full scale itself is one more than the largest
    return np.clip(samples, -32768, 32767).astype(np.int16)


CODINGS = {coding.name: coding for coding in (_mu_law(), _linear())}


def get_coding(name: str) -> Coding:
    """Return a coding by its name. Raises UserError for an unknown one."""
    if name not in CODINGS:
        raise UserError(f"coding {name!r}: no such coding; there are {', '.join(CODINGS)}")
    return CODINGS[name]
