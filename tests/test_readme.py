"""The README shows what results/ holds, and its links lead somewhere."""

import re
import shutil
from pathlib import Path

from bench.reporting.report import write_report
from bench.reporting.systems import load_results

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_the_demo_table_is_the_one_in_results():
    text = (ROOT / "results/demo/table.md").read_text()
    table = [line for line in text.split("## Cost")[0].splitlines() if line.startswith("|")]
    assert len(table) == 10
    assert "\n".join(table) in README


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
    for name in ("table.md", "table.tex"):
        assert (tmp_path / "demo" / name).read_text() == (ROOT / "results/demo" / name).read_text()


def test_every_architecture_learned_something_and_none_everything():
    results = load_results(ROOT / "results/demo")
    for system in results.systems:
        floor = max(results.floors["chance"], system.mean("untrained", "map"))
        assert 1.5 * floor < system.mean("metrics", "map") < 1.0, system.label


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("http") or (ROOT / target).exists(), target
