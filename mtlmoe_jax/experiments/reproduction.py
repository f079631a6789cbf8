"""The poster's experiments, their controls and what they are run on.

A suite is a list of variations of one base config. Variations of different
suites that are the same run are one: the six-expert class-only model is the
poster's mixture of experiment 1, its "direct" of the transfer experiment and,
where all experiments use the same classes, its one tower of experiment 2.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ml_collections

from mtlmoe_jax import errors, models
from mtlmoe_jax.config import presets
from mtlmoe_jax.config.poster import ROWS
from mtlmoe_jax.experiments.cells import Ensemble, Train, Variation

SUITES = ("exp1", "transfer", "exp2", "experts")
ALL = "all"
DATA = ("cub", "cub10", "synthetic")
PRESETS = ("paper", "cpu")
# What gates know: those of the poster see pixels and start near 0.
GATES = ("pixels", "informed")

# Of the training, until one expert is copied.
COPIED = 0.25
# Gates as the poster has them.
_PIXELS = {
  "model__gate_input": "pixels",
  "model__gate_noise": 1.0,
  "model__tower_sees_gate": 0,
  "model__upcycle_epochs": 0.0,
}

_EXP1 = "experiment 1: the class alone"
_TRANSFER = "transfer"
_EXP2 = "experiment 2: class and box"
_EXPERTS = "what sets experts apart"


def base_config(
  data: str,
  preset: str,
  path: str,
  pretrained: str = "",
  gates: str = "pixels",
) -> ml_collections.ConfigDict:
  """The config that all variations of a suite change: six experts, class alone.

  Args:
    data: of DATA. "cub" is the whole data set, the poster's ten classes being
      its last; "cub10" is a folder with its first ten alone.
    preset: "paper" is the poster's setting as far as known (work for a GPU);
      "cpu" a smaller one: a frozen shared stem whose features are computed
      once, experts that are the rest of the network, small images.
    path: of the data set; "" for synthetic.
    pretrained: `model.pretrained`, where {backbone} stands for the backbone's
      name; "" is the preset's: Lite's ImageNet weights for cpu, none for paper.
    gates: of GATES. "informed" ones see the stem, start from what it tells, and
      tell it to the towers; one expert learns before it is copied. Of cpu
      alone: the poster's networks share no stem.

  Raises:
    InputError: an unknown name, or a data set without its path.
  """
  for flag, value, known in (
    ("data", data, DATA),
    ("preset", preset, PRESETS),
    ("gates", gates, GATES if preset == "cpu" else GATES[:1]),
  ):
    if value not in known:
      raise errors.InputError(
        f"--{flag}={value!r}: must be one of {', '.join(known)}"
      )
  if data != "synthetic" and not path:
    raise errors.InputError(
      f"--data.path is missing: --data={data} needs the folder of CUB_200_2011"
    )
  config = _paper() if preset == "paper" else _cpu()
  if pretrained:
    config.model.pretrained = _weights(pretrained, config.model.backbone)
  config.data.path = path
  # The best checkpoint is chosen on validation images, never on the test split;
  # the last one is what is reported first.
  config.data.validation_fraction = 0.1
  config.eval.step = "latest"
  config.eval.watch_test = True
  if data == "synthetic":
    _synthetic(config, preset)
  elif data == "cub10":
    config.data.name = "cub"
    config.data.classes = "first:10"
    config.data.split_scheme = "official"
  else:
    config.data.name = "cub"
    config.data.classes = "last:10"
  if gates == "informed":
    config.model.gate_input, config.model.gate_noise = "stem", 0.0
    config.model.tower_sees_gate = config.model.experts
    config.model.upcycle_epochs = COPIED * config.epochs
  return config


def _weights(pretrained: str, backbone: str) -> str:
  return pretrained.replace("{backbone}", backbone)


def _paper() -> ml_collections.ConfigDict:
  config = presets.poster_ten()
  # The poster's text has sparse gates, its plots dense ones: these are a
  # variation, for what sets experts apart is a question of sparse ones.
  config.model.gate = "noisy_top_k"
  config.model.compute = "sparse"
  return config


def _cpu() -> ml_collections.ConfigDict:
  config = presets.cub10()
  config.data.image_size = 128
  config.model.tasks = "class"
  config.model.experts = 6
  config.model.compute = "sparse"
  # All blocks are shared and stay as pretrained; an expert is the head's wide
  # convolution and its condense layer: what is left when two cores are to train
  # a hundred models.
  config.model.shared_stages = 7
  config.model.grid = 4
  config.model.condense_dim = 128
  # Gates alone still look at pixels.
  config.model.gate_width = 8
  config.features.views = 8
  # Twice the poster's: half as many steps.
  config.batch_size = 32
  config.epochs = 12
  config.checkpoint.every_steps = 40
  config.eval.batch_size = 64
  config.eval.report = False
  return config


def _synthetic(config: ml_collections.ConfigDict, preset: str) -> None:
  """Thirty drawn species: twenty to transfer from, the last ten to tell."""
  data = config.data
  data.name, data.path, data.split_scheme = "synthetic", "", "official"
  data.classes = "last:10"
  data.synthetic.classes = 30
  if preset == "paper":
    return
  # Few images a class: with many all variations are right, and equal.
  data.synthetic.train_per_class = 40
  data.synthetic.test_per_class = 50
  config.epochs = 8
  # Drawn birds fill their frames alike (configs/demo.py).
  data.augment.crop_area_min = 0.75
  data.augment.crop_aspect_max = 1.1


def variations(
  suite: str,
  data: str,
  preset: str,
  base: ml_collections.ConfigDict,
  base_path: str = "",
  pretrained: str = "",
) -> list[Variation]:
  """The variations of a suite, each after those that it builds on.

  Args:
    suite: of SUITES, or "all".
    data: of DATA.
    preset: of PRESETS.
    base: from `base_config`.
    base_path: folder of other classes to transfer from, with `train` and
      `test`; needed by cub10's transfer.
    pretrained: see `base_config`.

  Raises:
    InputError: an unknown suite, or no `base_path` where it is needed.
  """
  if suite not in (*SUITES, ALL):
    raise errors.InputError(
      f"--suite={suite!r}: must be one of {', '.join((*SUITES, ALL))}"
    )
  chosen = SUITES if suite == ALL else (suite,)
  if "transfer" in chosen and data == "cub10" and not base_path:
    raise errors.InputError(
      "--base_path is missing: the transfer of --data=cub10 starts from other "
      "classes; give a folder with train/CLASS/* and test/CLASS/*"
    )
  options = SuiteOptions(data, preset, base, base_path, pretrained)
  chosen_variations: dict[str, Variation] = {}
  for name in chosen:
    for variation in _MAKERS[name](options):
      if options.informed and isinstance(variation, Train):
        variation = _fitting(variation, base)
      chosen_variations.setdefault(variation.name, variation)
  return list(chosen_variations.values())


def _fitting(variation: Train, base: ml_collections.ConfigDict) -> Train:
  """The same with informed gates as its experts can have them."""
  changes = dict(variation.overrides)
  experts = changes.get("model.experts", base.model.experts)
  if experts != base.model.experts:
    changes.setdefault("model.tower_sees_gate", experts if experts > 1 else 0)
  # Copies under equal weights would stay equal, and those of another run's
  # experts would lose what these know.
  alone = experts == 1 or changes.get("model.gate") == "uniform"
  if alone or variation.after:
    changes["model.upcycle_epochs"] = 0.0
  elif "epochs" in changes:
    changes["model.upcycle_epochs"] = COPIED * changes["epochs"]
  return dataclasses.replace(variation, overrides=changes)


def one_tower(data: str) -> str:
  """The variation that has experiment 2's images and no box tower."""
  return "one_tower" if data == "cub" else "moe"


@dataclasses.dataclass(frozen=True)
class SuiteOptions:
  """The arguments of `variations`."""

  data: str
  preset: str
  base: ml_collections.ConfigDict
  base_path: str
  pretrained: str

  @property
  def informed(self) -> bool:
    """Whether gates see features."""
    return self.base.model.gate_input != "pixels"


_MOE = Train("moe", {}, "six experts", _EXP1)


def _exp1(suite: SuiteOptions) -> list[Variation]:
  known: list[Variation] = []
  if suite.informed:
    told = {**ROWS["exp1_single"].changes, **_told(suite)}
    known = [
      Train("single_told", told, "a single expert, told", _EXP1),
      Train(
        "moe_pixels", _dotted(_PIXELS), "six experts, gates of pixels", _EXP1
      ),
    ]
  return [
    Train(
      "single",
      ROWS["exp1_single"].changes,
      "a single expert",
      _EXP1,
    ),
    _MOE,
    Train("uniform", {"model.gate": "uniform"}, "uniform gate", _EXP1),
    Train("random", {"model.gate": "random"}, "random gate", _EXP1),
    Train("dense", {"model.gate": "dense"}, "dense gate", _EXP1),
    Train(
      "matched",
      _matched(suite),
      "a single expert of six's parameters",
      _EXP1,
    ),
    Ensemble(
      "ensemble",
      "single",
      6,
      "six single experts, each trained alone, together",
      _EXP1,
    ),
    *known,
  ]


def _told(suite: SuiteOptions) -> dict[str, object]:
  """Towers know what the router of the base's experts knows."""
  return {"model.tower_sees_gate": suite.base.model.experts}


def _matched(suite: SuiteOptions) -> dict[str, object]:
  """Options of a single expert with as many parameters as the base's six.

  Of whole networks a larger one of the family (B6 for six B1, 1.01 times as
  many); behind a shared stem, where only the rest is the expert's own, a wider
  condense layer.
  """
  one = {"model.experts": 1, "model.k": "1"}
  base = suite.base.copy_and_resolve_references()
  # Of what towers are told nothing is an expert's.
  base.model.tower_sees_gate = 0
  if suite.preset == "paper":
    larger = "tf_efficientnet_b6"
    weights = _weights(suite.pretrained, larger)
    return {**one, "model.backbone": larger, "model.pretrained": weights}

  def count(experts: int, width: int) -> int:
    config = base.copy_and_resolve_references()
    config.model.experts, config.model.k = experts, "1"
    config.model.condense_dim = width
    return models.count_parameters(config, 10)[0]

  # Parameters are linear in the width.
  narrow, wide = 256, 1280
  slope = (count(1, wide) - count(1, narrow)) / (wide - narrow)
  goal = count(base.model.experts, base.model.condense_dim)
  width = narrow + (goal - count(1, narrow)) / slope
  return {**one, "model.condense_dim": round(width)}


def _transfer(suite: SuiteOptions) -> list[Variation]:
  base = dict(ROWS["transfer_base"].changes)
  if suite.data == "cub10":
    base = {
      "data.name": "folder",
      "data.path": suite.base_path,
      "data.classes": "all",
    }
  if suite.preset == "cpu":
    # More images: fewer epochs, and views, are as many steps.
    epochs = 3 if suite.data == "cub10" else 5
    base |= {"features.views": 2, "epochs": epochs}
  return [
    Train("transfer_base", base, "base model, other classes", _TRANSFER),
    _MOE,
    Train(
      "transfer_frozen",
      ROWS["transfer_frozen"].changes,
      "from the base, experts and condense frozen",
      _TRANSFER,
      after="transfer_base",
    ),
    Train(
      "transfer_unfrozen",
      {},
      "from the base, all trained",
      _TRANSFER,
      after="transfer_base",
    ),
  ]


def _exp2(suite: SuiteOptions) -> list[Variation]:
  classes = {"data.classes": "all"} if suite.data == "cub" else {}

  def make(name: str, what: str, row: str = "", **options: object) -> Variation:
    both = {"model.tasks": "class,box"}
    changes = ROWS[row].changes if row else {}
    overrides = {**classes, **both, **changes, **_dotted(options)}
    return Train(name, overrides, what, _EXP2)

  one: Variation = _MOE
  if suite.data == "cub":
    one = make("one_tower", "six experts, class alone", "exp2_one_tower")
  known: list[Variation] = []
  if suite.informed:
    known = [
      make(
        "mtl_1_told",
        "one expert, told",
        "table_1_expert",
        model__tower_sees_gate=suite.base.model.experts,
      )
    ]
  return [
    one,
    make("box_alone", "six experts, box alone", model__tasks="box"),
    make("mtl_1", "one expert", "table_1_expert"),
    make("mtl_3", "three experts", "table_3_experts"),
    make("mtl_6", "six experts", "table_6_experts"),
    make(
      "mtl_6_half_batch",
      "six experts, half the batch (as the poster's)",
      "table_6_experts",
      batch_size=suite.base.batch_size // 2,
    ),
    make("shuffled", "boxes of other images", data__shuffle_boxes=True),
    make("pcgrad", "gradient surgery", loss__weighting="pcgrad"),
    make("uncertainty", "learned task weights", loss__weighting="uncertainty"),
    *known,
  ]


def _dotted(options: Mapping[str, object]) -> dict[str, object]:
  """`model__k` -> `model.k`: keys of a config as keyword arguments."""
  return {key.replace("__", "."): value for key, value in options.items()}


def _experts(suite: SuiteOptions) -> list[Variation]:
  """Attempts to have experts that differ, beside the two-tower six."""
  mtl = next(v for v in _exp2(suite) if v.name == "mtl_6")

  def make(name: str, what: str, **options: object) -> Variation:
    overrides = {**mtl.overrides, **_dotted(options)}
    return Train(name, overrides, what, _EXPERTS)

  unbalanced = {"loss__importance": 0.0, "loss__load": 0.0}
  return [
    mtl,
    make("k_1", "one expert an image", model__k="1"),
    make("k_6", "dense gate, all six an image", model__gate="dense"),
    make("unbalanced", "no balance losses", **unbalanced),
    make(
      "bias",
      "balanced by a bias, not a loss",
      model__bias_rate=0.01,
      **unbalanced,
    ),
    make("sharp", "gate temperature 0.25", model__gate_temperature=0.25),
    make("one_gate", "one gate for both tasks", model__share_gate=True),
    *(_of_informed if suite.informed else _of_pixels)(make, unbalanced),
  ]


def _of_pixels(
  make: Callable[..., Variation], _: Mapping[str, Any]
) -> list[Variation]:
  """Attempts with gates that see pixels."""
  return [
    make("quiet", "gate noise falls to 0", model__gate_noise_schedule="linear"),
    make("apart", "experts start apart", model__break_symmetry=0.1),
    make(
      "wide_gate",
      "a wider gate that learns faster",
      model__gate_width=32,
      optimizer__lr=4e-3,
    ),
  ]


def _of_informed(
  make: Callable[..., Variation], unbalanced: Mapping[str, Any]
) -> list[Variation]:
  """Informed gates without each of what makes them, and with more."""
  return [
    make("pixels", "gates of pixels", **_PIXELS),
    make("zeros", "gates start near 0", model__gate_start="zeros"),
    make("uncopied", "experts apart from the start", model__upcycle_epochs=0.0),
    make("untold", "towers are not told", model__tower_sees_gate=0),
    make("noisy", "gate noise", model__gate_noise=1.0),
    make(
      "information",
      "information in place of balance",
      loss__information=0.1,
      **unbalanced,
    ),
    make("joint", "both gates choose together", model__select="joint"),
  ]


_MAKERS: dict[str, Callable[[SuiteOptions], Sequence[Variation]]] = {
  "exp1": _exp1,
  "transfer": _transfer,
  "exp2": _exp2,
  "experts": _experts,
}
