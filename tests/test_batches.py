"""Chunks are plain slices of the clips, and an epoch is every chunk once."""

import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from architectures import create
from bench.protocol import batches as batching
from bench.protocol.batches import Batches, chunk_starts
from bench.protocol.recipe import Recipe
from bench.protocol.sounds.windows import cut
from bench.runner.cost import peak_memory


def of_split(packed, split):
    return Batches(packed, split, packed.targets(split), Recipe())


def test_chunks_are_slices_and_the_last_ends_with_the_clip(packed):
    chunks = of_split(packed, "eval")
    samples, index = packed.samples("eval"), packed.clips("eval")
    targets = packed.targets("eval")
    place = 0
    for clip, (start, length) in enumerate(zip(index["start"], index["length"], strict=True)):
        starts = list(range(0, length - 16_000 + 1, 16_000))
        if starts[-1] != length - 16_000:
            starts.append(length - 16_000)
        for begin in starts:
            x, y = chunks.batch(torch.tensor([place]))
            slice_ = samples[start + begin : start + begin + 16_000].astype(np.float32) / 32768
            np.testing.assert_array_equal(x[0].numpy(), slice_)
            np.testing.assert_array_equal(y[0].numpy() > 0, targets[clip])
            assert chunks.clip[place] == clip
            place += 1
    assert place == len(chunks)


@pytest.mark.parametrize(
    ("length", "hop", "expected"),
    [(10, 10, [0]), (11, 10, [0, 1]), (20, 10, [0, 10]), (25, 10, [0, 10, 15]), (20, 5, [0, 5, 10])],
)
def test_chunk_starts(length, hop, expected):
    clip, start = chunk_starts(np.array([100, 200]), np.array([length, 10]), 10, hop)
    assert start.tolist() == [100 + s for s in expected] + [200]
    assert clip.tolist() == [0] * len(expected) + [1]


@pytest.mark.parametrize("split", ["train", "eval"])
@pytest.mark.parametrize("seconds", [0.5, 1.0, 2.0])
def test_short_clips_are_filled_up_with_zeros(packed, split, seconds):
    """Of what packing has repeated, only what was there before is left."""
    recipe = Recipe(chunk_seconds=seconds, hop_seconds=seconds, short_clips="zeros")
    chunks, size = Batches(packed, split, packed.targets(split), recipe), round(16_000 * seconds)
    samples, place = packed.samples(split), 0
    for row in packed.clips(split).itertuples():
        clip = samples[row.start :][: min(row.length, max(1, round(row.seconds * 16_000)))]
        clip = np.pad(clip, (0, max(0, size - len(clip))))
        starts = [*range(0, len(clip) - size, size), len(clip) - size]
        found = chunks.waveforms(torch.arange(place, place + len(starts)))
        np.testing.assert_array_equal(found * 32768, np.stack([clip[s : s + size] for s in starts]))
        place += len(starts)
    assert place == len(chunks)
    assert (packed.clips(split)["seconds"] < min(1, seconds)).any()


@pytest.mark.parametrize("batch_size", [1, 16, 1000])
def test_an_epoch_is_every_chunk_once(packed, batch_size):
    chunks = of_split(packed, "train")
    drawn = torch.cat([chunks.draw(step, batch_size, seed=3) for step in range(-(-2 * len(chunks) // batch_size))])
    first, second = drawn[: len(chunks)], drawn[len(chunks) : 2 * len(chunks)]
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(len(chunks)))
    assert first.tolist() != second.tolist()
    assert chunks.draw(0, 8, seed=3).tolist() != chunks.draw(0, 8, seed=4).tolist()


def test_a_batch_costs_little_beside_a_step(packed):
    """Measured at 1 to 2 % of the fastest one's; the quickest of many, since other work slows either."""
    chunks, model = of_split(packed, "train"), create("transformer_small")

    def least_seconds(work):
        times = []
        for step in range(15):
            started = time.perf_counter()
            work(step)
            times.append(time.perf_counter() - started)
        return min(times)

    x, _ = chunks.batch(chunks.draw(0, 16, seed=0))
    batch = least_seconds(lambda step: chunks.batch(chunks.draw(step, 16, seed=0)))
    forward_backward = least_seconds(lambda step: model(x).sum().backward())
    assert batch < 0.1 * forward_backward


def test_a_batch_is_copied_once_as_it_is_stored_and_once_as_floats(packed):
    chunks = of_split(packed, "train")
    ids = chunks.draw(0, 32, seed=0)
    bytes_of_samples = 32 * chunks.size * (2 + 4)
    assert peak_memory(lambda: chunks.waveforms(ids), torch.device("cpu")) < 1.01 * bytes_of_samples + 10_000


class Array:
    """A split's samples, as large as it says; how often they were copied is counted."""

    def __init__(self, nbytes):
        self.nbytes, self.copies = nbytes, 0

    def to(self, device):  # noqa: ARG002
        self.copies += 1
        return f"copy {self.copies}"


def resident(monkeypatch, sizes, free, total=100):
    """What asks for a pack's split on a GPU whose memory is taken by nothing else."""
    gpu, arrays = torch.device("cuda:0"), {key: Array(size) for key, size in sizes.items()}
    monkeypatch.setattr(batching, "_kept", {})
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)

    def left(device):  # noqa: ARG001
        return free - sum(arrays[pack, split].nbytes for pack, split, _ in batching._kept), total

    monkeypatch.setattr(torch.cuda, "mem_get_info", left)
    monkeypatch.setattr(torch, "from_numpy", lambda samples: samples)

    def ask(pack, split):
        fake = SimpleNamespace(fingerprint=pack, samples=lambda split: arrays[pack, split])
        found = batching.resident(fake, split, gpu)
        return found if isinstance(found, str) else "mapped"

    return ask


def test_a_pack_stays_on_the_gpu_from_run_to_run(monkeypatch):
    ask = resident(monkeypatch, {("a", "train"): 30, ("a", "val"): 10}, free=100)
    assert [ask("a", split) for split in ("train", "val", "train", "val")] == ["copy 1"] * 4


def test_half_of_the_gpu_is_left_to_models(monkeypatch):
    ask = resident(monkeypatch, {("a", "train"): 41, ("a", "val"): 10}, free=90)
    assert (ask("a", "train"), ask("a", "val")) == ("mapped", "copy 1")
    assert ask("a", "train") == "mapped"


def test_another_pack_makes_room_on_the_gpu(monkeypatch):
    ask = resident(monkeypatch, {("a", "train"): 30, ("a", "val"): 5, ("b", "train"): 45, ("b", "eval"): 60}, free=100)
    ask("a", "train"), ask("a", "val")
    assert ask("b", "train") == "copy 1"
    assert [pack for pack, _, _ in batching._kept] == ["b"]
    # its own splits make none
    assert (ask("b", "eval"), ask("b", "train")) == ("mapped", "copy 1")


def test_what_is_on_the_gpu_is_cut_there(monkeypatch):
    """Without a GPU: tensors that have a device and no values."""
    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda values: pinned.append(values.device.type) or values)
    with FakeTensorMode():
        samples = torch.zeros(9000, dtype=torch.int16, device="cuda")
        starts = torch.zeros(3, dtype=torch.int64)
        found = cut(samples, starts, 100, starts, starts + 5, samples.device)
    assert (found.device.type, found.shape) == ("cuda", (3, 100))
    assert set(pinned) == {"cpu"}
