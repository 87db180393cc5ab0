"""Many runs at once: one call of the network serves the queries of all that can share it.

Each run keeps its own thread and its own code, which is that of a run alone. Where it would call a
network, it waits; when every run waits, those whose calls are of one kind are answered by one call.
A newcomer joins at the next one. One thread computes at a time, so runs need no locks, and torch's
own threads do not fight for the cores.
"""

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from copy import copy
from dataclasses import replace
from itertools import count
from typing import Any, TypeVar

import torch
from torch import Tensor

from fromnoise.errors import BadInput
from fromnoise.latent_diffusion import LatentDiffusion
from fromnoise.models.unet import UNet
from fromnoise.runtime.prepare import Prepared
from fromnoise.runtime.shared_call import Call, Verdicts, call_together
from fromnoise.runtime.tiling import HERE

T = TypeVar("T")
KEPT = 1_000  # kinds of calls whose comparison with calls alone is remembered


class Cancelled(CancelledError):
    """A run was told to end before its pictures were finished."""


class Run:
    """One run of a batcher. `job` is given it, and draws with `share(unet)` in place of `unet`.
    stopped: is asked before each call of the network; True cancels the run."""

    def __init__(self, batcher: "Batcher", stopped: Callable[[], bool] = lambda: False):
        self.batcher, self.stopped = batcher, stopped
        self.future: Future[Any] = Future()  # of what the job returns
        self.told = False  # to end, by `cancel`
        self.together = 1  # runs that shared the last call of the network
        self.call: Call | None = None  # what it waits for
        self.ticket = 0  # when it asked: the lower, the sooner
        self.answer: Tensor | BaseException | None = None
        # whose turn it is to compute: the run's, or again the batcher's
        self.turn, self.back = threading.Semaphore(0), threading.Semaphore(0)

    @property
    def cancelled(self) -> bool:
        """Whether the run is to end."""
        return self.told or self.stopped()

    def share(self, network: Prepared) -> Prepared:
        """The same network, whose calls the batcher answers."""

        def ask(unet: UNet, x: Tensor, *shown: Any) -> Tensor:
            t, conditioning, record, constants, residuals = shown
            call = Call(unet, x, t, conditioning, record, constants, residuals, HERE.axes)
            answer = self.batcher.ask(self, call)
            other.plan = self.batcher.name_plan(network)
            return answer

        other = copy(network)
        other.call, other.plan = ask, self.batcher.name_plan(network)
        return other

    def share_model(self, model: LatentDiffusion) -> LatentDiffusion:
        """The same model, whose refiner, if it has one, is called by the batcher too."""
        if model.refiner is None:
            return model
        return replace(model, refiner=replace(model.refiner, unet=self.share(model.refiner.unet)))

    def cancel(self) -> None:
        """Ends the run: no call of the network is made for it after the one that is under way, and
        `Cancelled` is raised where it waits."""
        self.batcher.cancel(self)

    def result(self, timeout: float | None = None) -> Any:
        """What the job of `Batcher.submit` returned. Raises what it raised, or CancelledError."""
        return self.future.result(timeout)


class Batcher:
    """Runs jobs, at most `runs` at once; later ones wait in their order.

    rows: the most that one call of the network computes, at the size of picture that its model was
    trained at; larger pictures come in smaller calls. exact: each run has the bits that it has
    alone; what cannot have them is called alone. Else all that can share does so in full: the plan
    is called `batched`, with the largest difference that was measured, and so are its pictures.

    The number of torch's threads is noted when the batcher is made and kept in every thread that
    computes here, because bits depend on it. `torch.set_num_threads`, which a replay uses, may
    change it for the whole process: do not replay beside a batcher.

    Make runs go on with `start`, which has a thread of its own, or with `step`."""

    def __init__(self, runs: int = 16, rows: int = 32, exact: bool = True):
        if runs < 1 or rows < 1:
            raise BadInput(f"{runs} runs of {rows} rows are none", "give 1 or more of each")
        self.limit, self.rows, self.exact = runs, rows, exact
        self.threads = torch.get_num_threads()
        self.verdicts = Verdicts()
        self.trusted: dict[Any, bool] = {}  # kind and rows of a call → whether it keeps the bits
        self.bound = 0.0  # the largest difference to a run alone, as a share of its answer's RMS
        self.calls = self.served = 0  # calls of networks, and queries that they answered
        self.active: list[Run] = []
        self.entering: deque[Run] = deque()
        self.changed = threading.Condition()
        self.stepping = threading.Lock()
        self.tickets = count()
        self.closing = False
        self.pool: ThreadPoolExecutor | None = None
        self.thread: threading.Thread | None = None

    def submit(self, job: Callable[[Run], Any]) -> Run:
        """Begins a run in a thread of its own and returns at once."""
        run = Run(self)
        with self.changed:
            if self.closing:
                raise BadInput("this batcher is closed", "make another one")
            self.pool = self.pool or ThreadPoolExecutor(self.limit, "fromnoise-run")
            pool = self.pool

        def work() -> None:
            if not run.future.set_running_or_notify_cancel():
                return  # it was cancelled before it had a thread
            try:
                run.future.set_result(self.run(job, run))
            except BaseException as error:
                run.future.set_exception(error)

        pool.submit(work)
        return run

    def run(self, job: Callable[[Run], T], run: Run | None = None) -> T:
        """What `job` returns, computed in the thread that calls, which is a run meanwhile. The job
        must not wait for another run. Raises what it raises, and Cancelled."""
        run = run or Run(self)
        with self.changed:
            if self.closing:
                raise BadInput("this batcher is closed", "make another one")
            if run.cancelled:
                raise Cancelled("the run was cancelled before it began")
            self.entering.append(run)
            self.changed.notify_all()
        run.turn.acquire()
        if run not in self.active:  # it was cancelled while it waited
            raise Cancelled("the run was cancelled before it began")
        try:
            self._keep_threads()
            return job(run)
        finally:
            run.answer = None
            with self.changed:
                self.active.remove(run)
                self.changed.notify_all()
            run.back.release()

    def ask(self, run: Run, call: Call) -> Tensor:
        """The answer to a run's call; its thread waits for it. Raises Cancelled."""
        if run.cancelled:
            raise Cancelled("the run was cancelled")
        run.call, run.ticket = call, next(self.tickets)
        run.back.release()
        run.turn.acquire()
        self._keep_threads()
        answer, run.answer, run.call = run.answer, None, None
        if run.cancelled or answer is None:
            raise Cancelled("the run was cancelled")
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def cancel(self, run: Run) -> None:
        """See Run.cancel."""
        with self.changed:
            run.told = True
            run.future.cancel()  # which only says no where it has begun
            if run in self.entering:
                self.entering.remove(run)
                run.turn.release()
            self.changed.notify_all()

    def step(self) -> bool:
        """Lets each run go on until it asks a network or ends; then calls one network once, for the
        run that has waited longest and those that can share its call. False: nobody asked."""
        with self.stepping:
            self._keep_threads()
            self._advance()
            runs = self._choose()
            if not runs:
                return False
            calls = [run.call for run in runs if run.call is not None]
            for run, answer in zip(runs, self._answer(calls), strict=True):
                run.answer, run.together = answer, len(runs)
            return True

    def start(self) -> "Batcher":
        """Steps in a thread of its own until `close`."""
        self.thread = threading.Thread(target=self._loop, name="fromnoise-batcher", daemon=True)
        self.thread.start()
        return self

    def close(self, cancel: bool = False) -> None:
        """Takes no further runs, lets those that there are end (or cancels them), and returns."""
        with self.changed:
            self.closing = True
            runs = [*self.active, *self.entering]
            self.changed.notify_all()
        for run in runs if cancel else ():
            self.cancel(run)
        if self.thread is not None:
            self.thread.join()
        if self.pool is not None:
            self.pool.shutdown()

    def __enter__(self) -> "Batcher":
        return self.start()

    def __exit__(self, kind: Any, *rest: Any) -> None:
        self.close(cancel=kind is not None)

    def name_plan(self, network: Prepared) -> str:
        """What pictures say of how they were computed."""
        if self.exact:
            return network.plan
        return f"batched({self.bound:.1e})-{'-'.join(network.plan.split('-')[-2:])}"

    def _loop(self) -> None:
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.active or self.entering or self.closing)
                if self.closing and not self.active and not self.entering:
                    return
            self.step()

    def _advance(self) -> None:
        """Every run that has its answer, or nothing more to wait for, computes until it waits; then
        those that come in."""
        runs = sorted(self.active, key=lambda run: run.ticket)
        while True:
            for run in runs:
                if run.call is None or run.answer is not None or run.cancelled:
                    run.turn.release()
                    run.back.acquire()
            with self.changed:
                room = min(self.limit - len(self.active), len(self.entering))
                runs = [self.entering.popleft() for _ in range(room)]
                self.active += runs
            if not runs:
                return

    def _choose(self) -> list[Run]:
        """The run that has waited longest, and the others that can share its call."""
        waiting = [run for run in self.active if run.call is not None and not run.cancelled]
        waiting.sort(key=lambda run: run.ticket)
        chosen, first = waiting[:1], waiting[0].call if waiting else None
        if first is None:
            return []
        rows, most = first.rows, self._count_rows(first)
        for run in waiting[1:]:
            if run.call and first.can_share(run.call) and rows + run.call.rows <= most:
                chosen.append(run)
                rows += run.call.rows
        return chosen

    def _count_rows(self, call: Call) -> int:
        """The most rows of a call for pictures of this size."""
        trained = (call.network.config.sample_size or 64) ** 2
        return max(self.rows * trained // (call.x.shape[-2] * call.x.shape[-1]), 1)

    def _answer(self, calls: list[Call]) -> list[Tensor | BaseException]:
        try:
            return [*self._compute(calls)]
        except Exception as error:
            if len(calls) == 1:
                return [error]
        return [answer for call in calls for answer in self._answer([call])]

    @torch.inference_mode()
    def _compute(self, calls: list[Call]) -> list[Tensor]:
        """The answers. The first shared call of a kind, and of a number of rows, is compared with
        the calls alone, which then are the answers."""
        self.calls, self.served = self.calls + 1, self.served + len(calls)
        key = calls[0].kind, sum(call.rows for call in calls)
        if len(calls) == 1 or self.trusted.get(key) is False:
            return [call.run() for call in calls]
        together = call_together(calls, self.verdicts if self.exact else None)
        if key in self.trusted:
            return together
        alone = [call.run() for call in calls]
        equal = all(map(torch.equal, together, alone))
        if len(self.trusted) >= KEPT:
            self.trusted.clear()
        self.trusted[key] = equal or not self.exact
        if self.exact:
            return alone
        for one, other in zip(together, alone, strict=True):
            difference = (one.double() - other).pow(2).mean().sqrt()
            size = other.double().pow(2).mean().sqrt()
            self.bound = max(self.bound, float(difference / size) if size else 0.0)
        return together

    def _keep_threads(self) -> None:
        if torch.get_num_threads() != self.threads:
            torch.set_num_threads(self.threads)
