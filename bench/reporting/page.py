"""One self-contained index.html: no network, no file beside it."""

import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from bench.reporting.analysis import Analysis
from bench.reporting.answer import answer
from bench.reporting.basis import basis, made_on
from bench.reporting.figures.spectrograms import small_spectrogram
from bench.reporting.hints import hint
from bench.reporting.marks import KINDS, footnotes
from bench.reporting.notes import origin, reading_notes
from bench.reporting.sounds import FoundSound, sounds_of, way_of_all
from bench.reporting.svg import inline_svg
from bench.reporting.systems import FinishedRun, System
from bench.reporting.tables.scores import unfinished
from bench.reporting.tables.table import Column, Table
from bench.store import RunRecord
from bench.text import printable

__all__ = ["page"]

# lines; a longer table is folded, and so are those that answer no question of the suite
_SHORT, _FOLDED = 12, ("differences", "published", "classes", "ensemble_pairs")
# By table, the fields that a narrow screen shows beside the names in the first column; {} is the primary metric.
_FIRST = {
    "over_floor": ("difference", "low", "beats_floor", "verdict"),
    "scores": ("{}", "{}_low", "{}_corrected", "rank", "group"),
    "ablations": ("difference", "low", "verdict", "changed"),
    "contrasts": ("weighted_difference", "low", "verdict", "question"),
    "differences": ("second", "{}", "{}_low", "{}_verdict"),
    "classes": ("difference", "low", "verdict"),
    "published": ("published_{published}",),
    "starts": ("{}", "start", "trained", "label_share"),
}
# suffixes of a figure's files, the second of the one as wide as a column
_FILES = {"PNG": ".png", "SVG": ".svg", "PDF": ".pdf", "PDF, one column wide": "_column.pdf"}
Facts = dict[str, dict[str, str]]
# bytes of a page beyond which it takes no more sounds, and of what stands around one
_MOST, _AROUND = 3_000_000, 2_000


@dataclass(frozen=True)
class _Shown:
    """A table as the page has it: columns by importance, what their headers mean, and what is alike in all lines."""

    table: Table
    columns: tuple[Column, ...]
    hints: tuple[str, ...]
    # header to text, of columns that are left out
    alike: Mapping[str, str]

    @property
    def is_short(self) -> bool:
        return len(self.table.records) <= _SHORT and self.table.name not in _FOLDED


@dataclass(frozen=True)
class _Drawn:
    """A figure: as wide as a page, and where there is one as narrow as a phone; and the files that it is in."""

    name: str
    title: str
    caption: str
    wide: Markup
    narrow: Markup | None
    # what to call them, and where they are
    files: Mapping[str, str]


@dataclass(frozen=True)
class _Played:
    """A sound as the page has it, with its picture."""

    name: str
    found: FoundSound
    # beside the page
    file: str
    wav: str
    picture: str


@dataclass(frozen=True)
class _Sounds:
    """The sounds that the page has room for, and how the generated ones were made, if alike."""

    played: Sequence[_Played]
    alike: str
    # the others, and their files; and the files of the figure of all
    left: Mapping[str, str]
    files: Mapping[str, str]

    @property
    def taggers(self) -> list[str]:
        return sorted({tagger for each in self.played if (tagger := each.found.record.tagger)})


@dataclass(frozen=True)
class _OfSystem:
    """A system's runs: the facts that they share, and of each run its folder, the others, history and filters."""

    system: System
    facts: Facts
    runs: Sequence[tuple[str, Facts, dict[str, Any], Markup | None]]


def page(analysis: Analysis, made: Sequence[Table], figures: Mapping[str, str]) -> str:
    """Return what the results say, drawn `figures` (name to caption), tables, and what every run was, as HTML."""
    results = analysis.results
    sentence, commands = origin(results)
    shown = [_shown(table, analysis) for table in made]
    drawn = {name: _drawn(analysis, name, caption) for name, caption in figures.items()}
    first = [drawn.pop(name) for name in _headlines(analysis, figures)]
    # its spectrograms stand beside their sounds
    of_sounds = drawn.pop("sounds", None)
    common, systems = _facts_of_all(analysis)
    content = {
        "title": results.title,
        "answer": answer(analysis),
        "basis": f"{basis(analysis)}; {made_on(results)}",
        "short": [table for table in shown if table.is_short],
        "folded": [table for table in shown if not table.is_short],
        "first": first,
        "figures": list(drawn.values()),
        "notes": reading_notes(analysis),
        "origin": sentence,
        "commands": commands,
        "marked": [(kind, notes) for kind in KINDS if (notes := footnotes(results, kind))],
        "unfinished": unfinished(results),
        "common": common,
        "systems": systems,
        "run_count": len(results.runs),
        "metric": analysis.primary,
    }
    template = _environment().get_template("page.html")
    html = template.render(**content, sounds=None)
    if not (found := sounds_of(results, [standing.system for standing in analysis.standings])):
        return html
    room, files = _MOST - len(html.encode()), of_sounds.files if of_sounds else {}
    return template.render(**content, sounds=_sounds(found, results.folder.path, room, files))


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, finalize=_harmless,
    )  # fmt: skip
    environment.filters["breakable"] = _breakable
    return environment


def _harmless(value: object) -> object:
    """Return a text without what would act, in a browser or an editor; autoescape does what is HTML's."""
    if isinstance(value, str):
        return type(value)(printable(value, lines=True))
    return value


def _breakable(text: str) -> Markup:
    """Return a text that may be broken behind underscores, since names of systems have no spaces, but in no arrow."""
    text = re.sub("_(?=[^_])", "_<wbr>", escape(printable(text)))
    return Markup(text.replace("-&gt;", '<span class="whole">-&gt;</span>'))


# --- figures ---


def _headlines(analysis: Analysis, figures: Mapping[str, str]) -> list[str]:
    """Return the figures that belong to the answer: the contrasts of a grid, ablations; else what mAP costs."""
    by_kind = {"ablations": bool(analysis.ablations), "contrasts": bool(analysis.results.grid), "grid": True}
    kinds = [name for name, is_asked in by_kind.items() if is_asked and name in figures]
    first = f"{analysis.primary.name}_vs_parameters"
    return kinds or [name for name in (first, *figures) if name in figures][:1]


def _drawn(analysis: Analysis, name: str, caption: str) -> _Drawn:
    path = analysis.results.folder.report_file(name)
    labels = {metric.name: metric.label for metric in analysis.results.task.metrics}
    metric, vs, cost = name.partition("_vs_")
    title = f"{labels[metric]} against {cost}" if vs and metric in labels else name
    title = title.replace("_", " ")
    narrow = path.with_name(f"{name}_column.svg")
    files = {what: f"{name}{suffix}" for what, suffix in _FILES.items()}
    caption_id = f"{name}-caption"
    return _Drawn(
        name,
        title,
        caption,
        Markup(inline_svg(path.with_suffix(".svg"), name, title, caption_id)),
        Markup(inline_svg(narrow, f"{name}-narrow", title, caption_id)) if narrow.is_file() else None,
        {what: file for what, file in files.items() if path.with_name(file).is_file()},
    )


# --- sounds ---


def _sounds(found: Mapping[str, FoundSound], folder: Path, room: int, files: Mapping[str, str]) -> _Sounds:
    """Return the sounds for which there is room, in bytes: the real one, then those of the best systems."""
    played: list[_Played] = []
    left: dict[str, str] = {}
    for name, sound in found.items():
        file = sound.path.relative_to(folder).as_posix()
        wav = b64encode(sound.wav).decode()
        # before it is drawn, which takes far longer
        if left or len(wav) + _AROUND > room:
            left[name] = file
            continue
        picture = b64encode(small_spectrogram(sound.power, sound.seconds, sound.sample_rate)).decode()
        if (needed := len(wav) + len(picture) + _AROUND) > room:
            left[name] = file
            continue
        room -= needed
        played.append(_Played(name, sound, file, wav, picture))
    return _Sounds(played, way_of_all(found), left, files)


# --- tables ---


def _shown(table: Table, analysis: Analysis) -> _Shown:
    names, *others = table.columns
    of_papers = analysis.results.published_metric.name
    first = [field.format(analysis.primary.name, published=of_papers) for field in _FIRST.get(table.name, ())]
    places = {field: place for place, field in enumerate(first)}
    alike = {column.header: text for column in others if column.field not in places and (text := _alike(column, table))}
    by_importance = sorted(others, key=lambda column: places.get(column.field, len(first)))
    columns = (names, *(column for column in by_importance if column.header not in alike))
    return _Shown(table, columns, tuple(hint(column, analysis) for column in columns), alike)


def _alike(column: Column, table: Table) -> str:
    """Return the text that a column has in every line, so that it can be said once; '' where they differ."""
    texts = {column.text(record) for record in table.records}
    return (texts.pop() or "none") if len(texts) == 1 < len(table.records) else ""


# --- runs ---


def _facts_of_all(analysis: Analysis) -> tuple[Facts, list[_OfSystem]]:
    """Return the facts that all runs share, once, and by system those that its runs share, and what is left of each."""
    by_run = {run.folder.name: _facts(run.record) for run in analysis.results.runs}
    common = _shared(list(by_run.values()))
    systems = []
    for system in (standing.system for standing in analysis.standings):
        left = {run.folder.name: _without(by_run[run.folder.name], common) for run in system.runs}
        of_system = _shared(list(left.values()))
        runs = [(run.folder.name, _without(left[run.folder.name], of_system), *_learning(run)) for run in system.runs]
        systems.append(_OfSystem(system, of_system, runs))
    return common, systems


def _shared(facts: Sequence[Facts]) -> Facts:
    """Return what several say alike; of a single one there is nothing to share."""
    first, *others = facts
    if not others:
        return {}
    same = {
        section: {name: text for name, text in values.items() if all(o[section].get(name) == text for o in others)}
        for section, values in first.items()
        if all(section in other for other in others)
    }
    return {section: values for section, values in same.items() if values}


def _without(facts: Facts, known: Facts) -> Facts:
    left = {
        section: {name: text for name, text in values.items() if name not in known.get(section, {})}
        for section, values in facts.items()
    }
    return {section: values for section, values in left.items() if values}


def _learning(run: FinishedRun) -> tuple[dict[str, Any], Markup | None]:
    """Return a run's history, and the figure of `bench filters`, if it was called for this run."""
    filters, name = run.folder.filters_figure.with_suffix(".svg"), re.sub(r"\W", "_", run.folder.name)
    label = "Frequency responses, centre frequencies, bandwidths and shapes of the first layer's filters"
    drawn = Markup(inline_svg(filters, f"filters-{name}", label)) if filters.is_file() else None
    return run.folder.history().to_dict("split", index=False), drawn


def _facts(record: RunRecord) -> Facts:
    spec, made = record.spec, record.provenance.model_dump()
    source, versions = made.pop("source"), made.pop("versions")
    sections = {
        "Metrics": record.metrics | {"val_score": record.val_score, "best_step": record.best_step},
        "Cost": record.cost,
        "Architecture": {"architecture": spec.architecture} | spec.config,
        "Recipe": {"task": spec.task, **spec.task_settings} | spec.recipe.model_dump(mode="json") | {"seed": spec.seed},
        "Data": record.data,
        "Origin": made | source | versions,
    }
    return {
        title: {name: f"{value:.6g}" if isinstance(value, float) else str(value) for name, value in facts.items()}
        for title, facts in sections.items()
    }
