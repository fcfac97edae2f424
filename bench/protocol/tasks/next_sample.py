"""Next-sample prediction: of 256 codes, the one that comes next in a sound (arXiv:1609.03499, arXiv:2106.16036)."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, cast

import numpy as np
import numpy.typing as npt
from pydantic import Field

from bench.errors import UserError
from bench.protocol.sounds.coding import CODES, Coding, get_coding
from bench.protocol.sounds.generated import GeneratedWindows
from bench.protocol.sounds.levels import ClipSettings, at_level, gains, scaled
from bench.protocol.sounds.sequences import NextInSequence, Places, WindowSettings
from bench.protocol.task import Floats, register_task

# a report asks for metrics on machines that have no torch
if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from bench.data.pack import Pack
    from bench.protocol.batches import Batches
    from bench.protocol.recipe import Recipe
    from bench.protocol.spec import RunSpec

__all__ = ["NextSample", "NextSampleSettings", "Windows"]

# samples that linear prediction is fitted to: the context as published
_FIT = 1600


class NextSampleSettings(ClipSettings, WindowSettings):
    """What is predicted, of which sounds."""

    # int16 as 8 bits: steps in proportion to the level, or equal ones
    coding: Literal["mu_law", "linear"] = "mu_law"
    # samples that a model sees before the one that it predicts, of those whose outputs are trained
    context: Annotated[int, Field(ge=2, le=960_000)] = 1600
    # Samples of a clip before the first that is predicted. No model sees more of them, so that all predict the same.
    past: Annotated[int, Field(ge=100, le=960_000)] = 6000
    # what is trained on: the pack's train split, or notes that are played anew for each step, see bench.data.synthetic
    data: Literal["pack", "generated"] = "pack"


class NextSample(NextInSequence):
    """Classification of the next sample's code, judged by the bits that a sample takes."""

    name = "next_sample"
    settings_type = NextSampleSettings
    judged_by = ("coding", "past", "windows", "level", "level_to", "classes")
    modules: ClassVar[tuple[str, ...]] = (
        *(f"bench.protocol.sounds.{name}" for name in ("coding", "generated", "levels", "sequences", "windows")),
        *(f"bench.data.synthetic.{name}" for name in ("generated", "voices")),
    )

    settings: NextSampleSettings = NextSampleSettings()

    @property
    def coding(self) -> Coding:
        return get_coding(self.settings.coding)

    def require(self, spec: "RunSpec", pack: "Pack") -> None:
        task = self.of_run(spec)
        context, past, most = task.settings.context, task.settings.past, task.architecture.max_context
        if most is not None and context > most:
            raise UserError(f"{spec.name}: context={context} is more than max_context={most}: make that larger")
        if (seen := task.before + context) > past:
            condition = f", {task.before} of them as a condition," if task.before else ""
            raise UserError(f"{spec.name}: sees {seen} samples{condition} but past={past}: make that as large")
        for split in ("train", "val", "eval"):
            lengths = task.lengths(pack, split, spec.name)
            # each of a clip's windows ends at another sample
            places = 1 if split == "train" else task.settings.windows
            if lengths.min() < past + places:
                raise UserError(
                    f"{spec.name}: past={past} leaves no room for {places} window{'s' * (places > 1)} in a clip of "
                    f"{split}, of {lengths.min()} samples at {pack.sample_rate} Hz: make it smaller, in [task_settings]"
                )

    # --- batches

    def config(self, pack: "Pack") -> dict[str, Any]:
        return super().config(pack) | {"num_classes": CODES}

    def passes(self, recipe: "Recipe", seconds: float, sample_rate: int) -> float:  # noqa: ARG002
        """Return how many windows predict each of a clip's samples once."""
        return seconds * sample_rate / self.settings.context

    def data(
        self, pack: "Pack", split: str, recipe: "Recipe", device: "torch.device | str" = "cpu", clips: int | None = None
    ) -> "Batches":
        del recipe
        if split == "train" and self.settings.data == "generated":
            return cast("Batches", Generated(self, pack, device))
        return cast("Batches", Windows(self, pack, split, self.clips(pack, split)[:clips], device))

    # --- clips, and what nothing learned makes of them

    def at_level(self, clip: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
        """Return a whole clip's samples (n,) at the level that it would be trained on at."""
        return at_level(self.settings, clip)

    def floor_scores(self, pack: "Pack") -> dict[str, npt.NDArray[np.float32]]:
        """Return what predictors that learn nothing come to at the same places; NaN for what they do not have."""
        from bench.stats.predictors import floors

        eval_clips, train = (self.clips(pack, split) for split in ("eval", "train"))
        data = Windows(self, pack, "eval", eval_clips, "cpu")
        size = min(_FIT, self.settings.past)
        samples = pack.samples("eval")
        # (clips x windows, size + 1)
        waves = np.stack([samples[end - size : end + 1] for end in data.places(next(data.in_order(len(data))))])
        windows = np.repeat(data.gains.numpy(), self.settings.windows)[:, None]
        codes = self.coding.encode(scaled(waves, windows))
        found = floors(codes[:, :-1], codes[:, -1], self.coding.levels, self._counts(pack, train))
        return {name: self._of_clips(values, len(eval_clips)) for name, values in found.items()}

    def _counts(self, pack: "Pack", chosen: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return how often each code occurs in the train clips: (256,)."""
        index, samples = pack.clips("train").iloc[chosen], pack.samples("train")
        counts = np.zeros(CODES, np.int64)
        for start, length, factor in zip(
            index["start"], index["length"], gains(self.settings, pack, "train", chosen), strict=True
        ):
            codes = self.coding.encode(scaled(samples[start : start + length], factor))
            counts += np.bincount(codes, minlength=CODES)
        return counts

    def _of_clips(self, values: Floats, clips: int) -> npt.NDArray[np.float32]:
        """Return scores of clips by those of their windows, (clips x windows, 3), which have none of all positions."""
        means = values.reshape(clips, self.settings.windows, 3).mean(axis=1)
        return np.hstack([means, np.full_like(means, np.nan)]).astype(np.float32)

    # --- metrics

    def definition(self, metrics: Mapping[str, float | int | None], clips: int) -> str:  # noqa: ARG002
        settings = self.settings
        scaled = f", clips scaled to {settings.level_text}" if settings.level_text else ""
        return (
            f"bits are those that the next sample takes, one of {CODES} codes ({settings.coding.replace('_', '-')}"
            f"{scaled}): a mean over {settings.windows} places in each of eval's {clips} clips; lower is better. "
            "'All positions' are all samples of a window: compare those between entries of one context alone."
        )


class Windows(Places):
    """Windows of a split's clips as codes, each with the code that follows every sample of it."""

    task: NextSample

    def __init__(
        self, task: NextSample, pack: "Pack", split: str, chosen: npt.NDArray[np.int64], device: "torch.device | str"
    ) -> None:
        import torch

        from bench.protocol.batches import resident

        index, past = pack.clips(split).iloc[chosen], task.settings.past
        first, room = index["start"].to_numpy() + past, index["length"].to_numpy() - past
        super().__init__(task, split, first, room, pack.targets(split)[chosen], device)
        self.samples = resident(pack, split, self.device)
        self.gains = torch.from_numpy(gains(task.settings, pack, split, chosen)).float()

    def batch(self, ids: "Tensor") -> "tuple[Tensor, Tensor]":
        """Return windows and what follows each of their samples, as codes: (b,) -> (b, before + n), (b, n)."""
        from bench.protocol.batches import excerpts, to_device

        waves = excerpts(self.samples, self.places(ids) - self.size, self.size + 1, self.device)
        scaled = waves * to_device(self.gains[self.clip(ids)], self.device).unsqueeze(1)
        return _split(self.task, scaled.round().clamp(-32768, 32767).short())


class Generated(GeneratedWindows):
    """Windows of notes as codes, each with the code that follows every sample of it."""

    def __init__(self, task: NextSample, pack: "Pack", device: "torch.device | str") -> None:
        super().__init__(task.before + task.settings.context + 1, pack.sample_rate, device)
        self.task = task

    def batch(self, ids: "Tensor") -> "tuple[Tensor, Tensor]":
        """Return windows and what follows each of their samples, as codes: (b, before + n), (b, n)."""
        return _split(self.task, self.samples(ids))


def _split(task: NextSample, samples: "Tensor") -> "tuple[Tensor, Tensor]":
    """Return int16 samples (b, before + n + 1) as codes of the window and of what follows each of its samples."""
    codes = task.coding.encode(samples)
    return codes[:, :-1], codes[:, task.before + 1 :]


register_task(NextSample())
