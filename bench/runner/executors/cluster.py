"""Work on a Ray cluster: each piece is a task with its cores and its part of a GPU. Nothing else imports Ray."""

import math
import os
import pickle
import platform
import queue
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, TypeVar, cast

import ray
import torch
from ray._private import worker as ray_worker
from ray.exceptions import LocalRayletDiedError, NodeDiedError, OutOfMemoryError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from bench.disk import whole_file
from bench.errors import MachineFault, UserError, one_line
from bench.locks import attempt
from bench.runner.display import Display, Relay
from bench.runner.executors.base import Executor, Interrupted, Work, WorkerDied
from bench.runner.executors.remote import RemoteDisplay, portable
from bench.runner.provenance import command, python_call
from bench.runner.runs import RunEnd, RunWork, failed_at
from bench.store import RunFolder

__all__ = ["RayExecutor", "Share"]

R = TypeVar("R")

# how often a run is begun whose worker dies
_TRIES = 3
# seconds between two reports on a training
_SECONDS = 1.0
# seconds between two looks at whether work that tells nothing is to end; of a task, and of who waits for one
_LOOK, _PATIENCE = 0.2, 0.5
# seconds between two looks at whether any node could do what waits
_FEASIBLE = 5.0
# what the names of files begin with by which nodes are asked what they see
_TOKEN = ".ray-"
# seconds without a new run after which such a file is taken for one of a command that was killed
_STALE = 86_400.0
# seconds for a cluster to answer, for its nodes to say what they see, and for a task to end
_ANSWER, _SEEN, _GRACE = 30.0, 60.0, 3.0
# else Ray hides from a process all GPUs but that of its first task
_ALL_GPUS = {"env_vars": {"RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES": "1"}}


class Share(NamedTuple):
    """What each piece of work has of a node: processor cores and GPUs, of which it may be a part of one."""

    cpus: float = 1.0
    gpus: float = 0.0

    def __str__(self) -> str:
        gpus = f" and {self.gpus:g} GPU{'s' * (self.gpus > 1)}" if self.gpus else ""
        return f"{self.cpus:g} core{'s' * (self.cpus != 1)}{gpus}"

    @property
    def threads(self) -> int:
        return max(1, int(self.cpus))

    def slots(self, nodes: Sequence[Mapping[str, Any]]) -> int:
        """Return how many of these the nodes have together, none in two parts."""
        return sum(self._of(node["Resources"]) for node in nodes)

    def _of(self, resources: Mapping[str, float]) -> int:
        times = [resources.get(name, 0.0) / share for name, share in (("CPU", self.cpus), ("GPU", self.gpus)) if share]
        # .3 / .1 is less than 3
        return math.floor(min(times) + 1e-6)


class RayExecutor(Executor):
    """Does each piece of work in a task of a Ray cluster, in processes that stay warm from task to task.

    A run whose worker or node dies is begun again elsewhere, from its checkpoint where all nodes see the results
    folder. Where one does not, runs are trained in temporary folders and travel back when they are finished. When this
    process ends, however it does, Ray ends its tasks.

    Args:
        address: HOST:PORT of a cluster that this machine is a node of. 'auto' is RAY_ADDRESS, or else the cluster that
            runs on this machine, or else a new one of this machine alone, which is closed with the executor.
        most: How many pieces of work there are; more at once are of no use.
        results: The results folder.
        prepare: What each process calls first, to load the user's files; it pickles.
        notice: Takes the lines that say which cluster it is, and what its nodes see.

    Raises UserError if there is no such cluster, or if no node has so much.
    """

    def __init__(
        self,
        address: str,
        share: Share,
        most: int,
        results: Path,
        prepare: Callable[[], object],
        notice: Callable[[str], None],
    ) -> None:
        self._share, self._results, self._notice = share, results.absolute(), notice
        self._changed, self._under_way, self._is_closed = threading.Condition(), set[Any](), False
        # a file of the results folder, once the nodes were asked for it
        self._token: Path | None = None
        self._asking, self._is_shared = threading.Lock(), True
        self._setup = _Setup(prepare, command(), share)
        started = time.perf_counter()
        self._is_joined, where = _connect(address)
        try:
            nodes = self._nodes()
            self.slots = min(share.slots(nodes), max(1, most))
            if not self.slots:
                raise UserError(f"--ray: {self._lack(nodes)}: ask for less by --cpus and --gpus")
        except BaseException:
            self.close()
            raise
        self.where = f"Ray, {self.slots} at a time with {share} each"
        count = f"{len(nodes)} node{'s' * (len(nodes) != 1)}"
        notice(f"Ray: {where}, {count}, {self.slots} at a time; starting it took {time.perf_counter() - started:.1f} s")
        # not Ray's default with GPUs, which is a new process each time
        options: dict[str, Any] = {"max_retries": 0, "runtime_env": _ALL_GPUS if share.gpus else None}
        self._task = ray.remote(
            num_returns="streaming", num_cpus=share.cpus, num_gpus=share.gpus, max_calls=0, **options
        )(_serve)
        self._question = ray.remote(num_cpus=0, **options)(_sees)

    def do(self, work: Work[R], display: Display) -> R:
        anything: Any = work
        # a trial that is lost is begun anew by its study, which counts how often
        return cast(R, self._run(anything, display)) if isinstance(anything, RunWork) else self._send(work, display)

    def close(self) -> None:
        with self._changed:
            if self._is_closed:
                return
            self._is_closed = True
            # all at once, so that none takes the place of another
            for task in self._under_way:
                ray.cancel(task)
            # who waits for a task sees so, ends it, and may not be left without Ray before
            self._changed.wait_for(lambda: not self._under_way, 3 * _GRACE)
        if self._token:
            self._token.unlink(missing_ok=True)
        if not self._is_joined:
            ray.shutdown()
            ray_worker._worker_logs_enabled = True

    def _run(self, work: RunWork, display: Display) -> RunEnd:
        """Have a run trained, whichever workers die of it, but not for ever."""
        self._ask_nodes()
        shown = _Shown(display, work.run.folder)
        for tries_left in reversed(range(_TRIES)):
            try:
                if self._is_shared:
                    return self._send(work, shown, token=self._token)
                return self._apart(work, shown)
            except _Unseen as unseen:
                self._say_unseen([unseen.node])
                return self._apart(work, shown)
            except WorkerDied as error:
                if not tries_left:
                    raise WorkerDied(f"{error}; it was begun {_TRIES} times") from None
                shown.died(f"{error}; it is begun again, {'from its checkpoint' if self._is_shared else 'anew'}")
        raise AssertionError("the last try returns or raises")

    def _apart(self, work: RunWork, display: Display) -> RunEnd:
        """Have a run trained in another folder, and write here what comes of it, under the lock of this one."""
        folder = work.run.folder
        folder.path.parent.mkdir(parents=True, exist_ok=True)
        with attempt(folder.path, display.notice) as is_free:
            if not is_free:
                return RunEnd("busy")
            if not folder.is_finished and failed_at(folder) == work.failure:
                trained = _to_load(work.run.follows.folder) if work.run.follows else {}
                end, files = self._send(_Elsewhere(work, trained), display)
                _keep(folder, files)
                return end
        # there is nothing to train
        return work(torch.device("cpu"), display)

    def _send(self, work: Work[R], display: Display, *, token: Path | None = None) -> R:
        """Have a task do a piece of work, and return what comes of it; _Unseen if its node lacks the token."""
        node, has_begun = "a node", False
        setup, pickled = replace(self._setup, token=token), pickle.dumps(work)
        with self._started(lambda: [self._task.remote(setup, pickled)]) as (task,):
            try:
                for kind, content in self._told(task):
                    if kind == "tell":
                        name, arguments = content
                        getattr(display, name)(*arguments)
                    elif kind == "begun":
                        node, has_begun = content, True
                    elif kind == "done":
                        return cast(R, content)
                    elif kind == "unseen":
                        raise _Unseen(node)
                    # before the work has begun: it would be so for all
                    elif kind == "unfit" and isinstance(content, UserError):
                        raise MachineFault(f"node {node}: {content}")
                    else:
                        raise content
                raise WorkerDied(f"its process on {node} ended without a result")
            except RayError as error:
                raise Interrupted if self._is_closed else _explained(error, node) from None
            # of the display
            except Exception:
                ray.cancel(task)
                raise
            except BaseException:
                self._end(task, _GRACE if has_begun else 0)
                raise

    def _end(self, task: Any, grace: float) -> None:
        """Have a task give back its locks and folders, within so many seconds, and end."""
        # once: the second time, it would be interrupted in giving back
        if not self._is_closed:
            ray.cancel(task)
        has_ended, _ = ray.wait([task.completed()], timeout=grace)
        # its process, which else ends with this executor. Where a task has just ended, Ray may crash of it
        if not has_ended and self._is_joined:
            ray.cancel(task, force=True)

    @contextmanager
    def _started(self, start: Callable[[], list[Any]]) -> Iterator[list[Any]]:
        """Start tasks; until who has started them leaves, `close` waits."""
        with self._changed:
            if self._is_closed:
                raise Interrupted
            self._under_way.update(tasks := start())
        try:
            yield tasks
        finally:
            with self._changed:
                self._under_way.difference_update(tasks)
                self._changed.notify_all()

    def _told(self, task: Any) -> Iterator[tuple[str, Any]]:
        """Yield what a task says, as it goes."""
        has_begun, looked = False, time.monotonic()
        while True:
            ready, _ = ray.wait([task], timeout=_PATIENCE)
            if self._is_closed:
                raise Interrupted
            if ready:
                try:
                    said = next(task)
                except StopIteration:
                    return
                has_begun = True
                yield ray.get(said)
            elif not has_begun and time.monotonic() - looked > _FEASIBLE:
                looked = time.monotonic()
                self._require_a_slot()

    def _require_a_slot(self) -> None:
        """Raise MachineFault if no node is left that could do any work: Ray would wait for one for ever."""
        if not self._share.slots(nodes := self._nodes()):
            raise MachineFault(f"--ray: {self._lack(nodes)} any more; the same command resumes when one has")

    def _lack(self, nodes: Sequence[Mapping[str, Any]]) -> str:
        most = {name: max((node["Resources"].get(name, 0) for node in nodes), default=0) for name in ("CPU", "GPU")}
        return f"no node has {self._share} (the most are {most['CPU']:g} cores and {most['GPU']:g} GPUs)"

    def _nodes(self) -> list[dict[str, Any]]:
        return [node for node in ray.nodes() if node["Alive"]]

    def _ask_nodes(self) -> None:
        """Find out, once, whether all nodes see the results folder, and say so."""
        with self._asking:
            if self._token:
                # in use, other commands see by that
                self._token.touch()
                return
            self._results.mkdir(parents=True, exist_ok=True)
            for left in self._results.glob(f"{_TOKEN}*"):
                # another command may be faster
                with suppress(FileNotFoundError):
                    if time.time() - left.stat().st_mtime > _STALE:
                        left.unlink()
            self._token = self._results / f"{_TOKEN}{uuid.uuid4().hex}"
            self._token.touch()
            if blind := self._blind(self._token):
                self._say_unseen(blind)
            else:
                self._notice("the results folder is shared with all nodes: a lost run resumes from its checkpoint")

    def _blind(self, token: Path) -> list[str]:
        """Return the names of the nodes that say that they don't see a file."""
        places = [NodeAffinitySchedulingStrategy(node["NodeID"], soft=False) for node in self._nodes()]
        ask, until = self._question.options, time.monotonic() + _SEEN
        with self._started(lambda: [ask(scheduling_strategy=place).remote(token) for place in places]) as asked:
            answered: list[Any] = []
            while len(answered) < len(asked) and time.monotonic() < until:
                answered, _ = ray.wait(asked, num_returns=len(asked), timeout=_PATIENCE)
                if self._is_closed:
                    raise Interrupted
            blind = []
            for answer in answered:
                # a node may be gone just now
                with suppress(RayError):
                    node, sees = ray.get(answer)
                    blind += [] if sees else [node]
        return blind

    def _say_unseen(self, nodes: Sequence[str]) -> None:
        with self._changed:
            if self._is_shared:
                more = f" and {len(nodes) - 1} more" if len(nodes) > 1 else ""
                self._notice(
                    f"the results folder is not seen by node {nodes[0]}{more}: runs are trained in temporary folders "
                    "and sent back when they are finished; a lost run begins anew"
                )
            self._is_shared = False


class _Unseen(Exception):
    """A node does not see the results folder."""

    def __init__(self, node: str) -> None:
        super().__init__(node)
        self.node = node


class _Shown(Relay):
    """Shows a run that may be begun several times, and in another folder than that where it is kept."""

    def __init__(self, display: Display, folder: RunFolder) -> None:
        super().__init__(lambda name, arguments: getattr(display, name)(*arguments))
        self.folder = folder

    def run_failed(self, error: Exception, folder: RunFolder) -> None:  # noqa: ARG002
        super().run_failed(error, self.folder)

    def died(self, how: str) -> None:
        """Show that a try has ended."""
        if self.has_begun:
            self.ended(how)
        else:
            self.notice(f"{self.folder.name}: {how}")


def _connect(address: str) -> tuple[bool, str]:
    """Join a cluster, or start one; return whether this process had joined it before, and which it is, in words."""
    if ray.is_initialized():
        return True, "the cluster that this process has joined"
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS") or "auto"
    if address != "auto":
        _require_answer(address)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    # Ray takes it, and would tell of it at length
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address, **quiet)
        where = f"the cluster at {ray.get_runtime_context().gcs_address}"
    except ConnectionError:
        ray.init(address="local", include_dashboard=False, **quiet)
        where = "a new cluster of this machine alone"
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)
    # what is printed of dead workers, although its logs are off: it is said in our words
    ray_worker._worker_logs_enabled = False
    return False, where


def _require_answer(address: str) -> None:
    """Raise UserError if there is no cluster of which this machine is a node; Ray alone would try for ten minutes."""
    if "://" in address:
        raise UserError(f"--ray {address}: give HOST:PORT, and start the command on a node of the cluster")
    # in a process that can be ended, as Ray's call can't
    code = f"import ray; ray.init(address={address!r}, logging_level='ERROR', log_to_driver=False)"
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=_ANSWER, check=False
        )
    except subprocess.TimeoutExpired:
        raise UserError(
            f"--ray {address}: no Ray cluster answers there within {_ANSWER:.0f} s; `ray start --head` starts one, and "
            "this machine has to be one of its nodes"
        ) from None
    if "AuthenticationError" in done.stderr:
        raise UserError(
            f"--ray {address}: the cluster asks for its token: set RAY_AUTH_MODE=token, and have the token in "
            "~/.ray/auth_token, as on the node where it was started"
        )
    if done.returncode:
        why = (done.stderr.strip().splitlines() or ["Ray ended"])[-1]
        raise UserError(f"--ray {address}: {why[:300]}")


def _explained(error: RayError, node: str) -> Exception:
    """Return what to raise for an error of Ray's own."""
    if isinstance(error, OutOfMemoryError):
        return WorkerDied(
            f"node {node} was out of memory, and Ray ended its process; with more --cpus fewer share a node"
        )
    if isinstance(error, NodeDiedError):
        return WorkerDied(f"node {node} died")
    if isinstance(error, LocalRayletDiedError):
        return MachineFault("--ray: Ray has ended on this machine; start it, and run the same command again")
    # of a task that did not even come to its work
    if isinstance(error, RayTaskError):
        why = one_line(error.cause) if error.cause else one_line(error)[-300:]
        return MachineFault(
            f"--ray: {node} can't do work of this project ({why}): install the same version on all nodes"
        )
    return WorkerDied(f"its process on {node} was killed, or crashed")


def _to_load(folder: RunFolder) -> dict[str, bytes]:
    """Return the files of a run that another one needs to load its weights; none if it is not finished."""
    files = (folder.record_file, folder.history_file, folder.weights_file) if folder.is_finished else ()
    return {path.name: path.read_bytes() for path in files if path.is_file()}


def _keep(folder: RunFolder, files: Mapping[str, bytes]) -> None:
    """Write the files of a run that has ended elsewhere, its record last."""
    folder.path.mkdir(exist_ok=True)
    for name in sorted(files, key=lambda name: name == folder.record_file.name):
        with whole_file(folder.path / name) as temporary:
            temporary.write_bytes(files[name])
    if folder.is_finished:
        folder.clean_up()


# --- in the processes of the nodes


@dataclass(frozen=True)
class _Setup:
    """What a task is told beside its work."""

    # loads the user's files
    prepare: Callable[[], object]
    # which started it all, for the record
    command: str
    share: Share
    # a file that has to be seen
    token: Path | None = None


@dataclass(frozen=True)
class _Elsewhere:
    """Does a run in a temporary folder, and returns how it ended, with the files that are kept of it."""

    work: RunWork
    # of the run whose weights it needs
    trained: Mapping[str, bytes]

    def __call__(self, device: torch.device, display: Display) -> tuple[RunEnd, dict[str, bytes]]:
        with TemporaryDirectory(prefix="bench-") as place:
            folder = RunFolder(Path(place) / self.work.run.folder.name)
            run = replace(self.work.run, folder=folder)
            if needed := run.follows:
                trained = RunFolder(Path(place) / needed.folder.name)
                _keep(trained, self.trained)
                run = replace(run, follows=replace(needed, folder=trained))
            end = replace(self.work, run=run, failure=None)(device, display)
            files = [path for path in folder.path.iterdir() if path != folder.checkpoint_file]
            return end, {path.name: path.read_bytes() for path in files}


def _sees(token: Path) -> tuple[str, bool]:
    """Return the name of this node, and whether it sees a file."""
    return platform.node(), token.is_file()


def _serve(setup: _Setup, work: bytes) -> Iterator[tuple[str, Any]]:
    """Do a piece of work; yield what it tells as it goes, and at last what comes of it."""
    yield "begun", platform.node()
    if setup.token and not setup.token.is_file():
        yield "unseen", None
        return
    # Beside this thread, since a task yields from its own alone. It computes as this one, which has imported the
    # training loop: what that sets, a thread inherits.
    told: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
    is_over = threading.Event()
    thread = threading.Thread(target=_do, args=(setup, work, told, is_over), daemon=True)
    thread.start()
    try:
        kind = "tell"
        while kind == "tell" and (thread.is_alive() or not told.empty()):
            # not for ever: what cancels a task is raised when Python runs again
            with suppress(queue.Empty):
                kind, content = told.get(timeout=_LOOK)
                yield kind, content
    finally:
        is_over.set()
        thread.join()


def _do(setup: _Setup, work: bytes, told: "queue.SimpleQueue[tuple[str, Any]]", is_over: threading.Event) -> None:
    """Do the work in this thread, and put into the queue what it tells and what comes of it."""

    def tell(name: str, arguments: tuple[Any, ...]) -> None:
        if is_over.is_set():
            raise Interrupted
        told.put(("tell", (name, arguments)))

    # what is wrong before the work has begun would be for all
    kind = "unfit"
    try:
        device = _ready(setup)
        unpickled: Work[object] = pickle.loads(work)
        kind = "failed"
        with python_call(setup.command):
            answer = unpickled(device, RemoteDisplay(tell, _SECONDS))
    except Interrupted:
        return
    except Exception as error:
        told.put((kind, portable(error)))
    else:
        told.put(("done", answer))


def _ready(setup: _Setup) -> torch.device:
    """Have this thread compute as the command's does, and this process know the user's files; return the device."""
    torch.set_num_threads(setup.share.threads)
    _prepare(setup.prepare)
    if not setup.share.gpus:
        return torch.device("cpu")
    device = torch.device("cuda", _gpu())
    torch.cuda.set_device(device)
    return device


@cache
def _prepare(prepare: Callable[[], object]) -> None:
    prepare()


def _gpu() -> int:
    """Return the number that PyTorch has for the GPU that this task was given."""
    given = ray.get_gpu_ids()[0]
    # those of the node, where it was started with some only
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return visible.split(",").index(str(given)) if visible else int(given)
