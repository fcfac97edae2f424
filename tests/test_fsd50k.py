"""Reading FSD50K's layout, and saying what is wrong with it."""

import csv
import shutil

import pytest

from bench.data.packing import pack
from bench.data.readers.fsd50k import load_classes, read_dataset, verify
from bench.errors import UserError


@pytest.fixture
def copy(dataset, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(dataset, folder)
    return folder


def test_the_classes_are_fsd50ks():
    classes = load_classes()
    labels = {c.label for c in classes}
    assert [c.index for c in classes] == list(range(200))
    assert len(labels) == len({c.mid for c in classes}) == 200
    assert sum(c.leaf for c in classes) == 145  # 144 by the documentation, see the file's head
    assert all(set(c.ancestors) <= labels - {c.label} for c in classes)
    assert not {a for c in classes for a in c.ancestors} & {c.label for c in classes if c.leaf}


def test_verify_counts_what_is_there(dataset, packed):
    found = verify(dataset)
    assert sum(found.clips.values()) == len(packed.index) == 120
    assert sum(found.hours.values()) == pytest.approx(packed.index["seconds"].sum() / 3600)
    assert found.classes == found.classes_used["train"] == len(packed.labels)
    assert [found.broken, found.extra, found.problems, found.whole] == [{}, [], [], False]


def test_verify_finds_extra_files(copy):
    (copy / "FSD50K.eval_audio" / "notes.txt").write_text("")
    assert verify(copy).extra == ["FSD50K.eval_audio/notes.txt"]


def test_labels_and_groups_are_the_csvs(dataset):
    read = read_dataset(dataset)
    with (dataset / "FSD50K.ground_truth" / "eval.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    by_name = {clip.name: clip for clip in read.clips if clip.split == "eval"}
    assert len(by_name) == len(rows)
    for row in rows:
        assert {read.labels[i] for i in by_name[row["fname"]].labels} == set(row["labels"].split(","))
    assert all(clip.group for clip in read.clips)


def edit(folder, name, change):
    path = folder / "FSD50K.ground_truth" / name
    path.write_text(change(path.read_text()))


def list_a_class_twice(text):
    rows = [line.split(",") for line in text.splitlines()]
    rows[1][1] = rows[0][1]
    return "\n".join(map(",".join, rows)) + "\n"


WRONG = {
    "no such folder": lambda f: shutil.rmtree(f),
    r"FSD50K.dev_audio: no such folder": lambda f: shutil.rmtree(f / "FSD50K.dev_audio"),
    r"eval.csv: no such file": lambda f: (f / "FSD50K.ground_truth" / "eval.csv").unlink(),
    r"dev.csv: the file is empty": lambda f: edit(f, "dev.csv", lambda text: ""),
    r"dev.csv: lists nothing": lambda f: edit(f, "dev.csv", lambda text: text.splitlines()[0] + "\n"),
    r"dev.csv, line 1: no column 'split'": lambda f: edit(f, "dev.csv", lambda text: text.replace("split", "spilt", 1)),
    r"eval.csv, line 1: no column 'fname'": lambda f: edit(
        f, "eval.csv", lambda text: text.replace("fname", "file", 1)
    ),
    r"eval.csv, line 42: clip \d+ is listed twice, first in line 2": lambda f: edit(
        f, "eval.csv", lambda text: text + text.splitlines()[1]
    ),
    r"dev.csv, line \d+: clip \d+: split is 'vall'": lambda f: edit(
        f, "dev.csv", lambda text: text.replace(",val\n", ",vall\n")
    ),
    r"split is 'eval', should be train or val": lambda f: edit(
        f, "dev.csv", lambda text: text.replace(",val\n", ",eval\n", 1)
    ),
    r"vocabulary.csv, line 2: class \w+ is listed twice, first in line 1": lambda f: edit(
        f, "vocabulary.csv", list_a_class_twice
    ),
    r"no clips of split 'val'": lambda f: edit(f, "dev.csv", lambda text: text.replace(",val\n", ",train\n")),
    r"vocabulary.csv, line 1: rows should be": lambda f: edit(
        f, "vocabulary.csv", lambda text: "index,label,mid\n" + text
    ),
    r"dev.csv, line 82: not a readable CSV": lambda f: edit(f, "dev.csv", lambda text: text + '1,"2,3\n'),
    r"eval.csv, line \d+: clip \d+: label 'Guitarr' is not in vocabulary.csv": lambda f: edit(
        f, "eval.csv", lambda text: text.replace("Guitar,", "Guitarr,", 1)
    ),
    r"clips_info_FSD50K.json: not the clip information": lambda f: (
        f / "FSD50K.metadata" / "dev_clips_info_FSD50K.json"
    ).write_text("[]"),
}


@pytest.mark.parametrize("message", WRONG)
def test_what_is_wrong_is_one_line(copy, tmp_path, message):
    WRONG[message](copy)
    with pytest.raises(UserError, match=message) as caught:
        pack(copy, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()
