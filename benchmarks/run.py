"""All parts, one after the other, and what is kept of them."""

import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import torch

from bench.disk import partial_path, write_json
from bench.errors import UserError
from benchmarks import attention, cluster, figures, many, parts
from benchmarks.growth import exponent, measure_growth
from benchmarks.machine import measure_machine
from benchmarks.rows import markdown, table
from benchmarks.setup import Setup

__all__ = ["EVERY", "PARTS", "Request", "check_parts", "measure_speed", "write_speed"]

PARTS = parts.PARTS | many.PARTS | cluster.PARTS
EVERY = (*PARTS, "attention", "growth")


@dataclass(frozen=True)
class Request:
    """What is to be measured, and on what.

    Attributes:
        dataset: recordings at 44.1 kHz.
        pack: the same, packed at 16 kHz.
        only: names of parts; all, if there are none.
        quick: whether a first look is enough.
    """

    dataset: Path
    pack: Path
    device: torch.device
    only: Sequence[str] = ()
    quick: bool = False


def check_parts(names: Sequence[str]) -> None:
    """Raise UserError for a part that does not exist."""
    for name in names:
        if name not in EVERY:
            raise UserError(f"--only {name}: use one of {', '.join(EVERY)}")


def measure_speed(out: Path, request: Request, progress: Callable[[str], None]) -> str:
    """Measure parts into `out`, and return the table.

    `speed-CONDITIONS.csv` gets a row a pair; parts measured there before and not now are kept.

    Args:
        progress: called with what is measured next.
    """
    out.mkdir(parents=True, exist_ok=True)
    progress("the machine")
    machine = measure_machine(request.device)
    name = f"{machine.slug}{'-quick' if request.quick else ''}"
    write_json(out / f"machine-{name}.json", machine.as_dict())
    with TemporaryDirectory(dir=out, prefix="scratch-") as scratch:
        setup = Setup(machine, request.device, request.dataset, request.pack, Path(scratch), request.quick)
        for key in request.only or EVERY:
            if key == "growth":
                points = measure_growth(request.quick, progress)
                points.to_csv(out / f"growth-{name}.csv", index=False, float_format="%.5g", lineterminator="\n")
            elif key == "attention":
                points = attention.measure_attention(request.device, request.quick, progress)
                points.to_csv(out / f"attention-{name}.csv", index=False, float_format="%.5g", lineterminator="\n")
            else:
                progress(key)
                _keep(out / f"speed-{name}.csv", key, table(list(PARTS[key](setup))))
    return write_speed(out, name)


def _keep(path: Path, key: str, measured: pd.DataFrame) -> None:
    """Replace the rows of one part, and leave the file whole at any time."""
    measured.insert(0, "key", key)
    if path.exists():
        before = _read(path)
        measured = pd.concat([before[before["key"] != key], measured], ignore_index=True)
        measured = measured.sort_values("key", key=lambda keys: keys.map(list(PARTS).index), kind="stable")
    temporary = partial_path(path)
    measured.to_csv(temporary, index=False, lineterminator="\n")
    os.replace(temporary, path)


def _read(path: Path) -> pd.DataFrame:
    """Return what was measured before, without parts that there are no more."""
    frame = pd.read_csv(path)
    return frame[frame["key"].isin(list(PARTS))]


def write_speed(out: Path, name: str) -> str:
    """Write table and figures of what was measured under these conditions, and return the table."""
    machine = json.loads((out / f"machine-{name}.json").read_text("utf-8"))
    text = f"On {machine['name']}, torch {machine['torch']}"
    if (path := out / f"speed-{name}.csv").exists():
        frame = _read(path)
        text += f":\n\n{markdown(frame)}\n"
        figures.roofline(frame, machine, out / f"roofline-{name}")
    if (path := out / f"attention-{name}.csv").exists():
        text += f"\n{attention.markdown(pd.read_csv(path))}\n"
    if (path := out / f"growth-{name}.csv").exists():
        points = pd.read_csv(path)
        text += "\n| grows with | work | exponent of time | megabytes |\n| --- | --- | ---: | ---: |\n"
        for _, group in points.groupby("what", sort=False):
            first, last = group.iloc[0], group.iloc[-1]
            grown = f"{first['megabytes']:.0f} to {last['megabytes']:.0f}"
            unit = f"{first['unit']}, {first['value']:g} to {last['value']:g}"
            power = exponent(group, "seconds")
            shown = "" if math.isnan(power) else f"{power:.1f}"
            text += f"| {unit} | {first['work']} | {shown} | {grown} |\n"
        figures.growth(points, out / f"growth-{name}")
    (out / f"table-{name}.md").write_text(text, "utf-8")
    return text
