"""labels.npz: what a report must know of the eval split, so that it needs nothing but the results folder."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.data.pack import Pack
from bench.protocol.task import Task
from bench.store.files import damaged, read_arrays, write_arrays
from bench.store.record import FORMAT

__all__ = ["Labels"]

_KINDS = {"U": "text", "b": "bool", "i": "integers", "f": "floats"}
_NAMES = ("dataset", "clips", "groups", "classes", "leaf", "targets", "train_counts")
_OPTIONAL = ("floor_names", "floors", "judged_on")


@dataclass(frozen=True)
class Labels:
    """The eval split of the runs in a results folder."""

    # the digest of the data set
    dataset: str
    clips: list[str]
    # each clip's uploader, '' where it is not known
    groups: list[str]
    classes: list[str]
    # (k,), which classes are leaves of the hierarchy
    leaf: npt.NDArray[np.bool_]
    # (clips, k), as the task has them
    targets: npt.NDArray[np.bool_]
    # (k,), clips of the train split with each label
    train_counts: npt.NDArray[np.int64]
    # what the clips and floors depend on, as `Task.judged_on` has it
    judged_on: Mapping[str, Any] = field(default_factory=dict)
    # by name, scores that nothing was learned for: each as a run's
    floors: Mapping[str, npt.NDArray[np.float32]] = field(default_factory=dict)

    @property
    def uploaders(self) -> int:
        """How many uploaders are known."""
        return len(set(self.groups) - {""})

    @property
    def is_fsd50k(self) -> bool:
        """Whether this is FSD50K's eval split, all of it."""
        return self.targets.shape == (10_231, 200)

    def differing(self, other: "Labels") -> str:
        """Return the name of a field that is another one in other labels; '' if all are the same."""
        for each in fields(self):
            mine, others = (getattr(labels, each.name) for labels in (self, other))
            if not (_are_close(mine, others) if each.name == "floors" else np.array_equal(mine, others)):
                return each.name
        return ""

    @classmethod
    def of(cls, pack: Pack, task: Task) -> "Labels":
        """Return those of a pack."""
        clips = pack.clips("eval").iloc[task.clips(pack, "eval")]
        return cls(
            dataset=pack.dataset,
            clips=[str(name) for name in clips["clip"]],
            groups=[str(group) for group in clips["group"].fillna("")],
            classes=list(pack.labels),
            leaf=pack.leaf,
            targets=task.split_targets(pack, "eval"),
            train_counts=pack.train_counts,
            floors=task.floor_scores(pack),
            judged_on=task.judged_on(),
        )

    @classmethod
    def read(cls, path: Path) -> "Labels":
        """Read a labels.npz. Raises UserError if it is missing or damaged, or if its arrays do not fit each other."""
        arrays = read_arrays(path, *_NAMES, optional=_OPTIONAL)
        clips, classes = len(np.atleast_1d(arrays["clips"])), len(np.atleast_1d(arrays["classes"]))
        # of each array: shape, and kind of its values
        expected = {
            "dataset": ((), "U"),
            "clips": ((clips,), "U"),
            "groups": ((clips,), "U"),
            "classes": ((classes,), "U"),
            "leaf": ((classes,), "b"),
            "targets": ((clips, classes), "b"),
            "train_counts": ((classes,), "i"),
        }
        if len(arrays.keys() & {"floor_names", "floors"}) == 1:
            raise damaged(path, "floor_names, floors: one is there without the other")
        if "floors" in arrays:
            names = len(np.atleast_1d(arrays["floor_names"]))
            expected |= {"floor_names": ((names,), "U"), "floors": ((names, clips, *arrays["floors"].shape[2:3]), "f")}
        if "judged_on" in arrays:
            expected["judged_on"] = ((), "U")
        for name, (shape, kind) in expected.items():
            if (found := arrays[name]).shape != shape or found.dtype.kind != kind:
                raise damaged(
                    path, f"{name}: should be {_KINDS[kind]} of shape {shape}, is {found.dtype} {found.shape}"
                )
        if len(set(arrays["classes"].tolist())) < classes:
            raise damaged(path, "classes: one is there twice")
        if (arrays["train_counts"] < 0).any():
            raise damaged(path, "train_counts: less than 0")
        values: dict[str, Any] = {name: arrays[name] for name in ("leaf", "targets", "train_counts")}
        values |= {name: [str(text) for text in arrays[name]] for name in ("clips", "groups", "classes")}
        if "floors" in arrays:
            values["floors"] = dict(zip(arrays["floor_names"].tolist(), arrays["floors"], strict=True))
        return cls(str(arrays["dataset"]), judged_on=_judged_on(path, arrays), **values)

    def write(self, path: Path) -> None:
        """Write a labels.npz."""
        arrays = {name: np.array(getattr(self, name)) for name in _NAMES}
        if self.floors:
            # of a task that has some
            arrays |= {"floor_names": np.array([*self.floors]), "floors": np.stack([*self.floors.values()])}
        if self.judged_on:
            arrays["judged_on"] = np.array(json.dumps(dict(self.judged_on)))
        write_arrays(path, {"format": np.array(FORMAT), **arrays})


def _are_close(floors: Mapping[str, npt.NDArray[np.float32]], others: Mapping[str, npt.NDArray[np.float32]]) -> bool:
    # between machines sums differ in their last digits
    return floors.keys() == others.keys() and all(
        found.shape == others[name].shape and np.allclose(found, others[name], rtol=1e-5, equal_nan=True)
        for name, found in floors.items()
    )


def _judged_on(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> dict[str, Any]:
    if "judged_on" not in arrays:
        return {}
    try:
        return dict(json.loads(str(arrays["judged_on"])))
    except (ValueError, TypeError, RecursionError):
        raise damaged(path, "judged_on: no JSON object") from None
