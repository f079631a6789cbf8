"""The data set that is always there: invented birds, drawn on demand.

No download. Image j of class c of a split is drawn from (seed, split, c, j)
alone, so more classes or more images leave the earlier ones as they are, and
the order of access does not matter. The classes of a family differ in small
parts only (`species.py`); berries and leaves have the colors of those parts,
so that counting colors does not replace looking at shapes. Pose, scale, place,
light, background and occlusion do not depend on the class and are recorded with
each image, so what experts specialise in can be measured against a known truth.

The pixels are the same in every process and on every machine with the same
versions of numpy and Pillow: chance comes from PCG64, polygons are filled by
Pillow, and float32 pixel arithmetic is elementary (no exp or sin of arrays).

Letters: H = W side of an image in pixels, n images of a split.
"""

import io
import math
import pathlib
from typing import Any

import numpy as np
from PIL import Image, ImageChops

from mtlmoe_jax import errors
from mtlmoe_jax.data import source
from mtlmoe_jax.data.drawn import birds, scenery, species
from mtlmoe_jax.data.drawn.species import species_names
from mtlmoe_jax.utils import files

__all__ = [
  "ATTRIBUTES",
  "POSES",
  "Synthetic",
  "draw_samples",
  "open_splits",
  "species_names",
]

# Part of the fingerprint; raise it whenever the pixels change.
VERSION = 1

POSES = ("perched", "flying", "swimming")
SPLITS = ("train", "test")
# What `attributes` of every record holds. Angles in degrees; places and sizes
# as shares of the side.
ATTRIBUTES = (
  "family",  # species.Species.family
  "pose",  # index into POSES
  "facing",  # 1 right, -1 left (of the body)
  "look_back",  # 1: the head is turned to the tail
  "pitch",  # of the body, breast up
  "head_pitch",
  "head_yaw",
  "flap",  # direction of the raised wing; 0 unless flying
  "scale",  # longer side of the box
  "centre_x",
  "centre_y",
  "background",  # index into scenery.BACKGROUNDS
  "blur",  # of the background
  "occlusion",  # share of the bird's pixels behind leaves or grass
  "brightness",  # factor
  "warmth",  # tint: factor on red over factor on blue
  "light_x",  # direction of the light, y down
  "light_y",
  "shadow",  # 1: a shadow crosses the frame
)

_SUPERSAMPLING = 3
_MAX_OCCLUSION = 0.22
# Image, mask and attributes, see `_draw`.
_Drawn = tuple[np.ndarray, Image.Image, dict[str, float]]


class Synthetic:
  """One split; a `source.Source` whose images are drawn when asked for.

  Safe to read from several threads: nothing is kept between calls.
  """

  name = "synthetic"

  def __init__(
    self, split: str, classes: int, per_class: int, size: int, seed: int
  ) -> None:
    """Describes a split; draws nothing yet.

    Args:
      split: "train" or "test".
      classes: number of species.
      per_class: images of each.
      size: H.
      seed: of the data set.

    Raises:
      InputError: more classes than there are species, or fewer than one.
    """
    self._species = species.first(classes)
    self._key = (int(seed), SPLITS.index(split))
    self._size, self._per_class = int(size), int(per_class)
    self.class_names = tuple(s.name for s in self._species)
    self.labels = np.repeat(np.arange(classes, dtype=np.int32), per_class)
    self.ids = [
      f"{split}/{c:03d}/{j:04d}"
      for c in range(classes)
      for j in range(per_class)
    ]
    # The boxes follow from these, so nothing has to be drawn.
    self.fingerprint = source.fingerprint(
      "synthetic",
      VERSION,
      self._key,
      self._size,
      self.class_names,
      self.labels,
      self.ids,
    )

  def __len__(self) -> int:
    return len(self.ids)

  def __getitem__(self, index: int) -> source.Record:
    """Draws image `index`: u8 [H, H, 3]; `attributes` has `ATTRIBUTES`."""
    index = range(len(self))[index]
    image, mask, attributes = self._draw(index)
    return {
      "image": image,
      "label": self.labels[index],
      "box": mask_box(mask),
      "has_label": True,
      "has_box": True,
      "id": self.ids[index],
      "attributes": attributes,
    }

  def mask(self, index: int) -> np.ndarray:
    """The bird of image `index` without what covers it: bool [3 H, 3 H]."""
    return np.asarray(self._draw(index)[1]) > 0

  def _draw(self, index: int) -> _Drawn:
    label, number = divmod(range(len(self))[index], self._per_class)
    rng = np.random.Generator(np.random.PCG64([*self._key, label, number]))
    return _draw(self._species[label], rng, self._size)


def open_splits(options: Any) -> tuple[Synthetic, Synthetic]:
  """Opens the data set.

  Args:
    options: `config.data.synthetic`: classes, train_per_class,
      test_per_class, size, seed.

  Returns:
    The training and the test split; they share no image.

  Raises:
    InputError: `options.classes` is out of range.
  """
  counts = (options.train_per_class, options.test_per_class)
  train, test = (
    Synthetic(split, options.classes, n, options.size, options.seed)
    for split, n in zip(SPLITS, counts)
  )
  return train, test


def mask_box(mask: Image.Image) -> np.ndarray:
  """The tight box of a mask: f32 [4] xyxy, normalised."""
  return np.asarray(mask.getbbox(), np.float32) / np.float32(mask.width)


def _draw(kind: species.Species, rng: np.random.Generator, size: int) -> _Drawn:
  """One image u8 [H, H, 3], the bird's mask L [3 H, 3 H], its attributes."""
  pose = _sample_pose(rng)
  tones = rng.uniform(0.86, 1.12, (5, 1)) * rng.uniform(0.92, 1.08, (5, 3))
  parts, waterline, feet = birds.bird_parts(kind, pose, tones)
  side = size * _SUPERSAMPLING
  place = _sample_placement(rng, parts, waterline, pose, side)
  bird = birds.paint(parts, place, side, waterline)
  mask = bird.getchannel("a")
  box = mask_box(mask)

  ground = _sample_background(rng, pose.kind)
  blur = rng.uniform(0.008, 0.024)
  image = scenery.background(ground, rng, size, blur)
  if pose.kind == birds.SWIMMING and rng.uniform() < 0.5:
    image = scenery.bank(rng, size, blur, image)
  near = Image.new("RGBa", (side, side))
  scenery.blossom(near, rng, birds.PART_COLORS)
  if pose.kind == birds.PERCHED:
    foot = (place.x, place.y - feet * place.scale)
    scenery.perch(near, ground, rng, foot, place.scale)
  image = _over(image, near.reduce(_SUPERSAMPLING))
  small = bird.reduce(_SUPERSAMPLING)
  if waterline is not None:
    image = _reflect(image, small, place.y - waterline * place.scale)
  angle = math.radians(rng.uniform(-150, -30))
  light = (math.cos(angle), math.sin(angle))
  radius = 0.11 * place.scale / _SUPERSAMPLING
  shade = scenery.relief(small.getchannel("a"), light, radius)
  image = _over(image, small, shade[..., None])
  image, occlusion = _occlude(image, mask, box, rng)

  brightness, warmth = rng.uniform(0.7, 1.15), rng.uniform(0.77, 1.3)
  tint = np.sqrt([warmth, rng.uniform(0.92, 1.08), 1 / warmth])
  image = image * np.float32(brightness * tint)
  shadowed = rng.uniform() < 0.3
  if shadowed:
    image = image * scenery.shadow(rng, size)
  grain = rng.integers(-5, 6, image.shape, np.int8)
  image = np.clip(image + grain + np.float32(0.5), 0, 255).astype(np.uint8)
  values = (
    kind.family,
    pose.kind,
    pose.facing,
    pose.look_back,
    pose.pitch,
    pose.head_pitch,
    pose.head_yaw,
    pose.flap,
    max(box[2] - box[0], box[3] - box[1]),
    (box[0] + box[2]) / 2,
    (box[1] + box[3]) / 2,
    ground,
    blur,
    occlusion,
    brightness,
    warmth,
    *light,
    shadowed,
  )
  return image, mask, dict(zip(ATTRIBUTES, map(float, values), strict=True))


def _sample_pose(rng: np.random.Generator) -> birds.Pose:
  kind = int(rng.choice(3, p=(0.5, 0.28, 0.22)))
  low, high = ((0, 48), (-18, 26), (-4, 8))[kind]
  pitch = rng.uniform(low, high)
  low, high = ((48, 82), (12, 34), (58, 86))[kind]
  flying = kind == birds.FLYING
  return birds.Pose(
    kind=kind,
    facing=1 if rng.uniform() < 0.5 else -1,
    pitch=pitch,
    neck=rng.uniform(low, high) + (pitch if flying else 0),
    head_pitch=rng.uniform(-22, 18) + (0.7 * pitch if flying else 0),
    head_yaw=rng.uniform(-38, 38),
    look_back=bool(rng.uniform() < 0.12) and not flying,
    tail_lift=rng.uniform(-14, 10),
    flap=rng.uniform(62, 128) + pitch if flying else 0.0,
    reach=rng.uniform(0.7, 1.0) if flying else 0.0,
  )


def _sample_placement(
  rng: np.random.Generator,
  parts: list[birds.Part],
  waterline: float | None,
  pose: birds.Pose,
  side: int,
) -> birds.Placement:
  x0, y0, x1, y1 = birds.extent(parts, waterline).tolist()
  if pose.facing < 0:
    x0, x1 = -x1, -x0
  scale = rng.uniform(0.55, 0.88) * side / max(x1 - x0, y1 - y0)
  # A little of the bird may leave the frame.
  spill = 0.02 * side
  left = rng.uniform(-spill, side + spill - (x1 - x0) * scale)
  top = rng.uniform(-spill, side + spill - (y1 - y0) * scale)
  return birds.Placement(
    x=left - x0 * scale, y=top + y1 * scale, scale=scale, facing=pose.facing
  )


def _sample_background(rng: np.random.Generator, pose: int) -> int:
  if pose == birds.SWIMMING:
    return scenery.WATER
  return int(rng.integers(len(scenery.BACKGROUNDS)))


def _occlude(
  image: np.ndarray,
  mask: Image.Image,
  box: np.ndarray,
  rng: np.random.Generator,
) -> tuple[np.ndarray, float]:
  """Puts leaves or grass in front; also the share of the bird they cover."""
  side = mask.width
  if rng.uniform() < 0.45:
    return image, 0.0
  bounds = mask.getbbox()
  mask = mask.crop(bounds)
  area = mask.histogram()[255]
  for shrink in (1.0, 0.6, 0.35):
    layer = scenery.occluder(rng, side, box, shrink)
    cover = layer.crop(bounds).getchannel("a")
    covered = ImageChops.multiply(mask, cover)
    share = covered.histogram()[255] / area
    if share <= _MAX_OCCLUSION:
      return _over(image, layer.reduce(_SUPERSAMPLING)), share
  return image, 0.0


def _over(
  image: np.ndarray, layer: Image.Image, shade: np.ndarray | None = None
) -> np.ndarray:
  """Lays RGBa [H, H] over f32 [H, H, 3]; `shade` scales the layer's RGB."""
  values = np.asarray(layer, np.float32)
  clear = 1 - values[..., 3:] / np.float32(255)
  colors = values[..., :3] if shade is None else values[..., :3] * shade
  return image * clear + colors


def _reflect(image: np.ndarray, bird: Image.Image, level: float) -> np.ndarray:
  """Mirrors a swimming bird in the water below `level` (canvas pixels)."""
  side = bird.width
  level = round(level / _SUPERSAMPLING)
  flipped = bird.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
  below = Image.new("RGBa", bird.size)
  # The flipped waterline is at side - level; bring it down to `level`.
  below.paste(flipped, (0, 2 * level - side))
  below = below.point(lambda v: int(v * 0.45))
  ripples = (0.75 + 0.25 * (np.arange(side) % 3 != 0)).astype(np.float32)
  return _over(image, below, ripples[:, None, None])


def draw_samples(options: Any, out: pathlib.Path, count: int) -> None:
  """Writes test images as PNG files, the classes in turn.

  Args:
    options: `config.data.synthetic`.
    out: folder; made where missing.
    count: how many, at most the size of the test split.

  Raises:
    InputError: more pictures than there are, or a folder that cannot be made.
  """
  _, test = open_splits(options)
  if count > len(test):
    raise errors.InputError(
      f"--count={count}: the test split has {len(test)} images, ask for fewer"
    )
  per_class = options.test_per_class
  for i in range(count):
    turn, label = divmod(i, options.classes)
    record = test[label * per_class + turn]
    stream = io.BytesIO()
    Image.fromarray(record["image"]).save(stream, "PNG")
    name = test.class_names[label].replace(" ", "_")
    try:
      files.write_bytes(out / f"{i:02d}_{name}.png", stream.getvalue())
    except OSError as error:
      raise errors.InputError(
        f"--out={out}: cannot write there ({error.strerror}); choose another "
        "folder"
      ) from None
