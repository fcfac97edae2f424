"""A small generated data set, its pack, and runs small enough for a test."""

from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from architectures import configure
from bench.config import Recipe, RunSpec
from bench.data.demo import write_demo
from bench.data.pack import Pack, pack

# as small as the contestants get: what is tested with it is not how well it learns
TINY = {"depth": 1, "front_end_dim": 32, "embed_dim": 16, "num_heads": 2, "head_dim": 8, "mlp_dim": 32}


@pytest.fixture(scope="session", autouse=True)
def threads() -> None:
    torch.set_num_threads(2)


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "demo"
    write_demo(folder, dev_clips=80, eval_clips=40)
    return folder


@pytest.fixture(scope="session")
def packed(dataset: Path) -> Pack:
    return pack(dataset, dataset.with_name("demo-16000"))


def make_spec(packed: Pack, *, seed: int = 0, config: dict | None = None, **recipe) -> RunSpec:
    """A tiny transformer with a short recipe."""
    fields = {"sample_rate": packed.sample_rate, "num_classes": len(packed.labels), **TINY, **(config or {})}
    return RunSpec(
        name="tiny",
        architecture="transformer_small",
        config=asdict(configure("transformer_small", **fields)),
        recipe=Recipe(**{"updates": 12, "batch_size": 8, "evaluations": 3, **recipe}),
        seed=seed,
        pack=packed.fingerprint,
    )
