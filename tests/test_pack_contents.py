"""Opening a pack: whatever differs from what packing wrote is one line with file and field, before anything trains."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench.data.pack import Pack
from bench.data.pack_format import content_of, dataset_digest, fingerprint_digest
from bench.data.packing import pack
from bench.errors import UserError
from tests.tiny_data import tiny_data

RATE = 16_000


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pack")
    return pack(tiny_data(folder / "tiny"), folder / "out").folder


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "pack"))


def manifest(**fields):
    """Set fields of the manifest; None removes one."""

    def act(folder: Path) -> None:
        path = folder / "manifest.json"
        values = json.loads(path.read_text()) | fields
        path.write_text(json.dumps({key: value for key, value in values.items() if value is not None}))

    return act


def raw(name: str, data: bytes):
    return lambda folder: (folder / name).write_bytes(data)


def samples(change):
    """Put another array in the place of val's."""

    def act(folder: Path) -> None:
        np.save(folder / "val.npy", change(np.load(folder / "val.npy")))

    return act


def index(change, *, rehash: bool = True):
    """Put another index in the place of the pack's; hashes are made anew, as who makes packs otherwise would do it."""

    def act(folder: Path) -> None:
        table = pd.read_parquet(folder / "index.parquet")
        found = change(table)
        table = table if found is None else found
        table.to_parquet(folder / "index.parquet", index=False)
        if rehash:
            make_hashes(folder)

    return act


def make_hashes(folder: Path) -> None:
    table, path = pd.read_parquet(folder / "index.parquet"), folder / "manifest.json"
    values = json.loads(path.read_text())
    content = content_of(table)
    values["dataset"] = dataset_digest(values["classes"], content)
    values["fingerprint"] = fingerprint_digest(values["sample_rate"], values["classes"], content, table["hash"])
    path.write_text(json.dumps(values))


def cell(column: str, row: int, value, *, rehash: bool = True):
    def change(table: pd.DataFrame) -> pd.DataFrame:
        values = table[column].tolist()
        values[row] = value
        return table.assign(**{column: values})

    return index(change, rehash=rehash)


def labels_of(kind: pa.DataType, row: object = (1,)):
    """Store labels of another type, and in the first row these."""

    def act(folder: Path) -> None:
        table = pq.read_table(folder / "index.parquet")
        values = [row, *table["labels"].to_pylist()[1:]]
        column = pa.array(values, pa.list_(pa.int64())).cast(pa.list_(kind))
        at = table.schema.get_field_index("labels")
        pq.write_table(table.set_column(at, "labels", column), folder / "index.parquet")

    return act


def nested(depth: int) -> bytes:
    return b'{"format": 1, "plan": ' + b"[" * depth + b"]" * depth + b"}"


def swap_labels(table: pd.DataFrame) -> None:
    table["labels"] = table["labels"].to_numpy()[::-1]


# what is done to a pack -> what is said about it
DAMAGE = {
    "float32 samples": (samples(lambda x: x.astype("float32")), "val.npy: samples: should be int16, are float32"),
    "int8 samples": (samples(lambda x: x.astype("int8")), "val.npy: samples: should be int16, are int8"),
    "uint16 samples": (samples(lambda x: x.astype("uint16")), "val.npy: samples: should be int16, are uint16"),
    "bool samples": (samples(lambda x: x > 0), "val.npy: samples: should be int16, are bool"),
    "big-endian samples": (samples(lambda x: x.astype(">i2")), "val.npy: samples: should be int16, are >i2"),
    "samples of two dimensions": (
        samples(lambda x: x.reshape(-1, 2)),
        "val.npy: samples: should have one dimension, have shape (28800, 2)",
    ),
    "one number": (samples(lambda x: x[0]), "val.npy: samples: should have one dimension, have shape ()"),
    "no samples": (samples(lambda x: x[:0]), "val.npy: samples: none"),
    "fewer samples": (samples(lambda x: x[:-1]), "start, length: val/1009 is not within val.npy"),
    "other samples": (samples(lambda x: x[::-1]), "val.npy: samples of clip 1007: not those that were packed"),
    "a zeroed array": (samples(np.zeros_like), "val.npy: samples of clip 1007: not those that were packed"),
    "one other sample": (
        samples(lambda x: np.r_[x[:-1], x[-1] + np.int16(1)]),
        "val.npy: samples of clip 1009: not those that were packed",
    ),
    "a longer array": (lambda f: os.truncate(f / "val.npy", 115_330), "val.npy: samples: 115330 bytes of 115328"),
    "a cut array": (lambda f: os.truncate(f / "val.npy", 100_000), "val.npy: samples: 100000 bytes of 115328"),
    "an array of 0 bytes": (raw("val.npy", b""), "val.npy: EOF: reading magic string, expected 8 bytes got 0"),
    "an .npz": (raw("val.npy", b"PK\x03\x04" + bytes(100)), "val.npy: the magic string is not correct"),
    "a pickle": (raw("val.npy", b"cos\nsystem\n(S'true'\ntR."), "val.npy: the magic string is not correct"),
    "an array of objects": (
        lambda f: np.save(f / "val.npy", np.array([{}]), allow_pickle=True),
        "val.npy: samples: should be int16, are object",
    ),
    "a header of 8 exabytes": (
        raw(
            "val.npy",
            b"\x93NUMPY\x01\x00\x46\x00"
            + b"{'descr': '<i2', 'fortran_order': False, 'shape': (1152921504606846976,)}".ljust(70)[:70],
        ),
        "val.npy: ",
    ),
    "a header nested deep": (raw("val.npy", b"\x93NUMPY\x01\x00\x10\x27" + b"(" * 10_000), "val.npy: "),
    "no array": (lambda f: (f / "val.npy").unlink(), "val.npy is missing"),
    "a folder for an array": (
        lambda f: [(f / "val.npy").unlink(), (f / "val.npy").mkdir()],
        "val.npy is not a plain file",
    ),
    "labels of -1": (cell("labels", 8, [-1]), "index.parquet: labels: -1 of val/1009; the classes are 0 to 2"),
    "labels of k": (cell("labels", 8, [0, 3]), "index.parquet: labels: 3 of val/1009; the classes are 0 to 2"),
    "null for labels": (labels_of(pa.int64(), None), "index.parquet: labels: null"),
    "null among labels": (labels_of(pa.int64(), [0, None]), "index.parquet: labels: null"),
    "float labels": (labels_of(pa.float64()), "index.parquet: labels: should not be list<element: double>"),
    "bool labels": (labels_of(pa.bool_()), "index.parquet: labels: should not be list<element: bool>"),
    "int8 labels": (labels_of(pa.int8()), "index.parquet: labels: should not be list<element: int8>"),
    "a label twice": (cell("labels", 8, [1, 1]), "index.parquet: labels: not ascending in val/1009"),
    "labels in another order": (cell("labels", 8, [2, 0]), "index.parquet: labels: not ascending in val/1009"),
    "another label": (
        cell("labels", 8, [0], rehash=False),
        "manifest.json: dataset: not the hash of its classes and of index.parquet's clips and labels",
    ),
    "swapped labels": (
        index(swap_labels, rehash=False),
        "manifest.json: dataset: not the hash of its classes and of index.parquet's clips and labels",
    ),
    "swapped classes": (
        manifest(classes=["Rain", "Bark", "Siren"], leaf=[False, True, True]),
        "manifest.json: dataset: not the hash of its classes and of index.parquet's clips and labels",
    ),
    "another group": (
        cell("group", 0, "ann", rehash=False),
        "manifest.json: dataset: not the hash of its classes and of index.parquet's clips and labels",
    ),
    "another hash": (
        cell("hash", 0, "0" * 32, rehash=False),
        "manifest.json: fingerprint: not the hash of index.parquet",
    ),
    "another hash, everywhere": (
        cell("hash", 0, "0" * 32),
        "train.npy: samples of clip 1001: not those that were packed",
    ),
    "null for a hash": (
        cell("hash", 0, None, rehash=False),
        "manifest.json: fingerprint: not the hash of index.parquet",
    ),
    "overlaps": (cell("start", 1, 19_199), "index.parquet: start, length: train/1001 overlaps the next clip"),
    "the same place": (cell("start", 1, 0), "index.parquet: start, length: train/1001 overlaps the next clip"),
    "a start below 0": (cell("start", 0, -1), "index.parquet: start, length: train/1001 is not within train.npy"),
    "an end behind the array": (cell("start", 5, 96_001), "start, length: train/1006 is not within train.npy"),
    "a sum that overflows": (cell("start", 5, 2**63 - 1), "start, length: train/1006 is not within train.npy"),
    "a length of 0": (cell("length", 5, 0), "start, length: train/1006 is not within train.npy"),
    "another length": (
        cell("length", 5, 19_000),
        "index.parquet: seconds: of train/1006 do not fit its length at 16000 Hz",
    ),
    "other seconds": (
        cell("seconds", 5, 1.1),
        "index.parquet: seconds: of train/1006 do not fit its length at 16000 Hz",
    ),
    "seconds of NaN": (cell("seconds", 5, float("nan")), "index.parquet: seconds: null"),
    "endless seconds": (
        cell("seconds", 5, float("inf")),
        "index.parquet: seconds: of train/1006 do not fit its length",
    ),
    "float starts": (index(lambda t: t.astype({"start": float})), "index.parquet: start: should not be double"),
    "unsigned lengths": (
        index(lambda t: t.astype({"length": "uint64"})),
        "index.parquet: length: should not be uint64",
    ),
    "text for seconds": (
        index(lambda t: t.astype({"seconds": str})),
        "index.parquet: seconds: should not be large_string",
    ),
    "null for a name": (cell("clip", 0, None, rehash=False), "index.parquet: clip: null"),
    "a clip twice": (cell("clip", 1, "1001"), "index.parquet: clip: one is there twice in its split"),
    "a clip in train and val": (cell("clip", 6, "1001"), "index.parquet: clip: 1001 is in train and in val"),
    "an unknown split": (cell("split", 0, "test"), "index.parquet: split: should be one of train, val, eval"),
    "another split": (cell("split", 0, "val"), "index.parquet: split: 5 clips of train, not as counted"),
    "fewer rows": (index(lambda t: t.iloc[:-1]), "index.parquet: rows: 12, but manifest.json counts 13 clips"),
    "no column": (index(lambda t: t.drop(columns="seconds")), "index.parquet: seconds: no such column, or twice"),
    "no Parquet": (raw("index.parquet", b"PAR1 no PAR1"), "index.parquet: "),
    "an index of 0 bytes": (raw("index.parquet", b""), "index.parquet: "),
    "no index": (lambda f: (f / "index.parquet").unlink(), "index.parquet is missing"),
    "a manifest of 0 bytes": (raw("manifest.json", b""), "manifest.json: Expecting value: line 1 column 1 (char 0)"),
    "a manifest nested deep": (raw("manifest.json", nested(3_000)), "manifest.json: "),
    "a manifest nested deeper": (raw("manifest.json", nested(200_000)), "manifest.json: "),
    "a list for a manifest": (raw("manifest.json", b"[]"), "manifest.json: not a JSON object"),
    "a manifest that is not UTF-8": (raw("manifest.json", b'{"\xff": 1}'), "manifest.json: 'utf-8' codec can't decode"),
    "another format": (manifest(format=2), "manifest.json: format 2, this version reads 1"),
    "no classes": (manifest(classes=None), "manifest.json: classes: Field required"),
    "a class twice": (manifest(classes=["Bark", "Bark", "Siren"]), "manifest.json: classes: one is there twice"),
    "a class of no text": (
        manifest(classes=["Bark", 1, "Siren"]),
        "manifest.json: classes.1: Input should be a valid string",
    ),
    "other leaves": (manifest(leaf=[True, True, True]), "manifest.json: leaf: not as in FSD50K's hierarchy"),
    "fewer leaves": (manifest(leaf=[True, True]), "manifest.json: leaf: 2 of 3 classes"),
    "numbers for leaves": (manifest(leaf=[1, 0, 1]), "manifest.json: leaf.0: Input should be a valid boolean"),
    "another sample rate": (
        manifest(sample_rate=15_000),
        "index.parquet: seconds: of train/1001 do not fit its length at 15000 Hz",
    ),
    "a sample rate of 0": (
        manifest(sample_rate=0),
        "manifest.json: sample_rate: Input should be greater than or equal to 1000",
    ),
    "true for a sample rate": (
        manifest(sample_rate=True),
        "manifest.json: sample_rate: Input should be a valid integer",
    ),
    "another fingerprint": (manifest(fingerprint="0"), "manifest.json: fingerprint: not the hash of index.parquet"),
    "another count": (
        manifest(clips={"train": 5, "val": 4, "eval": 4}),
        "index.parquet: split: 6 clips of train, not as counted",
    ),
    "no count of a split": (
        manifest(clips={"train": 6, "val": 7}),
        "manifest.json: clips: should have train, val, eval",
    ),
    "an empty split": (
        manifest(clips={"train": 6, "val": 7, "eval": 0}),
        "manifest.json: clips.eval: Input should be greater",
    ),
    "other hours": (
        manifest(hours={"train": 1.0, "val": 0.001, "eval": 0.0013}),
        "manifest.json: hours.train: 1.0, but the clips have 0.0020",
    ),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_what_packing_did_not_write_is_one_line(copy, bench, what):
    act, message = DAMAGE[what]
    act(copy)
    done = bench("data", "info", copy)
    assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 1)
    assert done.err.startswith(f"bench: error: {copy}: damaged pack (")
    assert message in done.err
    assert done.err.endswith("; move the folder away and pack again\n")


def test_a_run_is_refused_before_it_begins(copy, bench, tmp_path):
    samples(np.zeros_like)(copy)
    done = bench("run", "demo", "--data", copy, "--out", tmp_path / "out")
    assert (done.code, "val.npy: samples of clip 1007: not those that were packed" in done.err) == (2, True)
    assert not (tmp_path / "out").exists()


def test_an_index_is_read_as_pandas_reads_it(made):
    pd.testing.assert_frame_equal(Pack(made).index, pd.read_parquet(made / "index.parquet"))


def test_packs_of_before_are_as_good(copy, bench):
    """They have no hashes in their index and no count of what was left out: the fingerprint holds them together."""
    fingerprint = Pack(copy).fingerprint
    index(lambda table: table.drop(columns="hash"), rehash=False)(copy)
    manifest(left_out_count=None, plan=None)(copy)
    opened = Pack(copy)
    assert (opened.fingerprint, opened.left_out_count, opened.overlap()) == (fingerprint, 0, [])
    assert bench("data", "verify", copy).code == 0
    samples(np.zeros_like)(copy)
    with pytest.raises(UserError, match=r"manifest\.json: fingerprint: samples are not those that were packed"):
        Pack(copy)


def test_large_packs_are_compared_by_verify(copy, bench, monkeypatch):
    """Opened, some of their clips are: here the first and the last."""
    monkeypatch.setattr("bench.data.pack._SMALL", 1000)
    monkeypatch.setattr("bench.data.pack._SOME", 2)
    assert bench("data", "verify", copy).out.splitlines()[-1] == "all samples are those that were packed"
    samples(lambda x: np.r_[x[:-1], x[-1] + np.int16(1)])(copy)
    Pack(copy)
    done = bench("data", "verify", copy)
    assert (done.code, done.out) == (2, "")
    assert "val.npy: samples of clip 1009: not those that were packed" in done.err
    np.save(copy / "eval.npy", np.zeros_like(np.load(copy / "eval.npy")))
    with pytest.raises(UserError, match=r"eval\.npy: samples of clip 1013: not those that were packed"):
        Pack(copy)


def open_all(packs: list[Path]) -> list[str]:
    """Open packs in a process of their own, which may hang or end at any of them; return what is said of each."""
    script = """if True:
        import sys
        from pathlib import Path
        from bench.data.pack import Pack
        from bench.errors import UserError
        for path in sys.argv[1:]:
            try:
                Pack(Path(path))
                print("opened")
            except UserError as error:
                print(error)
    """
    done = subprocess.run([sys.executable, "-c", script, *packs], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(made, tmp_path):
    names = ["manifest.json", "index.parquet", "val.npy"]
    for name in names:
        copy = Path(shutil.copytree(made, tmp_path / name))
        (copy / name).unlink()
        os.mkfifo(copy / name)
    found = open_all([tmp_path / name for name in names])
    again = "move the folder away and pack again"
    assert found == [f"{tmp_path}/{n}: damaged pack ({n} is not a plain file); {again}" for n in names]


def test_a_damaged_description_of_a_column_does_not_end_the_process(made, tmp_path):
    """Empty lists that say they have two numbers: pyarrow, asked about columns, ends the process over some."""
    data = (made / "index.parquet").read_bytes()
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    # in Thrift's compact protocol: a field that is a list, then its length in the upper half of a byte, and in the
    # lower the type of its numbers, here i64
    places = [i for i in range(footer, len(data) - 8) if data[i - 1 : i + 1] == b"\x19\x06"]
    packs = [Path(shutil.copytree(made, tmp_path / str(place))) for place in places]
    for place, folder in zip(places, packs, strict=True):
        (folder / "index.parquet").write_bytes(data[:place] + b"\x24" + data[place + 1 :])
    found = open_all(packs)
    assert len(found) == len(places) > 1
    assert all(line == "opened" or "damaged pack (index.parquet: " in line for line in found)
    assert any("histogram size mismatch" in line for line in found)


def test_a_fault_of_the_machine_is_no_damage(copy):
    """With too few file handles no good pack is called damaged, and nobody told to remove it."""
    script = """if True:
        import os, resource, sys
        from pathlib import Path
        from bench.data.pack import Pack
        from bench.errors import UserError
        Pack(Path(sys.argv[1]))
        for spare in range(4):
            taken = [os.open(os.devnull, os.O_RDONLY) for _ in range(50)]
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(taken) + 1 + spare, resource.RLIM_INFINITY))
            try:
                Pack(Path(sys.argv[1]))
            except UserError as error:
                print(error)
            resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.RLIM_INFINITY))
            for file in taken:
                os.close(file)
    """
    script = script.replace(", resource.RLIM_INFINITY", ", resource.getrlimit(resource.RLIMIT_NOFILE)[1]")
    done = subprocess.run([sys.executable, "-c", script, copy], capture_output=True, text=True, timeout=60, check=True)
    lines = done.stdout.splitlines()
    assert lines
    for line in lines:
        assert "too many open files" in line
        assert "damaged" not in line


def inflated_rows(folder: Path) -> None:
    """Write an index of 2 million rows in a few kilobytes, each the same, and count them in the manifest."""
    rows = 2_000_000
    zeros = pa.array(np.zeros(rows, "int64"))
    one = {"clip": ["a"], "split": ["train"], "group": ["x"], "hash": ["0"]}
    columns = {name: pa.array(value).take(zeros) for name, value in one.items()}
    columns |= {"start": zeros, "length": zeros, "seconds": pa.array(np.ones(rows))}
    columns["labels"] = pa.ListArray.from_arrays(pa.array(np.arange(rows + 1, dtype="int32")), zeros)
    names = ["clip", "split", "start", "length", "seconds", "labels", "group", "hash"]
    pq.write_table(pa.table({name: columns[name] for name in names}), folder / "index.parquet", compression="zstd")
    manifest(clips={"train": rows - 2, "val": 1, "eval": 1})(folder)


def inflated_labels(folder: Path) -> None:
    table = pq.read_table(folder / "index.parquet")
    column = pa.array([np.zeros(10_000_000, "int64"), *[[0]] * 12], pa.list_(pa.int64()))
    pq.write_table(table.set_column(5, "labels", column), folder / "index.parquet", compression="zstd")


def inflated_names(folder: Path) -> None:
    table = pq.read_table(folder / "index.parquet")
    column = pa.array(["x" * 50_000_000] + ["y"] * 12)
    pq.write_table(table.set_column(6, "group", column), folder / "index.parquet", compression="zstd")


def inflated_repetition(folder: Path) -> None:
    """Store one text of 900 kB, and every clip's group as that one."""
    table = pq.read_table(folder / "index.parquet")
    pq.write_table(
        table.set_column(6, "group", pa.array(["x" * 900_000] * 13)), folder / "index.parquet", compression="zstd"
    )


@pytest.mark.parametrize(
    ("act", "cause"),
    [
        (inflated_labels, "index.parquet: labels.list.element: 10000012 values"),
        (inflated_names, "index.parquet: size: "),
        (inflated_repetition, "index.parquet: group: 11700000 bytes for 13 clips"),
        (inflated_rows, "index.parquet: rows: 2000000, but the arrays have 15 s"),
    ],
)
def test_what_inflates_is_refused_before_it_does(copy, act, cause):
    act(copy)
    assert (copy / "index.parquet").stat().st_size < 1_000_000
    before = pa.total_allocated_bytes(), pa.default_memory_pool().max_memory()
    with pytest.raises(UserError, match=cause):
        Pack(copy)
    # of what making the file took, nothing more
    assert pa.default_memory_pool().max_memory() == before[1]
