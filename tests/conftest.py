"""A small generated data set, its pack, and runs small enough for a test."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from architectures import config_values, configure
from bench import cli
from bench.data.pack import Pack
from bench.data.packing import pack
from bench.data.synthetic.demo import write_demo
from bench.protocol.recipe import Recipe
from bench.protocol.spec import RunSpec
from bench.runner.executors import LocalExecutor
from bench.runner.runs import run_all
from bench.store import ResultsFolder
from bench.suites.plan import Run, plan
from bench.suites.suite import load_suite

# as small as the architectures get: what is tested with it is not how well it learns
TINY = {"depth": 1, "front_end_dim": 32, "embed_dim": 16, "num_heads": 2, "head_dim": 8, "mlp_dim": 32}

# what a record says of the run whose weights were its start
START = {
    "entry": "tiny", "system": "0" * 8, "task": "tagging", "task_settings": {}, "weights": "0" * 16, "steps": 2,
    "examples": 8, "train_seconds": 1.0, "source": "pack", "loaded": 9, "new": [],
}  # fmt: skip


@pytest.fixture(scope="session", autouse=True)
def threads() -> None:
    """One, in this process and in those that tests start: models are small, and other cores have tests of their own."""
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(scope="session", autouse=True)
def untracked() -> None:
    """Starting MLflow takes seconds: only the tests of tracking do."""
    os.environ["BENCH_TRACK"] = "0"
    os.environ.pop("MLFLOW_TRACKING_URI", None)


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "demo"
    write_demo(folder, dev_clips=80, eval_clips=40)
    return folder


@pytest.fixture(scope="session")
def packed(dataset: Path) -> Pack:
    return pack(dataset, dataset.with_name("demo-16000"))


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """The `bench` command, in this process: its exit code and what it prints."""

    def run(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["bench", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        captured = capsys.readouterr()
        return Done(int(exit_.value.code or 0), captured.out, captured.err)

    return run


SMALL_SUITE = """
title = "small"
architectures = ["transformer_small", "vgg_like"]
seeds = 2
[train]
max_steps = 4
batch_size = 4
evaluations = 2
learning_rate = 1e-3
[family.cnn.train]
precision = "auto"
channels_last = true
"""


@pytest.fixture(scope="session")
def small_results(packed: Pack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results folder of SMALL_SUITE, two architectures with two seeds each, run for real. Copy it to change it."""
    out = tmp_path_factory.mktemp("small") / "out"
    path = out.with_suffix(".toml")
    path.write_text(SMALL_SUITE)
    results = ResultsFolder(out)
    runs = plan(load_suite(str(path)), [packed], results)
    results.add_labels(packed, runs[0].task)
    results.add_to_plan("small", [run.folder.name for run in runs])
    run_all(runs, LocalExecutor(torch.device("cpu")))
    return out


def no_tables(*_: object, **__: object) -> SimpleNamespace:
    """In the place of a report, where figures would take longer than the runs."""
    return SimpleNamespace(markdown="")


def needs(*programs: str) -> None:
    """Skip where a program, or a package of LaTeX (NAME.sty), is not installed; in CI, which installs it, fail."""
    missing = [program for program in programs if not _is_installed(program)]
    if missing:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"not installed: {', '.join(missing)}")


def _is_installed(program: str) -> bool:
    if program.endswith(".sty"):
        found = shutil.which("kpsewhich") and subprocess.run(["kpsewhich", program], capture_output=True, check=False)
        return bool(found and found.stdout)
    return shutil.which(program) is not None


@pytest.fixture
def small_suite(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(SMALL_SUITE)
    return path


def make_spec(packed: Pack, *, seed: int = 0, config: dict | None = None, **recipe) -> RunSpec:
    """A tiny transformer with a short recipe."""
    fields = {"sample_rate": packed.sample_rate, "num_classes": len(packed.labels), **TINY, **(config or {})}
    return RunSpec(
        name="tiny",
        architecture="transformer_small",
        config=config_values(configure("transformer_small", **fields)),
        recipe=Recipe(**{"loss": "bce", "max_steps": 12, "batch_size": 8, "evaluations": 3, **recipe}),
        seed=seed,
        pack=packed.fingerprint,
    )


def make_run(packed: Pack, out: Path, **spec) -> Run:
    """The same, to be executed in a results folder."""
    made = make_spec(packed, **spec)
    return Run(made, packed, ResultsFolder(out).run(made))
