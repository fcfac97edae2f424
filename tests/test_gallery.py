"""`bench gallery`: a typical clip of every class, chosen by a rule, drawn without torch, the same bytes twice."""

import hashlib
import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bench.api.datasets import gallery
from bench.data.audio import spectrogram_of
from bench.data.pack import Pack
from bench.data.packing import pack
from bench.errors import UserError
from bench.inspect.gallery import typical_clips
from bench.reporting.figures.gallery import BANDS, Picture, gallery_pages, mel_bands, pictures_on_page
from bench.runner.display import Display
from tests.tiny_data import rows_of, tiny_data, write_clip, write_rows

RATE = 16_000


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A pack whose clips differ in labels and length, as the test of the choice has them."""
    folder = tiny_data(tmp_path_factory.mktemp("gallery") / "sounds", sizes={"train": 9, "val": 1, "eval": 1})
    audio, table = folder / "FSD50K.dev_audio", folder / "FSD50K.ground_truth" / "dev.csv"
    # 1001, 1004, 1007: Bark; 1002, 1005, 1008: Rain; 1003, 1006, 1009: Siren
    for name, seconds in (("1001", 0.4), ("1004", 3.0), ("1007", 3.2), ("1008", 0.3), ("1003", 12.0), ("1006", 14.0)):
        write_clip(audio / f"{name}.wav", 500, int(name), seconds=seconds)
    header, *rows = rows_of(table)
    more = {"1002": "Rain,Bark", "1005": "Rain,Siren", "1009": "Siren,Rain"}
    write_rows(table, [header, *([name, more.get(name, labels), *rest] for name, labels, *rest in rows)])
    return pack(folder, folder.with_name("pack"))


def test_a_typical_clip_has_few_labels_and_a_usual_length(small):
    found = typical_clips(small, "train").set_index("class")
    assert found.index.tolist() == ["Bark", "Rain", "Siren"]
    # of Bark's own clips those of a second or more, and of these the one nearest to the median of 2.1 s
    assert found.loc["Bark", ["clip", "clips", "labels"]].tolist() == ["1004", 4, "Bark"]
    # the only one that is nothing else, short as it is
    assert found.loc["Rain", ["clip", "seconds"]].tolist() == ["1008", pytest.approx(0.3, abs=0.01)]
    # too long, both
    assert found.loc["Siren", "clip"] == "1003"


def test_a_clip_stands_for_one_class_if_there_is_another(packed):
    found = typical_clips(packed, "train")
    others = packed.clips("train").set_index("clip")["labels"].map(len)
    for clip, group in found.groupby("clip"):
        for row in group.iloc[1:].itertuples():
            k = packed.labels.index(row[1])
            mine = packed.clips("train")[packed.targets("train")[:, k]]["clip"]
            fewest = [name for name in mine if others[name] == others[mine].min()]
            assert set(fewest) <= set(found["clip"]), f"{clip} stands for {row[1]}, too"


def test_mel_bands_keep_the_power_and_show_its_frequency():
    rng = np.random.default_rng(0)
    power = rng.random((257, 3))
    bands = mel_bands(power, RATE)
    assert bands.shape == (BANDS, 3)
    mel = 2595 * np.log10(1 + RATE / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, mel, BANDS + 1) / 2595) - 1)
    # the first and the last frequency stand for half as much as the others
    weights = np.r_[0.5, np.ones(255), 0.5]
    np.testing.assert_allclose(np.diff(edges) @ bands, RATE / 512 * (weights @ power))
    tone = (8000 * np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE)).astype(np.int16)
    loudest = mel_bands(spectrogram_of([tone], RATE, RATE, 10), RATE).argmax(axis=0)
    assert (edges[loudest] - 40 < 1000).all()
    assert (edges[loudest + 1] + 40 > 1000).all()


def test_the_command_writes_pages_and_says_which_clips(bench, small, tmp_path):
    out = tmp_path / "deep" / "looks"
    done = bench("gallery", small.folder, "--out", out)
    assert (done.code, done.err) == (0, "")
    assert done.out == f"{out}/gallery.pdf: 3 classes, 1 page; gallery.csv names the clips\n"
    assert sorted(path.name for path in out.iterdir()) == ["gallery.csv", "gallery.pdf", "gallery_1.png"]
    table = pd.read_csv(out / "gallery.csv", dtype={"clip": str})
    assert table["clip"].tolist() == ["1004", "1008", "1003"]
    assert table.columns.tolist() == ["class", "clip", "seconds", "clips", "labels", "page"]
    with Image.open(out / "gallery_1.png") as image:
        assert image.width > 1200
    document = json.loads(bench("gallery", small.folder, "--out", out, "--split", "val", "--json").out)
    assert (document["split"], len(document["classes"])) == ("val", 1)


def test_classes_without_a_clip_are_named(bench, small, tmp_path):
    done = bench("gallery", small.folder, "--out", tmp_path, "--split", "val")
    assert (done.code, done.err) == (0, "no clip of val: Rain, Siren\n")


def test_the_same_pack_gives_the_same_bytes_and_old_pages_go(small, tmp_path):
    digests = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        (folder / "gallery_2.png").write_bytes(b"of more classes")
        (folder / "gallery_2.png.txt").write_bytes(b"mine")
        made = gallery(small.folder, folder, display=Display())
        digests.append([hashlib.sha256(path.read_bytes()).hexdigest() for path in (made.pdf, made.csv, *made.pngs)])
        assert sorted(path.name for path in folder.glob("gallery_*")) == ["gallery_1.png", "gallery_2.png.txt"]
    assert digests[0] == digests[1]
    assert made._repr_html_().startswith('<img src="data:image/png;base64,')


@pytest.mark.parametrize(
    ("count", "on_page"), [(1, 5), (5, 5), (6, 10), (45, 45), (46, 25), (59, 30), (107, 40), (200, 40)]
)
def test_pages_are_evenly_filled(count, on_page):
    assert pictures_on_page(count) == on_page


def test_names_of_any_kind_fit_and_no_page_is_too_high():
    power = np.zeros((BANDS, 4))
    names = ["Livestock_and_farm_animals_and_working_animals", "a$b_犬[/x] " + 20 * "long_", "_hidden", "\x1b[2J"]
    pages = [*gallery_pages([Picture(name, 9 * name, 1.0, power) for name in 12 * names], RATE, "clips")]
    assert [len(page.axes) for page in pages] == [25, 23]
    for page in pages:
        width, height = page.get_size_inches()
        assert (width, height < 9.8) == (6.9, True)
        for axes in page.axes:
            texts = [text.get_text() for text in axes.texts]
            assert all(len(line) <= 20 for line in texts[1].split("\n"))
            assert texts[1].count("\n") <= 1
            assert all(text.get_fontsize() >= 6.5 for text in axes.texts)


def test_what_cannot_be_drawn_is_one_line(bench, small, tmp_path):
    (tmp_path / "file").write_text("")
    for arguments, message in (
        ((tmp_path / "none",), f"{tmp_path}/none is no pack (no manifest.json)"),
        ((small.folder, "--split", "test"), "--split test: no such split; use train, val, eval"),
        ((small.folder, "--out", tmp_path / "file"), f"{tmp_path}/file: is a file, where a folder is to be written"),
    ):
        done = bench("gallery", *arguments)
        assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 1)
        assert done.err.startswith(f"bench: error: {message}")
    assert {path.name for path in tmp_path.iterdir()} == {"file"}


def test_a_split_in_which_nothing_is_labelled_is_one_line(small, tmp_path, monkeypatch):
    targets = Pack.targets
    monkeypatch.setattr(Pack, "targets", lambda self, split: targets(self, split) & (split == "eval"))
    with pytest.raises(UserError, match="no clip of train has a label; take --split eval"):
        gallery(small.folder, tmp_path / "out", display=Display())
    assert not (tmp_path / "out").exists()


def test_no_torch_is_needed():
    code = "import sys, bench.api.datasets, bench.inspect.gallery, bench.inspect.hardest\nprint('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
