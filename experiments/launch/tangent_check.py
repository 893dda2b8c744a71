"""A sample of a training's tangents beside differences, compiled and run while it trains."""

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any

import jax

from experiments.launch.job import Job
from experiments.launch.kept_programs import Kept, NotKept
from experiments.launch.program import begin, compiler_options


class TangentCheck:
    """Checks the first run that uses gradients, once, in a thread of its own.

    Nothing that it computes reaches the training. When it ends depends on the machine: its numbers
    are in no metrics.

    Args:
        job: The training; one without `check`, or without gradients, is not checked.
        kept: Where its program may lie compiled, or is put.
    """

    def __init__(self, job: Job, kept: Kept | None = None):
        using = job.differentiating
        self._check = getattr(job.training, "check", None) if any(using) else None
        self._job, self._run = job, job.seeds * using.index(True) if any(using) else 0
        self._kept = kept
        self._found: dict[str, Any] | Exception = {}
        self._wait: Callable[[], Any] | None = None

    def begin(self, state: Any) -> None:
        """Begins with a copy of what it needs of this state, unless it has begun."""
        if self._check is None or self._wait is not None:
            return
        state = dataclasses.replace(state, replay=None, plain_replay=None)
        mine = jax.tree.map(lambda leaf: leaf[self._run], (state, self._job.hypers))
        # On one device: it runs beside a training whose devices may wait for each other.
        mine = jax.device_put(mine, jax.local_devices()[0])
        self._wait = begin(self._compute, *mine, jax.random.key(0))

    def found(self) -> dict[str, Any] | Exception:
        """Its numbers, or the error that it ended with; nothing before it has ended."""
        return self._found

    def wait(self) -> dict[str, Any] | Exception:
        """The same, when it has ended; nothing if it never began."""
        if self._wait is not None:
            self._wait()
        return self._found

    def _compute(self, *arguments: Any) -> None:
        assert self._check is not None
        try:
            self._found = jax.device_get(self._compiled(*arguments)(*arguments))
        except Exception as error:  # whatever it is, the training has nothing to do with it
            self._found = error

    def _compiled(self, *arguments: Any) -> Callable[..., Any]:
        assert self._check is not None
        if self._kept is not None:
            with contextlib.suppress(NotKept):  # the training's programs have said it
                if (loaded := self._kept.load("check")) is not None:
                    return loaded
        options = compiler_options(quickly=True)  # it runs once
        lowered = jax.jit(self._check).lower(*arguments)
        if self._kept is None:
            return lowered.compile(options)
        compiled = self._kept.compile("check", lowered, options)
        with contextlib.suppress(NotKept):
            self._kept.save("check", compiled)
        return compiled
