"""Arrays of weights files under our names and layouts, and back.

Theirs is one of PyTorch's conventions (`tables`); ours has the collection in
front: `params/stem_conv/kernel`, `batch_stats/stem_norm/mean`, ... Names tell
neither padding nor the norm's epsilon: timm's `tf_efficientnet_*` and
`efficientnet_*` have the same ones.

Letters: C input channels, O output channels, k kernel size.
"""

import dataclasses

import numpy as np

from mtlmoe_jax import errors
from mtlmoe_jax.models.backbones.registry import Sizes
from mtlmoe_jax.pretrained import tables

# PyTorch's order of axes to ours: convolutions, fully connected layers.
_AXES = {4: (2, 3, 1, 0), 2: (1, 0)}
_OURS = ("params/", "batch_stats/")


@dataclasses.dataclass(frozen=True)
class Renamed:
  """Arrays under our names.

  Attributes:
    arrays: float32 by path such as `params/block_00/depthwise_conv/kernel`;
      kernels [k, k, C / groups, O].
    ignored: names of the file that were left out by design: the classifier
      and batch counters.
    unknown: names of the file that the network does not have.
  """

  arrays: dict[str, np.ndarray]
  ignored: tuple[str, ...]
  unknown: tuple[str, ...]


def rename(tensors: dict[str, np.ndarray], where: str, sizes: Sizes) -> Renamed:
  """Brings the arrays of a weights file under our names and layouts.

  Args:
    tensors: arrays by the file's names; PyTorch kernels [O, C / groups, k, k].
    where: the file, for messages.
    sizes: sizes of the network.

  Returns:
    The renamed arrays.

  Raises:
    InputError: no name that the network has, or a value that is not finite.
  """
  if all(name.startswith("module.") for name in tensors):
    # PyTorch's DataParallel puts this in front.
    tensors = {n.removeprefix("module."): v for n, v in tensors.items()}
  family = tables.FAMILIES[sizes.family]
  paths = tables.array_names(sizes)
  arrays: dict[str, np.ndarray] = {}
  ignored, unknown = [], []
  for name, value in family.read(tensors).items():
    ours = name.startswith(_OURS)
    if family.left_out.fullmatch(name) or name.endswith("num_batches_tracked"):
      ignored.append(name)
    elif path := name if ours else paths.get(name):
      value = value if ours or not _is_kernel(path) else _transposed(value)
      arrays[path] = np.ascontiguousarray(value, np.float32)
      if not np.isfinite(arrays[path]).all():
        raise errors.InputError(
          f"{where}: {name} holds values that are not finite; use other weights"
        )
    else:
      unknown.append(name)
  if not arrays:
    raise errors.InputError(
      f"{where}: not the names of {family.words}: unexpected "
      f"{errors.listed(unknown) or 'nothing'}; give weights of "
      "config.model.backbone"
    )
  return Renamed(arrays, tuple(ignored), tuple(unknown))


def as_timm(
  arrays: dict[str, np.ndarray], sizes: Sizes
) -> dict[str, np.ndarray]:
  """The inverse of `rename`: timm's names and layouts.

  Args:
    arrays: a whole backbone by our paths.
    sizes: sizes of the network.

  Returns:
    What timm's network without classifier (`num_classes=0`) loads.

  Raises:
    InputError: arrays that timm's network does not have.
  """
  # Reversed: of names for the same array timm's comes first and must stay.
  theirs = {p: n for n, p in reversed(tables.array_names(sizes).items())}
  if unknown := [path for path in arrays if path not in theirs]:
    raise errors.InputError(
      f"timm's network has no {errors.listed(unknown)}: use our names"
    )
  out = {
    theirs[path]: _transposed(value, back=True) if _is_kernel(path) else value
    for path, value in arrays.items()
  }
  return tables.FAMILIES[sizes.family].write(out)


def _is_kernel(path: str) -> bool:
  return path.endswith("/kernel")


def _transposed(value: np.ndarray, back: bool = False) -> np.ndarray:
  axes = _AXES.get(value.ndim, range(value.ndim))
  return value.transpose(np.argsort(axes) if back else axes)
