"""Codecs: sounds as a few codes a second, and what is lost when they are made from these again."""

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, cast

import numpy as np
import numpy.typing as npt
from pydantic import Field

from bench.errors import UserError
from bench.protocol.sounds.levels import ClipSettings, gains
from bench.protocol.sounds.windows import ClipWindows, WindowTask, cut
from bench.protocol.task import Bools, Floats, Metric, Statistic, register_task

# a report asks for metrics on machines that have no torch
if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from bench.data.pack import Pack
    from bench.protocol.batches import Batches
    from bench.protocol.recipe import Recipe
    from bench.protocol.spec import RunSpec

__all__ = ["GROUP", "CodecSettings", "CodecTask", "Frames", "perplexity"]

# frames that have a code in each stage, as the contract of architectures has it
GROUP = 4
# fixed for each kind of device, as evaluation's batch sizes are
_CPU_BATCH_SIZE, _ACCELERATOR_BATCH_SIZE = 16, 256
# windows of train that codebooks are fitted on, and that the mean frame is of
_WINDOWS = 2048


class CodecSettings(ClipSettings):
    """Of which sounds the codes are, and in which frames they are judged."""

    # bands of a frame
    mels: Annotated[int, Field(gt=0, le=1024)] = 80
    # of a window: what a model is given at once
    seconds: Annotated[float, Field(ge=0.04, le=30)] = 1.0

    @property
    def frames(self) -> int:
        """Frames of a window, in whole groups."""
        return GROUP * max(1, round(100 * self.seconds / GROUP))


class CodecTask(WindowTask):
    """Rebuilding of log-mel frames from codes, judged by the difference in decibels."""

    name = "codec"
    metrics = (
        Metric("distortion", "dB of distortion", higher_is_better=False, lowest=0.0),
        Metric("perplexity", "perplexity", lowest=1.0),
        Metric("used", "codes used", lowest=0.0, highest=1.0),
    )
    losses = ("squared_error",)
    settings_type = CodecSettings
    judged_by = ("mels", "seconds", "level", "level_to", "classes")
    modules: ClassVar[tuple[str, ...]] = tuple(
        f"bench.protocol.sounds.{name}" for name in ("levels", "log_mel", "windows")
    )

    settings: CodecSettings = CodecSettings()

    @property
    def stages(self) -> int:
        return int(self._run.config["stages"]) if self._run else 1

    @property
    def num_codes(self) -> int:
        """Codes of each stage."""
        return int(self._run.config["num_codes"]) if self._run else 1

    def require(self, spec: "RunSpec", pack: "Pack") -> None:
        from bench.protocol.sounds.log_mel import LogMelFrames, require_mels

        task = self.of_run(spec)
        settings, rate = task.settings, pack.sample_rate
        require_mels(rate, settings.mels, spec.name)
        needed = settings.frames * LogMelFrames(rate, settings.mels).hop
        for split in ("train", "val", "eval"):
            if (least := task.lengths(pack, split, spec.name).min()) < needed:
                raise UserError(
                    f"{spec.name}: seconds={settings.seconds:g}, but {split} has a clip of {least / rate:.3g} s: "
                    "make it smaller, in [task_settings]"
                )

    # --- batches

    def config(self, pack: "Pack") -> dict[str, Any]:
        return super().config(pack) | {"num_classes": self.settings.mels}

    def size(self, recipe: "Recipe", sample_rate: int) -> int:  # noqa: ARG002
        """Return the frames of an input."""
        return self.settings.frames

    def passes(self, recipe: "Recipe", seconds: float, sample_rate: int) -> float:  # noqa: ARG002
        return 100 * seconds / self.settings.frames

    def cost(self) -> dict[str, int]:
        """Return how many bits a second of sound takes."""
        return {"bits_per_second": round(100 / GROUP * self.stages * math.log2(self.num_codes))}

    def example(self, rows: int, size: int, classes: int) -> tuple["Tensor", "Tensor"]:
        import torch

        x = (0.3 * torch.randn(rows, size, classes, generator=torch.Generator().manual_seed(0))).clamp(-1, 1)
        x[0] = -1
        return x, x

    def output_shape(self, rows: int, size: int, classes: int) -> tuple[int, ...]:
        return rows, size, classes

    def logits_of(self, outputs: Any) -> Any:
        """Return the frames that a model has rebuilt; a loss is beside them."""
        return outputs[0] if isinstance(outputs, tuple) and outputs else outputs

    def loss(self, recipe: "Recipe", logits: "tuple[Tensor, Tensor]", targets: "Tensor") -> "Tensor":  # noqa: ARG002
        """Return the mean squared error of rebuilt frames (b, t, m), plus what the model adds to it, ()."""
        from torch.nn import functional as F

        rebuilt, added = logits
        return F.mse_loss(rebuilt, targets) + added

    def activation(self, logits: "Tensor") -> "Tensor":
        return logits

    def data(
        self, pack: "Pack", split: str, recipe: "Recipe", device: "torch.device | str" = "cpu", clips: int | None = None
    ) -> "Batches":
        del recipe
        return cast("Batches", Frames(self, pack, split, self.clips(pack, split)[:clips], device))

    def score(self, model: "nn.Module", data: "Batches") -> npt.NDArray[np.float32]:
        """Return every clip's distortion, and how often it takes each code: (clips, 1 + stages * num_codes)."""
        import torch

        frames, codes = cast("Frames", data), cast("Any", model)
        was_training = model.training
        model.eval()
        errors = torch.zeros(len(frames.targets), dtype=torch.float64)
        counts = torch.zeros(len(frames.targets), self.stages, self.num_codes, dtype=torch.float64)
        stages = torch.arange(self.stages)
        with torch.inference_mode():
            for ids, x in frames.windows(_batch_size(frames.device)):
                new, of_clip = frames.is_new(ids), frames.clip(ids)  # (b, t / 4), (b,)
                errors.index_add_(0, of_clip, _errors(model(x)[0], x, new))
                found = codes.encode(x).cpu()[new]  # (groups, stages)
                clips = of_clip.repeat_interleave(new.sum(dim=1)).unsqueeze(1)
                counts.index_put_((clips, stages, found), torch.ones((), dtype=torch.float64), accumulate=True)
        model.train(was_training)
        distortions = _distortion(errors, frames.groups)
        return torch.cat([distortions.unsqueeze(1), counts.flatten(1)], dim=1).float().numpy()

    def finish(self, model: "nn.Module", data: "Batches", recipe: "Recipe", seed: int) -> bool:
        """Fit the codebook of a model that is trained without one, on the latents of windows that no step has seen."""
        import torch

        from architectures import CodecFittedLast

        if not isinstance(model, CodecFittedLast):
            return False
        was_training = model.training
        model.eval()
        with torch.inference_mode():
            drawn = cast("Frames", data).some(_WINDOWS, seed, recipe.max_steps)
            latents = [model.latents(x).flatten(0, 1).float().cpu() for x in drawn]
        model.fit_codebook(torch.cat(latents), seed)
        model.train(was_training)
        return True

    # --- clips, and what nothing learned makes of them

    def floor_scores(self, pack: "Pack") -> dict[str, npt.NDArray[np.float32]]:
        """Return the distortion of clips all of whose frames are one: the mean of train's, or each clip's own."""
        import torch

        data = Frames(self, pack, "eval", self.clips(pack, "eval"), "cpu")
        train = Frames(self, pack, "train", self.clips(pack, "train"), "cpu")
        mean = torch.cat(list(train.some(_WINDOWS, 0, 0))).double().mean(dim=(0, 1))  # (m,)
        of_clips = data.means()
        floors = {"mean_frame": mean.expand(len(of_clips), -1), "clip_mean": of_clips}
        errors = {name: torch.zeros(len(of_clips), dtype=torch.float64) for name in floors}
        for ids, x in data.windows(_CPU_BATCH_SIZE):
            new, of_clip = data.is_new(ids), data.clip(ids)
            for name, frames in floors.items():
                errors[name].index_add_(0, of_clip, _errors(frames[of_clip].unsqueeze(1).float(), x, new))
        return {name: _distortion(found, data.groups).unsqueeze(1).float().numpy() for name, found in errors.items()}

    # --- metrics

    def score_shape(self, targets: Bools) -> tuple[int, ...]:
        return len(targets), 1 + self.stages * self.num_codes

    def floor_shape(self, targets: Bools) -> tuple[int, ...]:
        """Return that of a distortion alone: floors have no codes, of which each run has another number."""
        return len(targets), 1

    def clip_metrics(self, targets: Bools, scores: Floats) -> dict[str, Floats]:  # noqa: ARG002
        """Return each clip's distortion; the others are of all clips' codes together, and NaN."""
        none = np.full(len(scores), np.nan)
        return {"distortion": scores[:, 0], "perplexity": none, "used": none}

    def evaluate(self, targets: Bools, scores: Floats, leaf: Bools) -> dict[str, float | int]:
        if not np.isfinite(scores).all():
            raise ValueError("scores that are not finite")
        once = np.ones((len(scores), 1), np.uint8)
        return {name: float(values[0]) for name, values in self.statistic(targets, scores, leaf)(once).items()}

    def statistic(self, targets: Bools, scores: Floats, leaf: Bools) -> Statistic:  # noqa: ARG002
        """Return what computes the mean distortion, and perplexity and use of the codes, each a mean over stages."""
        distortions, counts = scores[:, 0].astype(np.float64), scores[:, 1:].astype(np.float64)

        def of(weights: npt.NDArray[np.uint8]) -> dict[str, Floats]:
            found = {"distortion": distortions @ weights / weights.sum(axis=0)}
            if not counts.shape[1]:
                # of a floor, which has no codes
                return found | dict.fromkeys(("perplexity", "used"), np.full(weights.shape[1], np.nan))
            taken = (counts.T @ weights).reshape(self.stages, -1, weights.shape[1])
            return found | {"perplexity": perplexity(taken).mean(axis=0), "used": (taken > 0).mean(axis=(0, 1))}

        return of

    def definition(self, metrics: Mapping[str, float | int | None], clips: int) -> str:  # noqa: ARG002
        settings = self.settings
        scaled = f", of clips scaled to {settings.level_text}" if settings.level_text else ""
        return (
            f"distortion is the root mean square, over a clip, of the decibels between its log-mel frames "
            f"({settings.mels} bands, every 10 ms{scaled}) and those that {100 // GROUP} codes a second give: a mean "
            f"over eval's {clips} clips; lower is better. Perplexity is 2 to the power of the bits that a code has, "
            "counted over all of them."
        )


def perplexity(counts: Floats) -> Floats:
    """Return e to the entropy of codes, by how often each is taken: (stages, k, b) -> (stages, b)."""
    from scipy.stats import entropy

    return np.exp(entropy(counts, axis=1))


def _batch_size(device: "torch.device") -> int:
    return _CPU_BATCH_SIZE if device.type == "cpu" else _ACCELERATOR_BATCH_SIZE


def _errors(rebuilt: "Tensor", x: "Tensor", new: "Tensor") -> "Tensor":
    """Return windows' sums over groups that count of the mean squared difference, in dB^2: (b, t, m) -> (b,)."""
    from bench.protocol.sounds.log_mel import SPAN_DB

    squares = (SPAN_DB * (rebuilt.float() - x)).square().unflatten(1, (-1, GROUP)).mean(dim=(2, 3))
    return (squares.double().cpu() * new).sum(dim=1)


def _distortion(errors: "Tensor", groups: "Tensor") -> "Tensor":
    return (errors / groups).sqrt()


class Frames(ClipWindows):
    """Windows of a split's clips as log-mel frames, which are inputs and targets.

    Train's begin at any sample, so that there are as many as such samples. Other splits' follow on each other; the last
    one ends with the clip's last whole group, and of it those groups count that are in no window before.
    """

    def __init__(
        self, task: CodecTask, pack: "Pack", split: str, chosen: npt.NDArray[np.int64], device: "torch.device | str"
    ) -> None:
        import torch

        from bench.protocol.batches import resident
        from bench.protocol.sounds.log_mel import LogMelFrames

        self.is_train, self.size = split == "train", task.settings.frames
        self.log_mel = LogMelFrames(pack.sample_rate, task.settings.mels)
        index = pack.clips(split).iloc[chosen]
        # of each clip: its first sample, and how many samples and whole groups it has
        self.first, self.samples_of = (torch.tensor(index[name].to_numpy(copy=True)) for name in ("start", "length"))
        self.groups = self.samples_of // (GROUP * self.log_mel.hop)
        window = self.size * self.log_mel.hop
        counts = self.samples_of - window + 1 if self.is_train else -(-self.groups * GROUP // self.size)
        super().__init__(counts, device)
        # how many windows have as many samples as there are
        self.epoch_size = max(1, int(self.samples_of.sum()) // window)
        self.samples = resident(pack, split, self.device)
        self.gains = torch.from_numpy(gains(task.settings, pack, split, chosen)).float()
        self.targets = torch.from_numpy(task.targets(pack.targets(split)[chosen])).float()

    def _first_group(self, ids: "Tensor") -> "Tensor":
        """Return the group that a window of val or eval begins with, by its number in the clip: (b,)."""
        of_window = self.size // GROUP
        return (self.number(ids) * of_window).minimum(self.groups[self.clip(ids)] - of_window)

    def is_new(self, ids: "Tensor") -> "Tensor":
        """Return which groups of windows of val or eval are in no window before: (b, t / 4)."""
        import torch

        of_window = self.size // GROUP
        seen = self.number(ids) * of_window - self._first_group(ids)
        return torch.arange(of_window) >= seen.unsqueeze(1)

    def frames(self, ids: "Tensor") -> "Tensor":
        """Return windows as frames: (b,) -> (b, t, m). Beyond a clip there is silence."""
        from bench.protocol.batches import to_device

        clip, hop = self.clip(ids), self.log_mel.hop
        start = self.number(ids) if self.is_train else self._first_group(ids) * GROUP * hop
        first, size = self.first[clip], self.log_mel.span(self.size)
        start = first + start - self.log_mel.half
        waves = cut(self.samples, start, size, first, first + self.samples_of[clip], self.device)
        return self.log_mel.of(waves * to_device(self.gains[clip].unsqueeze(1) / 32768, self.device))

    def batch(self, ids: "Tensor") -> "tuple[Tensor, Tensor]":
        """Return windows as inputs and as what is to be made of them: (b,) -> twice (b, t, m)."""
        frames = self.frames(ids)
        return frames, frames

    def windows(self, batch_size: int) -> "Iterator[tuple[Tensor, Tensor]]":
        """Yield all windows in order: ids (b,) and frames (b, t, m)."""
        for ids in self.in_order(batch_size):
            yield ids, self.frames(ids)

    def some(self, count: int, seed: int, step: int) -> "Iterator[Tensor]":
        """Yield frames of so many windows of train, at random places, in batches: those of that step and on."""
        batch_size = min(count, _ACCELERATOR_BATCH_SIZE)
        for number in range(-(-count // batch_size)):
            yield self.frames(self.draw(step + number, batch_size, seed))

    def means(self) -> "Tensor":
        """Return the mean frame of each clip of val or eval: (clips, m), in float64."""
        import torch

        sums = torch.zeros(len(self.targets), self.log_mel.mels, dtype=torch.float64)
        for ids, x in self.windows(_CPU_BATCH_SIZE):
            of_groups = x.unflatten(1, (-1, GROUP)).double().sum(dim=2).cpu()  # (b, t / 4, m)
            sums.index_add_(0, self.clip(ids), (of_groups * self.is_new(ids).unsqueeze(2)).sum(dim=1))
        return sums / (GROUP * self.groups.unsqueeze(1))


register_task(CodecTask())
