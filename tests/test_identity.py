"""What a run is known by: digests of the code that decides its numbers, hashes of its settings."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated

import pytest

from architectures import ArchitectureConfig, config_values, later
from bench.protocol.recipe import Recipe
from bench.protocol.spec import RunSpec
from bench.protocol.task import get_task
from bench.runner import source
from bench.runner.provenance import command
from bench.runner.source import architecture_files, protocol_files, source_digest
from bench.schema import LATER, Strict, digest
from bench.store import ResultsFolder, RunFolder

ROOT = Path(__file__).parent.parent
CODE = '''"""A module."""

import math


class Layer:
    """A class."""

    size: int = 3  # a comment

    def forward(self, x, *, scale=1.0, **more):
        """A docstring."""
        # another comment
        text = f"{x!r:>{self.size}} of {{braces}} " "and more" f"{scale:.3f}"
        return lambda: (x @ x, -1, 1e-3, None, ..., text, b"\\x00", {**more}) if scale else math.tau
'''


@pytest.fixture
def code(tmp_path):
    path = tmp_path / "code.py"
    path.write_text(CODE)
    return path


def pythons():
    """Every interpreter of a supported release that is on this machine, those of pyenv included."""
    found = [sys.executable, *filter(None, (shutil.which(f"python3.{minor}") for minor in range(11, 20)))]
    found += map(str, Path.home().glob(".pyenv/versions/3.1[1-9]*/bin/python"))
    return sorted({path for path in found if ".pyenv/shims" not in path})


@pytest.mark.parametrize("python", pythons())
def test_the_digest_of_a_fixed_source_is_one_value_on_every_python(python, code):
    script = (
        f"import sys; sys.path.insert(0, {str(Path(source.__file__).parent)!r}); from pathlib import Path;"
        f"from source import source_digest; print(source_digest([Path({str(code)!r})]))"
    )
    done = subprocess.run([python, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "0859e6da22c6e4ec", done.stderr


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# a comment", "# a better comment"),
        ("        # another comment\n", ""),
        ('"""A docstring."""', '"""What it does, at length.\n\n        And why.\n        """'),
        ('"""A module."""', ""),
        ('"""A class."""', "'''A class of layers.'''"),
        ("scale=1.0, **more", "scale=1.0,\n        **more,\n    "),
        ('"and more"', "'and more'"),
    ],
)
def test_words_and_layout_do_not_count(old, new, code):
    before = source_digest([code])
    assert old in CODE
    code.write_text(CODE.replace(old, new))
    assert source_digest([code]) == before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("= 3 ", "= 4 "),
        ("1e-3", "1e-4"),
        ("None", "0"),
        ("of {{", "off {{"),
        ("x @ x", "x * x"),
        ("!r", "!s"),
        ("-1", "1"),
    ],
)
def test_what_the_code_does_counts(old, new, code):
    before = source_digest([code])
    assert old in CODE
    code.write_text(CODE.replace(old, new))
    assert source_digest([code]) != before


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A copy of the project's code, to be changed."""
    for folder in ("bench", "architectures"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(source, "_ROOT", tmp_path)

    def digests():
        return (
            source_digest(protocol_files([tmp_path / "bench/protocol/tasks/tagging.py"])),
            source_digest(architecture_files(tmp_path / "architectures/vgg.py")),
        )

    return tmp_path, digests


@pytest.mark.parametrize(
    ("file", "old", "new", "changed"),
    [
        ("bench/protocol/optim.py", "math.pi", "3.0", (True, False)),
        ("bench/protocol/tasks/tagging.py", "F.huber_loss", "F.l1_loss", (True, False)),
        ("architectures/vgg.py", "kernel_size=3", "kernel_size=5", (False, True)),
        ("architectures/layers.py", "1e-6", "1e-5", (False, True)),
        # what decides no number of this architecture
        ("architectures/crnn.py", "forwards + backwards", "forwards - backwards", (False, False)),
        ("architectures/_registry.py", "is registered twice", "has been registered before", (False, False)),
        ("bench/protocol/tasks/next_sample.py", "_FIT = 1600", "_FIT = 800", (False, False)),
        ("bench/protocol/sounds/coding.py", "mu = CODES - 1", "mu = CODES", (False, False)),
        ("bench/data/packing.py", "cannot be used", "is of no use", (False, False)),
        ("bench/store/files.py", "damaged", "broken", (False, False)),
        ("bench/runner/run.py", "perf_counter", "monotonic", (False, False)),
    ],
)
def test_a_change_counts_where_it_may_change_a_number(file, old, new, changed, tree):
    root, digests = tree
    before = digests()
    path = root / file
    assert old in path.read_text(), f"{file} has no {old!r} any more: choose another change"
    path.write_text(path.read_text().replace(old, new))
    assert tuple(a != b for a, b in zip(before, digests(), strict=True)) == changed


SHARED = r"from (bench\.protocol\.(?:sounds|tasks)\.\w+|bench\.data\.(?:synthetic\.\w+|codes)) "


@pytest.mark.parametrize("name", ["codec", "next_code", "next_patch", "next_sample", "tagging"])
def test_a_task_names_the_modules_beside_its_own_file_that_decide_its_numbers(name):
    task = get_task(name)
    # what is imported, and what that imports in turn, of what is shared by some tasks alone
    found, left = set(), [type(task).__module__]
    for module in left:
        text = (ROOT / f"{module.replace('.', '/')}.py").read_text()
        shared = set(re.findall(SHARED, text))
        left += sorted(shared - found)
        found |= shared
    assert found <= {*task.modules, "bench.data.synthetic.voices"}


def test_a_new_task_changes_no_digest(tree):
    root, digests = tree
    before = digests()
    (root / "bench/protocol/tasks/other.py").write_text("VALUE = 1\n")
    assert digests() == before


# --- hashes

STORED = json.loads("""{"name": "crnn", "architecture": "crnn", "config": {"sample_rate": 16000, "num_classes": 63,
 "merge": "sum", "widths": [128, 128]}, "recipe": {"loss": "bce", "learning_rate": 0.0005, "batch_size": 8,
 "max_steps": 300, "warmup": 0.1, "evaluations": 3, "precision": "bf16", "channels_last": true}, "seed": 4,
 "pack": "0123456789abcdef"}""")


def test_hashes_of_stored_specs_stay():
    assert RunSpec.model_validate(STORED).hash == "4e2df808"
    assert RunSpec.model_validate({**STORED, "source": "fedcba9876543210"}).hash == "4d6b1ede"


def test_words_are_no_part_of_the_hash_and_settings_are():
    spec = RunSpec.model_validate(STORED)
    words = {"name": "other", "inferred": {"merge": "why"}, "second_hand": {"widths": "whose"}}
    words |= {"base": "vgg_like", "question": "is it?"}
    assert spec.model_copy(update=words).hash == spec.hash
    for field, value in (("seed", 5), ("pack", "f"), ("task", "other"), ("source", "f"), ("config", {})):
        assert spec.model_copy(update={field: value}).hash != spec.hash
    recipe = spec.recipe.model_copy(update={"mixup": 0.1})
    assert spec.model_copy(update={"recipe": recipe}).hash != spec.hash


def test_a_field_that_is_added_later_changes_the_hash_only_where_it_is_used():
    class Now(Strict):
        rate: float = 0.1

    class NextYear(Now):
        warp: Annotated[float, LATER] = 0.0

    class Outer(Strict):
        inner: Now | NextYear

    assert digest(NextYear().identity()) == digest(Now().identity())
    assert digest(NextYear(warp=0.5).identity()) != digest(Now().identity())
    assert Outer(inner=NextYear()).identity() == Outer(inner=Now()).identity()


def test_and_so_does_a_field_of_an_architecture():
    @dataclass(frozen=True, kw_only=True)
    class Now(ArchitectureConfig):
        width: int = 64

    @dataclass(frozen=True, kw_only=True)
    class NextYear(Now):
        dilation: int = later(1)

    assert config_values(NextYear()) == config_values(Now())
    assert config_values(NextYear(dilation=2)) == config_values(Now()) | {"dilation": 2}


def test_every_kept_run_is_read_and_is_the_run_of_its_settings():
    """They are of format 1, under hashes of then: their settings are found all the same, and not trained again."""
    for name, runs in (("tests/format1", 40), ("tests/format1/ablations", 6)):
        results = ResultsFolder(ROOT / name)
        finished = results.finished()
        assert len(finished) == runs
        for folder in finished[:: runs // 6]:
            record = folder.record()
            assert record.spec.folder != folder.name
            assert results.run(record.spec) == RunFolder(folder.path)
            assert results.run(record.spec).is_finished
            assert len(folder.history()) == len(set(folder.history()["step"]))
            other = record.spec.model_copy(update={"recipe": Recipe(loss="bce", max_steps=1)})
            assert not results.run(other).is_finished


@pytest.mark.parametrize(
    ("module", "argv", "recorded"),
    [
        ("benchmarks.__main__", ["/home/me/bench/benchmarks/__main__.py", "gpu", "--only", "a b"], "-m benchmarks gpu"),
        ("mine.train", ["/home/me/mine/train.py", "--seed", "1"], "-m mine.train --seed 1"),
        (None, ["train.py", "--seed", "1"], "train.py --seed 1"),
        (None, ["/home/me/.venv/bin/bench", "run", "demo", "--part", "crnn-s0"], "bench run demo"),
    ],
)
def test_a_module_is_recorded_by_its_name_and_not_by_where_it_lies(monkeypatch, module, argv, recorded):
    main = SimpleNamespace(__spec__=SimpleNamespace(name=module) if module else None)
    monkeypatch.setitem(sys.modules, "__main__", main)
    monkeypatch.setattr(sys, "argv", argv)
    assert command().startswith(recorded if recorded.startswith("bench") else f"python {recorded}")
    assert "/home/me" not in command()
