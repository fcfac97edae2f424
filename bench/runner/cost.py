"""What an architecture costs, beside what it scores: parameters, multiply-accumulates, latency, memory."""

import gc
import itertools
import math
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

__all__ = ["CLIP_SECONDS", "REPEATS", "count_macs", "count_parameters", "latency", "peak_memory"]

# near the mean length of FSD50K's eval clips, 9.8 s
CLIP_SECONDS = 10
REPEATS = 5


def count_parameters(model: nn.Module) -> int:
    """Return the number of trainable parameters; running means and filter banks are none."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def count_macs(model: nn.Module, x: Tensor) -> int:
    """Return the multiply-accumulates of an input (1, n): half the operations of products and FFTs.

    PyTorch's counter knows neither fused attention on a CPU nor the FFT, which would flatter transformers and CNNs in
    turn: attention is taken apart into its two products, and a real FFT of n samples counts as 2.5 n log2(n)
    operations (FFTW's convention). Sums, norms and activations are left out, as is usual. `model` and `x`
    lie on the CPU.
    """
    was_training = model.training
    model.eval()
    try:
        # without memory, of which attention over a long chunk would take much, in its two products
        meta = torch.device("meta")
        named = (*model.named_parameters(), *model.named_buffers())
        return _macs(model, {name: torch.empty_like(tensor, device=meta) for name, tensor in named}, x.to(meta))
    # not every operation has it
    except Exception:
        return _macs(model, {}, x)
    finally:
        model.train(was_training)


def _macs(model: nn.Module, weights: dict[str, Tensor], x: Tensor) -> int:
    counter = FlopCounterMode(display=False, custom_mapping={torch.ops.aten._fft_r2c: _fft_flops})
    with torch.inference_mode(), sdpa_kernel(SDPBackend.MATH), counter:
        functional_call(model, weights, (x,))
    return int(counter.get_total_flops()) // 2


def _fft_flops(shape: Any, dim: Any, *_: Any, **__: Any) -> int:
    length = math.prod(shape[axis] for axis in dim)
    return round(2.5 * math.prod(shape) * math.log2(length))


@torch.inference_mode()
def latency(model: nn.Module, x: Tensor) -> float:
    """Return the seconds that a clip in chunks (b, n), on the model's device, takes to its scores: median of 5."""
    was_training = model.training
    model.eval()
    seconds = []
    for _ in range(1 + REPEATS):
        started = time.perf_counter()
        outputs = model(x)
        # reading the scores waits for the device
        torch.sigmoid(outputs[0] if isinstance(outputs, tuple) else outputs).mean(dim=0).cpu()
        seconds.append(time.perf_counter() - started)
    model.train(was_training)
    return statistics.median(seconds[1:])


def peak_memory(step: Callable[[], object], device: torch.device) -> int:
    """Return the most bytes that `step` adds in tensors (not in libraries' workspaces): the same on every machine."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        step()
        return torch.cuda.max_memory_allocated(device) - before
    # the profiler talks to standard error
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        step()
    results = profile.profiler.kineto_results if profile.profiler else None
    assert results is not None
    taken = [event.nbytes() for event in results.events() if event.name() == "[memory]"]
    del profile, results
    # a profile refers to itself, and to every event: tens of megabytes that would wait for the next one
    gc.collect()
    return max(itertools.accumulate(taken, initial=0))
