"""A trained model that predicts a codec's codes, as what goes on with a sound: codes of it, and a sound of these."""

import math
from typing import cast

import torch

from architectures import Codec
from bench.data.audio import Samples
from bench.data.dataset import Progress
from bench.errors import UserError
from bench.inspect.generate import Sampling, generate
from bench.inspect.griffin_lim import waveform
from bench.inspect.sounds import SoundModel
from bench.protocol.sounds.levels import at_level
from bench.protocol.sounds.log_mel import LogMelFrames
from bench.protocol.task import task_of
from bench.protocol.tasks.codec import CodecTask
from bench.protocol.tasks.next_code import CODES_PER_SECOND, NextCode, codes_of
from bench.runner.weights import load_model
from bench.store import RunFolder
from bench.store.trained import digest_of_weights

__all__ = ["CodeModel", "open_model"]

# codes of a clip's beginning that a model is given: a third of a second, as next_sample's models are
_PAST = 8


def open_model(folder: RunFolder, device: torch.device, codec: RunFolder | None = None) -> SoundModel:
    """Load the model of a run that predicts samples, or codes. Raises UserError as `SoundModel`.

    Args:
        codec: the run whose codes those are; None looks for it beside the run, and in the folders beside its results.
    """
    if folder.record().spec.task == NextCode.name:
        return CodeModel(folder, device, codec)
    if codec:
        raise UserError(f"{folder.path}: predicts samples, which need no codec: leave --codec {codec.path} out")
    return SoundModel(folder, device)


class CodeModel(SoundModel):
    """The model of a run of task next_code, with the codec that the codes are of."""

    task: NextCode
    begins = "from the beginning of a clip"

    def __init__(self, folder: RunFolder, device: torch.device, codec: RunFolder | None = None) -> None:
        """Load both models. Raises UserError as `SoundModel`, and if the codec is not there, or another one."""
        super().__init__(folder, device)
        found = codec or self._codec()
        record = found.record()
        if record.spec.folder != self.task.settings.codec:
            raise UserError(f"{folder.path}: predicts codes of {self.task.settings.codec}, not of {found.path}")
        model = load_model(found, record, device).eval()
        if (weights := digest_of_weights(found)) != self.task.settings.codec_weights:
            which = f"weights {weights}, and codes are by {self.task.settings.codec_weights}"
            raise UserError(
                f"{found.weights_file}: of a codec that was trained again ({which}): restore the one before"
            )
        self.codec = cast("Codec", model)
        self.codec_settings = cast("CodecTask", task_of(record.spec)).settings
        self.frames = LogMelFrames(self.sample_rate, self.codec_settings.mels)

    def _codec(self) -> RunFolder:
        """Return the codec's run: beside this one, or in a results folder beside this one's."""
        name, results = self.task.settings.codec, self.folder.path.absolute().parent
        places = [results / name, *sorted(results.parent.glob(f"*/{name}"))]
        for found in map(RunFolder, places):
            if found.is_finished:
                return found
        raise UserError(
            f"{self.folder.path}: its codec {name} is not in {results.parent}/*/: name its folder (--codec RUN)"
        )

    @property
    def samples_of_code(self) -> int:
        """How many samples a code stands for."""
        return round(self.sample_rate / CODES_PER_SECOND)

    @property
    def past(self) -> int:
        return _PAST * self.samples_of_code

    def at_level(self, clip: Samples) -> Samples:
        return at_level(self.codec_settings, clip)

    def play(
        self, prompt: Samples, seconds: float, sampling: Sampling, seed: int, progress: Progress = lambda *_: None
    ) -> Samples:
        """Return what follows a prompt (n,), whose whole codes it hears: as many seconds of samples.

        The prompt's codes are made a sound of together with those that follow, and are cut off.
        """
        # what stands before a clip's first code, as in training
        before = torch.tensor([self.task.settings.num_codes])
        heard = self.encode(prompt)
        steps = math.ceil(seconds * CODES_PER_SECOND)
        made = generate(
            self.model, torch.cat([before, heard]).to(self.device)[None], steps, sampling=sampling,
            context=self.task.settings.context, generator=torch.Generator(self.device).manual_seed(seed),
            num_codes=self.task.settings.num_codes, progress=progress,
        )  # fmt: skip
        samples = self.decode(torch.cat([heard, made[0].cpu()]), seed)
        begin = len(heard) * self.samples_of_code
        return samples[begin : begin + round(seconds * self.sample_rate)]

    def encode(self, samples: Samples) -> torch.Tensor:
        """Return a sound's codes, at the level that it has: (n,) -> (n / samples_of_code,) on the processor."""
        if len(samples) < self.samples_of_code:
            return torch.empty(0, dtype=torch.int64)
        return codes_of(self.codec, self.frames, samples, self.device)[:, 0]

    @torch.inference_mode()
    def decode(self, codes: torch.Tensor, seed: int = 0) -> Samples:
        """Return the sound of codes (t,): (t * samples_of_code,). The same codes and seed give the same samples."""
        frames = self.codec.decode(codes.to(self.device)[None, :, None])
        return waveform(frames[0].float(), self.frames, seed)
