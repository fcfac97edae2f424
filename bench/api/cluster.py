"""Suites on a Ray cluster, which need not see the user's files."""

import atexit
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING

from bench.api.plugins import device_of, load_plugins
from bench.errors import UserError

if TYPE_CHECKING:
    import torch

    from bench.api.options import Options
    from bench.runner.executors import Executor

__all__ = ["SentFiles", "node_device", "ray_executor"]


@dataclass(frozen=True)
class SentFiles:
    """Files of the user's as text, by which a process on another machine loads them; called there, it does so."""

    # names and texts
    files: tuple[tuple[str, bytes], ...]

    @classmethod
    def of(cls, paths: Sequence[Path]) -> "SentFiles":
        return cls(tuple((path.name, path.read_bytes()) for path in paths))

    def __call__(self) -> list[str]:
        """Load them, and return the architectures that they register. Raises UserError as `load_plugins`."""
        if not self.files:
            return []
        # as long as the process lives: an error shows the line
        folder = Path(mkdtemp(prefix="bench-plugins-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        paths = []
        for number, (name, text) in enumerate(self.files):
            # two may have one name
            paths.append(folder / str(number) / name)
            paths[-1].parent.mkdir()
            paths[-1].write_bytes(text)
        return load_plugins(paths)


def node_device(gpus: float | None) -> "torch.device":
    """Return the device of work that has so many GPUs; UserError if this machine has none to check precision by."""
    try:
        return device_of("cuda" if gpus else "cpu")
    except UserError as error:
        why = "precision and memory are checked here, before anything trains"
        raise UserError(f"--gpus {gpus:g}: {why}: start the command on a node with a GPU ({error})") from None


def ray_executor(options: "Options", results: Path, plugins: Sequence[Path], most: int) -> "Executor":
    """Return what does work on the cluster that the options name; UserError without Ray, or as RayExecutor."""
    try:
        from bench.runner.executors.cluster import RayExecutor, Share
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise UserError("--ray: Ray is not installed; pip install 'audio-cnn-transformer-bench[ray]'") from None
    share = Share(1.0 if options.cpus is None else options.cpus, options.gpus or 0.0)
    assert options.ray is not None
    return RayExecutor(options.ray, share, most, results, SentFiles.of(plugins), options.display.notice)
