"""What is in several splits is said: recordings by every command that reads them, uploaders by how many they are."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from bench.api.datasets import describe_leaks
from bench.data.overlap import across_splits, shared_groups
from bench.data.pack import Pack
from bench.data.packing import pack
from bench.data.readers import fsd50k
from bench.reporting.analysis import analyse
from bench.reporting.notes import reading_notes
from bench.reporting.report import Sampling
from bench.reporting.systems import load_results
from tests.tiny_data import LABELS, tiny_data

SAME = [
    "same: train/1003 = eval/1012: one recording in several splits",
    "recordings in several splits: 1; clips of eval among them: 1 of 4",
]
UPLOADERS = (
    "uploaders: 0 of 3 have clips in both train and val, 1 of 3 have clips in both train and eval, "
    "1 of 3 have clips in both val and eval"
)


@pytest.fixture
def leaky(tmp_path: Path) -> Path:
    """A data set with a recording of train in eval, and one that is twice in train."""
    folder = tiny_data(tmp_path / "tiny")
    for source, target in (("dev_audio/1003", "eval_audio/1012"), ("dev_audio/1001", "dev_audio/1004")):
        shutil.copy(folder / f"FSD50K.{source}.wav", folder / f"FSD50K.{target}.wav")
    return folder


@pytest.fixture
def uploaded(leaky: Path) -> Path:
    names = {
        "dev": {"1001": "ann", "1002": "ben", "1007": "cem"},
        "eval": {"1010": "ann", "1011": "ann", "1012": "cem"},
    }
    (leaky / "FSD50K.metadata").mkdir()
    for subset, uploaders in names.items():
        path = leaky / "FSD50K.metadata" / f"{subset}_clips_info_FSD50K.json"
        path.write_text(json.dumps({clip: {"uploader": name} for clip, name in uploaders.items()}))
    return leaky


def test_a_recording_in_two_splits_is_told(leaky, tmp_path, bench):
    done = bench("data", "pack", leaky, "--out", tmp_path / "out")
    assert (done.code, done.out.splitlines()) == (0, SAME)
    # and again, of the pack that is there
    assert bench("data", "pack", leaky, "--out", tmp_path / "out").out.splitlines() == SAME
    for command in ("info", "verify"):
        lines = bench("data", command, tmp_path / "out").out.splitlines()
        assert [line for line in lines if line.startswith(("same", "recordings in", "uploaders"))] == SAME
    assert json.loads(bench("data", "info", tmp_path / "out", "--json").out)["in several splits"] == [
        ["train/1003", "eval/1012"]
    ]
    lines = bench("data", "verify", leaky).out.splitlines()
    assert "same: FSD50K.dev_audio/1003.wav = FSD50K.eval_audio/1012.wav: one recording in several splits" in lines
    assert "recordings in several splits: 1" in lines


def test_uploaders_in_several_splits_are_counted(uploaded, tmp_path, bench):
    assert UPLOADERS in bench("data", "pack", uploaded, "--out", tmp_path / "out").out.splitlines()
    for folder in (uploaded, tmp_path / "out"):
        assert UPLOADERS in bench("data", "verify", folder).out.splitlines()
    assert UPLOADERS in bench("data", "info", tmp_path / "out").out.splitlines()
    counts = {"all": 3, "train and val": 0, "train and eval": 1, "val and eval": 1}
    for command, folder in (("info", tmp_path / "out"), ("verify", uploaded)):
        assert json.loads(bench("data", command, folder, "--json").out)["uploaders"] == counts


def test_what_is_not_known_is_not_said(packed, leaky, tmp_path):
    made = pack(leaky, tmp_path / "out")
    assert (made.copied_eval_clips, made.uploaders()) == (1, {})
    made = Pack(made.folder)
    made.index = made.index.drop(columns="hash")
    assert (made.copied_eval_clips, describe_leaks(made)) == (None, [])
    assert packed.copied_eval_clips == 0


def test_copies_are_refused_where_none_are_wanted(leaky, tmp_path, bench):
    out = tmp_path / "out"
    done = bench("data", "pack", leaky, "--out", out, "--no-duplicates")
    assert (done.code, done.out) == (2, "")
    assert done.err.endswith(
        f"bench: error: {leaky}: recordings in several splits: train/1003 = eval/1012; remove all but one of each from "
        "the tables, or pack without --no-duplicates\n"
    )
    assert not out.exists()
    # also of a pack that was made without
    assert bench("data", "pack", leaky, "--out", out).code == 0
    assert bench("data", "pack", leaky, "--out", out, "--no-duplicates").code == 2
    shutil.copy(leaky / "FSD50K.dev_audio" / "1002.wav", leaky / "FSD50K.dev_audio" / "1008.wav")
    done = bench("data", "pack", leaky, "--out", tmp_path / "more", "--no-duplicates")
    assert "several splits: train/1002 = val/1008 (and 1 more); remove" in done.err


def test_an_older_pack_that_cannot_tell_is_not_taken_for_one_without_copies(leaky, tmp_path, bench):
    out = tmp_path / "out"
    pack(leaky, out)
    pd.read_parquet(out / "index.parquet").drop(columns="hash").to_parquet(out / "index.parquet", index=False)
    assert bench("data", "pack", leaky, "--out", out).code == 0
    done = bench("data", "pack", leaky, "--out", out, "--no-duplicates")
    assert done.code == 2
    assert f"{out}: an older pack, which does not tell copies: move it away and pack again" in done.err


def test_copies_within_a_split_are_not_refused(leaky, tmp_path):
    shutil.copy(leaky / "FSD50K.eval_audio" / "1013.wav", leaky / "FSD50K.eval_audio" / "1012.wav")
    assert sum(pack(leaky, tmp_path / "out", no_duplicates=True).manifest["clips"].values()) == 13


def test_the_official_release_is_never_refused(leaky, tmp_path, bench, monkeypatch):
    monkeypatch.setattr(fsd50k, "OFFICIAL_CLIPS", {"train": 6, "val": 3, "eval": 4})
    monkeypatch.setattr(fsd50k, "OFFICIAL_CLASSES", len(LABELS))
    done = bench("data", "pack", leaky, "--out", tmp_path / "out", "--no-duplicates")
    assert (done.code, done.out.splitlines()) == (0, SAME)
    assert "train/1003 = eval/1012; the official release is packed as it is" in done.err.replace("\n", " ")


def test_runs_record_copies_and_reports_begin_with_them(small_results, tmp_path):
    copy = Path(shutil.copytree(small_results, tmp_path / "out"))
    results = load_results(copy)
    assert [run.record.data["copied_eval_clips"] for run in results.runs] == [0] * 4
    few = Sampling(resamples=100)
    assert not any("in train or val" in note for note in reading_notes(analyse(results, few)))
    for path in copy.glob("*/run.json"):
        record = json.loads(path.read_text())
        record["data"]["copied_eval_clips"] = 2
        path.write_text(json.dumps(record))
    first, *_ = reading_notes(analyse(load_results(copy), few))
    assert first.startswith("Caution: of the 40 eval clips 2 are, to the sample, in train or val, too")
    # older runs do not say it
    for path in copy.glob("*/run.json"):
        record = json.loads(path.read_text())
        del record["data"]["copied_eval_clips"]
        path.write_text(json.dumps(record))
    assert not any("in train or val" in note for note in reading_notes(analyse(load_results(copy), few)))


def test_groups_across_splits():
    items = [("a", "train", 1), ("b", "train", 2), ("a", "eval", 3), ("b", "train", 4), ("a", "val", 5)]
    assert across_splits(items) == [[1, 3, 5]]


def test_shared_groups_are_counted_by_pairs_of_splits():
    items = [("a", "train"), ("a", "eval"), ("b", "val"), (None, "train"), (None, "eval"), ("a", "val"), ("c", "eval")]
    assert shared_groups(items) == {"all": 3, "train and val": 1, "train and eval": 1, "val and eval": 1}
    assert shared_groups([(None, "train"), (None, "eval")]) == {}
