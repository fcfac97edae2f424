"""Pre-training without labels: of 40 ms of a spectrogram as one of k codes, the one that comes next (arXiv:2010.11459).

Codes are found by an autoencoder and k-means, see patch_codes.py. What predicts them reads the waveform, so that its
front end learns, too: it is any architecture of tagging, whose classes are the codes.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, cast

import numpy as np
import numpy.typing as npt
from pydantic import Field

from bench.data.dataset import SPLITS
from bench.errors import UserError
from bench.protocol.recipe import OF_SELECTION
from bench.protocol.sounds.generated import GeneratedWindows, require_sounding
from bench.protocol.sounds.levels import clips_with
from bench.protocol.sounds.patches import PatchSettings
from bench.protocol.sounds.sequences import NextCodeTask, Places, PlaceSettings, clip_means
from bench.protocol.sounds.windows import cut
from bench.protocol.task import TrainedRun, register_task
from bench.protocol.tasks.codec import GROUP

# a report asks for metrics on machines that have no torch
if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from bench.data.pack import Pack
    from bench.protocol.batches import Batches
    from bench.protocol.recipe import Recipe
    from bench.protocol.sounds.patch_codes import Cut
    from bench.protocol.spec import RunSpec

__all__ = ["NextPatch", "NextPatchSettings"]

# seconds of a patch
_PATCH = 0.04
_SOUNDS = ("generated", "levels", "log_mel", "patch_codes", "patches", "sequences", "tokens", "windows")
# by counts of so many codes in a row
_FLOORS = ("unigram", "bigram")


class NextPatchSettings(PatchSettings, PlaceSettings):
    """What the codes are, and how long a window is that the next one is predicted from."""

    # of a window: what a model is given
    seconds: Annotated[float, Field(ge=0.1, le=30)] = 1.0


class NextPatch(NextCodeTask):
    """Classification of the 40 ms that follow a window, as one of k codes, judged by the bits that it takes.

    Models take (b, n) waveforms and return logits (b, k). Those that return some at each of t tokens, (b, t, k), are
    trained at all of them: token i, from 0, ends at (i + 1) n / t samples, and is to predict the first patch that
    begins there or later, of those that lie side by side up to the one behind the window. They are judged at the last.
    """

    name = "next_patch"
    settings_type = NextPatchSettings
    judged_by = ("seconds", "windows", "codes", "code_steps", "mels", "data", "classes")
    keeps_last = True
    without = (*NextCodeTask.without, *OF_SELECTION)
    modules: ClassVar[tuple[str, ...]] = (
        *(f"bench.protocol.sounds.{name}" for name in _SOUNDS),
        *(f"bench.data.synthetic.{name}" for name in ("generated", "voices")),
        *("bench.protocol.tasks.codec", "architectures.codec"),
    )

    settings: NextPatchSettings = NextPatchSettings()

    def prepare(
        self,
        pack: "Pack",
        trained: TrainedRun | None,
        load: Callable[[TrainedRun], "nn.Module"],
        progress: Callable[[int, int], None] = lambda *_: None,
        *,
        device: "torch.device | str" = "cpu",
    ) -> None:
        """Find the codes, and keep what gives them in the pack, unless it is there."""
        import torch

        from bench.protocol.sounds.patch_codes import make_patch_codes

        del trained, load
        make_patch_codes(self.settings, pack, torch.device(device), progress)

    def codes_digest(self, pack: "Pack") -> str:
        """Return a digest of what gives patches their codes: made on another machine, they are others."""
        from bench.protocol.sounds.patch_codes import PatchCodes

        return PatchCodes.read(self.settings, pack).digest

    def require(self, spec: "RunSpec", pack: "Pack") -> None:
        from bench.protocol.sounds.log_mel import require_mels
        from bench.protocol.sounds.patch_codes import PatchCodes, patch_codes_file

        task = self.of_run(spec)
        settings, needed = task.settings, task.settings.seconds + _PATCH
        require_mels(pack.sample_rate, settings.mels, spec.name)
        if settings.data == "generated":
            require_sounding(needed, spec.name)
        for split in SPLITS if settings.data == "pack" else SPLITS[1:]:
            if not len(clips_with(settings, pack, split)):
                raise UserError(f"{spec.name}: no clip of {split} has one of classes={settings.classes}")
            if not len(task.clips(pack, split)):
                raise UserError(
                    f"{spec.name}: seconds={settings.seconds:g}, but no clip of {split} has the {needed:g} s of a "
                    "window and of what follows: make it smaller, in [task_settings]"
                )
        # those that are there; else the run's own are made
        if patch_codes_file(settings, pack).exists():
            PatchCodes.read(settings, pack)

    # --- batches

    @property
    def context(self) -> int:
        """The samples of a window."""
        assert self._run is not None
        return self._samples(self._run.config["sample_rate"])

    @property
    def tokens(self) -> int | None:
        """At how many places of a window the run's model predicts; None: at its end alone, without a dimension."""
        from bench.protocol.sounds.tokens import tokens_of

        return tokens_of(self._run, self.context) if self._run else None

    def _samples(self, sample_rate: int) -> int:
        return round(self.settings.seconds * sample_rate)

    def _patch(self, sample_rate: int) -> int:
        from bench.protocol.sounds.log_mel import LogMelFrames

        return GROUP * LogMelFrames(sample_rate, self.settings.mels).hop

    def config(self, pack: "Pack") -> dict[str, Any]:
        return super().config(pack) | {"num_classes": self.settings.codes}

    def size(self, recipe: "Recipe", sample_rate: int) -> int:  # noqa: ARG002
        return self._samples(sample_rate)

    def passes(self, recipe: "Recipe", seconds: float, sample_rate: int) -> float:  # noqa: ARG002
        """Return how many windows a clip is as long as."""
        return seconds / self.settings.seconds

    def cost(self) -> dict[str, int]:
        """Return how many codes there are to choose from."""
        return {"codes": self.settings.codes}

    def example(self, rows: int, size: int, classes: int) -> tuple["Tensor", "Tensor"]:
        import torch

        return super().example(rows, size, classes)[0], torch.zeros(rows, self.tokens or 1, dtype=torch.int64)

    def output_shape(self, rows: int, size: int, classes: int) -> tuple[int, ...]:  # noqa: ARG002
        return (rows, self.tokens, classes) if self.tokens else (rows, classes)

    def loss(self, recipe: "Recipe", logits: "Tensor", targets: "Tensor") -> "Tensor":  # noqa: ARG002
        """Return the cross-entropy, in nats: (b, k) or (b, t, k), and codes (b, 1) or (b, t) -> ()."""
        from torch.nn import functional as F

        return F.cross_entropy(logits.flatten(0, -2), targets.flatten())

    def judged(self, logits: "Tensor", targets: "Tensor") -> "Tensor":
        return super().judged(logits if logits.ndim == 3 else logits.unsqueeze(1), targets)

    def data(
        self, pack: "Pack", split: str, recipe: "Recipe", device: "torch.device | str" = "cpu", clips: int | None = None
    ) -> "Batches":
        del recipe
        # at all tokens only where these are trained
        how = self._cut(pack, device, self._back(pack) if split == "train" else (0,))
        if split == "train" and self.settings.data == "generated":
            return cast("Batches", Generated(how, pack, device))
        return cast("Batches", Windows(self, how, pack, split, self.clips(pack, split)[:clips], device))

    def _cut(self, pack: "Pack", device: "torch.device | str", back: tuple[int, ...]) -> "Cut":
        from bench.protocol.sounds.patch_codes import Cut, PatchCodes

        return Cut(PatchCodes.read(self.settings, pack, device), self._samples(pack.sample_rate), back)

    def _back(self, pack: "Pack") -> tuple[int, ...]:
        """Return of each token's patch how many patches before the one behind the window it is."""
        t, n, patch = self.tokens or 1, self._samples(pack.sample_rate), self._patch(pack.sample_rate)
        # token i ends (t - 1 - i) n / t samples before the window's end: as many whole patches as there is room for
        return tuple(n * (t - 1 - token) // (t * patch) for token in range(t))

    # --- clips, and what nothing learned makes of them

    def clips(self, pack: "Pack", split: str) -> npt.NDArray[np.int64]:
        """Return the clips that have room for a window and the patch that follows, in what was recorded of them."""
        from bench.protocol.batches import real_lengths

        chosen, lengths = super().clips(pack, split), real_lengths(pack.clips(split), pack.sample_rate)
        return chosen[lengths[chosen] >= self._samples(pack.sample_rate) + self._patch(pack.sample_rate)]

    def floor_scores(self, pack: "Pack") -> dict[str, npt.NDArray[np.float32]]:
        """Return what counts of codes, and of pairs of them, come to at the same places: pairs know the last code.

        They are counts in what models are trained on.
        """
        import torch

        from bench.protocol.sounds.patch_codes import code_sequences
        from bench.stats.predictors import NGrams

        how = self._cut(pack, "cpu", (1, 0))
        counts = NGrams(code_sequences(how.codes, self.settings, pack), self.settings.codes, len(_FLOORS))
        data = Windows(self, how, pack, "eval", self.clips(pack, "eval"), "cpu")

        def judge(_: "Tensor", pairs: "Tensor") -> "Tensor":
            # as a sequence of pairs, of which every second code is judged
            codes = pairs.flatten().numpy()
            found = [counts.score(codes, order)[1::2] for order in range(1, 1 + len(_FLOORS))]
            return torch.from_numpy(np.hstack(found))

        return dict(zip(_FLOORS, np.hsplit(clip_means(data, judge, 3 * len(_FLOORS)), len(_FLOORS)), strict=True))

    # --- metrics

    def definition(self, metrics: Mapping[str, float | int | None], clips: int) -> str:  # noqa: ARG002
        settings = self.settings
        found = "train" if settings.data == "pack" else "generated notes"
        return (
            f"bits are those that the code of the next 40 ms takes, one of {settings.codes} that k-means has found in "
            f"patches of {found}: a mean over {settings.windows} places in each of eval's {clips} clips; lower is "
            "better. Bits of other codes are not to be compared with them."
        )


class Windows(Places):
    """Windows of a split's clips as waveforms, each with the codes that are predicted from it."""

    def __init__(
        self,
        task: NextPatch,
        how: "Cut",
        pack: "Pack",
        split: str,
        chosen: npt.NDArray[np.int64],
        device: "torch.device | str",
    ) -> None:
        import torch

        from bench.protocol.batches import real_lengths, resident

        self.how, index = how, pack.clips(split).iloc[chosen]
        starts, lengths = index["start"].to_numpy(), real_lengths(index, pack.sample_rate)
        # windows end where a patch is left
        super().__init__(
            task,
            split,
            starts + how.size,
            lengths - how.size - how.codes.patch + 1,
            pack.targets(split)[chosen],
            device,
        )
        self.starts, self.clip_ends = torch.from_numpy(starts.copy()), torch.from_numpy(starts + lengths)
        self.samples = resident(pack, split, self.device)

    @property
    def epoch_size(self) -> int:
        """How many windows have as many samples as there are."""
        return max(1, int((self.clip_ends - self.starts).sum()) // self.how.size)

    def batch(self, ids: "Tensor") -> "tuple[Tensor, Tensor]":
        """Return windows and their codes: (b,) -> (b, n), (b, positions)."""
        clip, first = self.clip(ids), self.places(ids) - self.how.before
        found = cut(self.samples, first, self.how.length, self.starts[clip], self.clip_ends[clip], self.device)
        return self.how.pairs(found)


class Generated(GeneratedWindows):
    """Windows of notes as waveforms, each with the codes that are predicted from it."""

    def __init__(self, how: "Cut", pack: "Pack", device: "torch.device | str") -> None:
        super().__init__(how.length, pack.sample_rate, device)
        self.how = how

    def batch(self, ids: "Tensor") -> "tuple[Tensor, Tensor]":
        """Return windows and their codes: (b, n), (b, positions)."""
        return self.how.pairs(self.samples(ids))


register_task(NextPatch())
