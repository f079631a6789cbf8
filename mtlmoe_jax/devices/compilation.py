"""What programs are compiled for, and how those without gradients on a CPU.

XLA:CPU hands matrix products to a library, YNNPACK. Those of a training step
are twice as quick with it; those of a forward pass are quicker without (rows
`lite0_train_library` and `lite0_forward_library` of
`benchmarks/train_step.py`).
"""

import contextlib
import contextvars
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax

# No kinds of operations for the library. XLA's name for it is experimental.
_WITHOUT_LIBRARY = {"xla_cpu_experimental_ynn_fusion_type": ""}

_planned: contextvars.ContextVar[str | None] = contextvars.ContextVar(
  "backend", default=None
)


def backend() -> str:
  """The kind of devices that a program is made for: "cpu", "gpu" or "tpu"."""
  return _planned.get() or jax.default_backend()


@contextlib.contextmanager
def planned_for(backend: str) -> Iterator[None]:
  """Programs traced inside are those for devices that may not be here."""
  token = _planned.set(backend)
  try:
    yield
  finally:
    _planned.reset(token)


def jit_forward(fn: Callable[..., Any], **options: Any) -> Callable[..., Any]:
  """`jax.jit` for a function that holds no gradient.

  Args:
    fn: as for `jax.jit`.
    **options: of `jax.jit`.
  """
  return jax.jit(fn, compiler_options=_options(), **options)


@functools.cache
def _options() -> dict[str, str] | None:
  """What the compiler is told; None where it would not understand."""
  if jax.default_backend() != "cpu":
    return None
  try:
    jax.jit(lambda x: x, compiler_options=_WITHOUT_LIBRARY)(0.0)
  except jax.errors.JaxRuntimeError:  # another jaxlib has another name
    return None
  return _WITHOUT_LIBRARY
