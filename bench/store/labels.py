"""labels.npz: what a report must know of the eval split, so that it needs nothing but the results folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.data.pack import Pack
from bench.protocol.task import Task
from bench.store.files import damaged, read_arrays, write_arrays
from bench.store.record import FORMAT

__all__ = ["Labels"]

_KINDS = {"U": "text", "b": "bool", "i": "integers"}
_NAMES = ("dataset", "clips", "groups", "classes", "leaf", "targets", "train_counts")


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

    @property
    def uploaders(self) -> int:
        """How many uploaders are known."""
        return len(set(self.groups) - {""})

    @property
    def is_fsd50k(self) -> bool:
        """Whether this is FSD50K's eval split, all of it."""
        return self.targets.shape == (10_231, 200)

    @classmethod
    def of(cls, pack: Pack, task: Task) -> "Labels":
        """Return those of a pack."""
        clips = pack.clips("eval")
        return cls(
            dataset=pack.dataset,
            clips=[str(name) for name in clips["clip"]],
            groups=[str(group) for group in clips["group"].fillna("")],
            classes=list(pack.labels),
            leaf=pack.leaf,
            targets=task.targets(pack.targets("eval")),
            train_counts=pack.train_counts,
        )

    @classmethod
    def read(cls, path: Path) -> "Labels":
        """Read a labels.npz. Raises UserError if it is missing or damaged, or if its arrays do not fit each other."""
        arrays = read_arrays(path, *_NAMES)
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
        return cls(str(arrays["dataset"]), **values)

    def write(self, path: Path) -> None:
        """Write a labels.npz."""
        arrays = {name: np.array(getattr(self, name)) for name in _NAMES}
        write_arrays(path, {"format": np.array(FORMAT), **arrays})
