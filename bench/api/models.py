"""Trained models: what they hear, what their first layer listens to; and the architectures they are made of."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

import architectures
from bench.api.console import shown
from bench.api.datasets import packs_of
from bench.api.folders import find_run
from bench.api.plugins import Paths, device_of, listed, load_plugins, paths_of
from bench.data.audio import Samples, spectrogram, spectrogram_of
from bench.data.dataset import AudioError, AudioInfo
from bench.data.pack import Pack
from bench.disk import refuse_odd
from bench.errors import UserError
from bench.inspect.attention import listen
from bench.inspect.filters import measure_filters
from bench.inspect.hardest import figure_names, hardest_clips
from bench.inspect.predict import Tagger, probe_files
from bench.inspect.scores import open_scores
from bench.locks import hold
from bench.protocol.task import get_task
from bench.reporting.attention import AttentionFiles
from bench.reporting.attention import describe as describe_heads
from bench.reporting.attention import table_of as table_of_heads
from bench.reporting.figures.attention import attention_figure
from bench.reporting.figures.filters import filters_figure
from bench.reporting.figures.front_ends import front_ends_figure
from bench.reporting.figures.spectrograms import PIXELS
from bench.reporting.figures.tags import tags_figure
from bench.reporting.front_ends import FrontEnds, describe_sides, load_sides, table_of
from bench.reporting.tags import Tags, as_frame, figure_paths
from bench.runner.display import Display
from bench.runner.weights import load_model
from bench.store import RunFolder
from bench.store.files import write_table

__all__ = [
    "AttentionFiles", "FrontEnds", "PredictOptions", "attention", "compare_filters", "create", "filters", "hardest",
    "iterate_tags", "list_architectures", "load", "pack_of", "predict",
]  # fmt: skip


def list_architectures(plugins: Paths = (), task: str | None = None) -> list[str]:
    """Return the names of all registered architectures, those of `plugins` (Python files) among them.

    With a `task`, those that it can be run with: its own or, where it has none, tagging's. Raises UserError for an
    unknown task.
    """
    load_plugins(paths_of(plugins))
    names = architectures.list_architectures()
    if task and task not in {architectures.get_architecture(name).task for name in names}:
        get_task(task)
    return architectures.list_architectures(task=task)


def create(name: str, **config: Any) -> nn.Module:
    """Build an architecture with new weights, drawn from torch's global generator; `config` replaces fields of its own.

    It takes (b, n) float waveforms in [-1, 1] and returns (b, k) logits; what is for the task next_sample takes (b, n)
    codes and returns (b, n, k) logits. Raises UserError for an unknown name, or a field that is unknown or has an
    impossible value.
    """
    try:
        with architectures.contained():
            return architectures.create(name, **config)
    except architectures.ConfigError as error:
        raise UserError(str(error)) from None
    # a value that only torch refuses
    except Exception as error:
        raise UserError(f"{name}: {architectures.failure(name, error)}") from error


def load(run: str | Path, device: str = "cpu", plugins: Paths = ()) -> nn.Module:
    """Return the model that a run trained, in eval mode: (b, n) float waveforms in [-1, 1] to (b, k) logits.

    That of a run of task next_sample takes (b, n) codes and returns (b, n, k) logits. `run` is a run's folder or
    RESULTS/ENTRY[-sSEED]. Raises UserError for no finished run, no or damaged weights, or an architecture that is not
    there or another than then.
    """
    load_plugins(paths_of(plugins))
    folder = find_run(run)
    return load_model(folder, folder.record(), device_of(device)).eval()


def filters(
    run: str | Path, data: str | Path | None = None, plugins: Paths = (), *, display: Display | None = None
) -> dict[str, Any]:
    """Measure what a learned front end listens to: filters.csv and figures in the run's folder.

    With the run's pack as `data`, also how often each fires. Raises UserError for no such run, weights or filters, and
    for another pack.
    """
    load_plugins(paths_of(plugins))
    folder = find_run(run)
    pack = pack_of(folder, Path(data), shown(display)) if data else None
    with hold(folder.path / "filters", "being measured"):
        found = measure_filters(folder, pack)
        filters_figure(folder)
    return found


def compare_filters(
    run: str | Path, beside: str | Path, out: str | Path = "front_ends", plugins: Paths = ()
) -> FrontEnds:
    """Lay the first layers of two trained runs side by side: front_ends.csv and the figure front_ends in a folder.

    What `filters` has measured of a run is taken as it is, also without weights; else it is measured now. Raises
    UserError as `filters`, if both are one run, or if `out` is no folder.
    """
    folders = [find_run(run), find_run(beside)]
    for folder in folders:
        if not folder.has_filters:
            filters(folder.path, plugins=plugins)
    sides, target = load_sides(folders), _made_folder(Path(out))
    made = FrontEnds(table_of(sides), target / "front_ends.csv", target / "front_ends.png", describe_sides(sides))
    with hold(target / "front_ends", "being drawn"):
        front_ends_figure(sides, target / "front_ends")
        write_table(made.csv, made.table, float_format="%.6g")
    return made


def _made_folder(folder: Path) -> Path:
    """Return a folder for files, made where it is missing; a link is followed. Raises UserError for anything else."""
    if not folder.is_dir():
        refuse_odd(folder, folder=True)
        folder.mkdir(parents=True)
    return folder


def attention(
    run: str | Path, file: str | Path, *, second: float = 0.0, out: str | Path | None = None, plugins: Paths = ()
) -> AttentionFiles:
    """Show where each block and head of a trained audio transformer looks on a sound: attention.csv and figures.

    The model hears the chunk of the file that begins at `second`, as long as its recipe says. The files are written to
    the run's folder, or to `out`. Raises UserError as `load`, for a model that is no audio transformer, a file that
    cannot be read, or a chunk that is not within it.
    """
    load_plugins(paths_of(plugins))
    folder = find_run(run)
    target = _made_folder(Path(out)) if out else folder.path
    listening = listen(folder, Path(file), second)
    table, csv, figure = table_of_heads(listening), target / folder.attention_table.name, folder.attention_figure.name
    with hold(target / figure, "being drawn"):
        write_table(csv, table, float_format="%.6g")
        attention_figure(listening, target / figure)
    return AttentionFiles(table, csv, (target / figure).with_suffix(".png"), describe_heads(listening))


def predict(
    run: str | Path,
    files: Paths,
    *,
    over_time: bool = False,
    device: str = "auto",
    plugins: Paths = (),
    display: Display | None = None,
) -> pd.DataFrame:
    """Return the scores that a trained model gives sound files: a row a file (index `file`), a column a class.

    `files` are paths, of files or of folders, which stand for all sound files in them; a file is called as it was
    given. With `over_time` each chunk has a row: the index is (file, second), the second the chunk begins at. Raises
    UserError for the first file that cannot be read, how many more there are, and as `load`.
    """
    names = {Path(file): os.fspath(file) for file in listed(files)}
    folder, display = find_run(run), shown(display)
    with display.bar("reading files") as progress:
        infos, errors = probe_files(names, progress)
    _require_readable(infos, errors)
    frames = []
    for file, result in _iterate(folder, infos, PredictOptions(device=device, plugins=paths_of(plugins)), display):
        if isinstance(result, AudioError):
            raise UserError(f"{file}: {result}")
        frames.append(as_frame(result, names.get(file, str(file)), over_time=over_time))
    return pd.concat(frames)


def _require_readable(infos: Mapping[Path, AudioInfo], errors: Mapping[Path, AudioError]) -> None:
    if errors:
        first, error = next(iter(errors.items()))
        more = f" (and {len(errors) - 1} more cannot be read)" if len(errors) > 1 else ""
        raise UserError(f"{first}: {error}{more}")
    if not infos:
        raise UserError("files: none named; name sound files, or folders of them")


@dataclass(frozen=True)
class PredictOptions:
    """A file for all tags' scores over time, a folder for figures and how many tags they show; device and plugins."""

    top: int = 5
    csv: Path | None = None
    plot: Path | None = None
    device: str = "auto"
    plugins: Sequence[Path] = ()


def iterate_tags(
    run: Path, files: Sequence[Path], display: Display, **options: Any
) -> Iterator[tuple[Path, Tags | AudioError]]:
    """Yield what a trained model hears in each sound file, as soon as it is known, or why the file cannot be read.

    Those come first whose header shows it; for them alone no model is loaded. Files whose scores are in a CSV file that
    an earlier call has left unfinished are left out. `options` are the fields of PredictOptions. Raises UserError as
    `load`, and if a file would be overwritten that is not of this command, or is being written by another process.
    """
    folder = find_run(run)
    with display.bar("reading files") as progress:
        infos, errors = probe_files(files, progress)
    yield from errors.items()
    if infos:
        yield from _iterate(folder, infos, PredictOptions(**options), display)


def _iterate(
    folder: RunFolder, infos: Mapping[Path, AudioInfo], how: PredictOptions, display: Display
) -> Iterator[tuple[Path, Tags | AudioError]]:
    figures = figure_paths(infos, how.plot) if how.plot else {}
    with open_scores(how.csv, display.notice) if how.csv else nullcontext() as table:
        load_plugins(how.plugins)
        tagger = Tagger(folder, device_of(how.device))
        if table:
            table.begin(tagger.identity, tagger.name)
        for file, info in infos.items():
            if table and file in table:
                continue
            result: Tags | AudioError
            try:
                with display.bar(f"listening to {file}") as progress:
                    result = tagger.tag(file, info, progress)
                if how.plot:
                    _draw(result, info, tagger, how.top, figures[file])
            except AudioError as error:
                result = error
            if table and isinstance(result, Tags):
                table.add(result)
            yield file, result


def _draw(tags: Tags, info: AudioInfo, tagger: Tagger, count: int, path: Path) -> None:
    power = spectrogram(tags.file, info, tagger.sample_rate, PIXELS, tagger.least)
    path.parent.mkdir(parents=True, exist_ok=True)
    tags_figure(tags, power, tagger.sample_rate, count, path)


def hardest(
    run: str | Path,
    label: str,
    *,
    count: int = 6,
    plot: str | Path | None = None,
    data: str | Path | None = None,
    top: int = 5,
    device: str = "auto",
    plugins: Paths = (),
    display: Display | None = None,
) -> pd.DataFrame:
    """Return the eval clips that a run gets most wrong of a class: missed ones, then false alarms, `count` of each.

    Missed are those with the label that it scored lowest, false alarms those without that it scored highest. The
    columns are `kind`, `clip`, `score`, `rank` (of all eval clips, by this class's score) and `labels`. That needs no
    weights. With a folder as `plot`, each clip's spectrogram and `top` tags over time are drawn there (column
    `figure`), which takes the run's weights, and its pack as `data`. Raises UserError for no such run or class, a run
    without scores, another pack, and as `load`.
    """
    load_plugins(paths_of(plugins))
    if count < 1:
        raise UserError(f"count: {count}, at least 1")
    folder, display = find_run(run), shown(display)
    found = hardest_clips(folder, label, count)
    places = found.pop("place")
    if plot is None:
        return found
    if data is None:
        raise UserError(f"--plot {plot}: the clips' sounds are in the run's pack; name it with --data")
    pack = pack_of(folder, Path(data), display)
    names = [Path(f"{name}.png") for name in figure_names(label, found)]
    paths = [*figure_paths(names, Path(plot)).values()]
    tagger = Tagger(folder, device_of(device))
    clips = pack.clips("eval")
    with display.bar(f"listening to {len(found)} clips") as progress:
        for done, (place, path) in enumerate(zip(places, paths, strict=True), start=1):
            _draw_clip(tagger, pack, clips.loc[place], tagger.classes.index(label), top, path)
            progress(done, len(found))
    return found.assign(figure=pd.Series(paths, found.index, dtype=object))


def pack_of(folder: RunFolder, data: Path, display: Display) -> Pack:
    """Return the pack of a run. Raises UserError for another one."""
    spec = folder.record().spec
    (pack,) = packs_of([data], [spec.config["sample_rate"]], display)
    if pack.fingerprint != spec.pack:
        raise UserError(f"{pack.folder}: not the pack that {folder.path} was trained on; give that one")
    return pack


def _draw_clip(tagger: Tagger, pack: Pack, clip: "pd.Series[Any]", asked: int, top: int, path: Path) -> None:
    # as it was recorded: packing repeats what is shorter than a second
    length = int(np.rint(clip["seconds"] * pack.sample_rate).clip(1, clip["length"]))
    samples: Samples = np.array(pack.samples("eval")[clip["start"] : clip["start"] + length])
    labels = frozenset(map(int, clip["labels"]))
    tags = replace(tagger.tag_clip(str(clip["clip"]), samples), asked=asked, labels=labels)
    heard = tagger.repeated(samples)
    power = spectrogram_of([heard], len(heard), pack.sample_rate, PIXELS)
    path.parent.mkdir(parents=True, exist_ok=True)
    tags_figure(tags, power, pack.sample_rate, top, path)
