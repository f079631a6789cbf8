"""What programs are compiled for, and how those without gradients on a CPU.

XLA:CPU hands matrix products to a library, YNNPACK. Those of a training step
are twice as quick with it; those of a forward pass are as quick or quicker
without, for one image and for many (rows `lite0_train_library` and
`lite0_forward_library` of `benchmarks/train_step.py`; the grid is in
docs/decisions.md, "The right program for each shape").
"""

import contextlib
import contextvars
import functools
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
from jax.experimental.compilation_cache import compilation_cache

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


@contextlib.contextmanager
def kept() -> Iterator[None]:
  """Programs compiled inside are compiled once, however often JAX forgets them.

  They lie in a folder of this process alone, which is removed at the end: those
  of another machine may not run on this one. Where the user has such a folder
  (`jax_compilation_cache_dir`) that one is used.
  """
  names = ("jax_compilation_cache_dir", *_KEEP)
  before = {name: getattr(jax.config, name) for name in names}
  if before[names[0]]:
    yield
    return
  with tempfile.TemporaryDirectory(prefix="programs_") as folder:
    _set({**_KEEP, names[0]: folder})
    try:
      yield
    finally:
      _set(before)


# Small programs take most of the time of a short run.
_KEEP = {
  "jax_persistent_cache_min_compile_time_secs": 0.1,
  "jax_persistent_cache_min_entry_size_bytes": -1,
}


def _set(options: Mapping[str, Any]) -> None:
  for name, value in options.items():
    jax.config.update(name, value)
  # Else JAX stays with the folder that it had at first.
  compilation_cache.reset_cache()


def jit_forward(fn: Callable[..., Any], **options: Any) -> Any:
  """`jax.jit` for a function that holds no gradient.

  Args:
    fn: as for `jax.jit`.
    **options: of `jax.jit`.
  """
  return jax.jit(fn, compiler_options=forward_options(), **options)


@functools.cache
def forward_options() -> dict[str, str] | None:
  """What the compiler is told of a program without gradients.

  The same for all shapes: none was found that wants others. For programs that
  do not go through `jit_forward`, as `jax.jit`'s `compiler_options`.

  Returns:
    The options; None where the compiler would not understand them.
  """
  if jax.default_backend() != "cpu":
    return None
  try:
    jax.jit(lambda x: x, compiler_options=_WITHOUT_LIBRARY)(0.0)
  except jax.errors.JaxRuntimeError:  # another jaxlib has another name
    return None
  return _WITHOUT_LIBRARY
