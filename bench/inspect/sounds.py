"""A trained model that predicts sounds, as what goes on with one: of a prompt, and of nothing."""

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch

from architectures import configure
from bench.data.audio import Samples, blocks, probe_file
from bench.data.dataset import AudioError, Progress
from bench.data.pack import Pack
from bench.errors import UserError
from bench.inspect.generate import Sampling, generate
from bench.protocol.precision import fp32_means_fp32
from bench.protocol.sounds.sequences import NextInSequence
from bench.protocol.task import task_of
from bench.protocol.tasks.next_sample import NextSample
from bench.runner.weights import load_model
from bench.store import RunFolder

__all__ = ["RealClip", "SoundModel", "real_clip"]

# whose models make sounds
_TASKS = ("next_sample", "next_code")
# of a peak, what a root mean square is at least where a sound is loud: of a sine it is .7, of a click far less
_LOUD = 0.1
# seconds of a real sound that are worth hearing
_LEAST_SECONDS = 0.05


class SoundModel:
    """The model of a run that predicts the next sample, its task, and the rate that it hears and makes sounds at.

    What predicts codes of many samples is a subclass: see code_sounds.
    """

    # of what it makes without a prompt
    begins = "after silence"
    task: NextInSequence

    def __init__(self, folder: RunFolder, device: torch.device) -> None:
        """Load a run's model. Raises UserError for another task, no finished run, and no or damaged weights."""
        record = folder.record()
        self.folder, self.spec, self.device = folder, record.spec, device
        if self.spec.task not in _TASKS:
            needs = f"`bench generate` needs a run of task {' or '.join(_TASKS)}"
            raise UserError(f"{folder.path}: a run of task {self.spec.task}; {needs}")
        fp32_means_fp32()
        self.model = load_model(folder, record, device).eval()
        self.task = cast("NextInSequence", task_of(self.spec))
        self.sample_rate = configure(self.spec.architecture, **self.spec.config).sample_rate

    @property
    def _of_samples(self) -> NextSample:
        return cast("NextSample", self.task)

    @property
    def past(self) -> int:
        """How many samples of a prompt it hears at most."""
        # the protocol lets no model see more
        return self._of_samples.settings.past

    def at_level(self, clip: Samples) -> Samples:
        """Return a whole clip's samples (n,) at the level of training."""
        return self._of_samples.at_level(clip)

    def hear(self, file: Path) -> Samples:
        """Decode a file as a clip of a pack, at the level of training: (n,).

        Raises UserError if it is no sound.
        """
        try:
            pieces = list(blocks(file, self.sample_rate, 0, probe_file(file)))
        except AudioError as error:
            raise UserError(f"{file}: {error}") from None
        except OSError as error:
            raise UserError(f"{file}: {error.strerror or error}") from None
        return self.at_level(np.concatenate(pieces))

    def play(
        self, prompt: Samples, seconds: float, sampling: Sampling, seed: int, progress: Progress = lambda *_: None
    ) -> Samples:
        """Return what follows a prompt (n,), of which it hears the end: as many seconds of samples."""
        coding = self._of_samples.coding
        heard = coding.encode(prompt[max(len(prompt) - self.past, 0) :])
        made = generate(
            self.model, torch.from_numpy(heard.astype(np.int64)).to(self.device)[None],
            round(seconds * self.sample_rate), sampling=sampling, context=self._of_samples.settings.context,
            generator=torch.Generator(self.device).manual_seed(seed), progress=progress,
        )  # fmt: skip
        return coding.decode(made[0].cpu().numpy())


@dataclass(frozen=True)
class RealClip:
    """An eval clip in two parts, at the level of training: what models are given of it, and what really followed."""

    name: str
    prompt: Samples
    sound: Samples


def real_clip(made: SoundModel, pack: Pack, seconds: float, name: str | None = None) -> RealClip:
    """Return an eval clip: by its name, or the first that is loud in both parts and, if any is, as long as is asked.

    Raises UserError for a name that no clip of eval has, and one that is too short to be heard.
    """
    index = pack.clips("eval").iloc[made.task.clips(pack, "eval")]
    names, past = index["clip"].astype(str), made.past
    if name is not None and name not in set(names):
        near = "".join(f" (did you mean {near!r}?)" for near in difflib.get_close_matches(name, names, n=1))
        raise UserError(f"--prompt-clip {name}: no clip of eval in {pack.folder}{near}; leave it out for a loud one")
    count = round(seconds * pack.sample_rate)
    lengths = np.minimum(index["length"].to_numpy() - past, count)
    samples, first = pack.samples("eval"), None
    # the first is taken where none is loud
    for place in np.argsort(-lengths, kind="stable") if name is None else np.flatnonzero(names == name):
        start, length = index["start"].iloc[place], index["length"].iloc[place]
        clip = made.at_level(np.array(samples[start : start + length]))
        found = RealClip(str(names.iloc[place]), clip[:past], clip[past : past + count])
        if name is not None or _is_loud(found):
            first = found
            break
        first = first or found
    if first is None or len(first.sound) < _LEAST_SECONDS * pack.sample_rate:
        what = f"--prompt-clip {name}: ends" if name else f"{pack.folder}: its eval clips end"
        raise UserError(f"{what} after the {past} samples that models are given; take a longer one")
    return first


def _is_loud(clip: RealClip) -> bool:
    parts = [part.astype(np.float64) for part in (clip.prompt, clip.sound)]
    peak = max((np.abs(part).max(initial=0) for part in parts), default=0)
    return bool(peak and all(np.sqrt(np.square(part).mean()) >= _LOUD * peak for part in parts if len(part)))
