"""Codecs: a sound as 25 codes a second, by a quantised autoencoder of log-mel frames (arXiv:1711.00937)."""

import warnings
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from architectures._registry import CodecConfig, ConfigError, register
from architectures._sources import SOURCES

__all__ = ["CodecKMeans", "CodecNet", "CodecNetConfig", "CodecVQ", "CodecVQConfig", "nearest"]


@dataclass(frozen=True, kw_only=True)
class CodecNetConfig(CodecConfig):
    """The sizes of an autoencoder of frames."""

    width: int = 128
    latent_dim: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("width", "latent_dim"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")


@dataclass(frozen=True, kw_only=True)
class CodecVQConfig(CodecNetConfig):
    """The same, with how its codebook is learned."""

    # of the running means that the codes are, from step to step
    decay: float = 0.95
    # a code that stands for fewer latents of a batch, in the running mean, takes the place of one of these
    least_use: float = 2.0
    # of the latents' distances to their codes, in the loss
    commitment: float = 0.25

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.decay < 1:
            raise ValueError(f"decay={self.decay} must be 0 to below 1")
        for name in ("least_use", "commitment"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)} must be 0 or more")


class Residual(nn.Module):
    """Two convolutions over time whose sum with the input is the output: (b, c, t) -> (b, c, t)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.GELU(), nn.Conv1d(width, width, kernel_size=3, padding=1), nn.GELU(), nn.Conv1d(width, width, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class CodecNet(nn.Module):
    """An autoencoder of frames whose latents, one a group of frames, can be rounded to the codes of `codebooks`."""

    def __init__(self, config: CodecNetConfig) -> None:
        super().__init__()
        self.config = config
        m, c, d, group = config.num_classes, config.width, config.latent_dim, config.group
        self.encoder = nn.Sequential(
            nn.Conv1d(m, c, kernel_size=3, padding=1),
            Residual(c),
            nn.GELU(),
            nn.Conv1d(c, c, kernel_size=group, stride=group),
            Residual(c),
            nn.GELU(),
            nn.Conv1d(c, d, kernel_size=1),
        )
        self.decoder = nn.Sequential(
            nn.Conv1d(d, c, kernel_size=3, padding=1),
            Residual(c),
            nn.GELU(),
            nn.ConvTranspose1d(c, c, kernel_size=group, stride=group),
            Residual(c),
            nn.GELU(),
            nn.Conv1d(c, m, kernel_size=3, padding=1),
        )

    @property
    def codebooks(self) -> Tensor:
        """The codes as latents: (stages, num_codes, d)."""
        raise NotImplementedError

    def latents(self, frames: Tensor) -> Tensor:
        """Return a latent for each group of frames: (b, t, m) -> (b, t / 4, d)."""
        if frames.shape[1] % self.config.group:
            raise ValueError(f"{frames.shape[1]} frames are no whole groups of {self.config.group}")
        return self.encoder(frames.transpose(1, 2)).transpose(1, 2)

    def rebuilt(self, latents: Tensor) -> Tensor:
        """Return the frames that latents stand for: (b, t / 4, d) -> (b, t, m)."""
        return self.decoder(latents.transpose(1, 2)).transpose(1, 2)

    def encode(self, frames: Tensor) -> Tensor:
        """Return the codes of each group of frames: (b, t, m) -> (b, t / 4, stages)."""
        return nearest(self.latents(frames).float(), self.codebooks)[0]

    def decode(self, codes: Tensor) -> Tensor:
        """Return the frames that codes stand for: (b, t / 4, stages) -> (b, t, m)."""
        stages = torch.arange(self.config.stages, device=codes.device)
        return self.rebuilt(self.codebooks[stages, codes].sum(dim=2))


def nearest(latents: Tensor, codebooks: Tensor) -> tuple[Tensor, Tensor]:
    """Return each latent's nearest codes, stage by stage of what is left, and their sum.

    Latents are (..., d), codebooks (stages, k, d); codes (..., stages) and sums (..., d). Of codes that are as near,
    the lower one is taken.
    """
    left, codes = latents, []
    for codebook in codebooks:
        # squared distances, but for the latent's own square
        distances = codebook.square().sum(dim=1) - 2 * left @ codebook.T
        codes.append(distances.argmin(dim=-1))
        left = left - codebook[codes[-1]]
    return torch.stack(codes, dim=-1), latents - left


# decorators are applied from the last to the first
@register("codec_residual", family="cnn", task="codec", config=CodecVQConfig(stages=2), **SOURCES["codec_residual"])
@register("codec_vq", family="cnn", task="codec", config=CodecVQConfig(), **SOURCES["codec_vq"])
class CodecVQ(CodecNet):
    """Codes that are learned with the autoencoder: running means of the latents that they stand for.

    They begin as the means that k-means finds in the first batch. Until then, all sounds are the code 0.
    """

    def __init__(self, config: CodecVQConfig) -> None:
        super().__init__(config)
        self.quantizer = _residual_vq(config)

    @property
    def codebooks(self) -> Tensor:
        return self.quantizer.codebooks

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        latents = self.latents(frames)
        if self.training:
            codes, loss = self._trained(latents)
        else:
            # not by the library, whose codes would begin with whatever is asked for first
            codes, loss = nearest(latents.float(), self.codebooks)[1], latents.new_zeros(())
        return self.rebuilt(codes), loss

    def _trained(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Return the codes' sums for latents, with the latents' gradient, and their distance; then move the codes."""
        found, _, losses = self.quantizer(latents)
        # straight through, once: stage by stage, as the library does it, two stages have twice the gradient
        return latents + (found - latents).detach(), losses.sum()


def _residual_vq(config: CodecVQConfig) -> Any:
    """Return the quantiser of a config. Raises ConfigError if its package is not installed."""
    try:
        from vector_quantize_pytorch import ResidualVQ
    except ImportError:
        raise ConfigError(
            "vector-quantize-pytorch is not installed: pip install 'audio-cnn-transformer-bench[generate]'"
        ) from None
    with suppress(ImportError):
        from loguru import logger

        # it tells of first batches with fewer latents than codes, such as a check before the run
        logger.disable("vector_quantize_pytorch")
    return ResidualVQ(
        dim=config.latent_dim, num_quantizers=config.stages, codebook_size=config.num_codes, kmeans_init=True,
        decay=config.decay, threshold_ema_dead_code=config.least_use, commitment_weight=config.commitment,
        rotation_trick=False,
    )  # fmt: skip


@register("codec_kmeans", family="cnn", task="codec", config=CodecNetConfig(), **SOURCES["codec_kmeans"])
class CodecKMeans(CodecNet):
    """An autoencoder that is trained without codes; these are then fitted to its latents, by k-means.

    Until then, it rebuilds sounds from the latents themselves, and their codes are 0.
    """

    codebook: Tensor
    is_fitted: Tensor

    def __init__(self, config: CodecNetConfig) -> None:
        super().__init__(config)
        self.register_buffer("codebook", torch.zeros(config.stages, config.num_codes, config.latent_dim))
        self.register_buffer("is_fitted", torch.tensor(False))

    @property
    def codebooks(self) -> Tensor:
        return self.codebook

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        latents = self.latents(frames)
        if not self.training:
            found = nearest(latents.float(), self.codebooks)[1]
            # no branch, which would have to wait for the device
            latents = torch.where(self.is_fitted, found, latents)
        return self.rebuilt(latents), latents.new_zeros(())

    def fit_codebook(self, latents: Tensor, seed: int) -> None:
        """Fit the codes to latents (n, d), n at least num_codes. The same arguments give the same codes."""
        from sklearn.cluster import MiniBatchKMeans

        left = latents.cpu().double()
        for stage, codebook in enumerate(self.codebook):
            means = MiniBatchKMeans(self.config.num_codes, random_state=seed + stage, batch_size=4096, n_init=3)
            with warnings.catch_warnings():
                # of fewer latents that differ than codes: then some are not used, which the scores say
                warnings.filterwarnings("ignore", message="Number of distinct clusters")
                means.fit(left.numpy())
            codebook.copy_(torch.from_numpy(means.cluster_centers_))
            left = left - nearest(left, codebook.cpu().double().unsqueeze(0))[1]
        self.is_fitted.fill_(True)
