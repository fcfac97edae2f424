"""Sounds of classical synthesis, and sounds as files. No torch."""

import difflib
import io
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from bench.data.audio import probe_file, spectrogram
from bench.data.synthetic.voices import LOWEST, VOICES, highest, play
from bench.disk import write_bytes
from bench.errors import UserError
from bench.reporting.figures.spectrograms import PIXELS, spectrogram_figure

__all__ = ["require_wav", "synth", "write_sound"]

# a note: its file is small, and its spectrogram has something to show
_SECONDS = (0.05, 60.0)
# as packs
_LEAST_RATE, _MOST_RATE = 1000, 192_000


def synth(
    voice: str,
    out: str | Path | None = None,
    *,
    pitch: float = 220.0,
    seconds: float = 2.0,
    seed: int = 0,
    sample_rate: int = 44_100,
) -> NDArray[np.int16]:
    """Play a note on a voice of classical synthesis: (n,) int16 samples.

    Voices are karplus_strong, fm_bell, fm_brass, additive and filtered_noise. `pitch` is in Hz; another seed draws
    another timbre. With `out`, a path that ends in .wav, the note is written there, and its spectrogram beside it as
    PNG. Raises UserError for an unknown voice, or what it can't play.
    """
    _require(voice, pitch, seconds, sample_rate)
    if seed < 0:
        raise UserError(f"seed {seed}: seeds are 0 or more")
    # before there is work to lose
    path = None if out is None else require_wav(Path(out))
    samples = np.rint(32_767 * play(voice, pitch, seconds, seed, sample_rate)).astype(np.int16)
    if path:
        write_sound(path, samples, sample_rate, f"{voice}, {pitch:g} Hz, seed {seed}")
    return samples


def _require(voice: str, pitch: float, seconds: float, sample_rate: int) -> None:
    if voice not in VOICES:
        near = "".join(f" (did you mean {near!r}?)" for near in difflib.get_close_matches(voice, VOICES, n=1))
        raise UserError(f"no voice {voice!r}{near}: use one of {', '.join(VOICES)}")
    if not _LEAST_RATE <= sample_rate <= _MOST_RATE:
        raise UserError(f"sample rate {sample_rate}: sample rates are {_LEAST_RATE} to {_MOST_RATE} Hz")
    if not _SECONDS[0] <= seconds <= _SECONDS[1]:
        raise UserError(f"{seconds:g} s: notes last {_SECONDS[0]:g} to {_SECONDS[1]:g} s")
    if not LOWEST <= pitch <= highest(sample_rate):
        most = f"{highest(sample_rate):g} Hz at {sample_rate} samples a second"
        raise UserError(f"pitch {pitch:g}: voices play {LOWEST:g} to {most}")


def require_wav(path: Path) -> Path:
    """Return a path as it is; raise UserError if it does not end in .wav."""
    if path.suffix.lower() != ".wav":
        raise UserError(f"{path}: sounds are written as WAV; name a file that ends in .wav")
    return path


def write_sound(path: Path, samples: NDArray[np.int16], sample_rate: int, title: str) -> Path:
    """Write (n,) samples, 50 ms at least, as WAV, and their spectrogram beside it; return the picture's path.

    Raises UserError for a path that does not end in .wav, and as `whole_file`.
    """
    # libsndfile does not say why it can't write a file; the system says it to us
    sound = io.BytesIO()
    soundfile.write(sound, samples, sample_rate, "PCM_16", format="WAV")
    write_bytes(require_wav(path), sound.getvalue())
    info = probe_file(path)
    power = spectrogram(path, info, sample_rate, PIXELS, least=0)
    spectrogram_figure(power, len(samples) / sample_rate, sample_rate, title, picture := path.with_suffix(".png"))
    return picture
