"""When do experts pay? A map over their width and the number of images.

Small experts (MLPs behind a frozen backbone, whose features are computed once)
on drawn birds, or on a folder of photographs. At each place of the map a
mixture that sends every image to one expert stands beside

- one expert of equal active compute,
- the same that is told what the router knows (`model.tower_sees_gate`): what
  remains is the division of work alone,
- one expert with the parameters of all, and as many trained apart (ensemble),
- a uniform gate, for which all experts run;

and a mixture of two experts an image beside one of twice the width, told or
not. One gate for both tasks: an image meets one expert (or two), not one for
each task, so that "equal active compute" is true. What images lose when they
exchange their gates is in every result (`gate_value`).
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections

from mtlmoe_jax import config as config_lib
from mtlmoe_jax import data as data_lib
from mtlmoe_jax import errors
from mtlmoe_jax.config import presets
from mtlmoe_jax.experiments.cells import Ensemble, Train, Variation
from mtlmoe_jax.experiments.claims import Question

SUITE = "pay"
DATA = ("synthetic", "folder")


@dataclasses.dataclass(frozen=True)
class Map:
  """The places of a map.

  Attributes:
    per_class: training images of each of 30 drawn species.
    widths: of an expert's hidden layer.
    experts: N of the mixtures.
  """

  per_class: tuple[int, ...]
  widths: tuple[int, ...]
  experts: tuple[int, ...]


# The second is for an accelerator: up to 100,000 images.
MAPS = {
  "cpu": Map((10, 30, 100, 300), (4, 8, 32), (3, 6)),
  "paper": Map((10, 30, 100, 300, 1000, 3333), (4, 8, 32, 128), (3, 6, 12)),
}
# What all others are named after: N of the mixtures that have all controls.
MAIN = 6
# The width at which an ensemble of single experts is trained.
ENSEMBLE_WIDTH = 8


@dataclasses.dataclass(frozen=True)
class TrainingSet:
  """The images that experts of all widths learn from.

  Attributes:
    images: how many.
    epochs: passes over them.
    overrides: value by dotted key: the images, of the base config.
  """

  images: int
  epochs: float
  overrides: Mapping[str, Any]


def base_config(
  data: str, preset: str, path: str = ""
) -> ml_collections.ConfigDict:
  """The config that all variations change.

  Learning rate, noise and the share of training before the experts are copied
  were chosen on drawn birds of another seed.

  Args:
    data: of DATA.
    preset: of MAPS.
    path: of the folder; "" for synthetic.

  Raises:
    InputError: an unknown name, or a folder without its path.
  """
  for flag, value, known in (("data", data, DATA), ("preset", preset, MAPS)):
    if value not in known:
      raise errors.InputError(
        f"--{flag}={value!r}: the suite {SUITE} has {', '.join(known)}"
      )
  if data == "synthetic":
    return presets.narrow_drawn()
  if not path:
    raise errors.InputError(
      f"--data.path is missing: --data={data} needs the folder of the images"
    )
  config = presets.narrow_crops()
  config.data.path = path
  config.model.experts, config.model.share_gate = 1, True
  config.model.upcycle_epochs, config.model.tower_sees_gate = 0.0, 0
  config.eval.report = False
  return config


def training_sets(
  preset: str, base: ml_collections.ConfigDict
) -> list[TrainingSet]:
  """The images of a map, fewest first.

  Args:
    preset: of MAPS.
    base: of `base_config`.

  Raises:
    InputError: a folder that cannot be opened.
  """
  if config_lib.is_drawn(base):
    return [
      TrainingSet(
        base.data.synthetic.classes * count,
        # More passes over few, yet fewer steps.
        round(8 * (300 / count) ** 0.5, 1),
        {"data.synthetic.train_per_class": count},
      )
      for count in MAPS[preset].per_class
    ]
  opened = data_lib.open_data(base)
  count = len(opened.train) + len(opened.validation or ())
  return [TrainingSet(count, base.epochs, {})]


def variations(preset: str, sets: Sequence[TrainingSet]) -> list[Variation]:
  """The variations of all places of a map.

  Args:
    preset: of MAPS.
    sets: of `training_sets`.
  """
  places = MAPS[preset]
  return [
    variation
    for images in sets
    for width in places.widths
    for variation in _place(images, width, places.experts)
  ]


def _place(
  training: TrainingSet, width: int, counts: tuple[int, ...]
) -> list[Variation]:
  """What stands side by side with such images and so wide experts."""
  images, passes = training.images, training.epochs
  group = f"{images} images, width {width}"
  data = {**training.overrides, "epochs": passes}

  def make(arm: str, what: str, hidden: int, **options: object) -> Train:
    changes = {f"model.{name}": value for name, value in options.items()}
    changes |= data | {"model.expert_dim": hidden}
    return Train(name_of(arm, width, images), changes, what, group)

  mixture = {"tower_sees_gate": MAIN, "upcycle_epochs": passes / 4}
  one = make("one", "one expert", width)
  made: list[Variation] = [
    one,
    make("told", "one, told", width, tower_sees_gate=MAIN),
    make("wide", f"one of {MAIN} times the width", MAIN * width),
    make("double", "one of twice the width", 2 * width),
    make(
      "double_told",
      "one of twice the width, told",
      2 * width,
      tower_sees_gate=MAIN,
    ),
    make(
      f"mix_{MAIN}_2",
      f"{MAIN}, two an image",
      width,
      **mixture,
      experts=MAIN,
      k="2",
    ),
    make(
      "uniform", f"{MAIN}, uniform gate", width, experts=MAIN, gate="uniform"
    ),
  ]
  if width == ENSEMBLE_WIDTH:  # It takes as many runs as it has members.
    name = name_of("ensemble", width, images)
    made.append(Ensemble(name, one.name, MAIN, f"{MAIN} trained apart", group))
  for count in counts:
    options = {**mixture, "tower_sees_gate": count, "experts": count}
    made.append(
      make(f"mix_{count}_1", f"{count}, one an image", width, **options)
    )
  return made


def name_of(arm: str, width: int, images: int) -> str:
  """Name of a variation; `place_of` is its inverse."""
  return f"{arm}_w{width}_n{images}"


# (for people, one arm, what it is compared to, metrics)
COMPARISONS = (
  ("six, one an image, instead of one", "mix_6_1", "one"),
  ("six, one an image, instead of one told", "mix_6_1", "told"),
  ("one told instead of one", "told", "one"),
  ("three, one an image, instead of one told", "mix_3_1", "told"),
  ("six, two an image, instead of one of twice the width", "mix_6_2", "double"),
  (
    "six, two an image, instead of one of twice the width, told",
    "mix_6_2",
    "double_told",
  ),
  ("six, one an image, instead of one of six widths", "mix_6_1", "wide"),
  ("six, one an image, instead of six trained apart", "mix_6_1", "ensemble"),
  ("six, one an image, instead of a uniform gate", "mix_6_1", "uniform"),
)


def questions(preset: str, sets: Sequence[TrainingSet]) -> list[Question]:
  """Every comparison at every place, in both metrics.

  Args:
    preset: of MAPS.
    sets: of `training_sets`.
  """
  return [
    Question(
      text,
      name_of(one, width, training.images),
      name_of(other, width, training.images),
      metric,
    )
    for metric in ("top1", "miou")
    for text, one, other in COMPARISONS
    for training in sets
    for width in MAPS[preset].widths
  ]
