"""Sounds that trained models make."""

import base64
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import numpy as np
import pandas as pd

from bench.api.console import shown
from bench.api.folders import find_run
from bench.api.models import pack_of
from bench.api.plugins import Paths, device_of, load_plugins, paths_of
from bench.api.sounds import require_wav, write_sound
from bench.data.audio import Samples, probe_file
from bench.disk import refuse_target
from bench.errors import UserError
from bench.inspect.code_sounds import open_model
from bench.inspect.generate import Sampling
from bench.inspect.predict import Tagger
from bench.inspect.sounds import RealClip, SoundModel, real_clip
from bench.locks import hold
from bench.protocol.sounds.coding import CODES
from bench.reporting.sounds import REAL, SoundRecord, heard_rows, write_record
from bench.reporting.systems import load_results
from bench.runner.display import Display
from bench.store import ResultsFolder, RunFolder
from bench.store.files import write_table
from bench.text import printable

__all__ = ["Sound", "generate"]

_SECONDS = (0.05, 600.0)
# classes that a tagger is asked for
_HEARD = 5


@dataclass(frozen=True)
class Sound:
    """A sound that a model made, or the real one beside it; it shows itself in a notebook."""

    # of the system and its seed; 'real' of the real one
    name: str
    # (n,) int16
    samples: Samples = field(repr=False)
    sample_rate: int
    wav: Path
    picture: Path
    # after what, at which temperature, and with which seed it was made
    how: str
    # class to score, the highest first, if there was a tagger
    heard: Mapping[str, float]

    def _repr_html_(self) -> str:
        data = base64.b64encode(self.wav.read_bytes()).decode()
        return f'<p>{escape(self.name)}</p><audio controls src="data:audio/wav;base64,{data}"></audio>'


@dataclass(frozen=True)
class _How:
    """What is asked of every model, checked."""

    seconds: float
    sampling: Sampling
    seed: int

    @classmethod
    def of(cls, seconds: float, temperature: float, top_k: int | None, seed: int) -> "_How":
        if not _SECONDS[0] <= seconds <= _SECONDS[1]:
            raise UserError(f"--seconds {seconds:g}: sounds last {_SECONDS[0]:g} to {_SECONDS[1]:g} s")
        if not 0 <= temperature < math.inf:
            raise UserError(f"--temperature {temperature:g}: give 0, which takes the likeliest code each time, or more")
        if top_k is not None and not 1 <= top_k <= CODES:
            raise UserError(f"--top-k {top_k}: give 1 to {CODES}, the number of codes; all are drawn from without it")
        if not 0 <= seed < 2**63:
            raise UserError(f"--seed {seed}: seeds are 0 to 2^63 - 1")
        return cls(float(seconds), Sampling(float(temperature), top_k), seed)

    def record(self, name: str, prompt: str) -> SoundRecord:
        """Return what is written beside a sound that is made so."""
        drawn = self.sampling
        return SoundRecord(
            name=name, prompt=prompt, temperature=drawn.temperature, top_k=drawn.top_k, seed=self.seed
        )  # fmt: skip


def generate(
    run: str | Path,
    *,
    seconds: float = 2.0,
    prompt: str | Path | None = None,
    data: str | Path | None = None,
    prompt_clip: str | None = None,
    temperature: float = 1.0,
    top_k: int | None = None,
    seed: int = 0,
    tagger: str | Path | None = None,
    codec: str | Path | None = None,
    out: str | Path | None = None,
    device: str = "auto",
    plugins: Paths = (),
    display: Display | None = None,
) -> list[Sound]:
    """Let a trained model that predicts sounds make one: a WAV, and its spectrogram beside it as PNG.

    `run` is a run's folder or RESULTS/ENTRY[-sSEED]; or a results folder, of which the first seed of each system makes
    one. A sound goes on with what came before: silence; a sound file as `prompt`; or with the runs' pack as `data` an
    eval clip, `prompt_clip` or else one that is loud. What really followed in that clip is written into a results
    folder, too, and returned first. At `temperature` 0 each code is the likeliest, at 1 it is drawn as the model
    expects it, of the `top_k` likeliest if given; the same seed makes the same sound. `tagger` is a run of task
    tagging, asked what it hears in each. `codec` is the run that codes of a run of task next_code are of, if it is
    neither beside that nor in a results folder beside its own. The sounds lie in the runs' folders, where a report
    finds them, or that of a single run at `out`, which ends in .wav. Raises UserError for runs of tasks that make no
    sounds, what can't be asked of them, and as `load`.
    """
    load_plugins(paths_of(plugins))
    how, display = _How.of(seconds, temperature, top_k, seed), shown(display)
    results, folders = _asked(Path(run))
    target = _target(results, None if out is None else Path(out))
    if prompt is not None and data is not None:
        raise UserError(f"--prompt {prompt}: give a sound, or a pack with --data, not both")
    if prompt_clip is not None and data is None:
        raise UserError(f"--prompt-clip {prompt_clip}: clips are in the runs' pack; name it with --data")
    # all that can go wrong, before there is work to lose
    where = device_of(device)
    ear = None if tagger is None else Tagger(find_run(tagger), where)
    codes_of = None if codec is None else find_run(codec)
    models = {name: open_model(folder, where, codes_of) for name, folder in folders.items()}
    clip = None if data is None else _clip([*models.values()], Path(data), prompt_clip, how, display)
    studio = _Studio(how, ear, display)
    with hold((results or next(iter(folders.values()))).path / "generated", "being generated", display.notice):
        sounds = [studio.keep_real(results, clip, models)] if results and clip else []
        for name, model in models.items():
            sounds.append(studio.play(name, model, _before(model, clip, prompt), target))
        studio.write_table(results.heard_table if results else sounds[0].wav.with_suffix(".csv"))
    return sounds


def _asked(path: Path) -> tuple[ResultsFolder | None, dict[str, RunFolder]]:
    """Return the runs that should make sounds by name, and the results folder if that was named."""
    results = ResultsFolder(path)
    if path.is_dir() and not RunFolder(path).is_run and results.finished():
        firsts = [(system.label, system.runs[0]) for system in load_results(path, mixed=True).systems]
        return results, {f"{label}, seed {run.record.spec.seed}": run.folder for label, run in firsts}
    folder = find_run(path)
    spec = folder.record().spec
    return None, {f"{spec.name}, seed {spec.seed}": folder}


def _target(results: ResultsFolder | None, out: Path | None) -> Path | None:
    if out is None:
        return None
    if results:
        raise UserError(f"--out {out}: is for the sound of a single run; those of a results folder lie in its runs")
    require_wav(out)
    refuse_target(out)
    return out


def _clip(models: list[SoundModel], data: Path, name: str | None, how: _How, display: Display) -> RealClip:
    """Return the eval clip that all models go on with, which is of the pack of all of them."""
    packs = [pack_of(model.folder, data, display) for model in models]
    return real_clip(models[0], packs[0], how.seconds, name)


def _before(model: SoundModel, clip: RealClip | None, prompt: str | Path | None) -> tuple[str, Samples]:
    """Return what a model goes on with, in words and as samples (n,)."""
    if clip is not None:
        return f"after the first {len(clip.prompt) / model.sample_rate:.2f} s of eval clip {clip.name}", clip.prompt
    if prompt is None:
        return model.begins, np.empty(0, np.int16)
    return f"after {printable(Path(prompt).name)}", model.hear(Path(prompt))


class _Studio:
    """Makes sounds, writes them, and asks what is heard in them."""

    def __init__(self, how: _How, ear: Tagger | None, display: Display) -> None:
        self.how, self.ear, self.display = how, ear, display
        self.records: list[SoundRecord] = []

    def play(self, name: str, model: SoundModel, before: tuple[str, Samples], out: Path | None) -> Sound:
        """Let a model make its sound; one at `out` is not the run's, and no report shows it."""
        (words, prompt), how = before, self.how
        with self.display.bar(f"{name} makes {how.seconds:g} s") as progress:
            samples = model.play(prompt, how.seconds, how.sampling, how.seed, progress)
        return self._keep(how.record(name, words), samples, model.sample_rate, out or model.folder)

    def keep_real(self, results: ResultsFolder, clip: RealClip, models: Mapping[str, SoundModel]) -> Sound:
        """Write what followed in the clip that the models go on with."""
        sample_rate = next(iter(models.values())).sample_rate
        words = f"eval clip {clip.name} from {len(clip.prompt) / sample_rate:.2f} s"
        return self._keep(SoundRecord(name=REAL, prompt=words), clip.sound, sample_rate, results)

    def _keep(
        self, record: SoundRecord, samples: Samples, sample_rate: int, place: Path | RunFolder | ResultsFolder
    ) -> Sound:
        path = place if isinstance(place, Path) else place.sound_file
        if not isinstance(place, Path):
            # of an earlier sound: without it, none is found
            place.sound_record.unlink(missing_ok=True)
        picture = write_sound(path, samples, sample_rate, f"{record.name}: {record.how}")
        record = record.model_copy(update=self._heard(path))
        if not isinstance(place, Path):
            write_record(place, record)
        self.records.append(record)
        return Sound(record.name, samples, sample_rate, path, picture, record.how, record.heard)

    def _heard(self, path: Path) -> dict[str, object]:
        if self.ear is None:
            return {}
        tags = self.ear.tag(path, probe_file(path))
        return {
            "tagger": self.ear.name,
            "heard": {self.ear.classes[k]: round(float(tags.clip[k]), 4) for k in tags.top(_HEARD)},
        }

    def write_table(self, path: Path) -> None:
        """Write what is heard, a line a sound and class; without a tagger, what was heard in earlier sounds goes."""
        if self.ear:
            write_table(path, pd.DataFrame(heard_rows(self.records)))
        else:
            path.unlink(missing_ok=True)
