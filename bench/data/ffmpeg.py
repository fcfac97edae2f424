"""Decode what libsndfile does not read (AAC, the sound of a video, ...) by ffmpeg, where that is installed."""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import soundfile as sf

from bench.data.dataset import AudioError

__all__ = ["SUFFIXES", "is_installed", "stream"]

SUFFIXES = frozenset([
    ".3gp", ".aac", ".ac3", ".amr", ".ape", ".m4a", ".m4b", ".m4v", ".mka", ".mkv", ".mov", ".mp4", ".webm", ".wma",
    ".wv",
])  # fmt: skip
# Formats that hold their own sound. A playlist, or a list of files to join, would have others read than the one named.
_FORMATS = "mov,matroska,aac,ac3,amr,ape,asf,avi,caf,mp3,ogg,wav,wv"


def is_installed() -> bool:
    """Return whether there is an ffmpeg on this machine."""
    return shutil.which("ffmpeg") is not None


@contextmanager
def stream(path: Path) -> Iterator[sf.SoundFile]:
    """Open the first sound track of a file, to be read forward to its end, at its own sample rate and channels.

    Raises AudioError if there is no ffmpeg or no sound; at the end, if ffmpeg found anything wrong with the file.
    """
    if not is_installed():
        raise AudioError("only ffmpeg reads this format: install ffmpeg and try again")
    whole = False
    with tempfile.TemporaryFile() as messages:
        # Whoever leaves early closes the pipe, which ends ffmpeg.
        with (
            subprocess.Popen(_command(path), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=messages) as run,
            suppress(sf.LibsndfileError),
            sf.SoundFile(run.stdout.fileno(), closefd=False) as file,  # type: ignore[union-attr]
        ):
            yield file
            whole = not len(file.read(1))
        messages.seek(0)
        said = messages.read().decode(errors="replace").splitlines()
    # of a file that ends too early ffmpeg may complain, and yet succeed
    if said or run.returncode or not whole:
        raise AudioError(_explain(said, path))


def _command(path: Path) -> list[str]:
    # of the formats that are written forward only, AU is one that libsndfile reads from a pipe
    return [
        *("ffmpeg", "-nostdin", "-v", "error", "-xerror"),
        *("-protocol_whitelist", "file", "-format_whitelist", _FORMATS, "-i", f"file:{path}"),
        *("-map", "0:a:0", "-c:a", "pcm_f32be", "-f", "au", "pipe:1"),
    ]


def _explain(said: list[str], path: Path) -> str:
    """Return what ffmpeg said first of a file, which is the cause, in a few words."""
    first = said[0] if said else "changed while it was read"
    if "matches no streams" in first:
        return "no sound in it"
    if "not on whitelist" in first:
        return "unknown format"
    return re.sub(r"^\[[^]]* @ 0x[0-9a-f]+\] ", "", first).removeprefix(f"file:{path}: ")
