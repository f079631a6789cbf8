"""Programs of the forward pass that outlive the process that traced them.

A file holds one program as JAX exports it (StableHLO), with the parameters
outside: two tenths of a megabyte, behind a line of JSON. Its name tells all
that the program depends on, as a digest, and the digest of its content: a file
that has changed, or that is of another version, is not used. Nothing in it is
executed but the program.
"""

import functools
import hashlib
import json
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from mtlmoe_jax import config as config_lib
from mtlmoe_jax.checkpoints import Restored, exported
from mtlmoe_jax.devices import compilation
from mtlmoe_jax.ops import folding
from mtlmoe_jax.utils import background, files
from mtlmoe_jax.version import __version__

# Sections of a config that the forward pass does not depend on.
_FREE = (
  *("batch_size", "checkpoint", "data", "epochs", "eval", "features", "fit"),
  *("log", "mesh", "micro_batches", "optimizer", "seed", "steps", "transfer"),
)
# Options of JAX that decide what a trace becomes.
_TRACING = (
  *("jax_enable_x64", "jax_default_matmul_precision"),
  *("jax_numpy_dtype_promotion", "jax_default_prng_impl"),
  "jax_threefry_partitionable",
)
# Whose code decides it.
_ROOMS = ("config", "devices", "models", "moe", "ops")
_FILES = ("evaluation/programs.py", "utils/trees.py")
# A folder of compiled programs has one for these.
_CACHE = "mtlmoe_programs"


class Kept(NamedTuple):
  """A program that outlives its process.

  Attributes:
    program: a `jax.export.Exported`.
    epsilon: of the norms that its variables have in their kernels; None: they
      are those of the checkpoint.
  """

  program: Any
  epsilon: float | None


def arguments(specs: tuple[Any, ...], epsilon: float | None) -> tuple[Any, ...]:
  """Shapes and types that a program takes.

  Args:
    specs: of the checkpoint's variables, and of a batch.
    epsilon: see `Kept`.
  """
  variables, *rest = specs
  if epsilon is not None:
    variables = folding.shapes(variables, epsilon)
  return variables, *rest


def export(step: Callable[..., Any], specs: tuple[Any, ...]) -> Any:
  """Traces a function into a `jax.export.Exported`.

  Args:
    step: a pure function.
    specs: shapes and types of its arguments.

  Returns:
    The program; None where it has something that JAX does not export.
  """
  from jax import export as jax_export

  try:
    return jax_export.export(jax.jit(step))(*specs)
  except (NotImplementedError, ValueError):
    # Calls into a library that JAX gives no promise about, on some devices.
    return None


class Places:
  """Where the program of one shape may be: beside the weights, in the cache."""

  def __init__(self, restored: Restored, specs: tuple[Any, ...]):
    """Computes its name.

    Args:
      restored: of the checkpoint; its variables are not used.
      specs: shapes and types of the arguments.
    """
    self._specs = specs
    self._stem = f"program-{_key(restored, specs)}"
    self._folders = [exported.folder_of(restored.workdir, restored.step)]
    # Files of its name that have changed.
    self._useless: list[pathlib.Path] = []
    cache = getattr(jax.config, "jax_compilation_cache_dir", None)
    # A bucket is no folder.
    if cache and "://" not in cache:
      self._folders.append(pathlib.Path(cache) / _CACHE)

  def read(self) -> Kept | None:
    """What an earlier process left, or None."""
    for folder in self._folders:
      for path in sorted(folder.glob(f"{self._stem}-*.stablehlo")):
        found = self._read(path)
        if found is not None:
          program, data = found
          self._fill(path.name, data)
          return program
        self._useless.append(path)
    return None

  def _read(self, path: pathlib.Path) -> tuple[Kept, bytes] | None:
    """A program and its file's content; None where it has changed."""
    from jax import export as jax_export

    try:
      data = path.read_bytes()
      if path.name != self._name(data):
        return None
      header, _, body = data.partition(b"\n")
      epsilon = json.loads(header)["epsilon"]
      kept = Kept(jax_export.deserialize(bytearray(body)), epsilon)
      return (kept, data) if self._fits(kept) else None
    except Exception:  # of any kind, where it is no program
      return None

  def _fill(self, name: str, data: bytes) -> None:
    """Writes a program where it is missing or has changed."""
    missing = [
      folder
      for folder in self._folders
      if folder / name in self._useless or not (folder / name).exists()
    ]
    if missing:
      background.start(self._write, data, missing)

  def write(self, kept: Kept) -> None:
    """Leaves a program for the next process, on a thread of its own."""
    background.start(self._serialise, kept)

  def _serialise(self, kept: Kept) -> None:
    header = json.dumps({"epsilon": kept.epsilon}).encode()
    try:
      data = header + b"\n" + bytes(kept.program.serialize())
    # Without flatbuffers, or where JAX has no form for it.
    except (ImportError, NotImplementedError, ValueError):
      return
    self._write(data, self._folders)

  def _write(self, data: bytes, folders: list[pathlib.Path]) -> None:
    for folder in folders:
      if folder == self._folders[0] and not folder.parents[1].is_dir():
        continue  # The run was removed meanwhile.
      try:
        name = self._name(data)
        files.write_bytes(folder / name, data, durable=False)
        for path in self._useless:
          if path.parent == folder and path.name != name:
            path.unlink(missing_ok=True)
      except OSError:
        continue

  def _name(self, data: bytes) -> str:
    return f"{self._stem}-{digest_of(data)}.stablehlo"

  def _fits(self, kept: Kept) -> bool:
    specs = jax.tree.leaves(arguments(self._specs, kept.epsilon))
    wanted = [(x.shape, x.dtype) for x in specs]
    return wanted == [(x.shape, x.dtype) for x in kept.program.in_avals]


def digest_of(data: bytes) -> str:
  """32 hex digits of a file's content, which its name ends with."""
  return hashlib.sha256(data).hexdigest()[:32]


def _key(restored: Restored, specs: tuple[Any, ...]) -> str:
  """32 hex digits of all that a traced program depends on."""
  config = config_lib.to_saved(restored.config)
  paths = jax.tree_util.tree_leaves_with_path(specs)
  facts = {
    "versions": [jax.__version__, jax.lib.__version__, __version__],
    "code": _code(),
    "backend": [jax.default_backend(), compilation.backend()],
    "options": {name: _option(name) for name in _TRACING},
    "config": {k: v for k, v in config.items() if k not in _FREE},
    "classes": len(restored.class_names),
    "arguments": [
      (jax.tree_util.keystr(path), leaf.shape, leaf.dtype.name)
      for path, leaf in paths
    ],
  }
  text = json.dumps(facts, sort_keys=True)
  return digest_of(text.encode())


def _option(name: str) -> str:
  return str(getattr(jax.config, name, None))


@functools.cache
def _code() -> str:
  """Digest of the package's code that a program comes from.

  In a checkout it changes without the version.
  """
  total = hashlib.sha256()
  root = pathlib.Path(__file__).resolve().parents[1]
  rooms = (path for room in _ROOMS for path in (root / room).rglob("*.py"))
  for path in sorted([*rooms, *(root / name for name in _FILES)]):
    total.update(path.relative_to(root).as_posix().encode() + b"\0")
    total.update(path.read_bytes() + b"\0")
  return total.hexdigest()
