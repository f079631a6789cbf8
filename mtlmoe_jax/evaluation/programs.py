"""The forward pass of evaluation and prediction as a compiled program.

Letters: B images of a batch, H W of the network's input, L classes, N experts,
K selected per image.
"""

import contextlib
import dataclasses
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mtlmoe_jax.checkpoints import Restored
from mtlmoe_jax.devices import compilation
from mtlmoe_jax.evaluation import program_files, test_time
from mtlmoe_jax.ops import folding
from mtlmoe_jax.utils import background, garbage

PredictStep = Callable[[Any, dict[str, Any]], dict[str, Any]]
# B, H, W of a batch of images.
Shape = tuple[int, int, int]


def make_predict_step(
  model: Any,
  jit: Callable[[PredictStep], PredictStep] = compilation.jit_forward,
) -> PredictStep:
  """The forward pass of evaluation and prediction.

  Args:
    model: what `models.build_model` gives.
    jit: how it is compiled; pass `functools.partial(jax.jit, in_shardings=...)`
      to place it on a mesh, or `lambda f: f` for a pure function.

  Returns:
    step(variables, {"image": u8 [B, H, W, 3], "valid": bool [B]}), perhaps with
    any of `test_time.KNOWN`, see `MTLMoE.__call__` -> a dict
    with `logits` f32 [B, L] (only with the class task), `box` f32 [B, 4] xyxy
    normalised (only with the box task) and `routing`: task -> `experts` i32
    [B, K], `weights` f32 [B, K], `probs` f32 [B, N].
  """

  def step(variables: Any, batch: dict[str, Any]) -> dict[str, Any]:
    known = {k: batch[k] for k in test_time.KNOWN if k in batch}
    outputs = model.apply(
      variables, batch["image"], train=False, valid=batch["valid"], **known
    )
    answer: dict[str, Any] = {
      "routing": {
        task: {
          "experts": r.experts,
          "weights": r.weights,
          "probs": r.probs,
        }
        for task, r in outputs.routing.items()
      }
    }
    if outputs.logits is not None:
      answer["logits"] = outputs.logits.astype(jnp.float32)
    if outputs.box is not None:
      answer["box"] = outputs.box.astype(jnp.float32)
    return answer

  return jit(step)


def make_step(restored: Restored) -> "KeptStep":
  """The forward pass of a checkpoint, whatever the views.

  Each shape of a batch is a program of its own. It is read from the run's
  folder, or from beside JAX's compiled programs, where an earlier process has
  left it; else it is traced, and left there for the next one. The answers are
  the same to the last bit. A model without a digest, which did not come from a
  file as it is, is traced and left nowhere.
  """
  return KeptStep(restored)


class KeptStep:
  """A `PredictStep` whose programs outlive the process; see `make_step`.

  Threads may share it: each program is made once.
  """

  def __init__(self, restored: Restored):
    # Not the whole checkpoint: its arrays may be freed before this is.
    self._restored = dataclasses.replace(restored, variables={})
    self._specs = jax.tree.map(_spec, restored.variables)
    self._programs: dict[Shape, _Program] = {}
    # By epsilon of the norms that are part of the kernels, once for all.
    self._folded: dict[float, Any] = {}
    self._locks: dict[Shape, threading.Lock] = {}
    self._lock = threading.Lock()
    self._traced: PredictStep | None = None

  def __call__(self, variables: Any, batch: dict[str, Any]) -> dict[str, Any]:
    """See `make_predict_step`; the variables are those of the checkpoint."""
    plain = set(batch) == {"image", "valid"}
    if not (plain and self._restored.digest and _on_one_device(variables)):
      return self._by_trace()(variables, batch)
    shape: Shape = tuple(np.shape(batch["image"])[:3])
    program = self._program(shape)
    return program.step(self._given(program.epsilon, variables), batch)

  def _given(self, epsilon: float | None, variables: Any) -> Any:
    """The variables as a program wants them."""
    if epsilon is None:
      return variables
    with self._lock:
      if epsilon not in self._folded:
        self._folded[epsilon] = folding.folded(variables, epsilon)
      return self._folded[epsilon]

  def prepare(self, images: int) -> None:
    """Starts to make the program of a batch; whoever needs it waits for it.

    Args:
      images: B.
    """
    if not self._restored.digest:
      return
    side = self._restored.config.data.image_size

    def make() -> None:
      # Whoever needs it makes it again, and tells what is wrong.
      with contextlib.suppress(Exception):
        self._program((images, side, side))

    background.start(make)

  def _by_trace(self) -> PredictStep:
    if self._traced is None:
      self._traced = make_predict_step(self._model())
    return self._traced

  def _model(self) -> Any:
    # Here, not above: a program that was kept needs no model and no Flax.
    from mtlmoe_jax import models

    names = self._restored.class_names
    return models.build_model(self._restored.config, len(names))

  def _program(self, shape: Shape) -> "_Program":
    with self._lock:
      lock = self._locks.setdefault(shape, threading.Lock())
    with lock:
      if shape not in self._programs:
        with garbage.paused():
          self._programs[shape] = self._made(shape)
      return self._programs[shape]

  def _made(self, shape: Shape) -> "_Program":
    """A compiled program, read or traced."""
    batch = {
      "image": jax.ShapeDtypeStruct((*shape, 3), np.uint8),
      "valid": jax.ShapeDtypeStruct(shape[:1], np.bool_),
    }
    places = program_files.Places(self._restored, (self._specs, batch))
    kept = places.read()
    if kept is None:
      kept = self._exported(batch)
      if kept is None:
        return _Program(self._by_trace(), None)
      places.write(kept)
    specs = program_files.arguments((self._specs, batch), kept.epsilon)
    try:
      jitted = compilation.jit_forward(kept.program.call)
      return _Program(jitted.lower(*specs).compile(), kept.epsilon)
    except (NotImplementedError, ValueError):
      # JAX takes back some of what it exports, on other devices than a CPU.
      return _Program(self._by_trace(), None)

  def _exported(self, batch: dict[str, Any]) -> "program_files.Kept | None":
    """A traced program, norms in its kernels where they can be."""
    from mtlmoe_jax.models import folded

    model = self._model()
    epsilon = folded.foldable(model)
    if epsilon is not None:
      model = model.clone(norm="folded")
    pure = make_predict_step(model, jit=lambda step: step)
    specs = program_files.arguments((self._specs, batch), epsilon)
    program = program_files.export(pure, specs)
    return None if program is None else program_files.Kept(program, epsilon)


class _Program(NamedTuple):
  """A compiled step.

  Attributes:
    step: takes variables and a batch.
    epsilon: of the norms that its variables have in their kernels; None: they
      are those of the checkpoint.
  """

  step: PredictStep
  epsilon: float | None


def _spec(leaf: Any) -> jax.ShapeDtypeStruct:
  place = leaf.sharding if isinstance(leaf, jax.Array) else None
  return jax.ShapeDtypeStruct(np.shape(leaf), leaf.dtype, sharding=place)


def _on_one_device(variables: Any) -> bool:
  """Whether no array is split, and no mesh is set that would split it."""
  if jax.sharding.get_abstract_mesh().axis_names:
    return False
  leaves = jax.tree.leaves(variables)
  return all(
    len(x.sharding.device_set) == 1 for x in leaves if isinstance(x, jax.Array)
  )
