"""The files that `bench new` writes, to begin an architecture with."""

import keyword
from collections.abc import Container
from pathlib import Path

from architectures._registry import ConfigError

__all__ = ["write_architecture"]

_TAGGING = '''"""NAME: what it is, and where it comes from.

`bench check NAME.py` tells whether it passes all checks, `bench run demo --plugin NAME.py` runs it beside the others.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from architectures import register
from architectures.layers import FrontEndConfig, image_front_end


@dataclass(frozen=True, kw_only=True)
class Config(FrontEndConfig):
    # to take the waveform as it is, begin with architectures.ArchitectureConfig instead
    width: int = 64
    drop_rate: float = 0.0


# family: "cnn", "transformer" or "hybrid"
@register("NAME", family="cnn", config=Config())
class Model(nn.Module):
    """Two convolutions on an image of the sound, and the mean over bands and time."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        # a log-mel spectrogram; with config = { front_end = "learned" } in a suite, learned filters
        self.front_end = image_front_end(config)
        self.convs = nn.Sequential(
            nn.Conv2d(1, config.width, kernel_size=5, stride=2, padding=2),
            nn.BatchNorm2d(config.width),
            nn.ReLU(),
            nn.Conv2d(config.width, config.width, kernel_size=5, stride=2, padding=2),
            nn.BatchNorm2d(config.width),
            nn.ReLU(),
        )
        self.head = nn.Sequential(nn.Dropout(config.drop_rate), nn.Linear(config.width, config.num_classes))

    def forward(self, x: Tensor) -> Tensor:
        x = self.front_end(x)  # (b, n) samples in [-1, 1] -> (b, 1, f, t)
        x = self.convs(x)  # (b, width, f / 4, t / 4)
        return self.head(x.mean(dim=(2, 3)))  # (b, k) logits: no sigmoid
'''

_NEXT_SAMPLE = '''"""NAME: what it is, and where it comes from.

`bench check NAME.py` tells whether it passes all checks.
"""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.functional import pad

from architectures import NextSampleConfig, register


@dataclass(frozen=True, kw_only=True)
class Config(NextSampleConfig):
    width: int = 64
    kernel_size: int = 32

    @property
    def receptive_field(self) -> int:
        # how many samples an output sees
        return 2 * self.kernel_size - 1


# family: "cnn", "transformer" or "hybrid"
@register("NAME", family="cnn", task="next_sample", config=Config())
class Model(nn.Module):
    """Two convolutions, each over the samples up to the one that it is at."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config.num_classes, config.width)
        self.convs = nn.ModuleList(nn.Conv1d(config.width, config.width, config.kernel_size) for _ in range(2))
        self.head = nn.Linear(config.width, config.num_classes)

    def forward(self, codes: Tensor) -> Tensor:
        x = self.embed(codes).transpose(1, 2)  # (b, n) codes -> (b, width, n)
        for conv in self.convs:
            # padded on the left alone, so that nothing sees what comes after it
            x = conv(pad(x, (self.config.kernel_size - 1, 0))).relu()
        return self.head(x.transpose(1, 2))  # (b, n, k) logits: no softmax
'''

_CODEC = '''"""NAME: what it is, and where it comes from.

`bench check NAME.py` tells whether it passes all checks.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from architectures import CodecConfig, register
from architectures.codec import nearest


@dataclass(frozen=True, kw_only=True)
class Config(CodecConfig):
    latent_dim: int = 16


# family: "cnn", "transformer" or "hybrid"
@register("NAME", family="cnn", task="codec", config=Config())
class Model(nn.Module):
    """A dense layer on each group of frames, the nearest code of a codebook that is learned, and a dense layer back."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        size = config.group * config.num_classes
        self.encoder, self.decoder = nn.Linear(size, config.latent_dim), nn.Linear(config.latent_dim, size)
        self.codebooks = nn.Parameter(0.1 * torch.randn(config.stages, config.num_codes, config.latent_dim))

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        latents = self.encoder(frames.unflatten(1, (-1, self.config.group)).flatten(2))  # (b, t, k) -> (b, t / 4, d)
        codes = nearest(latents, self.codebooks)[0]
        found = self._sums(codes)
        # codes move to their latents, and these to their codes; the error's gradient goes straight through
        loss = (found - latents.detach()).square().mean() + 0.25 * (found.detach() - latents).square().mean()
        return self._rebuilt(latents + (found - latents).detach()), loss

    def encode(self, frames: Tensor) -> Tensor:
        latents = self.encoder(frames.unflatten(1, (-1, self.config.group)).flatten(2))
        return nearest(latents, self.codebooks)[0]  # (b, t / 4, stages)

    def decode(self, codes: Tensor) -> Tensor:
        return self._rebuilt(self._sums(codes))  # (b, t, k)

    def _sums(self, codes: Tensor) -> Tensor:
        return self.codebooks[torch.arange(self.config.stages, device=codes.device), codes].sum(dim=2)

    def _rebuilt(self, latents: Tensor) -> Tensor:
        return self.decoder(latents).unflatten(2, (self.config.group, -1)).flatten(1, 2)
'''

_NEXT_CODE = _NEXT_SAMPLE.replace('task="next_sample"', 'task="next_code"').replace("samples", "codes")
_TEMPLATES = {"codec": _CODEC, "next_code": _NEXT_CODE, "next_sample": _NEXT_SAMPLE, "tagging": _TAGGING}


def write_architecture(name: str, folder: Path, taken: Container[str], task: str = "tagging") -> Path:
    """Write NAME.py into a folder, with an architecture that passes all checks of a task, and return its path.

    Raises ConfigError for a name that can't be one or is taken, a file that is there, and a task without a template.
    """
    if task not in _TEMPLATES:
        raise ConfigError(f"task {task!r}: there is a file to begin with for {', '.join(_TEMPLATES)}")
    if not (name.isidentifier() and name.isascii() and name[0] != "_") or keyword.iskeyword(name):
        raise ConfigError(f"{name!r} can't name a Python module: use letters, digits and _, and a letter first")
    if name in taken:
        raise ConfigError(f"there is an architecture {name!r} already, see `bench list`; choose another name")
    path = folder / f"{name}.py"
    folder.mkdir(parents=True, exist_ok=True)
    # exclusive, so that a file of that name is never overwritten
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(_TEMPLATES[task].replace("NAME", name))
    except FileExistsError:
        raise ConfigError(f"{path} is there already; choose another name or --out") from None
    except OSError:
        # half of it would be there already, when the disk has space again
        path.unlink(missing_ok=True)
        raise
    return path
