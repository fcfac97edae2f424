"""What is handed on: the wheel, licences, citation and pinned versions, and examples that work as they stand."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from email import message_from_bytes
from pathlib import Path
from zipfile import ZipFile

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from architectures import _external, _registry, load_file
from architectures.checks import failed_checks
from bench.store import ResultsFolder
from bench.suites.plan import Selection, plan
from bench.suites.suite import load_suite

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
FOLDERS = ("architectures", "bench", "benchmarks", "docs", "examples", "tests")
LEAVE_OUT = shutil.ignore_patterns("__pycache__", "build", "*.egg-info")


@pytest.fixture
def fresh(monkeypatch):
    """A registry as a new process has it, whatever a test adds to it."""
    monkeypatch.setattr(_registry, "_architectures", dict(_registry._architectures))
    monkeypatch.setattr(_external, "_loaded", {})


def build_wheel(source):
    """Build the wheel of a copied project as pip does it; setuptools leaves folders where it builds."""
    code = "from setuptools import build_meta; build_meta.build_wheel('.')"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=source, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    (wheel,) = source.glob("*.whl")
    return ZipFile(wheel)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    source = tmp_path_factory.mktemp("source")
    for name in FOLDERS:
        shutil.copytree(ROOT / name, source / name, ignore=LEAVE_OUT)
    for name in ("LICENSE", "README.md", "pyproject.toml"):
        shutil.copy(ROOT / name, source)
    with build_wheel(source) as wheel:
        yield wheel


def test_the_wheel_holds_all_of_the_two_packages_and_nothing_else(wheel):
    source = Path(wheel.filename).parent
    packages = [path for name in ("architectures", "bench") for path in (source / name).rglob("*")]
    files = {path.relative_to(source).as_posix() for path in packages if path.is_file()}
    assert {name for name in wheel.namelist() if ".dist-info/" not in name} == files
    assert {"bench/py.typed", "architectures/py.typed", "bench/suites/demo.toml"} < files


def test_the_wheel_says_its_licences(wheel):
    info = f"audio_cnn_transformer_bench-{PROJECT['version']}.dist-info"
    metadata = message_from_bytes(wheel.read(f"{info}/METADATA"))
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata.get_all("License-File") == ["LICENSE", "bench/data/LICENSE-DATA.md"]
    assert b"Apache License\n" in wheel.read(f"{info}/licenses/LICENSE")
    data = wheel.read("bench/data/LICENSE-DATA.md").decode()
    # what a CC licence asks for: source and licence
    for words in ("10.5281/zenodo.4060432", "licenses/by/4.0", "github.com/audioset/ontology", "licenses/by-sa/4.0"):
        assert words in data


def test_links_of_the_contributors_page_lead_somewhere():
    targets = re.findall(r"\]\(([^)#]+)\)", (ROOT / "CONTRIBUTING.md").read_text())
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_every_table_of_others_has_its_licence():
    tables = {path.name for path in (ROOT / "bench/data").glob("*.csv")}
    named = re.findall(r"^## (.+): CC BY", (ROOT / "bench/data/LICENSE-DATA.md").read_text(), re.MULTILINE)
    assert set(named) == tables


def direct_requirements():
    extras = PROJECT["optional-dependencies"]
    texts = [*PROJECT["dependencies"], *(text for of_extra in extras.values() for text in of_extra)]
    return [found for found in map(Requirement, texts) if found.name != PROJECT["name"]]


def test_the_constraints_pin_every_dependency_within_its_bounds():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [Requirement(line) for line in lines if not line.startswith("#")]
    versions = {canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin in pins}
    assert len(versions) == len(pins)
    assert all(str(pin.specifier).startswith("==") for pin in pins)
    for wanted in direct_requirements():
        assert wanted.specifier.contains(versions[canonicalize_name(wanted.name)]), wanted
    assert "torch" in versions


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert (citation["version"], citation["license"]) == (PROJECT["version"], PROJECT["license"])
    assert [author["name"] for author in citation["authors"]] == [author["name"] for author in PROJECT["authors"]]
    assert ["2105.00335" in text["url"] or "2010.00475" in text["url"] for text in citation["references"]] == [True] * 2


def test_the_pre_commit_hooks_are_what_tox_checks():
    (local,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [hook["entry"].removesuffix(" --force-exclude") for hook in local["hooks"]] == ["ruff check", "ruff format"]
    assert len({*(str(hook["additional_dependencies"]) for hook in local["hooks"])}) == 1


@pytest.mark.parametrize("path", ["my_architecture.py", "plugin_package/waveform_cnn.py"])
@pytest.mark.usefixtures("fresh")
def test_the_examples_keep_the_contract(path):
    (name,) = load_file(EXAMPLES / path)
    assert failed_checks(name) == {}


@pytest.mark.usefixtures("fresh")
def test_the_example_suite_plans_its_runs(packed, tmp_path):
    suite = load_suite(str(EXAMPLES / "my_suite.toml"))
    for plugin in suite.plugins:
        load_file(plugin)
    runs = plan(suite, [packed], ResultsFolder(tmp_path), Selection())
    assert sorted({run.spec.name for run in runs}) == ["my_hybrid", "no_attention", "vgg_like"]
    assert {run.spec.config["depth"] for run in runs if run.spec.name == "no_attention"} == {0}
    assert {run.spec.seed for run in runs} == {0, 1}


def test_the_example_package_joins_the_commands_once_installed(tmp_path):
    source = shutil.copytree(EXAMPLES / "plugin_package", tmp_path / "source", ignore=LEAVE_OUT)
    with build_wheel(source) as wheel:
        wheel.extractall(tmp_path / "site")
    path = os.pathsep.join([str(ROOT), str(tmp_path / "site")])
    command = [sys.executable, "-m", "bench", "list"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}
    )
    assert done.returncode == 0, done.stderr
    assert any(line.split() == ["waveform_cnn", "cnn", "waveform_cnn"] for line in done.stdout.splitlines())


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.ipynb")), ids=lambda path: path.name)
def test_notebooks_are_kept_without_outputs(path):
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    assert cells
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)
