"""Each architecture learns what it has always learned: loss and val mAP after two epochs, as they are on record.

After a change that is meant to change numbers, `python -m tests.test_golden` writes the record anew.
"""

import json
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest
import torch

from architectures import create, list_architectures
from bench.data.pack import Pack
from bench.data.packing import pack
from bench.protocol.precision import fp32_means_fp32
from bench.protocol.recipe import Recipe
from bench.protocol.task import get_task
from bench.protocol.train import train
from tests.tiny_data import tiny_data

RECORD = Path(__file__).with_name("golden.json")
LABELS = ("Bark", "Cough", "Drum", "Rain", "Siren")
SIZES = {"train": 24, "val": 40, "eval": 5}
# Clips of one chunk: three steps an epoch. All that a recipe has is on, so that a change of any of it shows.
RECIPE = Recipe(
    loss="bce", max_steps=6, batch_size=8, evaluations=2, learning_rate=3e-3, warmup=0.2, weight_decay=0.01,
    gain_db=3.0, time_shift=0.2, mixup=0.3,
)  # fmt: skip
# Of loss (relative) and mAP. Other processors add in another order: with other kernels for convolutions, losses move by
# 2e-4 at most, and clips with nearly the same score change places, which is some hundredths of one class's AP. In 121
# layers, each normalised by eight chunks, it grows to a hundredth of the loss.
TOLERANCES, DEEP = (2e-3, 1e-2), {"densenet121": (3e-2, 3e-2)}


@dataclass(frozen=True)
class Golden:
    """The mean loss of the second epoch, and val's mAP after it."""

    loss: float
    val_map: float


def measure(name: str, packed: Pack) -> Golden:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    fp32_means_fp32()
    task = get_task("tagging")
    data, val = (task.data(packed, split, RECIPE) for split in ("train", "val"))
    torch.manual_seed(0)
    model = create(name, num_classes=len(LABELS))
    last = train(model, data, val, task, RECIPE, seed=0).history[-1]
    torch.set_num_threads(threads)
    return Golden(round(last["loss"], 5), round(last["val_score"], 4))


def make_pack(folder: Path) -> Pack:
    return pack(tiny_data(folder / "data", labels=LABELS, sizes=SIZES, seconds=1.0), folder / "pack")


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return make_pack(tmp_path_factory.mktemp("golden"))


@pytest.mark.parametrize("name", list_architectures(task="tagging"))
def test_two_epochs_end_in_the_numbers_on_record(name, clips):
    record = json.loads(RECORD.read_text())
    assert name in record, "a new architecture: python -m tests.test_golden"
    found, golden = measure(name, clips), Golden(**record[name])
    of_loss, of_map = DEEP.get(name, TOLERANCES)
    assert found.loss == pytest.approx(golden.loss, rel=of_loss)
    assert found.val_map == pytest.approx(golden.val_map, abs=of_map)


def test_the_record_tells_one_from_another():
    """A record of ones, or of chance, would pass whatever is learned."""
    values = [Golden(**golden) for golden in json.loads(RECORD.read_text()).values()]
    assert len({golden.loss for golden in values}) == len(values)
    assert all(0.2 < golden.val_map < 1 for golden in values)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        packed = make_pack(Path(folder))
        record = {name: asdict(measure(name, packed)) for name in list_architectures(task="tagging")}
    RECORD.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
