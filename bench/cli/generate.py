"""bench generate."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli.options import JsonOption, console, options
from bench.cli.output import echo, print_json

if TYPE_CHECKING:
    from bench.api.generation import Sound

app = typer.Typer()


@app.command()
@options("device", "plugins")
def generate(
    run: Annotated[
        Path, typer.Argument(help="A run's folder, with its weights; RESULTS/ENTRY[-sSEED]; or a results folder.")
    ],
    seconds: Annotated[float, typer.Option(help="How long the sound is.")] = 2.0,
    prompt: Annotated[Path | None, typer.Option(help="A sound file to go on with [default: silence].")] = None,
    data: Annotated[
        Path | None, typer.Option(help="The runs' pack, or demo: go on with an eval clip; of RESULTS keep it, too.")
    ] = None,
    prompt_clip: Annotated[
        str | None, typer.Option(metavar="NAME", help="With --data: this clip [default: one that is loud].")
    ] = None,
    temperature: Annotated[
        float, typer.Option(help="0 takes the likeliest each time; 1 draws as the model expects.")
    ] = 1.0,
    top_k: Annotated[int | None, typer.Option(help="Draw from so many likeliest [default: from all].")] = None,
    seed: Annotated[int, typer.Option(help="Another one draws another sound.")] = 0,
    tagger: Annotated[
        Path | None, typer.Option(metavar="RUN", help="A run of task tagging: say what it hears in each.")
    ] = None,
    codec: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Whose codes are predicted [default: looked for beside the run].")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The WAV file of a single run [default: RUN/generated.wav].")
    ] = None,
    as_json: JsonOption = False,
    **given: Any,
) -> None:
    """Let a trained model make a sound, sample by sample.

    A WAV, and its spectrogram beside it. Of RESULTS the first seed of each system makes one, for its report.
    """
    from bench.api import generation

    sounds = generation.generate(
        run, seconds=seconds, prompt=prompt, data=data, prompt_clip=prompt_clip, temperature=temperature, top_k=top_k,
        seed=seed, tagger=tagger, codec=codec, out=out, display=console(), **given,
    )  # fmt: skip
    if as_json:
        print_json({"run": run, "sounds": [_document(sound) for sound in sounds]})
        return
    from bench.reporting.sounds import describe_heard

    for sound in sounds:
        length = len(sound.samples) / sound.sample_rate
        echo(f"{sound.wav}: {sound.name}, {sound.how}; {length:.3g} s, spectrogram in {sound.picture.name}")
        if sound.heard:
            echo(f"  heard in it: {describe_heard(sound.heard)}")


def _document(sound: "Sound") -> dict[str, Any]:
    seconds = len(sound.samples) / sound.sample_rate
    files = {"wav": sound.wav, "picture": sound.picture}
    return {"name": sound.name, "how": sound.how, "seconds": seconds, **files, "heard": sound.heard}
