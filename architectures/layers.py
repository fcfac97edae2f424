"""Layers and configs that two or more architectures share."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchaudio.transforms import MelSpectrogram

from architectures._registry import ArchitectureConfig

__all__ = ["LogMel", "LogMelConfig", "TimmConfig", "TimmOnLogMel", "conv_block", "fft_length", "mlp"]

# of a window of a second at 44.1 kHz; and more bands than any spectrogram has
_MOST_BINS, _MOST_BANDS = 32_769, 1024


def fft_length(window: int) -> int:
    """Return the smallest power of two of 1.5 windows or more, in samples; with less, low mel bands would be empty."""
    return 1 << math.ceil(math.log2(1.5 * window))


@dataclass(frozen=True, kw_only=True)
class LogMelConfig(ArchitectureConfig):
    """The spectrogram of the FSD50K paper: 96 bands, windows of 30 ms every 10 ms."""

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

    def forward(self, x: Tensor) -> Tensor:
        # in fp32 whatever the recipe says: the spectrum of a quiet sound is lost in bf16's 8 bits
        with torch.autocast(x.device.type, enabled=False):
            # silence has no logarithm, hence the 1e-6
            x = torch.log(self.mel(x) + 1e-6)  # (b, n) -> (b, f, t)
            return self.norm(x).unsqueeze(1)  # (b, 1, f, t)


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
class TimmConfig(LogMelConfig):
    """The config of a body from timm's zoo; `body` is its name there."""

    body: str
    drop_rate: float = 0.0


class TimmOnLogMel(nn.Module):
    """A timm body with one input channel on a log-mel spectrogram."""

    def __init__(self, config: TimmConfig) -> None:
        super().__init__()
        # here, since it takes seconds and `bench list` does without
        import timm

        self.log_mel = LogMel(config)
        self.body = timm.create_model(
            config.body, in_chans=1, num_classes=config.num_classes, drop_rate=config.drop_rate
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.log_mel(x)  # (b, n) -> (b, 1, f, t)
        return self.body(x)  # (b, k)
