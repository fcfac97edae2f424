"""bench synth."""

from pathlib import Path
from typing import Annotated

import typer

from bench.cli.output import echo

app = typer.Typer()


@app.command()
def synth(
    voice: Annotated[str, typer.Argument(help="karplus_strong, fm_bell, fm_brass, additive or filtered_noise.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The WAV file; its spectrogram stands beside it as PNG.")],
    pitch: Annotated[float, typer.Option(help="In Hz.")] = 220.0,
    seconds: Annotated[float, typer.Option(help="How long the note is.")] = 2.0,
    seed: Annotated[int, typer.Option(min=0, help="Another one draws another timbre.")] = 0,
    sample_rate: Annotated[int, typer.Option(help="In Hz.")] = 44_100,
) -> None:
    """Play a note by classical synthesis.

    Voices, their formulas and sources: docs/synthesis.md.
    """
    from bench.api import sounds

    sounds.synth(voice, out, pitch=pitch, seconds=seconds, seed=seed, sample_rate=sample_rate)
    echo(f"{out}: {voice}, {pitch:g} Hz, {seconds:g} s; spectrogram in {out.with_suffix('.png')}")
