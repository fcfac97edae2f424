"""Cases: a file of some kind is damaged as a seed has it, and all that reads it is asked for it.

Whatever was damaged, the answer is right, or an error in one line that the user is meant to see. A case is called
KIND:SEED and is the same each time. Cases run in processes of their own (processes.py), as some may kill them; what
became of each is a line of a log.
"""

import faulthandler
import io
import json
import os
import random
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.data.dataset import AudioError
from bench.errors import UserError
from bench.text import printable
from tests.faults.mutator import damaged, rewritten
from tests.faults.processes import ROOT

__all__ = ["KINDS", "Case", "Outcome", "failures", "no_figures", "work"]

SECONDS, MEGABYTES = 10, 500
# A machine with others on it is as many times slower.
_PATIENCE = 6
Answer = Callable[["Case"], object]
KINDS: dict[str, Answer] = {}
# kinds of which each file is one by itself, that needs no other beside it
_ALONE = {"audio", "cut_audio", "command_predict", "suite", "command_plan"}
# kinds that are cut off, and nothing else
_CUT = {"cut_audio"}
# kinds that read some of the files that are there
_ONLY = {
    "tables": (".csv", ".json"),
    "filters": (".csv", ".npz"),
    "results": (".json", ".npz", ".csv"),
    "records": (".json", ".csv"),
    "comparison": (".json", ".npz"),
    "weights": (".safetensors", ".json"),
    "command_report": (".json", ".npz", ".csv"),
    "command_show": (".json", ".csv"),
}


@dataclass(frozen=True)
class Outcome:
    """What became of a case: accepted, refused (with the line), or wrong (with what went wrong)."""

    case: str
    how: str
    text: str
    seconds: float
    megabytes: float


@dataclass
class Case:
    """A case: its folder is a copy of its kind's, in which `file` is damaged. `original` is as it was."""

    kind: str
    seed: int
    original: Path
    folder: Path
    file: str = ""

    @property
    def name(self) -> str:
        return f"{self.kind}:{self.seed}"

    @property
    def path(self) -> Path:
        return self.folder / self.file

    def prepare(self) -> None:
        """Make the folder, and damage a file of it."""
        rng = random.Random(self.name)
        # what is called so is not damaged, but needed beside what is
        names = [str(path.relative_to(self.original)) for path in sorted(self.original.rglob("*")) if path.is_file()]
        names = [name for name in names if not name.startswith("_")]
        names = [name for name in names if Path(name).suffix in _ONLY.get(self.kind, (Path(name).suffix,))]
        # as many of each suffix, of which there may be one beside a hundred
        suffix = rng.choice(sorted({Path(name).suffix for name in names}))
        self.file = rng.choice([name for name in names if Path(name).suffix == suffix])
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.kind in _ALONE:
            self.folder.mkdir(parents=True)
        else:
            shutil.copytree(self.original, self.folder)
        others = [(self.original / name).read_bytes() for name in rng.sample(names, min(4, len(names)))]
        data = (self.original / self.file).read_bytes()
        if self.kind in _CUT:
            data = data[: rng.randrange(len(data))]
        elif rng.random() < 0.5:
            data = rewritten(self.file, data, rng, others)
        else:
            data = damaged(data, rng, others)
        self.path.write_bytes(data)


def kind(answer: Answer) -> Answer:
    """Register what is asked of a damaged file."""
    KINDS[answer.__name__] = answer
    return answer


# --- the process that works on cases


class Hang(BaseException):
    """A case that takes too long."""


def work(cases: Sequence[str], originals: Path, folder: Path, log: Path) -> None:
    """Work on cases, one after the other; write a line before each, and one of what became of it."""
    import torch

    torch.set_num_threads(1)
    faulthandler.enable()
    with log.open("a", encoding="utf-8") as lines:

        def say(value: object) -> None:
            lines.write(json.dumps(value) + "\n")
            lines.flush()

        for name in cases:
            kind, _, seed = name.partition(":")
            case = Case(kind, int(seed), originals / kind, folder / "case")
            say({"case": name})
            say(asdict(_outcome(case)))
    shutil.rmtree(folder / "case", ignore_errors=True)


def _outcome(case: Case) -> Outcome:
    case.prepare()
    # of the processor's time, as others may be at work, too; what waits is stopped by the clock
    before, started = _memory("VmRSS", reset=True), time.process_time()
    how, text = "accepted", ""
    try:
        with _deadline():
            KINDS[case.kind](case)
    except (UserError, AudioError) as error:
        how, text = "refused", str(error)
        if not text or text != printable(text):
            how = "wrong"
    except BaseException as error:
        how, text = "wrong", _place_of(error)
    seconds, megabytes = time.process_time() - started, max(0.0, _memory("VmHWM") - before)
    if seconds > SECONDS or megabytes > MEGABYTES:
        how, text = "wrong", f"{seconds:.1f} s, {megabytes:.0f} MB; {text}"
    return Outcome(case.name, how, f"{case.file}: {text}", seconds, megabytes)


def _place_of(error: BaseException) -> str:
    """Return an error with the lines it came from, the last ones."""
    places, trace = [], error.__traceback__
    while trace:
        code = trace.tb_frame.f_code
        places.append(f"{Path(code.co_filename).name}:{trace.tb_lineno} {code.co_name}")
        trace = trace.tb_next
    return f"{type(error).__name__}: {str(error)[:600]} [{' < '.join(places[:-7:-1])}]"


@contextmanager
def _deadline() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise Hang(f"more than {_PATIENCE * SECONDS} s by the clock")

    before, left = signal.signal(signal.SIGALRM, stop), signal.getitimer(signal.ITIMER_REAL)
    signal.setitimer(signal.ITIMER_REAL, _PATIENCE * SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        # of the test around it, if this is no process of its own
        signal.setitimer(signal.ITIMER_REAL, *left)


def _memory(name: str, *, reset: bool = False) -> float:
    """Return what the system says of this process' memory in MB: VmRSS, now, or VmHWM, at most since the reset."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) / 1024


def failures(log: Path, cases: Sequence[str], code: int | None) -> list[str]:
    """Return a line for each case that went wrong, of a process that ended with this code."""
    lines = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
    outcomes = [Outcome(**line) for line in lines if "how" in line]
    wrong = [f"{each.case}: {each.text}" for each in outcomes if each.how == "wrong"]
    if len(outcomes) < len(cases):
        begun = [line["case"] for line in lines if "how" not in line]
        wrong.append(f"{begun[-1] if begun else cases[0]}: its process ended with code {code}")
    return wrong


def require(holds: object, what: str) -> None:
    if not holds:
        raise AssertionError(what)


# --- recordings


def same_samples(path: Path) -> None:
    """Hear a recording in every way, which are one: as long as was promised, and the same samples."""
    import numpy as np

    from bench.data.audio import blocks, packed_length, pieces, probe

    info = probe(path)
    notes: list[str] = []
    found = np.concatenate(list(pieces(path, info, info.sample_rate, notes)))
    require(len(found) == packed_length(info, info.sample_rate), "another length than was promised")
    heard = np.concatenate(list(blocks(path, info.sample_rate)))
    require(np.array_equal(found, heard), "blocks are not as pieces")


@kind
def audio(case: Case) -> None:
    same_samples(case.path)


@kind
def cut_audio(case: Case) -> None:
    """Cut a recording off. It is refused, or is heard as before: what is gone was no sound."""
    import numpy as np

    found, expected = (np.concatenate(list(_pieces(path))) for path in (case.path, case.original / case.file))
    require(np.array_equal(found, expected), f"{len(found)} samples of {len(expected)}")


def _pieces(path: Path) -> Iterator[Any]:
    from bench.data.audio import pieces, probe

    info = probe(path)
    return pieces(path, info, info.sample_rate)


@kind
def command_verify(case: Case) -> None:
    """Damage a recording, or a table, of a data set."""
    _command("data", "verify", case.folder)


@kind
def command_pack(case: Case) -> None:
    import numpy as np

    out = case.folder.with_name("packed")
    shutil.rmtree(out, ignore_errors=True)
    shutil.rmtree(f"{out}.partial", ignore_errors=True)
    _command("data", "pack", case.folder, "--out", out)
    if out.exists():
        from bench.data.pack import Pack

        Pack(out).verify()
        require(all(np.load(out / f"{split}.npy").dtype == np.int16 for split in ("train", "val", "eval")), "samples")


@kind
def command_info(case: Case) -> None:
    _command("data", "info", case.folder / "pack")


@kind
def command_predict(case: Case) -> None:
    """Damage a recording among others. Those are heard, whatever becomes of it."""
    table, good = case.folder / "_heard.csv", case.original.parent / "tables" / "FSD50K.eval_audio"
    (run,) = (case.original.parent / "results").glob("one-s0-*")
    try:
        _command("predict", run, good, case.path, "--csv", table, "--device", "cpu")
    finally:
        found = table if table.exists() else table.with_name("_heard.csv.partial")
        require(len({line.split(",")[0] for line in found.read_text().splitlines()[1:]}) >= 4, "rows are lost")


@kind
def command_show(case: Case) -> None:
    (run,) = case.folder.glob("one-s0-*")
    _command("show", run)


@kind
def command_plan(case: Case) -> None:
    packed = case.original.parent / "pack" / "pack"
    _command("run", case.path, "--data", packed, "--out", case.folder / "out", "--dry-run", "--seeds", 1)


@kind
def command_report(case: Case) -> None:
    with no_figures():
        _command("report", case.folder, "--resamples", 100)


def _command(*arguments: object) -> None:
    """Run `bench` in this process. Its end is a success, or one line of error and code 2."""
    from bench import cli

    out, err = io.StringIO(), io.StringIO()
    sys.argv = ["bench", *map(str, arguments)]
    code: object = None
    with redirect_stdout(out), redirect_stderr(err):
        try:
            cli.main()
        except SystemExit as ended:
            code = ended.code or 0
    lines = [line for line in err.getvalue().splitlines() if line.startswith("bench: error:")]
    require(code in (0, 1, 2), f"exit code {code}: {err.getvalue()}")
    require("Traceback" not in out.getvalue() + err.getvalue(), err.getvalue())
    for text in (out.getvalue(), err.getvalue()):
        require(text == printable(text, lines=True), f"prints what acts on a terminal: {text!r}")
    if code:
        # of verify the findings themselves are the output
        require(len(lines) == 1 or (code == 1 and out.getvalue()), f"no line of error: {err.getvalue()}")
        raise UserError(lines[0] if lines else out.getvalue().splitlines()[-1])


# --- data sets


@kind
def tables(case: Case) -> None:
    """Damage a table. Every label that it has as text is a label of its clip."""
    from bench.data.readers.fsd50k import read_dataset, verify

    dataset = read_dataset(case.folder)
    verify(case.folder)
    for subset in ("dev", "eval"):
        _same_labels(case.folder / "FSD50K.ground_truth" / f"{subset}.csv", dataset)


def _same_labels(path: Path, dataset: Any) -> None:
    import csv

    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    clips = {clip.name: clip for clip in dataset.clips}
    bad = dataset.problem_count
    for row in rows:
        if not any(row.values()):
            continue
        name = (row["fname"] or "").strip().removeprefix("./").removesuffix(".wav")
        require(name in clips, f"clip {row['fname']!r} is lost")
        found = {dataset.labels[column] for column in clips[name].labels}
        wanted = {label.strip() for label in (row["labels"] or "").split(",")} - {""}
        lost = wanted - found
        require(found <= wanted and (not lost or bad), f"labels of {name}: {found}, should be {wanted}")


# --- packs


@kind
def pack(case: Case) -> None:
    """Damage a file of a pack. What is opened has the same clips, labels and samples."""
    import numpy as np

    from bench.data.pack import Pack, summary

    found, expected = Pack(case.folder / "pack"), Pack(case.original / "pack")
    found.verify()
    summary(found)
    require(found.fingerprint == expected.fingerprint and found.labels == expected.labels, "another pack")
    for split in ("train", "val", "eval"):
        require(np.array_equal(found.samples(split), expected.samples(split)), f"samples of {split}")
        require(np.array_equal(found.targets(split), expected.targets(split)), f"labels of {split}")


@kind
def other_pack(case: Case) -> None:
    """Change the contents of a pack, with hashes that fit. What is opened can be trained on."""
    import numpy as np

    from bench.data.pack import Pack, summary
    from tests.tiny_data import hash_anew

    folder = case.folder / "pack"
    # what can't be read can't be hashed
    with suppress(Exception):
        hash_anew(folder)
    found = Pack(folder)
    summary(found)
    for split in ("train", "val", "eval"):
        clips, samples = found.clips(split), found.samples(split)
        require(samples.dtype == np.int16 and len(clips), split)
        ends = (clips["start"] + clips["length"]).to_numpy()
        require(clips["start"].min() >= 0 and ends.max() <= len(samples), f"clips of {split} lie outside")
        require((np.sort(clips["start"])[1:] >= np.sort(ends)[:-1]).all(), f"clips of {split} overlap")
        require(found.targets(split).sum() == sum(map(len, clips["labels"])), f"labels of {split}")


@kind
def half_made_pack(case: Case) -> None:
    """Damage what an interrupted call left. The next one ends in the same pack."""
    import bench.data.packing as packing

    out = case.folder / "pack"
    packing.pack(case.original.parent / "tables", out, notice=lambda _: None)
    for path in sorted((case.original.parent / "pack" / "pack").iterdir()):
        require((out / path.name).read_bytes() == path.read_bytes(), f"{path.name} is another")


# --- results


@contextmanager
def no_figures() -> Iterator[None]:
    """Draw none: that takes longer than all else."""
    from bench.api import runs
    from bench.reporting import report

    before = report.draw_search, report.draw_scores, runs.draw_search
    report.draw_search = report.draw_scores = runs.draw_search = lambda *_: {}
    try:
        yield
    finally:
        report.draw_search, report.draw_scores, runs.draw_search = before


@kind
def results(case: Case) -> None:
    """Damage a file of a results folder. A report prints no other score for an entry than it had."""
    import pandas as pd

    from bench.reporting.report import write_report
    from bench.reporting.sampling import Sampling

    with no_figures():
        write_report(case.folder, Sampling(20, False))
    found = pd.read_csv(case.folder / "table.csv")
    expected = pd.read_csv(case.original / "_table.csv").set_index("entry")
    for _, row in found.iterrows():
        name = row["entry"]
        if name in expected.index and row["seeds"] == expected.loc[name, "seeds"]:
            before = expected.loc[name, "map"]
            require(abs(row["map"] - before) < 1e-6, f"{name}: mAP {row['map']}, was {before}")


@kind
def records(case: Case) -> None:
    """Damage a file of a results folder, for what is copied to MLflow, and for `bench show`."""
    from bench.api.folders import describe_run, show
    from bench.store import ResultsFolder
    from bench.tracking.records import read_records
    from bench.tracking.sync import missing

    lacking, total = missing(case.folder)
    require(0 <= lacking <= total, f"{lacking} of {total} are not there")

    for record in read_records(ResultsFolder(case.folder)).values():
        record.params()
        record.tags()
        list(record.points())
    for run in sorted(case.folder.glob("*-s*")):
        describe_run(show(run))


@kind
def filters(case: Case) -> None:
    """Damage what was measured of filters: they are drawn as in a report, or told to be damaged."""
    from bench.reporting.figures.filters import filters_figure
    from bench.store import RunFolder

    (run,) = case.folder.glob("one-s0-*")
    filters_figure(RunFolder(run))


@kind
def comparison(case: Case) -> None:
    from bench.api.results import compare
    from bench.runner.display import Display

    compare(case.folder / "one", case.folder / "two", resamples=20, by_group=False, display=Display())


@kind
def weights(case: Case) -> None:
    """Damage weights: what is loaded is a model that computes."""
    import torch

    from bench.runner.weights import load_model
    from bench.store import RunFolder

    (run,) = case.folder.glob("one-s0-*")
    folder = RunFolder(run)
    model = load_model(folder, folder.record(), torch.device("cpu"))
    for name, tensor in model.state_dict().items():
        require(tensor.dtype == torch.float32 or not tensor.is_floating_point(), name)
        require(bool(torch.isfinite(tensor).all()), name)


@kind
def checkpoint(case: Case) -> None:
    """Damage a checkpoint. What is resumed is training as it was."""
    import torch

    from bench.protocol.build import build
    from bench.protocol.checkpoint import CheckpointDamaged, CheckpointOfOtherCode
    from bench.protocol.optim import optimizer_of
    from bench.protocol.state import restore
    from bench.protocol.task import get_task
    from bench.runner.run import checkpoint_of
    from bench.store import ResultsFolder
    from bench.suites.plan import plan
    from bench.suites.suite import load_suite

    packed = _pack_of(case.original.parent)
    suite = load_suite(str(case.original.parent / "_suite.toml"))
    (run, *_) = plan(suite, [packed], ResultsFolder(case.folder))
    try:
        kept = checkpoint_of(run)
        kept.step()
        if values := kept.load():
            model = build(run.spec, torch.device("cpu"))
            optimizer = optimizer_of(model, run.spec.recipe)
            state = restore(values, model, optimizer, get_task("tagging"), run.spec.recipe)
            require(state.step == 2, f"step {state.step}")
            for p in model.parameters():
                p.grad = torch.zeros_like(p)
            optimizer.step()
    except (CheckpointDamaged, CheckpointOfOtherCode) as error:
        raise UserError(str(error)) from None


_packs: dict[Path, Any] = {}


def _pack_of(originals: Path) -> Any:
    from bench.data.pack import Pack

    if originals not in _packs:
        _packs[originals] = Pack(originals / "pack" / "pack")
    return _packs[originals]


@kind
def suite(case: Case) -> None:
    """Damage a suite. It is planned, each of its runs in a folder of its own, or refused."""
    from bench.store import ResultsFolder
    from bench.suites.plan import plan
    from bench.suites.suite import load_suite

    loaded = load_suite(str(case.path))
    runs = plan(loaded, [_pack_of(case.original.parent)], ResultsFolder(case.folder / "out"))
    names = [run.folder.path.resolve() for run in runs]
    require(len(set(names)) == len(names), "two runs in one folder")
    require(all(path.parent == (case.folder / "out").resolve() for path in names), "a run elsewhere")


@kind
def search(case: Case) -> None:
    """Damage a search's database, or its record."""
    from bench.store import ResultsFolder
    from bench.tracking.records import read_records

    read_records(ResultsFolder(case.folder))
    packed, text = case.original.parent / "pack" / "pack", case.original.parent / "_search.toml"
    with no_figures():
        _command("search", "one", "--suite", text, "--data", packed, "--out", case.folder)


@kind
def archive(case: Case) -> None:
    """Damage a (split) archive. What is unpacked is what was packed, and lies where it should."""
    from bench.data.download.archive import unpack
    from bench.data.download.split_zip import open_zip

    main = case.path.with_suffix(".zip")
    out, around = case.folder / "out", [case.folder.parent, case.folder]
    before = [sorted(folder.iterdir()) for folder in around]
    try:
        with open_zip(main) as found:
            unpack(found, out, lambda *_: None)
            checksums = {info.filename: info.CRC for info in found.infolist()}
    finally:
        after = [sorted(path for path in folder.iterdir() if path != out) for folder in around]
        require(after == before, "something was written beside the folder")
    with open_zip(case.original / main.name) as whole:
        for info in whole.infolist():
            # else a rewritten one, whose checksum is that of what it is now
            if not info.is_dir() and checksums.get(info.filename) == info.CRC:
                require((out / info.filename).read_bytes() == whole.read(info), f"{info.filename} is another")


@kind
def fetched(case: Case) -> None:
    """Damage the record of what was fetched."""
    from bench.data.download.record import Record

    record = Record.of(case.folder)
    for name in record.checked:
        record.is_right(name, "x")
    for name in record.unpacked:
        record.is_unpacked(name)


@kind
def scores(case: Case) -> None:
    """Damage what a predict that was stopped has left of its CSV. The next one ends in the same, or leaves it alone."""
    originals = case.original.parent
    (run,) = (originals / "results").glob("one-s0-*")
    _command("predict", run, originals / "tables" / "FSD50K.eval_audio", "--csv", case.folder / "heard.csv",
             "--device", "cpu")  # fmt: skip
    require((case.folder / "heard.csv").read_bytes() == (case.original / "_heard.csv").read_bytes(), "other scores")


if __name__ == "__main__":
    name, *places = sys.argv[1:]
    os.chdir(ROOT)
    work([name], *map(Path, places))
