"""labels.npz: arrays that do not fit each other are one line, before any number is made of them."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from bench.errors import UserError
from bench.store import Labels

KEPT = Path(__file__).parent / "format1" / "labels.npz"

# an array, what is put in its place -> what is said
WRONG = {
    "fewer targets": ("targets", lambda x: x[:-1], "targets: should be bool of shape (250, 59), is bool (249, 59)"),
    "targets the other way": ("targets", np.transpose, "targets: should be bool of shape (250, 59), is bool (59, 250)"),
    "float targets": ("targets", lambda x: x * 1.0, "targets: should be bool of shape (250, 59), is float64 (250, 59)"),
    "number targets": ("targets", lambda x: x * 2, "targets: should be bool of shape (250, 59), is int64 (250, 59)"),
    "fewer leaves": ("leaf", lambda x: x[:-1], "leaf: should be bool of shape (59,), is bool (58,)"),
    "fewer counts": ("train_counts", lambda x: x[:3], "train_counts: should be integers of shape (59,), is int64 (3,)"),
    "float counts": (
        "train_counts",
        lambda x: x / 2,
        "train_counts: should be integers of shape (59,), is float64 (59,)",
    ),
    "counts below 0": ("train_counts", lambda x: -1 - x, "train_counts: less than 0"),
    "fewer groups": ("groups", lambda x: x[:-1], "groups: should be text of shape (250,), is <U12 (249,)"),
    "numbers for names": (
        "clips",
        lambda x: np.arange(len(x)),
        "clips: should be text of shape (250,), is int64 (250,)",
    ),
    "fewer classes": ("classes", lambda x: x[:-1], "leaf: should be bool of shape (58,), is bool (59,)"),
    "a class twice": ("classes", lambda x: np.r_[x[:-1], x[:1]], "classes: one is there twice"),
    "two data sets": ("dataset", lambda x: np.array([x, x]), "dataset: should be text of shape (), is <U64 (2,)"),
    "one name": ("clips", lambda x: x[0], "clips: should be text of shape (1,), is <U4 ()"),
}


def test_kept_labels_are_read():
    found = Labels.read(KEPT)
    assert (len(found.clips), len(found.classes), found.targets.shape, found.uploaders) == (250, 59, (250, 59), 5)


@pytest.mark.parametrize("what", WRONG)
def test_arrays_that_do_not_fit_are_one_line(tmp_path, what):
    name, change, message = WRONG[what]
    path = Path(shutil.copy(KEPT, tmp_path))
    with np.load(path) as file:
        arrays = dict(file)
    np.savez_compressed(path, **arrays | {name: change(arrays[name])})
    with pytest.raises(UserError) as caught:
        Labels.read(path)
    assert str(caught.value).startswith(f"{path}: damaged ({message}); ")
