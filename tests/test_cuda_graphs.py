"""Recorded steps are the steps, whatever records them; a stand-in replays on a CPU what CUDA does on a GPU."""

import torch

from bench.protocol.cuda_graphs import Losses, RecordedStep
from bench.protocol.optim import optimizer_of, set_rate
from bench.protocol.recipe import Recipe
from bench.protocol.task import get_task
from bench.protocol.train import train_step


class Recorder:
    """Keeps the work, and does it again when asked to; like CUDA's, it does nothing while recording, and always reads
    and writes the same tensors."""

    def __init__(self):
        self.warm_ups = self.replays = 0

    def warm_up(self, work):
        self.warm_ups += 1
        return work()

    def record(self, work):
        result = torch.tensor(torch.nan)

        def replay():
            self.replays += 1
            result.copy_(work())

        return replay, result


def model_and_optimizer(recipe):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Tanh(), torch.nn.Linear(16, 3))
    optimizer = optimizer_of(model, recipe)
    for group in optimizer.param_groups:
        group["lr"] = torch.tensor(recipe.learning_rate)  # on the device, as a recorded step needs it
    return model, optimizer


def batches(count):
    generator = torch.Generator().manual_seed(1)
    return [(torch.randn(4, 8, generator=generator), torch.rand(4, 3, generator=generator)) for _ in range(count)]


def test_replayed_steps_are_the_steps_with_each_ones_own_batch_and_rate():
    recipe, ended, seen = Recipe(loss="bce"), [], []
    for graphs in (None, Recorder()):
        model, optimizer = model_and_optimizer(recipe)

        def step(x, y, model=model, optimizer=optimizer):
            return train_step(model, optimizer, x, y, get_task("tagging"), recipe)

        act = RecordedStep(step, graphs, str) if graphs else step
        losses = []
        for number, (x, y) in enumerate(batches(8)):
            set_rate(optimizer, 1e-3 * (number + 1))
            losses.append(act(x, y))
        seen.append(torch.stack(losses))
        ended.append([p.detach().clone() for p in model.parameters()])
    assert (graphs.warm_ups, graphs.replays) == (3, 5)
    assert torch.equal(*seen)
    assert len(set(seen[1].tolist())) == 8  # and none was overwritten by a later one
    assert all(torch.equal(a, b) for a, b in zip(*ended, strict=True))


def test_what_cannot_be_recorded_is_done_all_the_same():
    class Refusing(Recorder):
        def record(self, work):  # noqa: ARG002
            raise RuntimeError("operation not permitted when stream is capturing\nand so on")

    done = []

    def step(x, y):
        done.append(y)
        return x.mean()

    told = []
    act = RecordedStep(step, Refusing(), told.append)
    values = [act(x, y).item() for x, y in batches(6)]
    assert told == ["steps are not recorded, and slower for it: operation not permitted when stream is capturing"]
    assert len(done) == 6
    assert values == [x.mean().item() for x, _ in batches(6)]


def test_losses_are_there_at_once_on_a_cpu():
    losses = Losses(torch.device("cpu"))
    assert losses.read(wait=True) == []
    losses.add(torch.tensor(1.0))
    losses.add(torch.tensor(2.0))
    assert losses.read(wait=False) == [1.0, 2.0]
    assert losses.read(wait=True) == []


class Event:
    """What a device does behind the program's back: nothing is there before it is waited for."""

    waited = 0

    def record(self):
        pass

    def synchronize(self):
        Event.waited += 1


def test_losses_on_an_accelerator_come_one_reading_later(monkeypatch):
    monkeypatch.setattr(torch.cuda, "Event", Event)
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *a, pin_memory=False, **k: empty(*a, **k))
    losses = Losses(torch.device("cuda"))
    losses.add(torch.tensor(1.0))
    assert losses.read(wait=False) == []
    assert Event.waited == 0
    losses.add(torch.tensor(2.0))
    assert losses.read(wait=False) == [1.0]
    losses.add(torch.tensor(3.0))
    assert losses.read(wait=True) == [2.0, 3.0]
    assert losses.read(wait=True) == []
