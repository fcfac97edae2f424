"""Layers and configs that two or more architectures share; above all front ends, which any body can be given.

A front end is what a body hears a waveform through: log-mel bands or learned filters, at the level that the sound has
or at the same one for all. `image_front_end` and `token_front_end` build the one that a config's fields ask for.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torchaudio.transforms import MelSpectrogram

from architectures._registry import ArchitectureConfig, later

__all__ = [
    "FrontEndConfig", "LogMel", "LogMelConfig", "LogMelTokens", "PatchImage", "Patches", "TimmConfig", "TimmModel",
    "at_level", "conv_block", "fft_length", "image_front_end", "mlp", "token_front_end",
]  # fmt: skip


# of a window of a second at 44.1 kHz; and more bands than any spectrogram has
_MOST_BINS, _MOST_BANDS = 32_769, 1024


def fft_length(window: int) -> int:
    """Return the smallest power of two of 1.5 windows or more, in samples; with less, low mel bands would be empty."""
    return 1 << math.ceil(math.log2(1.5 * window))


@dataclass(frozen=True, kw_only=True)
class LogMelConfig(ArchitectureConfig):
    """The spectrogram of the FSD50K paper: 96 bands, windows of 30 ms every 10 ms."""

    # of a waveform: as it is, or scaled to a root mean square of 1
    input_level: Literal["raw", "unit"] = later("raw")
    n_mels: int = 96
    # None: by fft_length, so that it follows the sample rate
    n_fft: int | None = None
    win_seconds: float = 0.030
    hop_seconds: float = 0.010

    def __post_init__(self) -> None:
        for name, value in (("win_seconds", self.win_length), ("hop_seconds", self.hop_length)):
            if value < 1:
                raise ValueError(f"{name}={getattr(self, name)} is less than a sample")
        bins = self.fft_length // 2 + 1
        if bins > _MOST_BINS:
            raise ValueError(f"a window of {self.win_length} samples, n_fft={self.n_fft}: {_MOST_BINS} bins at most")
        if not 1 <= self.n_mels <= min(bins, _MOST_BANDS):
            raise ValueError(f"n_mels={self.n_mels} must be 1 to {min(bins, _MOST_BANDS)}")
        if self.fft_length < self.win_length:
            raise ValueError(f"n_fft={self.n_fft} is shorter than the window of {self.win_length} samples")

    @property
    def win_length(self) -> int:
        return round(self.sample_rate * self.win_seconds)

    @property
    def hop_length(self) -> int:
        return round(self.sample_rate * self.hop_seconds)

    @property
    def fft_length(self) -> int:
        return self.n_fft or fft_length(self.win_length)


class LogMel(nn.Module):
    """Log-mel spectrogram, each band normalised by its running mean and variance: (b, n) -> (b, 1, f, t)."""

    def __init__(self, config: LogMelConfig) -> None:
        super().__init__()
        self.mel = MelSpectrogram(
            config.sample_rate, config.fft_length, config.win_length, config.hop_length, n_mels=config.n_mels
        )
        # not affine: the published parameter counts have no such layer
        self.norm = nn.BatchNorm1d(config.n_mels, affine=False)
        self.input_level = config.input_level

    def forward(self, x: Tensor) -> Tensor:
        # in fp32 whatever the recipe says: the spectrum of a quiet sound is lost in bf16's 8 bits
        with torch.autocast(x.device.type, enabled=False):
            # silence has no logarithm, hence the 1e-6
            x = torch.log(self.mel(at_level(x, self.input_level)) + 1e-6)  # (b, n) -> (b, f, t)
            return self.norm(x).unsqueeze(1)  # (b, 1, f, t)


@dataclass(frozen=True, kw_only=True)
class FrontEndConfig(LogMelConfig):
    """The front end of a body: log-mel, or patches of raw samples that each go through the same two dense layers.

    Fields of the one that is not chosen have no effect.
    """

    # random: the filters of 'learned' stay as they were drawn
    front_end: Literal["log_mel", "learned", "random"] = later("log_mel")
    patch_seconds: float = later(0.025)
    front_end_dim: int = later(256)  # filters
    embed_dim: int = later(64)  # of a patch behind the second layer

    def __post_init__(self) -> None:
        if self.front_end == "log_mel":
            super().__post_init__()
            return
        if self.patch_size < 1:
            raise ValueError(f"patch_seconds={self.patch_seconds} is less than a sample")
        for name in ("front_end_dim", "embed_dim"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")

    @property
    def patch_size(self) -> int:
        """Return the length of a patch in samples."""
        return round(self.sample_rate * self.patch_seconds)

    @property
    def bands(self) -> int:
        """Return the number of rows of the image that a convolutional body is given."""
        return self.n_mels if self.front_end == "log_mel" else self.embed_dim


class Patches(nn.Sequential):
    """Patches of raw samples, each seen through dense filters, ReLU and a projection: (b, n) -> (b, t, d)."""

    def __init__(self, config: FrontEndConfig) -> None:
        # What is fixed is what a patch is seen through. The projection is learned also behind random filters: without
        # it, they would have to fit a body that knows nothing of them.
        filters = nn.Linear(config.patch_size, config.front_end_dim)
        filters.requires_grad_(config.front_end != "random")
        super().__init__(filters, nn.ReLU(), nn.Linear(config.front_end_dim, config.embed_dim))
        self.input_level, self.patch_size = config.input_level, config.patch_size

    def forward(self, x: Tensor) -> Tensor:
        x = at_level(x, self.input_level)
        # samples that fill no patch are dropped: a padded patch would look like a sound that is cut off
        t = x.shape[1] // self.patch_size
        if not t:
            raise ValueError(f"{x.shape[1]} samples are less than one patch of {self.patch_size}")
        return super().forward(x[:, : t * self.patch_size].unflatten(1, (t, self.patch_size)))


class PatchImage(Patches):
    """The same as an image of one channel, a row for each dimension: (b, n) -> (b, 1, d, t)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).transpose(1, 2).unsqueeze(1)


class LogMelTokens(nn.Sequential):
    """Two frames of a log-mel spectrogram at a time, through a dense layer: (b, n) -> (b, t, d)."""

    # 20 ms, where a patch has 25
    frames = 2

    def __init__(self, config: FrontEndConfig) -> None:
        super().__init__(LogMel(config), nn.Linear(self.frames * config.n_mels, config.embed_dim))

    def forward(self, x: Tensor) -> Tensor:
        x = self[0](x).squeeze(1).transpose(1, 2)  # (b, frames, f)
        # a frame that is left over is dropped
        t = x.shape[1] // self.frames
        if not t:
            raise ValueError(f"{x.shape[1]} frame is less than one token of {self.frames}")
        return self[1](x[:, : t * self.frames].unflatten(1, (t, self.frames)).flatten(2))


def image_front_end(config: FrontEndConfig) -> nn.Module:
    """Build a config's front end for a convolutional body: (b, n) -> (b, 1, f, t), with f = config.bands."""
    return LogMel(config) if config.front_end == "log_mel" else PatchImage(config)


def token_front_end(config: FrontEndConfig) -> nn.Module:
    """Build a config's front end for a transformer: (b, n) -> (b, t, d)."""
    return LogMelTokens(config) if config.front_end == "log_mel" else Patches(config)


def at_level(x: Tensor, level: Literal["raw", "unit"]) -> Tensor:
    """Return waveforms as they are, or each at a root mean square of 1; silence stays silence. (b, n) -> (b, n)."""
    if level == "raw":
        return x
    # 1e-8 is a level of 1e-4, three steps of a 16-bit file: what is as quiet as its noise is not blown up
    return x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + 1e-8)


def conv_block(in_width: int, out_width: int, kernel_size: int) -> nn.Sequential:
    """Build a convolution that keeps the size, for odd kernels, with batch norm and ReLU."""
    conv = nn.Conv2d(in_width, out_width, kernel_size, padding=kernel_size // 2)
    return nn.Sequential(conv, nn.BatchNorm2d(out_width), nn.ReLU())


def mlp(in_dim: int, hidden_dim: int, out_dim: int, drop_rate: float) -> nn.Sequential:
    """Build two dense layers, with ReLU and dropout between them."""
    return nn.Sequential(
        nn.Linear(in_dim, hidden_dim), nn.ReLU(), nn.Dropout(drop_rate), nn.Linear(hidden_dim, out_dim)
    )


@dataclass(frozen=True, kw_only=True)
class TimmConfig(FrontEndConfig):
    """The config of a body from timm's zoo; `body` is its name there."""

    body: str
    drop_rate: float = 0.0


class TimmModel(nn.Module):
    """A timm body with one input channel behind a front end."""

    def __init__(self, config: TimmConfig) -> None:
        super().__init__()
        # here, since it takes seconds and `bench list` does without
        import timm

        self.front_end = image_front_end(config)
        self.body = timm.create_model(
            config.body, in_chans=1, num_classes=config.num_classes, drop_rate=config.drop_rate
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.front_end(x)  # (b, n) -> (b, 1, f, t)
        return self.body(x)  # (b, k)
