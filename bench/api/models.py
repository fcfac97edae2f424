"""Trained models: what they hear, and what their first layer listens to."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.api.plugins import device_of, load_plugins
from bench.data.audio import probe_file, spectrogram
from bench.data.dataset import AudioError, AudioInfo
from bench.data.pack import Pack
from bench.inspect.filters import measure_filters
from bench.inspect.predict import Tagger
from bench.reporting.figures.filters import filters_figure
from bench.reporting.figures.tags import PIXELS, tags_figure
from bench.reporting.tags import ScoreTable, describe, figure_paths
from bench.runner.display import Display
from bench.store import ResultsFolder, RunFolder

__all__ = ["PredictOptions", "filters", "find_run", "predict"]


def filters(run: Path, data: Path | None = None, plugins: Sequence[Path] = ()) -> dict[str, Any]:
    """Measure what a learned front end listens to: filters.csv and figures in the run's folder.

    With the run's pack as `data`, also how often each fires. Raises UserError for no such run, weights or filters.
    """
    load_plugins(plugins)
    folder = find_run(run)
    found = measure_filters(folder, Pack(data) if data else None)
    filters_figure(folder)
    return found


@dataclass(frozen=True)
class PredictOptions:
    """How many tags are shown, a file for all tags' scores over time, a folder for figures; device and plugins."""

    top: int = 5
    csv: Path | None = None
    plot: Path | None = None
    device: str = "auto"
    plugins: Sequence[Path] = ()


def predict(run: Path, files: Sequence[Path], display: Display | None = None, **options: Any) -> int:
    """Show what a trained model hears in sound files; a broken one is named, and the others are done.

    `options` are the fields of PredictOptions. Returns how many files were done. Raises UserError if there is no such
    run, no weights, or a file would be overwritten that is not of this command.
    """
    display, how = display or Display(), PredictOptions(**options)
    files = list(dict.fromkeys(files))
    figures = figure_paths(files, how.plot) if how.plot else {}
    table = ScoreTable(how.csv) if how.csv else nullcontext()
    infos = _probe(files, display)
    # before a model is loaded, or a table begun
    if not infos:
        return 0
    with table as scores:
        load_plugins(how.plugins)
        tagger, done = Tagger(find_run(run), device_of(how.device)), 0
        if how.plot:
            how.plot.mkdir(parents=True, exist_ok=True)
        for file, info in infos.items():
            try:
                with display.bar(f"listening to {file}") as progress:
                    tags = tagger.tag(file, info, progress)
                display.show(describe(tags, how.top))
                if scores:
                    scores.add(tags)
                if how.plot:
                    power = spectrogram(file, info, tagger.sample_rate, PIXELS, tagger.least)
                    tags_figure(tags, power, tagger.sample_rate, how.top, figures[file])
                done += 1
            except AudioError as error:
                display.notice(f"bench: error: {file}: {error}")
    return done


def _probe(files: Sequence[Path], display: Display) -> dict[Path, AudioInfo]:
    infos = {}
    for file in files:
        try:
            infos[file] = probe_file(file)
        except AudioError as error:
            display.notice(f"bench: error: {file}: {error}")
    return infos


def find_run(path: Path) -> RunFolder:
    """Return a run's folder, given as it is or by how its name begins: runs/demo/crnn-s0, or runs/demo/crnn."""
    return RunFolder(path) if path.is_dir() else ResultsFolder(path.parent).find(path.name)
