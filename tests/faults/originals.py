"""What the cases of fuzz.py damage: small files of every kind, a folder a kind, as the product leaves them.

Files whose names begin with _ are not damaged: cases need them beside what is.
"""

import io
import json
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

import numpy as np
import soundfile as sf

from tests.tiny_data import tiny_data

__all__ = ["write_originals", "write_trained"]

RATE = 16_000
SUITE = """
title = "fuzz"
seeds = 2
[train]
max_steps = 4
batch_size = 2
evaluations = 2
loss = "bce"
learning_rate = 1e-3
[[runs]]
name = "one"
architecture = "transformer_small"
config = { depth = 1, front_end_dim = 32, embed_dim = 16, num_heads = 2, head_dim = 8, mlp_dim = 32 }
question = "Is it?"
[[runs]]
name = "two"
base = "one"
config = { depth = 2 }
[[contrasts]]
name = "deeper"
entries = { two = 1, one = -1 }
"""
SEARCH = """
[budget]
trials = 2
[space]
learning_rate = { low = 1e-5, high = 1e-2, log = true }
mixup = { choices = [0.0, 0.5] }
"""


def write_originals(folder: Path) -> None:
    """Write all kinds but those of `write_trained`."""
    recordings(folder / "audio")
    _whole_recordings(folder)
    data = tiny_data(folder / "tables", seconds=0.2)
    _uploaders(data)
    for kind in ("command_verify", "command_pack"):
        shutil.copytree(data, folder / kind)
    _packs(folder, data)
    _suites(folder)
    _archives(folder, data)


def write_trained(folder: Path) -> None:
    """Write the kinds for which models are trained, beside those of `write_originals`. Takes seconds."""
    _results(folder)
    _search(folder)
    _scores(folder)


# --- recordings


def recordings(folder: Path) -> None:
    """Write a small recording of each format and encoding that libsndfile writes, and of MPEG audio's kinds."""
    folder.mkdir(parents=True)
    # RAW has no header, and SD2 has it in another file
    for name in sf.available_formats().keys() - {"RAW", "SD2"}:
        for subtype in sf.available_subtypes(name):
            for channels in (1, 2):
                path = folder / f"{subtype.lower()}-{channels}.{name.lower()}"
                try:
                    sf.write(path, _noise(1703, channels), 8000 if name == "WVE" else RATE, subtype, format=name)
                except (sf.LibsndfileError, AssertionError):  # not this one in stereo
                    path.unlink(missing_ok=True)
    for mode in ("VARIABLE", "CONSTANT", "AVERAGE"):
        data, how = io.BytesIO(), {"format": "MP3", "subtype": "MPEG_LAYER_III", "compression_level": 0.5}
        with sf.SoundFile(data, "w", RATE, 1, bitrate_mode=mode, **how) as file:
            file.write(_noise(9000))
        whole, name = data.getvalue(), mode.lower()
        (folder / f"{name}.mp3").write_bytes(whole)
        # as encoders write it into a pipe: without the frame that tells the length
        (folder / f"{name}-untold.mp3").write_bytes(whole[whole.index(whole[:2], 4) :])
        (folder / f"{name}-joined.mp3").write_bytes(whole + whole)
    for name in ("pcm_16-1.flac", "vorbis-1.ogg"):
        (folder / f"joined-{name}").write_bytes(2 * (folder / name).read_bytes())
    if shutil.which("ffmpeg"):
        for name, codec in (("a.mp2", "mp2"), ("mp2.wav", "mp2"), ("mp3.wav", "libmp3lame")):
            command = ["ffmpeg", "-v", "error", "-i", folder / "pcm_16-1.wav", "-c:a", codec, folder / name]
            subprocess.run(command, check=False)


def _whole_recordings(folder: Path) -> None:
    """Copy those that tell their length, or end with a mark: cut off, they can be told from shorter ones."""
    shutil.copytree(folder / "audio", folder / "command_predict")
    (folder / "cut_audio").mkdir()
    for path in (folder / "audio").iterdir():
        if path.suffix not in (".ircam", ".paf", ".pvf", ".xi") and not path.name.startswith("dwvw"):
            shutil.copy(path, folder / "cut_audio")


def _noise(frames: int, channels: int = 1) -> np.ndarray:
    x = np.random.default_rng(0).uniform(-0.3, 0.3, (frames, channels))
    return x[:, 0] if channels == 1 else x


# --- data sets, packs, archives


def _uploaders(data: Path) -> None:
    folder = data / "FSD50K.metadata"
    folder.mkdir()
    for subset, names in (("dev", range(1001, 1010)), ("eval", range(1010, 1014))):
        clips = {str(name): {"title": f"clip {name}", "uploader": f"u{name % 3}"} for name in names}
        (folder / f"{subset}_clips_info_FSD50K.json").write_text(json.dumps(clips))


def _packs(folder: Path, data: Path) -> None:
    from bench.data.packing import pack

    (folder / "pack").mkdir()
    pack(data, folder / "pack" / "pack")
    for kind in ("command_info", "other_pack"):
        shutil.copytree(folder / "pack", folder / kind)
    half = folder / "half_made_pack"
    half.mkdir()
    done = 0

    def stop(*_: float) -> None:
        nonlocal done
        if (done := done + 1) == 7:
            raise KeyboardInterrupt

    with suppress(KeyboardInterrupt):
        pack(data, half / "pack", progress=stop)
    assert (half / "pack.partial").is_dir()


def _archives(folder: Path, data: Path) -> None:
    from bench.data.download.record import Record
    from tests.test_fetch import release

    (folder / "archive").mkdir()
    release(data, folder / "archive", {"FSD50K.dev_audio": 20_000})
    (folder / "archive" / "files.csv").rename(folder / "archive" / "_files.csv")
    (folder / "fetched").mkdir()
    (folder / "fetched" / "_a").write_bytes(b"x")
    record = Record.of(folder / "fetched")
    record.note_right("_a", "0" * 32)
    record.note_unpacked("_a", {"_a": 1})
    record.note_pack("0" * 64)


# --- suites, results, searches


def _suites(folder: Path) -> None:
    from bench.suites.suite import known_suites, suite_path

    for kind in ("suite", "command_plan"):
        (folder / kind).mkdir()
        for name in known_suites():
            shutil.copy(suite_path(name), folder / kind)
        (folder / kind / "fuzz.toml").write_text(SUITE)
        (folder / kind / "search.toml").write_text(SUITE + SEARCH)
    (folder / "_suite.toml").write_text(SUITE)
    (folder / "_search.toml").write_text(SUITE.replace("[train]", "first_seed = 100\n[train]", 1) + SEARCH)


class _Stop(Exception):
    pass


def _results(folder: Path) -> None:
    import torch

    from bench.data.pack import Pack
    from bench.reporting.report import write_report
    from bench.reporting.sampling import Sampling
    from bench.runner.display import Display
    from bench.runner.executors import LocalExecutor
    from bench.runner.run import execute
    from bench.runner.runs import run_all
    from bench.store import ResultsFolder
    from bench.suites.plan import plan
    from bench.suites.suite import load_suite
    from tests.faults.fuzz import no_figures

    out, packed, suite = folder / "results", Pack(folder / "pack" / "pack"), load_suite(str(folder / "_suite.toml"))
    store = ResultsFolder(out)
    runs = plan(suite, [packed], store)
    store.add_labels(packed, runs[0].task)
    store.add_to_plan(suite.title, [run.folder.name for run in runs])
    run_all(runs, LocalExecutor(torch.device("cpu")))
    with no_figures():
        write_report(out, Sampling(20, False))
    for path in [path for path in out.iterdir() if path.is_file() and path.name not in ("labels.npz", "suite.json")]:
        path.rename(out / "_table.csv") if path.name == "table.csv" else path.unlink()
    for kind in ("records", "comparison", "weights", "command_report", "command_show"):
        shutil.copytree(out, folder / kind)
    _more_records(folder)
    # of a run that was stopped: its checkpoint alone
    (stopped, *_) = plan(suite, [packed], ResultsFolder(folder / "checkpoint"))

    class Stopping(Display):
        def training(self, status: object) -> None:
            if getattr(status, "step", 0) > 2:
                raise _Stop

    with suppress(_Stop):
        execute(stopped, torch.device("cpu"), Stopping())
    stopped.folder.failure_file.unlink(missing_ok=True)
    assert stopped.folder.checkpoint_file.is_file()


def _more_records(folder: Path) -> None:
    """Write what few runs have: filters that were measured, a failure, a name on a server."""
    from bench.inspect.filters import measure_filters
    from bench.store import ResultsFolder, RunFolder

    (measured,) = (folder / "results").glob("one-s0-*")
    measure_filters(RunFolder(measured))
    (folder / "filters" / measured.name).mkdir(parents=True)
    for name in ("filters.csv", "filters.npz"):
        (measured / name).rename(folder / "filters" / measured.name / name)
    failed = RunFolder(next((folder / "records").glob("two-s1-*")))
    failed.write_failure(failed.record().spec, ValueError("no\nluck"))
    failed.record_file.unlink()
    results = ResultsFolder(folder / "records")
    results.identity()
    known = json.loads(results.identity_file.read_text()) | {"there": 3, "server": "sqlite:////x"}
    results.identity_file.write_text(json.dumps(known))


def _search(folder: Path) -> None:
    from bench.api.runs import search
    from bench.runner.display import Display
    from tests.faults.fuzz import no_figures

    with no_figures():
        search(
            str(folder / "_search.toml"), data=folder / "pack" / "pack", out=folder / "search", only="one",
            display=Display(),
        )  # fmt: skip


def _scores(folder: Path) -> None:
    from bench.api.models import iterate_tags
    from bench.runner.display import Display

    out = folder / "scores"
    out.mkdir()
    (run,) = (folder / "results").glob("one-s0-*")
    given = (run, [folder / "tables" / "FSD50K.eval_audio"], Display())
    assert len(list(iterate_tags(*given, csv=out / "_heard.csv", device="cpu"))) == 4
    stopped = iterate_tags(*given, csv=out / "heard.csv", device="cpu")
    for _ in range(3):
        next(stopped)
    with suppress(KeyboardInterrupt):
        stopped.throw(KeyboardInterrupt)
    assert (out / "heard.csv.partial").is_file()
