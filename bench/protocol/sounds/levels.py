"""The clips that a task of sounds takes, and the level that it brings them to: a part of what it asks."""

import difflib
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator, Field, model_validator

from bench.errors import UserError
from bench.schema import Strict

# a report asks tasks for their settings on machines that have no torch
if TYPE_CHECKING:
    from bench.data.pack import Pack

__all__ = ["ChosenClips", "ClipSettings", "at_level", "clips_of", "clips_with", "gains", "level_of", "scaled"]


class ChosenClips(Strict):
    """Which clips."""

    # those that have one of these labels, in whatever order they are named; empty takes all
    classes: Annotated[list[str], AfterValidator(lambda names: sorted(set(names)))] = []


class ClipSettings(ChosenClips):
    """Which clips, at which level."""

    # clips are scaled to one peak, or one root mean square, `level_to` of full scale: in quiet ones everything is near
    # silence, so that they flatter whatever predicts or rebuilds them
    level: Literal["peak", "rms", "as_recorded"] = "peak"
    level_to: Annotated[float, Field(gt=0, le=1)] = 0.5

    @property
    def level_text(self) -> str:
        """What clips are scaled to, in words; '' if they are not."""
        level = {"peak": "a peak", "rms": "a root mean square", "as_recorded": ""}[self.level]
        return f"{level} of {self.level_to:g}" if level else ""

    @model_validator(mode="after")
    def _a_level_to_scale_to(self) -> Self:
        if self.level == "as_recorded" and self.level_to != type(self).model_fields["level_to"].default:
            raise ValueError(f"level_to={self.level_to:g} means nothing to level='as_recorded': leave it out")
        return self


def clips_with(settings: ChosenClips, pack: "Pack", split: str) -> npt.NDArray[np.int64]:
    """Return the clips of a split that have one of the classes: their numbers, ascending. Raises UserError."""
    if unknown := [name for name in settings.classes if name not in pack.labels]:
        near = "".join(f" (did you mean {name!r}?)" for name in difflib.get_close_matches(unknown[0], pack.labels, n=1))
        raise UserError(f"[task_settings] classes: {unknown[0]!r} is no class of {pack.folder}{near}")
    if not settings.classes:
        return np.arange(len(pack.clips(split)))
    columns = [pack.labels.index(name) for name in settings.classes]
    return np.flatnonzero(pack.targets(split)[:, columns].any(axis=1))


def gains(settings: ClipSettings, pack: "Pack", split: str, chosen: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return what samples of each clip are multiplied by, so that it has the level that is asked for: (clips,)."""
    kind = settings.level
    if kind == "as_recorded":
        return np.ones(len(chosen))
    key = (pack.fingerprint, split, kind)
    if key not in _levels:
        _levels[key] = np.array([level_of(clip, kind) for clip in clips_of(pack, split)])
    return gain(settings, _levels[key][chosen])


# of all clips of a split, by pack, split and kind: the whole split is read for them
_levels: dict[tuple[str, str, str], npt.NDArray[np.float64]] = {}


def gain(settings: ClipSettings, levels: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return what brings clips of these levels, of int16 samples, to the one that is asked for."""
    # silence stays silence
    return np.where(levels > 0, 32768 * settings.level_to / np.maximum(levels, 1e-9), 1.0)


def at_level(settings: ClipSettings, clip: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
    """Return a whole clip's samples (n,) at the level that is asked for."""
    if settings.level == "as_recorded":
        return clip
    return scaled(clip, gain(settings, np.array(level_of(clip, settings.level))))


def scaled(samples: npt.NDArray[np.int16], factor: Any) -> npt.NDArray[np.int16]:
    """Return samples, times a factor each: in fp32, as batches are, so that they become the same codes."""
    found = samples.astype(np.float32) * np.asarray(factor, np.float32)
    return np.rint(found).clip(-32768, 32767).astype(np.int16)


def clips_of(pack: "Pack", split: str) -> Iterator[npt.NDArray[np.int16]]:
    """Yield the samples of each clip of a split."""
    samples, index = pack.samples(split), pack.clips(split)
    for start, length in zip(index["start"], index["length"], strict=True):
        yield samples[start : start + length]


def level_of(clip: npt.NDArray[np.int16], kind: str) -> float:
    """Return a clip's peak, or its root mean square, in steps of int16."""
    if kind == "peak":
        return float(max(-int(clip.min()), int(clip.max())))
    return math.sqrt(np.square(clip, dtype=np.float64).mean())
