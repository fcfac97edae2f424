"""What stands behind the commands: call the parts, print the outcome."""

import shlex
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from bench.cli.progress import SuiteDisplay, bar, console
from bench.data.dataset import SPLITS, AudioError, AudioInfo
from bench.data.pack import Pack, summary
from bench.data.packing import pack
from bench.data.readers.fsd50k import OFFICIAL_CLIPS, verify
from bench.errors import UserError
from bench.protocol.spec import RunSpec
from bench.schema import validated
from bench.stats.bootstrap import RESAMPLES
from bench.suites.space import Budget
from bench.suites.suite import Suite, load_suite, parse_sets
from bench.tracking.process import WAIT_SECONDS, Tracker

if TYPE_CHECKING:
    import torch

    from bench.runner.estimate import Forecast, Row
    from bench.searching.record import Found

DEMO = Path("data/demo")


@dataclass(frozen=True)
class SearchOptions:
    """What the command line says of a search."""

    trials: int | None
    hours: float | None
    storage: str | None = None
    heartbeat: int = 10  # seconds

    @property
    def given(self) -> bool:
        return self.trials is not None or self.hours is not None

    def check(self, suite: Suite) -> None:
        """Raises UserError if they ask for a search that the suite has not."""
        if self.given and not suite.space:
            raise UserError(f"--trials and --hours: suite {suite.title!r} has no [space] to search")

    def budget(self, suite: Suite) -> Budget:
        """Raises UserError if there are two, or none."""
        if self.trials is not None and self.hours is not None:
            raise UserError("give either --trials or --hours, not both")
        if self.given:
            return validated(Budget, {"trials": self.trials, "hours": self.hours}, "--trials, --hours")
        if suite.budget is None:
            raise UserError(f"suite {suite.title!r} has no [budget]: give --trials N or --hours H")
        return suite.budget


def run_command(
    name: str,
    data: Sequence[Path],
    out: Path | None,
    only: Sequence[str],
    seeds: int | None,
    sets: Sequence[str],
    device: str,
    mixed: bool,
    track: bool,
    options: SearchOptions,
    own: Sequence[Path],
    together: int | None,
) -> None:
    suite, fields = load_suite(name), parse_sets(sets)
    options.check(suite)
    _load_registry(own)
    from bench.runner.executor import run_suite
    from bench.runner.preflight import check, refuse_other_code
    from bench.suites.plan import plan, sample_rates

    target = _device(device)
    rates = sample_rates(suite, only, fields)  # a wrong name should not wait for the demo set to be made
    out = out or Path("results") / Path(name).stem
    packs = _packs(data or [Path("demo")] if name == "demo" else data, rates)
    runs = plan(suite, packs, only=only, seeds=seeds, sets=fields, device=target)
    with Tracker(out, on=track, own=own) as tracker:
        if suite.space:
            check(runs, out)
            founds = _search(suite, runs, out, fields, target, options, tracker)
            runs = plan(_export(out, suite, founds, packs, seeds), packs, device=target)
        if not mixed:
            refuse_other_code(runs, out)
        check(runs, out)
        console.print(f"{suite.title}: {len(runs)} runs on {target}, results in {out}", markup=False)
        _forecast_runs(suite, runs, out, target)
        with SuiteDisplay() as display:
            outcome = run_suite(
                runs, out, title=suite.title, device=target, display=display, together=together, after_run=tracker.news
            )
        if outcome.skipped:
            console.print(f"{len(outcome.skipped)} of {len(runs)} runs were finished before", markup=False)
        if outcome.done or outcome.skipped:
            report_command(out, mixed=mixed)
        _finish(tracker)
    if outcome.failed:
        console.print(f"failed: {', '.join(outcome.failed)}; the same command tries them again", markup=False)
        raise typer.Exit(1)


def cost_command(
    name: str,
    data: Sequence[Path],
    out: Path | None,
    only: Sequence[str],
    seeds: int | None,
    sets: Sequence[str],
    device: str,
    options: SearchOptions,
    own: Sequence[Path],
) -> None:
    suite, fields = load_suite(name), parse_sets(sets)
    options.check(suite)
    budget = options.budget(suite) if suite.space else None
    _load_registry(own)
    from bench.runner.estimate import THOROUGH, rows_of, table
    from bench.suites.plan import plan, sample_rates

    target = _device(device)
    rates = sample_rates(suite, only, fields)
    out = out or Path("results") / Path(name).stem
    packs = _packs(data or [Path("demo")] if name == "demo" else data, rates)
    runs = plan(suite, packs, only=only, seeds=seeds, sets=fields, device=target)
    left = rows_of(runs, out)
    if budget:  # the best recipe is retrained as often as the default one
        left = [replace(row, done=2 * row.done) for row in left]
    elif not (left := [row for row in left if row.done]):
        typer.echo(f"{suite.title}: all {len(runs)} runs are finished in {out}")
        return
    forecasts = _forecast(left, target, THOROUGH)
    typer.echo(table(suite.title, forecasts, target, budget))
    if any(forecast.cause for forecast in forecasts):
        raise typer.Exit(1)


def _forecast(rows: "Sequence[Row]", device: "torch.device", seconds: float) -> "list[Forecast]":
    from bench.runner.estimate import forecast

    with bar("measuring a few updates of each row") as progress:
        return forecast(rows, device, seconds=seconds, progress=progress)


def _forecast_runs(suite: Suite, runs: Sequence[tuple[RunSpec, Pack]], out: Path, device: "torch.device") -> None:
    """A line before a suite, unless that would take long beside the suite."""
    from bench.runner.estimate import BRIEF, line, rows_of, worth_measuring

    left = [row for row in rows_of(runs, out) if row.done]
    forecasts = _forecast(left, device, BRIEF) if worth_measuring(left) else []
    if any(forecast.rates for forecast in forecasts):
        console.print(line(suite.title, forecasts, device), markup=False)


def _forecast_trials(runs: Sequence[tuple[RunSpec, Pack]], out: Path, budget: Budget, device: "torch.device") -> None:
    """A line before the first searches in `out`; an hour's budget takes an hour."""
    from bench.runner.estimate import BRIEF, rows_of, trial_line, worth_measuring

    if budget.trials is None or (out / "search.json").exists():
        return
    rows = [replace(row, done=budget.trials * (0,)) for row in rows_of(runs, out)]
    if worth_measuring(rows):
        console.print(trial_line(_forecast(rows, device, BRIEF)), markup=False)


def search_command(
    name: str,
    only: Sequence[str],
    data: Sequence[Path],
    out: Path | None,
    sets: Sequence[str],
    device: str,
    options: SearchOptions,
    export: bool,
    track: bool,
    own: Sequence[Path],
) -> None:
    suite, fields = load_suite(name), parse_sets(sets)
    if not suite.space:
        raise UserError(f"suite {suite.title!r} has no [space] to search")
    _load_registry(own)
    from bench.reporting.figures.search import draw_search
    from bench.reporting.systems import load_search
    from bench.reporting.tables.search import summary
    from bench.runner.preflight import check
    from bench.suites.plan import plan, sample_rates

    target = _device(device)
    rates = sample_rates(suite, only, fields)
    out = out or Path("results") / Path(name).stem
    packs = _packs(data, rates)
    runs = plan(suite, packs, only=only, seeds=1, sets=fields, device=target)
    check(runs, out)
    with Tracker(out, on=track, own=own) as tracker:
        founds = _search(suite, runs, out, fields, target, options, tracker)
        draw_search(out)
        typer.echo(summary(load_search(out) or {}))
        console.print(f"on record: {out / 'search.json'}, trials.csv, figures", markup=False)
        if export:
            _export(out, suite, founds, packs, None)
            console.print(f"to retrain: bench run {out / 'best.toml'} --data PACK{_with(own)}", markup=False)
        _finish(tracker)


def _finish(tracker: Tracker) -> None:
    if tracker.on:
        console.print(f"tracking: sending what is new, for {WAIT_SECONDS:.0f} s at most", markup=False)
    for line in tracker.finish(WAIT_SECONDS):
        console.print(f"warning: {line}", markup=False)


def _search(
    suite: Suite,
    runs: Sequence[tuple[RunSpec, Pack]],
    out: Path,
    sets: Mapping[str, Any],
    device: "torch.device",
    options: SearchOptions,
    tracker: Tracker,
) -> "list[Found]":
    """Search row after row until each has spent its budget; the record is written after each."""
    from bench.searching.record import Found, write_record
    from bench.searching.search import run_search, searches
    from bench.searching.study import open_storage

    budget = options.budget(suite)
    planned = searches(runs, suite.space, suite.search_seed, sets)
    out.mkdir(parents=True, exist_ok=True)
    storage = open_storage(options.storage or f"sqlite:///{out / 'search.db'}", options.heartbeat)
    console.print(f"{suite.title}: {len(planned)} searches, {budget} each, on {device}", markup=False)
    _forecast_trials(runs, out, budget, device)
    founds = []
    try:
        with SuiteDisplay() as display:
            for search in planned:
                founds.append(Found.after(search, run_search(search, storage, budget, device, display), budget))
                write_record(out, suite, founds)
                tracker.news()
    finally:
        storage.engine.dispose()
    return founds


def _export(out: Path, suite: Suite, founds: "Sequence[Found]", packs: Sequence[Pack], seeds: int | None) -> Suite:
    from bench.searching.record import export

    path = out / "best.toml"
    export(path, suite, founds, {pack.fingerprint: pack.sample_rate for pack in packs}, seeds or suite.seeds)
    return load_suite(str(path))


def report_command(folder: Path, resamples: int = RESAMPLES, by_group: bool = False, mixed: bool = False) -> None:
    from bench.reporting import Sampling, write_report

    with bar(f"drawing clips for {folder}") as progress:
        text = write_report(folder, Sampling(resamples, by_group), mixed=mixed, progress=progress)
    typer.echo(text)
    console.print(f"the whole report: {folder / 'index.html'}, table.md, table.csv, table.tex, figures", markup=False)


def track_sync_command(folders: Sequence[Path], own: Sequence[Path]) -> None:
    if own:
        _load_registry(own)
    from bench.tracking.sync import sync

    for folder in folders:
        with bar(f"sending {folder}") as progress:
            outcome = sync(folder, progress=progress)
        for line in outcome.warnings:
            console.print(f"warning: {line}", markup=False)
        typer.echo(f"{folder}: {len(outcome.sent)} runs sent, {outcome.there} are there: {outcome.server}")


def compare_command(
    first: Path, second: Path, classes: Path | None, resamples: int, by_group: bool, mixed: bool
) -> None:
    from bench.reporting.analysis import Sampling
    from bench.reporting.compare import compare, describe

    with bar("drawing clips") as progress:
        found = compare(first, second, Sampling(resamples, by_group), mixed=mixed, progress=progress)
    typer.echo(describe(found))
    if classes:
        found.classes.table.to_csv(classes, index=False, lineterminator="\n")


def filters_command(run: Path, data: Path | None, own: Sequence[Path]) -> None:
    _load_registry(own)
    from bench.inspect.filters import measure_filters
    from bench.reporting.figures.filters import describe, filters_figure
    from bench.runner.weights import find_run

    run = find_run(run)
    summary = measure_filters(run, Pack(data) if data else None)
    filters_figure(run)
    typer.echo(describe(summary))


def predict_command(
    run: Path,
    files: Sequence[Path],
    top: int,
    csv: Path | None,
    plot: Path | None,
    device: str,
    own: Sequence[Path],
) -> None:
    from bench.data.audio import spectrogram
    from bench.reporting.figures.tags import PIXELS, ScoreTable, describe, figure_paths, tags_figure

    files = list(dict.fromkeys(files))
    figures = figure_paths(files, plot) if plot else {}
    with ScoreTable(csv) if csv else nullcontext() as scores:
        infos = _probe(files)
        if not infos:
            raise typer.Exit(2)  # before a model is loaded
        _load_registry(own)
        from bench.inspect.predict import Tagger
        from bench.runner.weights import find_run

        tagger, done = Tagger(find_run(run), _device(device)), 0
        if plot:
            plot.mkdir(parents=True, exist_ok=True)
        for file, info in infos.items():
            try:
                with bar(f"listening to {file}") as progress:
                    tags = tagger.tag(file, info, progress)
                typer.echo(describe(tags, top))
                if scores:
                    scores.add(tags)
                if plot:
                    power = spectrogram(file, info, tagger.sample_rate, PIXELS, tagger.least)
                    tags_figure(tags, power, tagger.sample_rate, top, figures[file])
                done += 1
            except AudioError as error:
                _left_out(file, error)
    if done < len(files):
        raise typer.Exit(2)


def _probe(files: Sequence[Path]) -> dict[Path, AudioInfo]:
    """Of the files whose headers can be read."""
    from bench.data.audio import probe_file

    infos = {}
    for file in files:
        try:
            infos[file] = probe_file(file)
        except AudioError as error:
            _left_out(file, error)
    return infos


def _left_out(file: Path, error: AudioError) -> None:
    console.print(f"bench: error: {file}: {error}", markup=False)


def speed_command(quick: bool, only: Sequence[str], out: Path, device: str) -> None:
    _load_registry()
    from benchmarks.run import check_parts, measure_speed

    check_parts(only)

    def say(part: str) -> None:
        console.print(f"measuring: {part}", markup=False)

    pack = _demo_pack()
    text = measure_speed(out, dataset=DEMO, pack=pack, device=_device(device), only=only, quick=quick, progress=say)
    typer.echo(text)
    console.print(f"the whole record, with figures: {out}", markup=False)


def _load_registry(own: Sequence[Path] = ()) -> list[str]:
    """Load the contestants, those in files of one's own behind the others; returns the names of these.

    A slip in one's own file should be one line, whichever command meets it first.
    """
    try:
        from architectures import load_file

        return [name for path in own for name in load_file(path)]
    except ValueError as error:  # its ConfigError; the class is out of reach if its package does not load
        raise UserError(str(error)) from error


def _with(own: Sequence[Path]) -> str:
    """Those files as options of a command."""
    return "".join(f" --with {shlex.quote(str(path))}" for path in own)


def _device(name: str) -> "torch.device":
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--device {name}: {str(error).splitlines()[0]}") from None
    return torch.device(name)


def _packs(data: Sequence[Path], sample_rates: Sequence[int]) -> list[Pack]:
    """`demo` is the generated data set at all of these sample rates, unless there is a folder of that name."""
    folders: list[Path] = []
    for folder in data:
        is_demo = folder == Path("demo") and not folder.exists()
        folders += [_demo_pack(rate) for rate in sample_rates] if is_demo else [folder]
    return [Pack(folder) for folder in folders]


def _demo_pack(sample_rate: int = 16_000) -> Path:
    """The generated data set, made where it is missing."""
    packed = DEMO.with_name(f"demo-{sample_rate}")
    if not (packed / "manifest.json").exists():
        if not DEMO.exists():
            demo_command(DEMO, seed=0)
        pack_command(DEMO, packed, sample_rate, strict=True)
    return packed


def list_command(own: Sequence[Path]) -> None:
    _load_registry(own)
    from architectures import get_architecture, list_architectures

    layout = "{:24} {:12} {:>13} {:>11}  {}"
    typer.echo(layout.format("architecture", "family", "published mAP", "parameters", "source"))
    for name in list_architectures():
        entry, row = get_architecture(name), get_architecture(name).published
        outside = entry.model.__module__ if entry.source else ""
        figures = (f"{row.map:.3f}", f"{row.parameters / 1e6:.2f}M", row.source) if row else ("", "", outside)
        typer.echo(layout.format(name if entry.in_all else f"{name} *", entry.family, *figures).rstrip())
    typer.echo("* runs only where it is named: bench run --only NAME; so does timm:MODEL, any of timm's models")


def new_command(name: str, folder: Path) -> None:
    _load_registry()
    from architectures import ConfigError, list_architectures
    from architectures.template import write_architecture

    try:
        path = write_architecture(name, folder, list_architectures())
    except ConfigError as error:
        raise UserError(str(error)) from None
    typer.echo(f"{path}: an architecture to change as you like; then")
    typer.echo(f"    bench check {path}")
    typer.echo(f"    bench run demo --with {path}")


def check_command(names: Sequence[str], data: Path | None, clips: int, own: Sequence[Path]) -> None:
    _load_registry(own)
    in_files = _load_registry([Path(name) for name in names if name.endswith(".py")])
    from architectures import ConfigError, get_architecture, list_architectures
    from architectures.checks import failed_checks
    from bench.runner.overfit import overfit

    failed, pack_ = False, Pack(data) if data else None
    named = [name for name in names if not name.endswith(".py")]
    for name in [*named, *in_files] or list_architectures():
        try:
            get_architecture(name)
        except ConfigError as error:
            raise UserError(str(error)) from None
        reasons = failed_checks(name)
        for check, reason in reasons.items():
            typer.echo(f"{name}: {check}: {reason}")
        if not reasons:
            typer.echo(f"{name}: passes all checks")
        failed |= bool(reasons)
        if pack_ and not reasons:
            train_map = overfit(name, pack_, clips)
            typer.echo(f"{name}: mAP {train_map:.3f} on the {clips} clips it was trained on")
            failed |= train_map < 0.9
    if failed:
        raise typer.Exit(1)


def fetch_command(folder: Path, out: Path | None, sample_rate: int, delete_archives: bool, mirror: str | None) -> None:
    from bench.data.download.fetch import Fetch, exclusive
    from bench.data.download.fsd50k_files import ZENODO

    with exclusive(folder):
        fetch = Fetch(folder, source=mirror or ZENODO, out=out, sample_rate=sample_rate)
        console.print(fetch.summary(), markup=False)
        fetch.require_space()
        with bar(f"downloading to {folder}") as progress:
            fetch.download(progress, lambda line: console.print(line, markup=False))
        for archive in fetch.to_unpack:
            with bar(f"unpacking {archive.name}") as progress:
                fetch.unpack(archive, progress)
        if out and not fetch.is_packed:
            with bar(f"packing {folder} at {sample_rate} Hz") as progress:
                packed = fetch.pack(progress)
            _describe(packed)
        if delete_archives:
            fetch.delete_archives()
    typer.echo(f"{out or folder}: all there", err=True)


def verify_command(folder: Path) -> None:
    with bar(f"reading {folder}") as progress:
        found = verify(folder, progress)
    for split in SPLITS:
        typer.echo(
            f"{split:5} {found.clips[split]:6} clips {found.hours[split]:7.2f} h "
            f"{found.classes_used[split]:4} of {found.classes} classes"
        )
    whole = ", ".join(f"{split} {clips}" for split, clips in OFFICIAL_CLIPS.items())
    typer.echo("the whole of FSD50K" if found.whole else f"a reduced copy or another data set (FSD50K: {whole})")
    for path, cause in found.broken.items():
        typer.echo(f"unusable: {path}: {cause}")
    for path in found.extra:
        typer.echo(f"extra: {path} is in no CSV")
    for problem in found.problems:
        typer.echo(f"label: {problem}")
    if found.problems:
        raise UserError(f"{folder}: labels to mend in the CSVs: {len(found.problems)}, listed above")
    if found.broken:
        count = len(found.broken)
        raise UserError(f"{folder}: unusable recordings: {count}, listed above; `bench data pack` leaves them out")


def info_command(folder: Path) -> None:
    for key, value in summary(Pack(folder)).items():
        typer.echo(f"{key}: {value}")


def pack_command(folder: Path, out: Path, sample_rate: int, strict: bool) -> None:
    with bar(f"packing {folder} at {sample_rate} Hz") as progress:
        packed = pack(folder, out, sample_rate=sample_rate, strict=strict, progress=progress)
    _describe(packed)


def _describe(packed: Pack) -> None:
    left_out = packed.manifest["left_out"]
    for clip, cause in left_out.items():
        typer.echo(f"left out: {clip}: {cause}")
    clips = ", ".join(f"{split} {count}" for split, count in packed.manifest["clips"].items())
    typer.echo(f"{packed.folder}: {clips}; {len(left_out)} left out", err=True)


def demo_command(folder: Path, seed: int) -> None:
    from bench.data.synthetic.demo import write_demo

    with bar(f"generating {folder}") as progress:
        write_demo(folder, seed=seed, progress=progress)
