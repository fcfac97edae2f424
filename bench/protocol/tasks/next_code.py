"""Next-code prediction: of a codec's codes, 25 a second, the one that comes next in a sound (arXiv:1711.00937, 4.3)."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, cast

import numpy as np
import numpy.typing as npt
from pydantic import Field

from bench.data.codes import Codes, codes_file, make_codes, read_codes
from bench.data.dataset import SPLITS
from bench.errors import UserError
from bench.protocol.sounds.levels import gains
from bench.protocol.sounds.sequences import NextCodeTask, NextInSequence, Places, WindowSettings
from bench.protocol.task import Floats, Task, TrainedRun, register_task, task_of
from bench.protocol.tasks.codec import GROUP, CodecTask
from bench.schema import validated

# a report asks for metrics on machines that have no torch
if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from architectures import Codec, CodecConfig
    from bench.data.pack import Pack
    from bench.protocol.batches import Batches
    from bench.protocol.recipe import Recipe
    from bench.protocol.sounds.log_mel import LogMelFrames
    from bench.protocol.spec import RunSpec

__all__ = ["CODES_PER_SECOND", "CodeWindows", "NextCode", "NextCodeSettings", "codes_of"]

CODES_PER_SECOND = 100 // GROUP
# what stands for a target where there is none, before a clip: torch's own word for it
_NOTHING = -100
# by counts of so many codes in a row
_FLOORS = ("unigram", "bigram", "trigram")


class NextCodeSettings(WindowSettings):
    """Whose codes are predicted, of which sounds."""

    # a finished run of task codec: its folder, or how that begins; on record, the folder's name
    codec: str = ""
    # follow from the run: a digest of its weights, and how many codes it has
    codec_weights: str = ""
    num_codes: Annotated[int, Field(ge=0)] = 0
    # 2.56 s
    context: Annotated[int, Field(ge=2, le=100_000)] = 64
    # more than of samples, which are a thousand times as many
    windows: Annotated[int, Field(gt=0, le=1000)] = 16


class NextCode(NextInSequence):
    """Classification of the next code, judged by the bits that it takes.

    A model has one class more than there are codes: the last one stands before the first code of a clip, so that clips
    are predicted from their beginning, and is predicted nowhere.
    """

    name = "next_code"
    # a target before a clip's beginning is none, so that there is no mean over all positions
    metrics, columns = NextCodeTask.metrics, NextCodeTask.columns
    settings_type = NextCodeSettings
    unit = "codes"
    built_on = ("codec", "codec")
    judged_by = ("codec", "codec_weights", "windows", "classes")
    modules: ClassVar[tuple[str, ...]] = (
        *(f"bench.protocol.sounds.{name}" for name in ("levels", "log_mel", "sequences", "windows")),
        *("bench.protocol.tasks.codec", "bench.data.codes"),
    )

    settings: NextCodeSettings = NextCodeSettings()

    def settled(
        self, values: Mapping[str, Any], pack: "Pack", trained: TrainedRun | None, where: str
    ) -> dict[str, Any]:
        given = validated(NextCodeSettings, values, where)
        if trained:
            found = _facts(trained, pack, f"{where}, codec")
        elif given.codec:
            codes = read_codes(pack, given.codec)
            found = {"codec": given.codec, "codec_weights": codes.weights, "num_codes": codes.count}
        else:
            fix = "name a finished run of task codec, as `bench run codecs` makes them: runs/codecs/codec_vq-s0"
            raise UserError(f"{where}, codec: missing; {fix}")
        for name in ("codec_weights", "num_codes"):
            if values.get(name, found[name]) != found[name]:
                raise UserError(f"{where}: {name}={values[name]!r}, but the codec has {found[name]!r}: leave it out")
        return dict(values) | found

    def prepare(
        self,
        pack: "Pack",
        trained: TrainedRun | None,
        load: Callable[[TrainedRun], "nn.Module"],
        progress: Callable[[int, int], None] = lambda *_: None,
        *,
        device: "torch.device | str" = "cpu",  # noqa: ARG002
    ) -> None:
        """Write the codes of the pack's clips beside it, unless they are there, as they are where the codec is not."""

        def make(trained: TrainedRun) -> Codes:
            model, clips, done = load(trained), dict[str, list[npt.NDArray[np.uint16]]](), 0
            for split in SPLITS:
                clips[split] = []
                for codes in encoded(model, trained, pack, split):
                    clips[split].append(codes)
                    progress(done := done + 1, len(pack.index))
            lengths = {split: np.array([*map(len, of_split)]) for split, of_split in clips.items()}
            values = {split: np.concatenate(of_split) for split, of_split in clips.items()}
            return Codes(trained.weights, self.settings.num_codes, values, lengths)

        if trained:
            make_codes(pack, self.settings.codec, partial(make, trained))
        self.codes(pack)

    def codes(self, pack: "Pack") -> Codes:
        """Return the codes of the pack's clips. Raises UserError if they are missing, or of another codec or pack."""
        path, found = codes_file(pack, self.settings.codec), read_codes(pack, self.settings.codec)
        if found.weights != self.settings.codec_weights:
            which = f"of weights {found.weights}, not {self.settings.codec_weights}"
            raise UserError(f"{path}: codes by another codec of that name, {which}: move it away, and run again")
        return found

    def require(self, spec: "RunSpec", pack: "Pack") -> None:
        task = self.of_run(spec)
        context, most = task.settings.context, task.architecture.max_context
        if most is not None and context > most:
            raise UserError(f"{spec.name}: context={context} is more than max_context={most}: make that larger")
        if task.before:
            raise UserError(f"{spec.name}: sees {task.before} codes before a window as a condition: there are none")
        for split in SPLITS:
            task.lengths(pack, split, spec.name)
        # those that are there; else the run's own are made
        if codes_file(pack, task.settings.codec).exists():
            task.codes(pack)

    # --- batches

    def config(self, pack: "Pack") -> dict[str, Any]:
        return Task.config(self, pack) | {"num_classes": self.settings.num_codes + 1}

    def passes(self, recipe: "Recipe", seconds: float, sample_rate: int) -> float:  # noqa: ARG002
        """Return how many windows predict each of a clip's codes once."""
        return seconds * CODES_PER_SECOND / self.settings.context

    def loss(self, recipe: "Recipe", logits: "Tensor", targets: "Tensor") -> "Tensor":  # noqa: ARG002
        """Return the cross-entropy at all positions from a clip's beginning on, in nats: (b, n, k), (b, n) -> ()."""
        from torch.nn import functional as F

        return F.cross_entropy(logits[..., :-1].flatten(0, 1), targets.flatten(), ignore_index=_NOTHING)

    def judged(self, logits: "Tensor", targets: "Tensor") -> "Tensor":
        return NextCodeTask.judged(self, logits[..., :-1], targets)

    def data(
        self, pack: "Pack", split: str, recipe: "Recipe", device: "torch.device | str" = "cpu", clips: int | None = None
    ) -> "Batches":
        del recipe
        return cast("Batches", CodeWindows(self, pack, split, self.clips(pack, split)[:clips], device))

    # --- clips, and what nothing learned makes of them

    def floor_scores(self, pack: "Pack") -> dict[str, npt.NDArray[np.float32]]:
        """Return what counts of codes, of pairs and of triples in train come to at the same places."""
        from bench.stats.predictors import NGrams

        codes, (train, chosen) = self.codes(pack), (self.clips(pack, split) for split in ("train", "eval"))
        counts = NGrams(_of(codes.clips("train"), train), codes.count)
        data = CodeWindows(self, pack, "eval", chosen, "cpu")
        ids = next(data.in_order(len(data)))
        # within their clips: (clips, windows)
        places = (data.places(ids) - data.first[data.clip(ids)]).numpy().reshape(len(chosen), -1)
        found: dict[str, list[Floats]] = {name: [] for name in _FLOORS}
        for clip, at in zip(_of(codes.clips("eval"), chosen), places, strict=True):
            for order, of_clips in enumerate(found.values(), 1):
                of_clips.append(counts.score(clip, order)[at].mean(axis=0))
        return {name: np.array(of_clips, np.float32) for name, of_clips in found.items()}

    # --- metrics

    def definition(self, metrics: Mapping[str, float | int | None], clips: int) -> str:  # noqa: ARG002
        settings = self.settings
        return (
            f"bits are those that the next code takes, one of {settings.num_codes} of {settings.codec}, "
            f"{CODES_PER_SECOND} a second: a mean over {settings.windows} places in each of eval's {clips} clips; "
            "lower is better."
        )


def encoded(model: "nn.Module", trained: TrainedRun, pack: "Pack", split: str) -> Iterator[npt.NDArray[np.uint16]]:
    """Yield the codes (t / 4,) of each clip of a split, by a codec in eval mode.

    A clip is encoded as a whole, at the level that the codec was trained on; what is less than a group is left out.
    """
    from bench.protocol.sounds.log_mel import LogMelFrames

    device, settings = next(model.parameters()).device, cast("CodecTask", task_of(trained.spec)).settings
    frames, index, samples = LogMelFrames(pack.sample_rate, settings.mels), pack.clips(split), pack.samples(split)
    scales = gains(settings, pack, split, np.arange(len(index)))
    for start, length, scale in zip(index["start"], index["length"], scales, strict=True):
        codes = codes_of(cast("Codec", model), frames, samples[start : start + length] * scale, device)
        yield codes[:, 0].numpy().astype(np.uint16)


def codes_of(
    codec: "Codec", frames: "LogMelFrames", samples: npt.NDArray[Any], device: "torch.device | str" = "cpu"
) -> "Tensor":
    """Return the codes of a sound, in steps of int16, of a group's length at least: (n,) -> (t / 4, stages)."""
    import torch

    count = GROUP * (len(samples) // (GROUP * frames.hop))
    wave = torch.zeros(1, frames.span(count))
    # as much of the sound as is around its frames; beyond it there is silence
    heard = torch.from_numpy(samples[: frames.span(count) - frames.half] / 32768)
    wave[0, frames.half : frames.half + len(heard)] = heard
    with torch.inference_mode():
        return codec.encode(frames.of(wave.to(device)))[0].cpu()


def _facts(trained: TrainedRun, pack: "Pack", where: str) -> dict[str, Any]:
    """Return what a run's settings say of its codec. Raises UserError for one that does not go with the pack."""
    from architectures import ConfigError, configure

    try:
        config = cast("CodecConfig", configure(trained.spec.architecture, **trained.spec.config))
    # of a plugin that is not named
    except ConfigError as error:
        raise UserError(f"{where}: {trained.folder}: its architecture can't be made ({error})") from None
    if config.sample_rate != pack.sample_rate:
        rates = f"of sounds at {config.sample_rate} Hz, but {pack.folder} has {pack.sample_rate} Hz"
        raise UserError(f"{where}: {trained.folder} is {rates}: give a codec of that rate")
    if config.stages > 1:
        why = "but one code at a time is predicted"
        raise UserError(f"{where}: {trained.folder} has {config.stages} stages of codes, {why}: give a codec of one")
    return {"codec": trained.spec.folder, "codec_weights": trained.weights, "num_codes": config.num_codes}


def _of(clips: list[npt.NDArray[np.uint16]], chosen: npt.NDArray[np.int64]) -> list[npt.NDArray[np.uint16]]:
    return [clips[number] for number in chosen]


class CodeWindows(Places):
    """Windows of a split's clips as codes, each with the code that follows every one of it.

    Before a clip's first code there is `num_codes`, one more than the highest code, and nothing to predict.
    """

    def __init__(
        self, task: NextCode, pack: "Pack", split: str, chosen: npt.NDArray[np.int64], device: "torch.device | str"
    ) -> None:
        import torch

        codes = task.codes(pack)
        first, room = codes.starts(split)[chosen], codes.lengths[split][chosen]
        super().__init__(task, split, first, room, pack.targets(split)[chosen], device)
        self.num_codes = codes.count
        self.values = torch.from_numpy(codes.values[split].astype(np.int64)).to(self.device)

    def batch(self, ids: "Tensor") -> "tuple[Tensor, Tensor]":
        """Return windows and what follows each of their codes: (b,) -> (b, n), (b, n)."""
        import torch

        from bench.protocol.batches import to_device

        places, first = (
            to_device(of.unsqueeze(1), self.device) for of in (self.places(ids), self.first[self.clip(ids)])
        )
        places = places + torch.arange(-self.size, 1, device=self.device)
        # of windows that begin before the split
        codes, outside = self.values[places.clamp_min(0)], places < first
        x, y = codes.masked_fill(outside, self.num_codes), codes.masked_fill(outside, _NOTHING)
        return x[:, :-1], y[:, 1:]


register_task(NextCode())
