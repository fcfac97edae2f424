"""The tables of a data set: read in one way, or refused with file, line and remedy; never a label or a clip lost."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench.data.packing import pack
from bench.data.readers.fsd50k import read_dataset, verify
from bench.data.readers.tables import clip_name
from bench.errors import UserError
from tests.tiny_data import rows_of, tiny_data, write_clip, write_rows

TRUTH = "FSD50K.ground_truth"


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return tiny_data(tmp_path / "tiny")


def table(folder: Path, name: str) -> Path:
    return folder / TRUTH / f"{name}.csv"


def set_line(folder: Path, name: str, line: int, text: str | bytes) -> None:
    """Put another line (numbered from 1) into a table, as it is."""
    path = table(folder, name)
    lines = path.read_bytes().split(b"\n")
    lines[line - 1] = text.encode() if isinstance(text, str) else text
    path.write_bytes(b"\n".join(lines))


def change(folder: Path, name: str, line: int, column: int, value: str) -> None:
    rows = rows_of(table(folder, name))
    rows[line - 1][column] = value
    write_rows(table(folder, name), rows)


def labels_of(folder: Path) -> dict[str, tuple[str, ...]]:
    found = read_dataset(folder)
    found.refuse_problems()
    return {clip.key: tuple(found.labels[i] for i in clip.labels) for clip in found.clips}


def lines(name: str, line: int, text: str | bytes):
    return lambda folder: set_line(folder, name, line, text)


def cells(name: str, line: int, column: int, value: str):
    return lambda folder: change(folder, name, line, column, value)


FNAME, LABELS = 0, 1
# what is done to a data set -> the end of the one line that says so; dev.csv's line 2 is clip 1001
REFUSED = {
    "labels without quotes": (
        lines("dev", 5, "1004,Bark,Rain,/m/0,/m/1,train"),
        'dev.csv, line 5: 6 fields, but the header has 4; several labels of a clip belong into quotes ("Bark,Dog")',
    ),
    "labels without quotes or mids": (
        lines("dev", 5, "1004,Bark,Rain,train"),
        "dev.csv, line 5: clip 1004: mids is 'Rain', a label; labels with a comma between them belong into quotes",
    ),
    "labels without quotes in eval, without mids": (
        lines("eval", 2, "1010,Bark,Rain"),
        "eval.csv, line 2: clip 1010: mids is 'Rain', a label; labels with a comma between them belong into quotes",
    ),
    "one quoted, one not": (
        lines("eval", 2, '1010,"Bark,Rain",Siren,/m/0'),
        'eval.csv, line 2: 4 fields, but the header has 3; several labels of a clip belong into quotes ("Bark,Dog")',
    ),
    "too few fields": (
        lines("dev", 3, "1002,Rain,train"),
        "dev.csv, line 3: 3 fields, but the header has 4; none may miss",
    ),
    "a cut last line": (lines("eval", 5, "1013"), "eval.csv, line 5: 1 fields, but the header has 3; none may miss"),
    "two columns of one name": (
        lines("dev", 1, "fname,labels,labels,split"),
        "dev.csv, line 1: two columns are called 'labels'; remove or rename one",
    ),
    "two columns of one name that nobody asks for": (
        lines("dev", 1, "fname,labels,split,fname"),
        "dev.csv, line 1: two columns are called 'fname'; remove or rename one",
    ),
    "no header": (
        lines("eval", 1, "1009,Bark,/m/0"),
        "eval.csv, line 1: no column 'fname'; the header should be fname,labels, is '1009,Bark,/m/0'",
    ),
    "semicolons": (
        lines("eval", 1, "fname;labels;mids"),
        "eval.csv, line 1: no column 'fname'; the header should be fname,labels, is 'fname;labels;mids'",
    ),
    "a name twice": (cells("dev", 3, FNAME, "1001"), "line 3: clip 1001 is listed twice, first in line 2; remove one"),
    "a name with and without suffix": (
        cells("dev", 8, FNAME, "1001.wav"),
        "dev.csv, line 8: clip 1001 is listed twice, first in line 2; remove one",
    ),
    "a suffix in capitals": (
        cells("dev", 8, FNAME, "1001.WAV"),
        "line 8: clip 1001 is listed twice, first in line 2; remove one",
    ),
    "./": (cells("dev", 8, FNAME, "./1001"), "line 8: clip 1001 is listed twice, first in line 2; remove one"),
    ".//./": (
        cells("dev", 3, FNAME, ".//./1001.wav"),
        "line 3: clip 1001 is listed twice, first in line 2; remove one",
    ),
    "spaces": (cells("dev", 8, FNAME, " 1001 "), "line 8: clip 1001 is listed twice, first in line 2; remove one"),
    "..": (
        cells("dev", 2, FNAME, "../../secret"),
        "dev.csv, line 2: fname '../../secret': leads out of the folder of recordings",
    ),
    ".. within": (
        cells("dev", 2, FNAME, "a/../1001"),
        "line 2: fname 'a/../1001': leads out of the folder of recordings",
    ),
    "another split's folder": (
        cells("dev", 2, FNAME, "../FSD50K.eval_audio/1010"),
        "line 2: fname '../FSD50K.eval_audio/1010': leads out of the folder of recordings",
    ),
    "an absolute name": (
        cells("eval", 2, FNAME, "/etc/passwd"),
        "eval.csv, line 2: fname '/etc/passwd': should be a name in the folder of recordings, with / between folders",
    ),
    "a drive": (
        cells("eval", 2, FNAME, "C:/1010"),
        "fname 'C:/1010': should be a name in the folder of recordings, with / between folders",
    ),
    "backslashes": (
        cells("eval", 2, FNAME, "..\\FSD50K.dev_audio\\1001"),
        r"'..\\FSD50K.dev_audio\\1001': should be a name in the folder of recordings, with / between folders",
    ),
    "no name": (cells("dev", 2, FNAME, ""), "dev.csv, line 2: fname '': no name of a recording"),
    "a suffix alone": (cells("dev", 2, FNAME, ".wav"), "dev.csv, line 2: fname '.wav': no name of a recording"),
    "a dot": (cells("dev", 2, FNAME, "."), "dev.csv, line 2: fname '.': no name of a recording"),
    "a line break": (
        cells("dev", 2, FNAME, "10\n01"),
        r"dev.csv, line 2: fname '10\n01': holds the character U+000A, which can't be seen; remove it",
    ),
    "U+2028": (
        cells("dev", 2, FNAME, "1001\u2028x"),
        r"dev.csv, line 2: fname '1001\u2028x': holds the character U+2028, which can't be seen; remove it",
    ),
    "a name of 300 bytes": (
        cells("dev", 2, FNAME, "ü" * 150),
        f"dev.csv, line 2: fname '{'ü' * 80}...': longer than the 255 bytes of a file's name",
    ),
    "an endless name": (
        cells("dev", 2, FNAME, "a/" * 30_000 + "b"),
        f"dev.csv, line 2: fname '{'a/' * 40}...': longer than the 255 bytes of a file's name",
    ),
    "an endless label": (
        cells("dev", 2, LABELS, "x" * 100_000),
        f"dev.csv, line 2: clip 1001: label '{'x' * 80}...' is not in vocabulary.csv",
    ),
    "an endless field": (
        cells("dev", 2, LABELS, "x" * 200_000),
        "dev.csv, line 2: not a readable CSV (field larger than field limit (131072))",
    ),
    "an escape": (
        cells("dev", 2, FNAME, "\x1b[31m1001"),
        r"dev.csv, line 2: fname '\x1b[31m1001': holds the character U+001B, which can't be seen; remove it",
    ),
    "a NUL": (
        cells("dev", 2, FNAME, "1001\0"),
        "dev.csv, line 2: holds a NUL byte; save the file as UTF-8, or fetch it again",
    ),
    "not UTF-8": (
        lines("dev", 4, b"caf\xe9,Bark,/m/0,train"),
        "dev.csv, line 4: not UTF-8 (byte 0xe9); save the file as UTF-8",
    ),
    "UTF-16": (
        lambda f: table(f, "eval").write_text(table(f, "eval").read_text(), "utf-16"),
        "eval.csv, line 1: not UTF-8 (byte 0xff); save the file as UTF-8",
    ),
    "in dev and eval": (
        cells("eval", 3, FNAME, "1002.wav"),
        "eval.csv, line 3: clip 1002 is also in dev.csv, line 3; a recording is for training or for test, "
        "and a name for one recording: remove or rename one",
    ),
    "an open quote": (
        lines("dev", 4, '1003,"Siren,/m/2,train'),
        "dev.csv, line 4: not a readable CSV (unexpected end of data)",
    ),
    "text behind a quote": (
        lines("dev", 4, '1003,"Siren"x,/m/2,train'),
        "dev.csv, line 4: not a readable CSV (',' expected after '\"')",
    ),
    "a split for eval": (
        lines("eval", 1, "fname,labels,split"),
        "eval.csv, line 2: clip 1010: split is '/m/0', but all clips of this file are eval's",
    ),
    "a split in capitals": (
        cells("dev", 2, 3, "Train"),
        "dev.csv, line 2: clip 1001: split is 'Train', should be train or val",
    ),
    "no split": (cells("dev", 2, 3, ""), "dev.csv, line 2: clip 1001: split is '', should be train or val"),
    "an unknown label": (cells("dev", 2, LABELS, "bark"), "line 2: clip 1001: label 'bark' is not in vocabulary.csv"),
    "null for a label": (cells("dev", 2, LABELS, "null"), "line 2: clip 1001: label 'null' is not in vocabulary.csv"),
    "an empty label": (
        cells("dev", 2, LABELS, "Bark,,Rain"),
        "dev.csv, line 2: clip 1001: labels 'Bark,,Rain' have an empty one between commas",
    ),
    "a comma alone": (cells("dev", 2, LABELS, ","), "line 2: clip 1001: labels ',' have an empty one between commas"),
    "an empty split": (
        lambda f: write_rows(table(f, "dev"), [row for row in rows_of(table(f, "dev")) if row[3] != "val"]),
        "no clips of split 'val'; training, selection and test need one each",
    ),
    "a split of negatives": (
        lambda f: write_rows(
            table(f, "eval"),
            [[row[0], row[1] if row[0] == "fname" else "", ""][:2] for row in rows_of(table(f, "eval"))],
        ),
        "no clip of split 'eval' has a label; there is nothing to learn or to find",
    ),
    "classes in another order": (
        lambda f: write_rows(table(f, "vocabulary"), [["1", "Rain", ""], ["0", "Bark", ""], ["2", "Siren", ""]]),
        "vocabulary.csv, line 1: rows should be index,label,mid without a header, indices from 0",
    ),
    "a gap": (
        cells("vocabulary", 2, 0, "2"),
        "vocabulary.csv, line 2: rows should be index,label,mid without a header, indices from 0",
    ),
    "a class twice": (
        cells("vocabulary", 3, 1, "Bark"),
        "vocabulary.csv, line 3: class Bark is listed twice, first in line 1",
    ),
    "a class without a label": (cells("vocabulary", 3, 1, " "), "vocabulary.csv, line 3: class 2 has no label"),
    "a class with a comma": (
        cells("vocabulary", 3, 1, "Siren,loud"),
        "vocabulary.csv, line 3: class 'Siren,loud' holds a comma, which stands between labels",
    ),
    "a class of two lines": (
        cells("vocabulary", 3, 1, "Si\nren"),
        r"vocabulary.csv, line 3: class 'Si\nren' holds the character U+000A, which can't be seen; remove it",
    ),
    "no classes": (lambda f: table(f, "vocabulary").write_text("\n\n"), "vocabulary.csv: the file is empty"),
    "blank lines alone": (lambda f: table(f, "eval").write_text("\r\n \r\n"), "eval.csv: the file is empty"),
    "a header alone": (lambda f: table(f, "eval").write_text("fname,labels\n\n"), "eval.csv: lists nothing"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_could_mean_two_things_is_one_line(tiny, bench, what):
    act, message = REFUSED[what]
    act(tiny)
    done = bench("data", "pack", tiny, "--out", tiny.with_name("out"))
    assert done.err.splitlines()[-1].endswith(message)
    assert done.err.startswith(f"bench: error: {tiny}")
    assert (done.code, done.out) == (2, "")
    assert not tiny.with_name("out").exists()


def crlf(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))


# what is done to a data set -> what its clips 1001 and 1002 are then
ACCEPTED = {
    "as it is": (lambda _: None, ("Bark",), ("Rain",)),
    "several labels in quotes": (cells("dev", 2, LABELS, "Siren,Bark"), ("Bark", "Siren"), ("Rain",)),
    "a clip without labels": (cells("dev", 2, LABELS, ""), (), ("Rain",)),
    "spaces": (lines("dev", 2, ' 1001 , "Bark , Siren",/m/0, train '), ("Bark", "Siren"), ("Rain",)),
    "a label twice": (cells("dev", 2, LABELS, "Bark,Bark"), ("Bark",), ("Rain",)),
    "a suffix": (cells("dev", 2, FNAME, "1001.wav"), ("Bark",), ("Rain",)),
    "a byte order mark": (
        lambda f: table(f, "dev").write_bytes(b"\xef\xbb\xbf" + table(f, "dev").read_bytes()),
        ("Bark",),
        ("Rain",),
    ),
    "lines of Windows": (
        lambda f: [crlf(table(f, name)) for name in ("dev", "eval", "vocabulary")],
        ("Bark",),
        ("Rain",),
    ),
    "lines of old Macs": (
        lambda f: table(f, "dev").write_bytes(table(f, "dev").read_bytes().replace(b"\n", b"\r")),
        ("Bark",),
        ("Rain",),
    ),
    "blank lines": (
        lambda f: table(f, "dev").write_bytes(b"\n" + table(f, "dev").read_bytes().replace(b"\n", b"\n\n \n,,,\n")),
        ("Bark",),
        ("Rain",),
    ),
    "another column, with line breaks": (
        lambda f: write_rows(
            table(f, "dev"), [[*row, "notes" if not i else "a\nb, c"] for i, row in enumerate(rows_of(table(f, "dev")))]
        ),
        ("Bark",),
        ("Rain",),
    ),
    "no mids": (
        lambda f: write_rows(table(f, "dev"), [[row[0], row[1], row[3]] for row in rows_of(table(f, "dev"))]),
        ("Bark",),
        ("Rain",),
    ),
}


@pytest.mark.parametrize("what", ACCEPTED)
def test_what_means_one_thing_is_read_exactly(tiny, what):
    act, first, second = ACCEPTED[what]
    act(tiny)
    found = labels_of(tiny)
    assert (found["train/1001"], found["train/1002"], len(found)) == (first, second, 13)


def test_lines_are_counted_behind_fields_of_several_lines(tiny):
    rows = rows_of(table(tiny, "dev"))
    rows[1][2], rows[4][3] = "a\nb\r\nc", "test"
    write_rows(table(tiny, "dev"), rows)
    with pytest.raises(UserError, match=r"dev\.csv, line 7: clip 1004: split is 'test'"):
        read_dataset(tiny)


def test_all_unknown_labels_are_counted(tiny, bench):
    for line in (2, 4, 6):
        change(tiny, "dev", line, LABELS, "Cow,Bark")
    with pytest.raises(UserError, match=r"line 2: clip 1001: label 'Cow' is not in vocabulary\.csv \(and 2 more\)$"):
        pack(tiny, tiny.with_name("out"))
    done = bench("data", "verify", tiny)
    assert (done.code, done.out.count("label 'Cow'")) == (2, 3)
    assert done.err == f"bench: error: {tiny}: labels to fix in the CSVs: 3, listed above\n"


def test_negatives_are_packed_and_counted(tiny, bench):
    for line in (2, 4):
        change(tiny, "dev", line, LABELS, "")
    assert verify(tiny).negatives == {"train": 2, "val": 0, "eval": 0}
    made = pack(tiny, tiny.with_name("out"))
    assert made.targets("train").sum(axis=1).tolist() == [0, 1, 0, 1, 1, 1]
    done = bench("data", "info", made.folder)
    assert "negatives: {'train': 2, 'val': 0, 'eval': 0}" in done.out.splitlines()
    assert "clips without a label, negatives of every class: 2" in bench("data", "verify", tiny).out.splitlines()


@pytest.mark.parametrize("name", ["1001.WAV", "1001.Wav"])
def test_a_suffix_in_capitals_is_found(tiny, name):
    audio = tiny / "FSD50K.dev_audio"
    (audio / "1001.wav").rename(audio / name)
    found = verify(tiny)
    assert (found.clips["train"], found.broken, found.extra) == (6, {}, [])
    assert pack(tiny, tiny.with_name("out")).manifest["left_out"] == {}


def test_of_two_suffixes_the_small_one_is_meant_and_of_others_none(tiny):
    audio = tiny / "FSD50K.dev_audio"
    write_clip(audio / "1001.WAV", 100, 0)
    assert next(clip.file for clip in read_dataset(tiny).clips) == "1001.wav"
    assert verify(tiny).extra == ["FSD50K.dev_audio/1001.WAV"]
    (audio / "1001.wav").rename(audio / "1001.waV")
    with pytest.raises(UserError, match=r"dev\.csv, line 2: clip 1001: could be 1001\.WAV or 1001\.waV; rename one$"):
        read_dataset(tiny)


def test_names_differ_by_case_as_files_do(tiny):
    audio = tiny / "FSD50K.dev_audio"
    (audio / "1001.wav").rename(audio / "a.wav")
    (audio / "1002.wav").rename(audio / "A.wav")
    change(tiny, "dev", 2, FNAME, "a")
    change(tiny, "dev", 3, FNAME, "A")
    found = pack(tiny, tiny.with_name("out"))
    assert (list(found.index["clip"])[:2], found.manifest["left_out"]) == (["a", "A"], {})


def test_folders_below_are_part_of_the_name(tiny):
    audio = tiny / "FSD50K.dev_audio"
    (audio / "x").mkdir()
    (audio / "1001.wav").rename(audio / "x" / "1.WAV")
    change(tiny, "dev", 2, FNAME, "./x//1.wav")
    found = verify(tiny)
    assert (found.clips["train"], found.broken, found.extra) == (6, {}, [])
    change(tiny, "dev", 3, FNAME, "x/1")
    with pytest.raises(UserError, match=r"line 3: clip x/1 is listed twice, first in line 2"):
        read_dataset(tiny)


@pytest.mark.parametrize(
    ("link", "target", "message"),
    [
        (
            "FSD50K.dev_audio/1009.wav",
            "1001.wav",
            "dev.csv, line 10: clip 1009 is the same file as clip 1001 of dev.csv, line 2",
        ),
        (
            "FSD50K.dev_audio/1002.wav",
            "../FSD50K.dev_audio/1001.wav",
            "dev.csv, line 3: clip 1002 is the same file as clip 1001",
        ),
        (
            "FSD50K.eval_audio/1010.wav",
            "../FSD50K.dev_audio/1003.wav",
            "eval.csv, line 2: clip 1010 is the same file as clip 1003",
        ),
    ],
)
def test_two_names_of_one_file_are_refused(tiny, link, target, message):
    (tiny / link).unlink()
    (tiny / link).symlink_to(target)
    with pytest.raises(UserError) as caught:
        pack(tiny, tiny.with_name("out"))
    assert message in str(caught.value)
    assert str(caught.value).endswith(", through a link; remove one")


def test_a_folder_that_is_a_link_to_another_is_no_way_around(tiny):
    shutil.copy(tiny / "FSD50K.dev_audio" / "1001.wav", tiny / "FSD50K.eval_audio" / "9.wav")
    (tiny / "FSD50K.dev_audio" / "x").symlink_to("../FSD50K.eval_audio", target_is_directory=True)
    change(tiny, "dev", 3, FNAME, "x/1012")
    with pytest.raises(
        UserError, match=r"eval\.csv, line 4: clip 1012 is the same file as clip x/1012 of dev\.csv, line 3"
    ):
        read_dataset(tiny)


def test_a_data_set_of_links_to_files_elsewhere_is_one(tiny):
    audio = tiny / "FSD50K.dev_audio"
    audio.rename(tiny / "store")
    audio.mkdir()
    for path in (tiny / "store").iterdir():
        (audio / path.name).symlink_to(path)
    assert pack(tiny, tiny.with_name("out")).manifest["clips"] == {"train": 6, "val": 3, "eval": 4}


def test_one_recording_in_two_splits_is_told(tiny, bench):
    shutil.copy(tiny / "FSD50K.dev_audio" / "1003.wav", tiny / "FSD50K.eval_audio" / "1012.wav")
    shutil.copy(tiny / "FSD50K.dev_audio" / "1003.wav", tiny / "FSD50K.dev_audio" / "1006.wav")
    line = "FSD50K.dev_audio/1003.wav = FSD50K.dev_audio/1006.wav = FSD50K.eval_audio/1012.wav"
    assert f"same: {line}: one recording in several splits" in bench("data", "verify", tiny).out.splitlines()


ODD_FILES = ["dev.csv", "eval.csv", "vocabulary.csv", "../FSD50K.metadata/dev_clips_info_FSD50K.json"]


def test_a_pipe_in_the_place_of_a_table_is_not_waited_for(tmp_path):
    folders = [tiny_data(tmp_path / str(i)) for i in range(len(ODD_FILES))]
    for folder, name in zip(folders, ODD_FILES, strict=True):
        path = folder / TRUTH / name
        path.parent.mkdir(exist_ok=True)
        path.unlink(missing_ok=True)
        os.mkfifo(path)
    script = """if True:
        import sys
        from pathlib import Path
        from bench.data.readers.fsd50k import read_dataset
        from bench.errors import UserError
        for folder in sys.argv[1:]:
            try:
                read_dataset(Path(folder))
            except UserError as error:
                print(error)
    """
    done = subprocess.run([sys.executable, "-c", script, *folders], capture_output=True, text=True, timeout=60)
    lines = done.stdout.splitlines()
    assert [line.rpartition("/")[2].partition(";")[0] for line in lines] == [
        f"{Path(name).name}: not a plain file" for name in ODD_FILES
    ]


def test_names_of_files_that_are_not_utf8_are_shown(tiny, bench):
    """They can't be listed in a table, which is UTF-8, but lie in folders, and are those of folders."""
    odd = os.fsencode(tiny / "FSD50K.dev_audio") + b"/caf\xe9.wav"
    Path(os.fsdecode(odd)).write_bytes(b"")
    folder = tiny.rename(os.fsdecode(os.fsencode(tiny.parent) + b"/d\xff"))
    done = bench("data", "verify", folder)
    assert (done.code, "extra: FSD50K.dev_audio/caf\\xe9.wav is in no CSV" in done.out.splitlines()) == (0, True)
    done = bench("data", "pack", folder, "--out", folder.with_name(os.fsdecode(b"p\xff")))
    assert (done.code, "p\\xff: train 6, val 3, eval 4; 0 left out" in done.err) == (0, True)
    done = bench("data", "info", folder.with_name(os.fsdecode(b"p\xff")))
    assert (done.code, "source: d\\xff" in done.out.splitlines()) == (0, True)


METADATA = {
    "nested 100,000 deep": "[" * 100_000,
    "no object": "[]",
    "not JSON": "{",
    "no uploader": '{"1001": {}}',
    "a list": '{"1001": {"uploader": ["ann"]}}',
    "true": '{"1001": {"uploader": true}}',
    "a lone surrogate": '{"1001": {"uploader": "\\ud800"}}',
    "a NUL": '{"1001": {"uploader": "a\\u0000b"}}',
    "two uploaders of one clip": '{"1001": {"uploader": "ann"}, "1001.wav": {"uploader": "ben"}}',
    "a name that leads out": '{"../1001": {"uploader": "ann"}}',
}


@pytest.mark.parametrize("what", METADATA)
def test_damaged_metadata_is_one_line(tiny, what):
    path = tiny / "FSD50K.metadata" / "dev_clips_info_FSD50K.json"
    path.parent.mkdir()
    path.write_text(METADATA[what])
    with pytest.raises(UserError) as caught:
        read_dataset(tiny)
    assert str(caught.value) == (f"{path}: not the clip information of FSD50K; remove the file or fetch it again")


def test_uploaders_belong_to_clips_however_they_are_named(tiny):
    path = tiny / "FSD50K.metadata" / "dev_clips_info_FSD50K.json"
    path.parent.mkdir()
    path.write_text(
        json.dumps({"1001.wav": {"uploader": "ann"}, "./1002": {"uploader": 7}, "1003": {"uploader": None}})
    )
    assert [clip.group for clip in read_dataset(tiny).clips][:4] == ["ann", "7", None, None]


@pytest.mark.parametrize(
    ("text", "name"),
    [("1", "1"), ("a b.wav", "a b"), ("1.wav.wav", "1.wav"), ("x/y.WAV", "x/y"), ("ü", "ü"), ("..a", "..a")],
)
def test_names_of_clips(text, name):
    assert clip_name(text) == name


def test_a_million_lines_without_recordings_are_quick_and_small(tiny):
    """In under 10 s and 500 MB: nothing is asked for a file, and no line takes kilobytes."""
    rows = rows_of(table(tiny, "dev"))
    count = 110_000
    write_rows(
        table(tiny, "dev"),
        [*rows, *([f"d{i}/x" if i % 2 else f"n{i}", "Bark,Rain", "", "train"] for i in range(count))],
    )
    script = """if True:
        import resource, sys, time
        from pathlib import Path
        from bench.data.packing import pack
        import pyarrow
        before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
        made = pack(Path(sys.argv[1]), Path(sys.argv[2]))
        print(made.left_out_count, len(made.manifest["left_out"]), time.process_time() - start)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    """
    command = [sys.executable, "-c", script, tiny, tiny.with_name("out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    left_out, named, seconds, kilobytes = done.stdout.split()
    assert (int(left_out), int(named)) == (count, 100_000)
    # a ninth of a million: in .8 s where nothing else runs, and 60 MB beside what the libraries take
    assert float(seconds) < 3
    assert int(kilobytes) < 100_000
