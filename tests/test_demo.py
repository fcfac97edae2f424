"""The demo set: its layout, what holds of its classes and uploaders, and that it is whole or absent."""

import csv
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from bench.data.readers.fsd50k import load_classes
from bench.data.synthetic import demo
from bench.data.synthetic.demo import write_demo
from bench.data.synthetic.synthesis import RATE, SOUNDS
from bench.errors import UserError

SIZES = {"dev_clips": 60, "eval_clips": 30}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "set"
    write_demo(folder, **SIZES)
    return folder


def read_csv(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def rows_by_split(folder: Path) -> dict[str, list[list[str]]]:
    dev = read_csv(folder / "FSD50K.ground_truth/dev.csv")[1:]
    return {
        "train": [row for row in dev if row[3] == "train"],
        "val": [row for row in dev if row[3] == "val"],
        "eval": read_csv(folder / "FSD50K.ground_truth/eval.csv")[1:],
    }


def digest(folder: Path) -> str:
    tree = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        tree.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return tree.hexdigest()


def test_same_seed_same_bytes(folder: Path, tmp_path: Path) -> None:
    write_demo(tmp_path / "again", **SIZES)
    write_demo(tmp_path / "other", **SIZES, seed=1)
    assert digest(tmp_path / "again") == digest(folder)
    assert digest(tmp_path / "other") != digest(folder)


def test_layout(folder: Path) -> None:
    assert sorted(path.relative_to(folder).as_posix() for path in folder.glob("*/*.[cj]s*")) == [
        "FSD50K.ground_truth/dev.csv",
        "FSD50K.ground_truth/eval.csv",
        "FSD50K.ground_truth/vocabulary.csv",
        "FSD50K.metadata/dev_clips_info_FSD50K.json",
        "FSD50K.metadata/eval_clips_info_FSD50K.json",
    ]
    splits = rows_by_split(folder)
    for subset, rows in ("dev", splits["train"] + splits["val"]), ("eval", splits["eval"]):
        wavs = {path.stem for path in (folder / f"FSD50K.{subset}_audio").iterdir()}
        info = json.loads((folder / f"FSD50K.metadata/{subset}_clips_info_FSD50K.json").read_text("utf-8"))
        assert len(rows) == SIZES[f"{subset}_clips"]
        assert wavs == set(info) == {row[0] for row in rows}
    names = [row[0] for rows in splits.values() for row in rows]
    assert all(name.isdecimal() for name in names)
    assert len(set(names)) == len(names)


def test_tables_have_the_official_form(folder: Path) -> None:
    truth = folder / "FSD50K.ground_truth"
    assert (truth / "dev.csv").read_bytes().startswith(b"fname,labels,mids,split\n")
    assert (truth / "eval.csv").read_bytes().startswith(b"fname,labels,mids\n")
    assert not any(b"\r" in path.read_bytes() for path in folder.glob("*/*.[cj]s*"))
    vocabulary = read_csv(truth / "vocabulary.csv")
    mids = {entry.label: entry.mid for entry in load_classes()}
    assert [int(index) for index, _, _ in vocabulary] == list(range(len(vocabulary)))
    assert [label for _, label, _ in vocabulary] == sorted(label for _, label, _ in vocabulary)
    assert all(mids[label] == mid for _, label, mid in vocabulary)
    for rows in rows_by_split(folder).values():
        assert all([mids[label] for label in row[1].split(",")] == row[2].split(",") for row in rows)


def test_labels_are_propagated_to_ancestors_leaves_first(folder: Path) -> None:
    classes = {entry.label: entry for entry in load_classes()}
    used = set()
    for rows in rows_by_split(folder).values():
        for row in rows:
            labels = row[1].split(",")
            leaves = [label for label in labels if label in SOUNDS]
            ancestors = {label for leaf in leaves for label in classes[leaf].ancestors}
            assert labels[: len(leaves)] == leaves
            assert len(labels) == len(set(labels))
            assert set(labels) == {*leaves, *ancestors}
            used.update(labels)
    assert used == {row[1] for row in read_csv(folder / "FSD50K.ground_truth/vocabulary.csv")}


def test_every_sound_is_a_leaf_of_fsd50k() -> None:
    assert len(SOUNDS) >= 24
    assert set(SOUNDS) <= {entry.label for entry in load_classes() if entry.leaf}


@pytest.mark.parametrize(("dev_clips", "eval_clips"), [(28, 14), (60, 30), (440, 100)])
def test_every_class_has_positives_in_every_split(dev_clips: int, eval_clips: int) -> None:
    clips = demo.plan(dev_clips, eval_clips, seed=3)
    for split in ("train", "val", "eval"):
        assert {sound for clip in clips if clip.split == split for sound in clip.sounds} == set(SOUNDS)


def test_default_sizes_and_mixtures() -> None:
    clips = demo.plan(440, 100, seed=0)
    mixtures = np.mean([len(clip.sounds) == 2 for clip in clips])
    assert sum(clip.split == "val" for clip in clips) == 88
    assert 0.15 < mixtures < 0.22


def test_audio_is_16_bit_mono_at_44100_hz(folder: Path) -> None:
    for path in folder.glob("*/*.wav"):
        info = soundfile.info(path)
        assert (info.samplerate, info.channels, info.subtype, info.format) == (RATE, 1, "PCM_16", "WAV")
        assert 0.299 <= info.duration <= 6
        peak = int(np.abs(soundfile.read(path, dtype="int16")[0].astype(np.int32)).max())
        assert 1000 < peak < 29_300  # -30 to -1 dBFS


@pytest.mark.parametrize("label", sorted(SOUNDS))
def test_sounds_fill_short_clips(label: str) -> None:
    for seed in range(5):
        sound = SOUNDS[label](np.random.default_rng(seed), 13_230)
        assert sound.shape == (13_230,)
        assert np.isfinite(sound).all()
        assert sound.std() > 0


def test_uploaders_of_the_splits_are_disjoint(folder: Path) -> None:
    info = {}
    for path in (folder / "FSD50K.metadata").iterdir():
        info.update(json.loads(path.read_text(encoding="utf-8")))
    assert set(next(iter(info.values()))) == {"title", "description", "tags", "license", "uploader"}
    uploaders = [{info[row[0]]["uploader"] for row in rows} for rows in rows_by_split(folder).values()]
    assert len(set.union(*uploaders)) == sum(map(len, uploaders))


def test_existing_folder_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(UserError, match=r"not an empty folder: delete it or name another") as error:
        write_demo(tmp_path, **SIZES)
    assert str(tmp_path) in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]


def test_empty_folder_is_filled_and_progress_counts_every_clip(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    folder = tmp_path / "set"
    folder.mkdir()
    write_demo(folder, dev_clips=28, eval_clips=14, progress=lambda done, total: seen.append((done, total)))
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    assert len(list(folder.glob("*/*.wav"))) == 42
    assert seen == [(done, 42) for done in range(1, 43)]


def test_too_few_clips_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="at least 28 dev and 14 eval clips"):
        write_demo(tmp_path / "set", dev_clips=27, eval_clips=14)


def test_nothing_is_left_behind_by_a_failure(tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        assert (tmp_path / "set.partial").is_dir()
        assert not (tmp_path / "set").exists()
        if done == total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_demo(tmp_path / "set", **SIZES, progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    script = """if True:
        import resource, signal, sys
        from pathlib import Path
        from bench.data.synthetic.demo import write_demo
        from bench.errors import UserError
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
        try:
            write_demo(Path(sys.argv[1]), dev_clips=28, eval_clips=14)
        except UserError as error:
            print(error)
    """
    done = subprocess.run([sys.executable, "-c", script, tmp_path / "set"], capture_output=True, text=True, timeout=100)
    assert (len(done.stdout.splitlines()), done.stderr) == (1, "")
    assert f"{tmp_path}/set.partial: no file may grow that large here; raise the limit (ulimit -f)" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_no_file_of_the_user_is_removed_with_what_was_half_made(tmp_path: Path) -> None:
    mine = tmp_path / "demo.partial" / "notes.txt"
    mine.parent.mkdir()
    mine.write_text("mine", "utf-8")
    with pytest.raises(UserError, match=r"demo\.partial: holds 'notes\.txt', which no data set has; move it away$"):
        write_demo(tmp_path / "demo")
    assert mine.read_text("utf-8") == "mine"


@pytest.mark.parametrize("folder", ["", "..", "/"])
def test_a_data_set_has_a_name(folder: str) -> None:
    with pytest.raises(UserError, match="name a folder that the data set is to be, such as "):
        write_demo(Path(folder))


def test_a_link_in_the_place_of_the_half_made_set_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "set.partial").symlink_to(tmp_path / "mine", target_is_directory=True)
    with pytest.raises(UserError, match=r"set\.partial: is a symbolic link, where a folder is to be written; move it"):
        write_demo(tmp_path / "set", **SIZES)
    assert list((tmp_path / "mine").iterdir()) == []
