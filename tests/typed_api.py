"""Checked by mypy, never run: users of the API see its types, and their slips.

An ignore that is not needed is an error, so these lines hold that the slips are found.
"""

from pathlib import Path
from typing import assert_type

import pandas as pd
from torch import nn

import bench

assert_type(bench.report("runs/demo").scores, pd.DataFrame)
assert_type(bench.predict("runs/demo/crnn-s0", ["a.wav"]), pd.DataFrame)
assert_type(bench.hardest("runs/demo/crnn-s0", "Bell", count=3), pd.DataFrame)
assert_type(bench.attention("runs/demo/transformer_small-s0", "a.wav", second=0.5).table, pd.DataFrame)
assert_type(bench.compare_filters("runs/pitch/transformer_small", "runs/demo/transformer_small").csv, Path)
assert_type(bench.gallery("data/demo-16000", split="eval").table, pd.DataFrame)
assert_type(bench.generate("runs/generation/wavenet_11-s0")[0].wav, Path)
assert_type(bench.load("runs/demo/crnn-s0"), nn.Module)
assert_type(bench.list_architectures(), list[str])
bench.run("demo", seeds=2, only=["crnn"])
bench.run("demo", sedes=2)  # type: ignore[call-arg]
bench.run("demo", seeds="two")  # type: ignore[arg-type]
