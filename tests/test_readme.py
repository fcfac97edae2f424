"""README: short, its links lead somewhere, its commands exist, and all of it works as it stands there."""

import os
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from bench.reporting.report import write_report
from bench.reporting.systems import load_results
from tests.file_server import serving
from tests.test_fetch import released  # noqa: F401  (a fixture)

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
# what each block of code is: commands indented by four, Python fenced
BLOCKS = re.findall(r"(?:^    .+\n)+|^```python\n(?:.*\n)+?```$", README, re.MULTILINE)
# those two are for whoever installs: tox is this test's own, and a demo takes minutes
FIRST, TESTS = (block.strip() for block in BLOCKS if "python3 -m venv" in block)


def test_it_has_at_most_a_thousand_words():
    assert len(README.split()) <= 1000


def test_links_lead_somewhere():
    targets = re.findall(r"\]\(([^)#]+)\)", README)
    assert len(targets) > 15
    for target in targets:
        assert target.startswith("https://") or (ROOT / target).exists(), target


def test_its_first_two_commands_are_what_they_were():
    assert FIRST == "python3 -m venv .venv && .venv/bin/pip install -q -e . && .venv/bin/bench run demo"
    assert TESTS == "python3 -m venv .venv && .venv/bin/pip install -q tox && .venv/bin/tox"


# --- what it shows


def test_the_kept_results_are_from_a_clean_commit_and_the_command_beside_them():
    runs = load_results(ROOT / "results/demo").runs
    assert len(runs) == 40
    for run in runs:
        made = run.record.provenance
        assert made.commit
        assert not made.dirty
        assert made.command == "bench run demo --seeds 5"


def test_the_kept_report_is_what_the_kept_results_say(tmp_path):
    """In numbers, not bytes: figures depend on matplotlib's release."""
    shutil.copytree(ROOT / "results/demo", tmp_path / "demo")
    write_report(tmp_path / "demo")
    for name in ("table.md", "table_scores.tex", "captions.tex"):
        assert (tmp_path / "demo" / name).read_text() == (ROOT / "results/demo" / name).read_text()


def test_every_architecture_learned_something_and_none_everything():
    results = load_results(ROOT / "results/demo")
    for system in results.systems:
        floor = max(results.floors["chance"], system.mean("untrained", "map"))
        assert 1.5 * floor < system.mean("metrics", "map") < 1.0, system.label


# --- what it says to do


def a_clone(folder):
    """The files that a clone would have, and an environment in .venv that runs them with the packages here."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in filter(lambda name: (ROOT / name).is_file(), listed.stdout.splitlines()):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    venv.create(folder / ".venv", with_pip=False, symlinks=True)
    (packages,) = (folder / ".venv/lib").glob("python*/site-packages")
    here = next(path for path in sys.path if path.endswith("site-packages"))
    (packages / "clone.pth").write_text(f"{folder}\n{here}\n")
    program = folder / ".venv/bin/bench"
    program.write_text(f"#!{folder}/.venv/bin/python\nfrom bench.cli import main\nmain()\n")
    program.chmod(0o755)
    return folder


def scripts():
    """README's blocks in order, as they are executed: code is written to its file, or run."""
    for block in BLOCKS:
        if block.startswith("```python\n"):
            code = block.removeprefix("```python\n").removesuffix("```")
            # a file's name stands before the block that is its text
            file = re.findall(r"In a file `(\w+\.py)`", README[: README.index(block)])
            if "@register" in code:
                yield f"cat > {file[-1]} <<'END'\n{code}END\n"
            else:
                yield f"python - <<'END'\n{code}END\n"
        elif block.strip() not in (FIRST, TESTS):
            for line in block.splitlines():
                # weeks of work on FSD50K: the plan has to be made, and is not carried out
                yield f"{line.strip()} --dry-run" if line.strip().startswith("bench run controlled") else line.strip()


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_all_of_it_works_in_a_clone(tmp_path, request):
    folder, archives = a_clone(tmp_path / "clone"), request.getfixturevalue("released")
    # FSD50K is 25 GB: archives of a generated set, cut as those are, from a server here
    shutil.copy(archives / "files.csv", folder / "bench/data/download/fsd50k_files.csv")
    with serving(archives) as server:
        environment = {
            **{name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")},
            "BENCH_FSD50K_URL": server.url, "BENCH_TRACK": "0",
        }  # fmt: skip
        script = "set -e\nsource .venv/bin/activate\n" + "\n".join(scripts())
        done = subprocess.run(
            ["bash", "-c", script], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert "tiny: passes all checks" in done.stdout
    assert (folder / "packs/16000/manifest.json").is_file()
    assert (folder / "runs/demo/index.html").is_file()
    assert "2 runs would run" in done.stderr or "40 of 40 runs would run" in done.stderr


@pytest.mark.parametrize(
    ("page", "kept"),
    [
        ("factors.png", "factors/contrasts.png"),
        ("rates.png", "rates/grid.png"),
        ("pretraining.png", "pretraining/grid.png"),
        ("growth.png", "long/growth.png"),
        ("bits_vs_parameters.png", "generation/bits_vs_parameters.png"),
        *(
            (f"sounds/{page}.{kind}", f"{kept}/generated.{kind}")
            for page, kept in (
                ("wavenet_30", "generation/wavenet_30-s0-*"),
                ("sample_transformer_3", "generation-notes/sample_transformer_3-s0-*"),
                ("code_transformer", "codes/code_transformer-context_64-s0-*"),
            )
            for kind in ("png", "wav")
        ),
    ],
)
def test_the_figures_and_sounds_of_the_pages_are_those_of_the_results(page, kept):
    (path,) = (ROOT / "results").glob(kept)
    assert (ROOT / "docs" / page).read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    "kept",
    [
        "demo", "factors", "factors-real", "ablations", "rates", "pretraining", "long",
        "generation", "generation-notes", "codecs", "codes",
    ],
)  # fmt: skip
def test_the_page_on_results_has_the_command_of_each(kept):
    made = [run.record.provenance for run in load_results(ROOT / "results" / kept).runs]
    assert not any(provenance.dirty for provenance in made)
    (command,) = {provenance.command for provenance in made}
    assert f"    {command}\n" in (ROOT / "docs/results.md").read_text()
