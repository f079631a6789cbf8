"""What images of one group in training and test are worth to a test.

Every image is answered twice by heads on the frozen backbone that did not learn
it: once other images of its group may have been learned (random folds), once
none was (folds of whole groups). Both figures are over the same images, and
nothing else differs: backbone, head, number of folds. What the first has more
is what a split that ignores groups claims and new scenes will not give.

Letters: n images.
"""

import dataclasses

import ml_collections
import numpy as np

from mtlmoe_jax import errors
from mtlmoe_jax.data import opening, splits
from mtlmoe_jax.data.readers.file_source import FileSource
from mtlmoe_jax.data.readers.problems import Problems
from mtlmoe_jax.data.source import Subset
from mtlmoe_jax.metrics.intervals import clustered_interval
from mtlmoe_jax.ops import boxes as boxes_lib
from mtlmoe_jax.training import frozen_folds

FOLDS = 5
# Of the last map: a box needs to know where.
_GRID = 3


@dataclasses.dataclass(frozen=True)
class Leak:
  """A metric under both kinds of folds.

  Attributes:
    metric: "top1" or "miou".
    images: that it is over.
    groups: that these images are of.
    random: the metric where groups are ignored.
    grouped: where they are kept together.
    low: of the difference's 95 % interval over groups.
    high: of it.
  """

  metric: str
  images: int
  groups: int
  random: float
  grouped: float
  low: float
  high: float

  def __str__(self) -> str:
    gap = self.random - self.grouped
    return (
      f"leakage: {self.metric} {self.random:.3f} with random folds, "
      f"{self.grouped:.3f} with folds of whole groups: {gap:+.3f} (95 % over "
      f"groups {self.low:+.3f} ... {self.high:+.3f}; {self.images} images in "
      f"{self.groups} groups)"
    )


def measure(config: ml_collections.ConfigDict) -> tuple[list[Leak], list[str]]:
  """Measures what leakage is worth to a data set.

  Args:
    config: the whole config; `data.group_by` tells the groups, `data.classes`
      the images, `seed` the folds. All images are used, of train and test.

  Returns:
    (top1, and miou where images have boxes; lines that tell what was left
    out).

  Raises:
    InputError: no groups, weights that are not installed, an image that cannot
      be read, or no class with two groups.
  """
  spec = config.data.group_by
  if not spec:
    raise errors.InputError(
      "config.data.group_by is empty: to tell what leaks, name what belongs "
      "together (--config.data.group_by=similar, or see docs/options.md)"
    )
  whole = opening.open_whole(config, Problems())
  groups, _ = opening.group_ids(spec, whole)
  source = whole.source
  assert isinstance(source, FileSource)
  chosen = splits.choose_classes(source.class_names, config.data.classes)
  index = np.flatnonzero(np.isin(source.labels, chosen))
  labels, groups = source.labels[index], groups[index]
  ids = [source.ids[i] for i in index]
  cells = frozen_folds.features(config, Subset(source, index), _GRID)
  boxes, has_box = source.boxes[index], source.has_box[index]
  leaks, notes = compare(
    cells, labels, boxes, has_box, groups, ids, config.seed
  )
  if not leaks:
    raise errors.InputError(
      f"config.data.group_by={spec!r}: no class has two groups, so none can be "
      "learned from one and tested on the other; group otherwise"
    )
  return leaks, notes


def compare(
  cells: np.ndarray,
  labels: np.ndarray,
  boxes: np.ndarray,
  has_box: np.ndarray,
  groups: np.ndarray,
  ids: list[str],
  seed: int,
) -> tuple[list[Leak], list[str]]:
  """The comparison itself.

  Args:
    cells: f32 [n, G G C], of `frozen_folds.features`.
    labels: i32 [n].
    boxes: f32 [n, 4] xyxy.
    has_box: bool [n].
    groups: i64 [n].
    ids: n names.
    seed: of the folds.

  Returns:
    As `measure`; nothing where no class has two groups.
  """
  each = np.arange(len(ids))
  folds = [
    splits.fold_groups(labels, parts, FOLDS, seed, ids)
    for parts in (each, groups)
  ]
  # Whose class the other folds show, of either kind: no other can be right.
  fair = np.logical_and(*(_shown(labels, fold) for fold in folds))
  if not fair.any() or any(len(np.unique(fold)) < 2 for fold in folds):
    return [], []
  notes = []
  if not fair.all():
    notes.append(
      f"leakage: {int((~fair).sum())} images are not judged: other groups do "
      "not show their class"
    )
  x = cells.reshape(len(cells), _GRID**2, -1).mean(1)
  right = [
    frozen_folds.out_of_fold(x, labels, fold).argmax(1) == labels
    for fold in folds
  ]
  leaks = [_leak("top1", right, fair, groups)]
  boxed = fair & has_box
  if boxed.sum() > FOLDS and all(
    len(np.unique(fold[has_box])) > 1 for fold in folds
  ):
    overlap = [
      boxes_lib.iou(
        frozen_folds.boxes_out_of_fold(cells, boxes, has_box, fold), boxes
      )
      for fold in folds
    ]
    leaks.append(_leak("miou", overlap, boxed, groups))
  return leaks, notes


def _shown(labels: np.ndarray, folds: np.ndarray) -> np.ndarray:
  """Whether another fold than its own shows an image's class: bool [n]."""
  number = {c: len(np.unique(folds[labels == c])) for c in np.unique(labels)}
  return np.array([number[label] > 1 for label in labels], bool)


def _leak(
  metric: str, values: list[np.ndarray], counted: np.ndarray, groups: np.ndarray
) -> Leak:
  random, grouped = (v[counted].astype(np.float64) for v in values)
  _, low, high = clustered_interval(random - grouped, groups[counted])
  count = len(np.unique(groups[counted]))
  return Leak(
    metric, len(random), count, random.mean(), grouped.mean(), low, high
  )
