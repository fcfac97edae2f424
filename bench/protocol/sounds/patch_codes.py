"""Codes of patches: 40 ms of a log-mel spectrogram as one of k codes, by an autoencoder and k-means (arXiv:2010.11459).

The autoencoder, `codec_kmeans`, sees patches of four frames one by one, so that a code says nothing of what is around
its patch. It is trained for a fixed number of steps and k-means is fitted to its latents, both on sounds alone: windows
of the pack's train split, or generated ones. It lies in the pack, patch-codes-DIGEST.npz, the digest being that of
all settings that decide it: its weights by name, and the pack's fingerprint ('' where no pack had a part in it).
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self, cast

import numpy as np
import torch
from torch import Tensor

from architectures import create, misfit
from architectures.codec import CodecKMeans
from bench.data import beside
from bench.data.pack import Pack
from bench.errors import UserError
from bench.protocol.optim import learning_rate, optimizer_of, set_rate
from bench.protocol.recipe import Recipe
from bench.protocol.sounds.generated import GeneratedWindows
from bench.protocol.sounds.levels import clips_with
from bench.protocol.sounds.log_mel import LogMelFrames
from bench.protocol.sounds.patches import PatchSettings
from bench.protocol.tasks.codec import GROUP, CodecTask, Frames
from bench.protocol.train import train_step
from bench.schema import digest

__all__ = ["Cut", "PatchCodes", "code_sequences", "make_patch_codes", "patch_codes_file"]

# to be raised when other codes come of the same settings
_VERSION = 1
# for all runs, whatever their seed: else their bits would be of other codes
_SEED = 0
_BATCH_SIZE, _LEARNING_RATE = 32, 2e-3
# Of a window that patches are taken from, .96 s: any clip has one, of a second at least, also where ten milliseconds
# are no whole number of samples.
_PATCHES = 24
# windows that k-means is fitted on, and that sequences of codes are of, so many at once
_FITTED, _COUNTED, _AT_ONCE = 2048, 4096, 256
_AGAIN = "remove it, and `bench run` makes it again"


def patch_codes_file(settings: PatchSettings, pack: Pack) -> Path:
    """Return where the codes of these settings lie, whether they are there or not."""
    decides = {name: getattr(settings, name) for name in ("data", "mels", "codes", "code_steps")}
    decides |= {"sample_rate": pack.sample_rate, "version": _VERSION}
    if settings.data == "pack":
        decides["classes"] = settings.classes
    return pack.folder / f"patch-codes-{digest(decides)[:8]}.npz"


def make_patch_codes(
    settings: PatchSettings, pack: Pack, device: torch.device, progress: Callable[[int, int], None] = lambda *_: None
) -> None:
    """Find the codes, unless they are there; of several processes one does. `progress` takes steps.

    Raises UserError where the pack's folder can't be written to.
    """
    path = patch_codes_file(settings, pack)

    def make() -> None:
        weights = {name: value.cpu().numpy() for name, value in _fitted(settings, pack, device, progress).items()}
        beside.write_arrays(path, {"fingerprint": np.array(_fingerprint(settings, pack)), **weights})

    beside.make_once(path, make)


@dataclass(frozen=True)
class PatchCodes:
    """What gives patches their codes."""

    codec: CodecKMeans
    frames: LogMelFrames

    @classmethod
    def read(cls, settings: PatchSettings, pack: Pack, device: torch.device | str = "cpu") -> Self:
        """Return those of the settings. Raises UserError if they are missing, damaged, or of another pack."""
        path = patch_codes_file(settings, pack)
        fix = "`bench run` with a suite of these settings makes them"
        arrays = beside.read_arrays(path, missing=f"the pack has no codes of patches; {fix}", again=_AGAIN)
        codec = _codec(settings, pack)
        try:
            fingerprint = str(arrays.pop("fingerprint"))
            weights = {name: torch.from_numpy(value) for name, value in arrays.items()}
            reason = misfit(weights, codec.state_dict())
        # of arrays by other names, or of text
        except (KeyError, TypeError) as error:
            raise beside.damaged(path, error, _AGAIN) from None
        if reason:
            raise beside.damaged(path, ValueError(reason[:200]), _AGAIN)
        beside.require_pack(path, fingerprint, _fingerprint(settings, pack), again=_AGAIN)
        codec.load_state_dict(weights)
        return cls(codec.to(device).eval(), LogMelFrames(pack.sample_rate, settings.mels))

    @property
    def digest(self) -> str:
        """A digest of the weights: 16 hex digits."""
        weights = self.codec.state_dict()
        content = b"".join(name.encode() + weights[name].cpu().numpy().tobytes() for name in sorted(weights))
        return hashlib.sha256(content).hexdigest()[:16]

    @property
    def patch(self) -> int:
        """How many samples it is from one patch to the next."""
        return GROUP * self.frames.hop

    def span(self, patches: int) -> int:
        """Return how many samples so many patches are made of: `frames.half` of them before the first one begins."""
        return self.frames.span(GROUP * patches)

    @torch.no_grad()
    def encode(self, waves: Tensor) -> Tensor:
        """Return the codes of waveforms in [-1, 1]: (b, span(p)) -> (b, p)."""
        return self.codec.encode(_patches(self.frames.of(waves)))[:, 0, 0].view(len(waves), -1)


@dataclass(frozen=True)
class Cut:
    """Which samples around a place are a window, and which the patches that are to be predicted from it.

    A window of `size` samples ends at the place, and the patch that follows it begins there. `back` says of each patch
    that is predicted how many patches before that one it is.
    """

    codes: PatchCodes
    size: int
    back: tuple[int, ...]

    @property
    def _patches(self) -> int:
        return 1 + max(self.back)

    @property
    def before(self) -> int:
        """How many samples before a place are needed."""
        return max(self.size, max(self.back) * self.codes.patch + self.codes.frames.half)

    @property
    def length(self) -> int:
        """How many samples are needed, those behind the place among them."""
        return self.before + self.codes.span(1) - self.codes.frames.half

    def pairs(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Return windows and their codes: int16 (b, length) -> (b, size) in [-1, 1], (b, len(back))."""
        waves = samples.float() / 32768
        found = self.codes.encode(waves[:, -self.codes.span(self._patches) :])
        columns = [self._patches - 1 - back for back in self.back]
        return waves[:, self.before - self.size : self.before].contiguous(), found[:, columns]


def code_sequences(codes: PatchCodes, settings: PatchSettings, pack: Pack) -> list[np.ndarray]:
    """Return the codes of windows, (24,) each: of the sounds that they were found on, at other places."""
    found: list[np.ndarray] = []
    first = settings.code_steps + _FITTED // _AT_ONCE
    device = next(codes.codec.parameters()).device
    for frames in _windows(settings, pack, device, range(first, first + _COUNTED // _AT_ONCE), _AT_ONCE):
        with torch.no_grad():
            of_windows = codes.codec.encode(_patches(frames))[:, 0, 0].view(len(frames), -1)
        found += [*of_windows.cpu().numpy()]
    return found


def _patches(frames: Tensor) -> Tensor:
    """Return the patches of frames, window after window: (b, 4 p, m) -> (b p, 4, m)."""
    return frames.unflatten(1, (-1, GROUP)).flatten(0, 1)


def _fingerprint(settings: PatchSettings, pack: Pack) -> str:
    return pack.fingerprint if settings.data == "pack" else ""


def _codec(settings: PatchSettings, pack: Pack) -> CodecKMeans:
    """Return the autoencoder as its seed draws it; what a run draws is not touched."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        made = create("codec_kmeans", sample_rate=pack.sample_rate, num_classes=settings.mels, num_codes=settings.codes)
    return cast("CodecKMeans", made)


def _fitted(
    settings: PatchSettings, pack: Pack, device: torch.device, progress: Callable[[int, int], None]
) -> dict[str, Tensor]:
    """Train the autoencoder, fit k-means to its latents, and return its weights."""
    model, steps = _codec(settings, pack).to(device), settings.code_steps
    task = CodecTask()
    recipe = Recipe(
        loss=task.losses[0], learning_rate=_LEARNING_RATE, batch_size=_BATCH_SIZE, max_steps=steps, evaluations=1
    )
    optimizer = optimizer_of(model, recipe)
    model.train()
    for step, frames in enumerate(_windows(settings, pack, device, range(steps), _BATCH_SIZE)):
        set_rate(optimizer, learning_rate(recipe, step))
        x = _patches(frames)
        train_step(model, optimizer, x, x, task, recipe)
        progress(step + 1, steps)
    model.eval()
    with torch.inference_mode():
        others = _windows(settings, pack, device, range(steps, steps + _FITTED // _AT_ONCE), _AT_ONCE)
        latents = torch.cat([model.latents(_patches(frames)).flatten(0, 1).float().cpu() for frames in others])
    if not latents.isfinite().all():
        fix = "leave code_steps as it is, or make the data's levels like those of recordings"
        raise UserError(f"code_steps={steps}: the autoencoder of codes has diverged: {fix}")
    model.fit_codebook(latents, _SEED)
    return model.state_dict()


def _windows(settings: PatchSettings, pack: Pack, device: torch.device, steps: range, size: int) -> Iterator[Tensor]:
    """Yield log-mel frames of `size` windows a step: (size, 96, m), each step's a function of its number alone."""
    task = CodecTask().with_settings(
        {"mels": settings.mels, "seconds": GROUP * _PATCHES / 100, "level": "as_recorded"}, "codes of patches"
    )
    frames_of: Callable[[Tensor], Tensor]
    if settings.data == "generated":
        log_mel = LogMelFrames(pack.sample_rate, settings.mels)
        notes = GeneratedWindows(log_mel.span(task.settings.frames), pack.sample_rate, device)
        draw, frames_of = notes.draw, lambda ids: log_mel.of(notes.samples(ids).float() / 32768)
    else:
        clips = Frames(task, pack, "train", clips_with(settings, pack, "train"), device)
        draw, frames_of = clips.draw, clips.frames
    for step in steps:
        yield frames_of(draw(step, size, _SEED))
