"""What images of one group in training and test are worth to a test.

Every image is answered twice by heads on the frozen backbone that did not learn
it: once none of its group was (folds of whole groups), once some may have been
(the images of each class are shuffled over these folds). Both figures are over
the same images, and nothing else differs: backbone, head, folds, and how many
images of each class a fold has. What the second has more is what a split that
ignores groups claims and new scenes will not give.

Letters: n images, S repetitions with other folds.
"""

import dataclasses
from collections.abc import Callable, Sequence

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
# One choice of folds alone may suit either.
REPEATS = 3
# Of the last map: a box needs to know where.
_GRID = 3


@dataclasses.dataclass(frozen=True)
class Leak:
  """A metric under both kinds of folds.

  Attributes:
    metric: "top1" or "miou".
    images: that it is over.
    groups: that these images are of.
    random: the metric where groups are ignored; mean of all repetitions.
    grouped: where they are kept together.
    low: of the difference's 95 % interval over groups and repetitions.
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
  if config.data.objects == "each":
    raise errors.InputError(
      "config.data.objects='each': leakage is measured of whole images; use "
      "'largest'"
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
  grouped = [
    splits.fold_groups(labels, groups, FOLDS, seed + i, ids)
    for i in range(REPEATS)
  ]
  shuffled = [
    splits.shuffle_folds(labels, folds, seed + i, ids)
    for i, folds in enumerate(grouped)
  ]
  # Whose class the other folds show, in all: no other can be right.
  fair = np.all([_shown(labels, folds) for folds in grouped], axis=0)
  if not fair.any():
    return [], []
  notes = []
  if not fair.all():
    notes.append(
      f"leakage: {int((~fair).sum())} images are not judged: other groups do "
      "not show their class"
    )
  x = cells.reshape(len(cells), _GRID**2, -1).mean(1)

  def right(folds: np.ndarray) -> np.ndarray:
    answers = frozen_folds.out_of_fold(x, labels, folds)
    return answers.argmax(1) == labels

  def overlap(folds: np.ndarray) -> np.ndarray:
    answers = frozen_folds.boxes_out_of_fold(cells, boxes, has_box, folds)
    return boxes_lib.iou(answers, boxes)

  leaks = [_leak("top1", right, (shuffled, grouped), fair, groups)]
  boxed = fair & has_box
  if boxed.any() and all(
    len(np.unique(folds[has_box])) > 1 for folds in (*grouped, *shuffled)
  ):
    leaks.append(_leak("miou", overlap, (shuffled, grouped), boxed, groups))
  return leaks, notes


def _shown(labels: np.ndarray, folds: np.ndarray) -> np.ndarray:
  """Whether another fold than its own shows an image's class: bool [n]."""
  number = {c: len(np.unique(folds[labels == c])) for c in np.unique(labels)}
  return np.array([number[label] > 1 for label in labels], bool)


def _leak(
  metric: str,
  judge: Callable[[np.ndarray], np.ndarray],
  folds: Sequence[Sequence[np.ndarray]],
  counted: np.ndarray,
  groups: np.ndarray,
) -> Leak:
  """The metric under both kinds of folds.

  Args:
    metric: its name.
    judge: folds [n] -> value of each image [n].
    folds: of both kinds, S each.
    counted: bool [n].
    groups: i64 [n].
  """
  values = np.array([[judge(f)[counted] for f in kind] for kind in folds])
  random, grouped = values.astype(np.float64)
  _, low, high = clustered_interval(random - grouped, groups[counted])
  count = len(np.unique(groups[counted]))
  images = int(counted.sum())
  return Leak(metric, images, count, random.mean(), grouped.mean(), low, high)
