"""What a run needs of memory, before any of it is taken: what plainly does not fit is refused, not tried."""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules import module as registration
from torch.utils._python_dispatch import TorchDispatchMode

from architectures import create
from bench.data.pack import Pack
from bench.errors import UserError
from bench.protocol.spec import RunSpec
from bench.protocol.task import task_of

__all__ = ["require_memory", "require_memory_of_step", "saved_bytes", "total_memory"]

# Each chunk of a split: its clip and its first sample, and what they are made of.
_CHUNK_BYTES = 5 * 8
# Samples of a batch: as they lie in the pack, and as numbers.
_SAMPLE_BYTES = 2 + 4
# More layers than any architecture has; counting them takes seconds.
_LAYERS = 10_000
# What tensors may take while a model is sized, if it can't be done without: filter banks take some megabytes.
_SIZING = 64 << 20


class _TooLarge(Exception):
    """A model that is larger than what it is sized for; the message says how large it is at least."""


def require_memory(spec: RunSpec, pack: Pack, device: torch.device) -> None:
    """Raise UserError if weights, chunks or a batch of samples do not fit; nothing of that size is allocated."""
    name, recipe, rate, task = spec.name, spec.recipe, pack.sample_rate, task_of(spec)
    total = total_memory(device)
    try:
        weights = _weights_bytes(spec, total)
    except _TooLarge as error:
        raise UserError(f"{name}: {error}; make it smaller") from None
    _require(name, weights, total, "weights, gradients and moments", "a smaller config")
    batch = recipe.batch_size * task.size(recipe, rate) * _SAMPLE_BYTES
    has_chunks = "chunk_seconds" not in task.without
    fix = f"a smaller batch_size or {'chunk_seconds' if has_chunks else 'window'}"
    _require(name, batch + weights, total, f"a batch of {recipe.batch_size}", fix)
    if not has_chunks:
        return
    for split in ("train", "val", "eval"):
        hop = recipe.hop_seconds if split == "train" else recipe.eval_hop
        seconds = pack.clips(split)["length"].to_numpy() / rate
        chunks = float(np.maximum(1, 1 + (seconds - recipe.chunk_seconds) / hop).sum())
        # on the CPU, whatever the device
        _require(name, chunks * _CHUNK_BYTES, total_memory(), f"{chunks:.0f} chunks of {split}", "a larger hop_seconds")


def require_memory_of_step(spec: RunSpec, device: torch.device, model: nn.Module, x: Tensor, kept: int) -> None:
    """Raise UserError if a step does not fit, of which `x`, a few chunks (b, n), keep so many bytes until backward."""
    recipe = spec.recipe
    step, total = kept / len(x) * recipe.batch_size, total_memory(device)
    if step > total:
        # some of it may be the same for any number of chunks
        with torch.autocast("cpu", torch.bfloat16, enabled=recipe.precision == "bf16"), saved_bytes(model) as more:
            model(torch.cat([x, x[:1]]))
        step = (more[0] - kept) * recipe.batch_size
    fix = f"a smaller batch_size, {'window' if 'chunk_seconds' in task_of(spec).without else 'chunk_seconds'} or config"
    _require(spec.name, step, total, f"a step with batch_size={recipe.batch_size}", fix)


def _require(name: str, needed: float, total: int, what: str, fix: str) -> None:
    if needed > total:
        has = f"the machine has {total / 1e9:,.1f} GB"
        raise UserError(f"{name}: {what} would take {needed / 1e9:,.1f} GB of memory, {has}: take {fix}")


def total_memory(device: torch.device | None = None) -> int:
    """Return the bytes that a device has, or that this process may take of the machine's (None)."""
    if device is not None and device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    # a container's: 'max' is none
    for file in ("memory.max", "memory/memory.limit_in_bytes"):
        path = Path("/sys/fs/cgroup", file)
        limits += [int(text) for text in [path.read_text().strip()] if text.isdigit()] if path.is_file() else []
    limits += [most for most in (resource.getrlimit(resource.RLIMIT_AS)[0],) if most != resource.RLIM_INFINITY]
    return min(limits)


def _weights_bytes(spec: RunSpec, total: int) -> int:
    """Return the bytes of a model's weights, gradients and moments, 0 where only building it tells its size."""
    # filter banks are computed as a model is made, and need their numbers
    for with_memory in (0, _SIZING):
        try:
            with _counted(total), _Sized(with_memory), torch.random.fork_rng(devices=[]):
                model = create(spec.architecture, **spec.config)
        except _TooLarge:
            raise
        # what is wrong with a config is said when it is built
        except Exception:
            continue
        # the best weights are kept beside the last; gradients and two moments only of what is learned
        return sum(p.nbytes * (5 if p.requires_grad else 2) for p in model.parameters())
    return 0


class _Sized(TorchDispatchMode):
    """Makes tensors without memory, on the meta device, as a model asks for them; those of the first bytes with it."""

    def __init__(self, left: int) -> None:
        super().__init__()
        self.left = left

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        # what is made anew, and not of other tensors
        if "device" in kwargs and not any(isinstance(value, Tensor) for value in args):
            sized = func(*args, **{**kwargs, "device": "meta"})
            if sized.nbytes > self.left:
                return sized
            self.left -= sized.nbytes
        return func(*args, **kwargs)


@contextmanager
def _counted(most: int) -> Iterator[None]:
    """Raise _TooLarge as soon as the modules made inside have more bytes of weights than this, or too many layers."""
    # the tensors themselves, so that none is counted twice, or freed and another taken for it
    seen: dict[int, Tensor] = {}
    taken, layers = 0, 0

    def add(_: nn.Module, __: str, value: Tensor | None) -> None:
        nonlocal taken
        if value is None or id(value) in seen:
            return
        seen[id(value)] = value
        taken += value.nbytes
        if taken > most:
            raise _TooLarge(f"its weights take more than {most / 1e9:.3g} GB, all that there are")

    def add_layer(*_: object) -> None:
        nonlocal layers
        layers += 1
        if layers > _LAYERS:
            raise _TooLarge(f"it has more than {_LAYERS} layers")

    hooks = (
        registration.register_module_parameter_registration_hook(add),
        registration.register_module_buffer_registration_hook(add),
        registration.register_module_module_registration_hook(add_layer),
    )
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def saved_bytes(model: nn.Module) -> Iterator[list[int]]:
    """Yield a list that afterwards holds the bytes that forward passes inside keep until backward, without weights."""
    own = {tensor.untyped_storage().data_ptr() for tensor in [*model.parameters(), *model.buffers()]}
    # by place, since views of a tensor keep it once; kept tensors stay, so that no place is taken twice
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    found: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        yield found
    found.append(sum(kept.values()))
