"""Contrastive pre-training: of many sounds, the one that is from the same clip (SimCLR, arXiv:2002.05709).

No label is read, unless `classes` are chosen. Any architecture of tagging is an encoder, with as many classes as the
projection has dimensions.
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, cast

import numpy as np
import numpy.typing as npt
from pydantic import Field

from bench.data.dataset import SPLITS
from bench.errors import UserError
from bench.protocol.recipe import OF_SELECTION
from bench.protocol.sounds.generated import GeneratedWindows, require_sounding
from bench.protocol.sounds.levels import ChosenClips
from bench.protocol.sounds.windows import ClipWindows, WindowTask
from bench.protocol.task import Bools, Floats, Metric, register_task

# a report asks for metrics on machines that have no torch
if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from bench.data.pack import Pack
    from bench.protocol.batches import Batches
    from bench.protocol.recipe import Recipe
    from bench.protocol.spec import RunSpec

__all__ = ["Contrast", "ContrastSettings", "GeneratedViews", "Views", "nt_xent"]

# fields of the recipe that make two views of one chunk
_AUGMENTED_BY = ("gain_db", "time_shift")
# of a clip's scores
_BITS, _TOP1 = range(2)
# clips whose candidates are looked up at once
_ROWS = 1024


class ContrastSettings(ChosenClips):
    """Which two sounds belong together, and where they come from."""

    # two chunks of a clip that do not overlap (as COLA, arXiv:2010.10915), or one chunk, augmented twice
    views: Literal["chunks", "augmented"] = "chunks"
    # of a view
    seconds: Annotated[float, Field(ge=0.1, le=30)] = 1.0
    # what similarities are divided by
    temperature: Annotated[float, Field(gt=0, le=10)] = 0.1
    # dimensions in which views are compared
    projection: Annotated[int, Field(ge=2, le=65_536)] = 128
    # what is trained on: the pack's train split, or notes that are played anew for each step, see bench.data.synthetic
    data: Literal["pack", "generated"] = "pack"
    # of val and eval: among how many clips, its own included, a view is sought
    candidates: Annotated[int, Field(ge=2, le=10_000)] = 64

    @property
    def is_one_chunk(self) -> bool:
        """Whether both views are of the same chunk."""
        return self.views == "augmented"


class Contrast(WindowTask):
    """Finding a clip's other view, judged by the bits that this takes among a fixed number of clips.

    A batch holds two views of half as many clips: one of each, and then the others in the same order.
    """

    name = "contrast"
    metrics = (Metric("bits", "bits", higher_is_better=False, lowest=0.0), Metric("top1", "top-1", True, 0.0, 1.0))
    losses = ("nt_xent",)
    keeps_last = True
    settings_type = ContrastSettings
    judged_by = ("views", "seconds", "candidates", "classes")
    # it has an augmentation, which makes views
    without = (*(name for name in WindowTask.without if name not in _AUGMENTED_BY), *OF_SELECTION)
    modules: ClassVar[tuple[str, ...]] = (
        *(f"bench.protocol.sounds.{name}" for name in ("generated", "levels", "windows")),
        *(f"bench.data.synthetic.{name}" for name in ("generated", "voices")),
    )

    settings: ContrastSettings = ContrastSettings()

    def judged_on(self) -> dict[str, Any]:
        """Return what changes the question: settings, the sample rate, and of a run what its views are augmented by."""
        if not self._run or not self.settings.is_one_chunk:
            return super().judged_on()
        return super().judged_on() | {name: getattr(self._run.recipe, name) for name in _AUGMENTED_BY}

    def clips(self, pack: "Pack", split: str) -> npt.NDArray[np.int64]:
        """Return the clips that have room for both views, in what was recorded of them."""
        from bench.protocol.batches import real_lengths

        chosen = super().clips(pack, split)
        lengths = real_lengths(pack.clips(split), pack.sample_rate)[chosen]
        return chosen[lengths >= self.views_in_a_row * round(self.settings.seconds * pack.sample_rate)]

    @property
    def views_in_a_row(self) -> int:
        """How many views of a clip there is to be room for."""
        return 1 if self.settings.is_one_chunk else 2

    def require(self, spec: "RunSpec", pack: "Pack") -> None:
        task, recipe = self.of_run(spec), spec.recipe
        settings = task.settings
        if recipe.batch_size % 2 or recipe.batch_size < 4:
            why = "views are no pairs" if recipe.batch_size % 2 else "views have none to be told from"
            raise UserError(f"{spec.name}: batch_size={recipe.batch_size} {why}: make it even, and 4 at least")
        if settings.is_one_chunk and not any(getattr(recipe, name) for name in _AUGMENTED_BY):
            fix = "set gain_db or time_shift, in train"
            raise UserError(f"{spec.name}: views='augmented' without augmentation are the same twice: {fix}")
        if settings.data == "generated":
            require_sounding(task.views_in_a_row * settings.seconds, spec.name)
        # nothing of train is read where sounds are generated
        splits = SPLITS if settings.data == "pack" else SPLITS[1:]
        counts = {split: len(task.clips(pack, split)) for split in splits}
        for split, count in counts.items():
            if count < 2:
                fix = "make seconds smaller, or leave classes out, in task_settings"
                raise UserError(f"{spec.name}: {count} clips of {split} are as long as the views: {fix}")
        if settings.data == "pack" and counts["train"] < recipe.batch_size // 2:
            fix = f"make it {2 * counts['train']} or less, or seconds smaller"
            raise UserError(
                f"{spec.name}: batch_size={recipe.batch_size}: two views each of {counts['train']} clips of train, "
                f"which is all that are long enough, do not fill it: {fix}"
            )

    # --- batches

    def config(self, pack: "Pack") -> dict[str, Any]:
        return super().config(pack) | {"num_classes": self.settings.projection}

    def size(self, recipe: "Recipe", sample_rate: int) -> int:  # noqa: ARG002
        return round(self.settings.seconds * sample_rate)

    def passes(self, recipe: "Recipe", seconds: float, sample_rate: int) -> float:  # noqa: ARG002
        return seconds / self.settings.seconds

    def loss(self, recipe: "Recipe", logits: "Tensor", targets: "Tensor") -> "Tensor":  # noqa: ARG002
        return nt_xent(logits, self.settings.temperature)

    def activation(self, logits: "Tensor") -> "Tensor":
        """Return directions: (b, p) -> (b, p), of length 1."""
        from torch.nn import functional as F

        return F.normalize(logits, dim=1)

    def data(
        self, pack: "Pack", split: str, recipe: "Recipe", device: "torch.device | str" = "cpu", clips: int | None = None
    ) -> "Batches":
        if split == "train" and self.settings.data == "generated":
            return cast("Batches", GeneratedViews(self, pack, device))
        return cast("Batches", Views(self, pack, split, self.clips(pack, split)[:clips], recipe, device))

    def score(self, model: "nn.Module", data: "Batches") -> npt.NDArray[np.float32]:
        """Return of every clip the bits and the top-1 of finding its second view by the first one: (clips, 2)."""
        import torch

        from bench.protocol.evaluate import evaluation_batch_size

        views = cast("Views", data)
        was_training = model.training
        model.eval()
        found = torch.zeros(2, len(views.targets), self.settings.projection)
        with torch.inference_mode():
            for ids in views.in_order(max(1, evaluation_batch_size(views.device) // 2)):
                both = self.activation(model(views.pairs(ids)).float())
                found[:, ids] = both.unflatten(0, (2, -1)).cpu()
        model.train(was_training)
        return self._judged(*found.double()).float().numpy()

    def _judged(self, first: "Tensor", second: "Tensor") -> "Tensor":
        """Return scores by directions (clips, p): each clip is sought among itself and those behind it, in a circle."""
        import torch

        clips = len(first)
        places = torch.arange(min(self.settings.candidates, clips))
        scores = []
        for rows in torch.arange(clips).split(_ROWS):
            candidates = (rows.unsqueeze(1) + places) % clips
            similar = (first[rows] @ second.T).gather(1, candidates) / self.settings.temperature
            bits = (similar.logsumexp(dim=1) - similar[:, 0]) / math.log(2)
            # one as near is as good as nearer: an encoder that says the same of all has found nothing
            top1 = (similar[:, 1:] < similar[:, :1]).all(dim=1)
            scores.append(torch.stack([bits.clamp_min(0), top1.double()], dim=1))
        return torch.cat(scores)

    # --- metrics

    def score_shape(self, targets: Bools) -> tuple[int, ...]:
        return len(targets), 2

    def clip_metrics(self, targets: Bools, scores: Floats) -> dict[str, Floats]:  # noqa: ARG002
        return {"bits": scores[:, _BITS], "top1": scores[:, _TOP1]}

    def floors(self, targets: Bools) -> dict[str, float]:
        """Return the bits of a guess."""
        return {"chance": math.log2(min(self.settings.candidates, len(targets)))}

    def definition(self, metrics: Mapping[str, float | int | None], clips: int) -> str:  # noqa: ARG002
        settings = self.settings
        views = "augmentations of one chunk" if settings.is_one_chunk else "chunks that do not overlap"
        return (
            f"bits are those that it takes to find a clip's other view among {min(settings.candidates, clips)} clips, "
            f"by similarity, the two views being {views}, of {settings.seconds:g} s: a mean over eval's {clips} clips "
            "that are long enough; lower is better."
        )


def nt_xent(outputs: "Tensor", temperature: float) -> "Tensor":
    """Return the normalised temperature-scaled cross-entropy: (2b, p) -> (), rows i and b + i being two views.

    Each view is to find the other among all but itself (arXiv:2002.05709, equation 1).
    """
    import torch
    from torch.nn import functional as F

    # of what is nearly nothing, the direction would have a gradient without bounds
    directions = F.normalize(outputs.float(), dim=1, eps=1e-4)
    similar = directions @ directions.T / temperature
    rows = torch.arange(len(similar), device=similar.device)
    # no branch, and no infinity, whose gradient is none
    similar = similar.masked_fill(rows.unsqueeze(1) == rows, torch.finfo(similar.dtype).min)
    return F.cross_entropy(similar, rows.roll(len(rows) // 2))


class Views(ClipWindows):
    """Two views of each of a split's clips: of train at random places, of others the first and the last chunk.

    Augmented ones are two of one chunk, which on val and eval is in the middle of its clip.
    """

    def __init__(
        self,
        task: Contrast,
        pack: "Pack",
        split: str,
        chosen: npt.NDArray[np.int64],
        recipe: "Recipe",
        device: "torch.device | str",
    ) -> None:
        import torch

        from bench.protocol.batches import real_lengths, resident

        super().__init__(torch.ones(len(chosen), dtype=torch.int64), device)
        index = pack.clips(split).iloc[chosen]
        self.first = torch.tensor(index["start"].to_numpy(copy=True))
        self.length_of = torch.from_numpy(real_lengths(index, pack.sample_rate))
        self.size, self.recipe = task.size(recipe, pack.sample_rate), recipe
        self.is_one_chunk = task.settings.is_one_chunk
        self.epoch_size = 2 * len(chosen)
        self.samples = resident(pack, split, self.device)
        self.targets = torch.from_numpy(task.targets(pack.targets(split)[chosen])).float()

    def draw(self, step: int, batch_size: int, seed: int) -> "Tensor":
        """Return clips, each at most once an epoch, with the first samples of both views within them: (b / 2, 3)."""
        import torch

        from bench.protocol.batches import epoch_order

        # whole batches of an epoch, so that no clip is in one twice
        count = batch_size // 2
        epoch, number = divmod(step, len(self.first) // count)
        clips = epoch_order(len(self.first), seed, epoch)[number * count : (number + 1) * count]
        room = (self.length_of[clips] - self.size).numpy()
        random = np.random.default_rng((seed, step, 3)).random((2, len(clips)))
        if self.is_one_chunk:
            one = other = np.floor(random[0] * (room + 1))
        else:
            # what is left of the clip beside both lies before the first, between them, or behind
            before, until = np.floor(np.sort(random, axis=0) * (room - self.size + 1))
            one, other = before, until + self.size
        return torch.stack([clips, *(torch.from_numpy(start.astype(np.int64)) for start in (one, other))], dim=1)

    def batch(self, ids: "Tensor") -> "tuple[Tensor, Tensor]":
        """Return both views of clips, as `draw` gives them, with nothing as targets: (b / 2, 3) -> (b, n), (b, 1)."""
        import torch

        clips, *starts = ids.unbind(dim=1)
        x = self._waves(torch.cat([self.first[clips] + start for start in starts]))
        return x, x.new_zeros(len(x), 1)

    def pairs(self, ids: "Tensor") -> "Tensor":
        """Return both views of clips of val or eval: (b,) -> (2b, n)."""
        import torch

        from bench.protocol.augment import augment

        room = self.length_of[ids] - self.size
        starts = [room // 2, room // 2] if self.is_one_chunk else [torch.zeros_like(room), room]
        x = self._waves(torch.cat([self.first[ids] + start for start in starts]))
        if not self.is_one_chunk:
            return x
        # clip by clip, so that whatever is scored, in whatever batches, is given the same
        views = x.unflatten(0, (2, -1))
        both = [augment(views[:, i], x.new_zeros(2, 1), self.recipe, 0, int(clip))[0] for i, clip in enumerate(ids)]
        return torch.stack(both, dim=1).flatten(0, 1)

    def _waves(self, starts: "Tensor") -> "Tensor":
        """Return chunks from these samples on, as float32 in [-1, 1]: (b,) -> (b, n)."""
        from bench.protocol.batches import excerpts

        return excerpts(self.samples, starts, self.size, self.device).float().mul_(2.0**-15)


class GeneratedViews(GeneratedWindows):
    """Two views of notes that are played anew for each step: nothing is read."""

    def __init__(self, task: Contrast, pack: "Pack", device: "torch.device | str") -> None:
        self.of_view = round(task.settings.seconds * pack.sample_rate)
        super().__init__(task.views_in_a_row * self.of_view, pack.sample_rate, device)

    def draw(self, step: int, batch_size: int, seed: int) -> "Tensor":
        """Return what makes the notes of a step, half as many as there are views."""
        return super().draw(step, batch_size // 2, seed)

    def batch(self, ids: "Tensor") -> "tuple[Tensor, Tensor]":
        """Return both views of each note, with nothing as targets: (b, n), (b, 1)."""
        import torch

        notes = self.samples(ids)
        x = torch.cat([notes[:, : self.of_view], notes[:, -self.of_view :]]).float().mul_(2.0**-15)
        return x, x.new_zeros(len(x), 1)


register_task(Contrast())
