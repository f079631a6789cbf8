"""The invented species of the synthetic data set: traits, colors and names.

Five species make a family. They share body shape and body colors, and differ
in small parts: bill, crown, face, breast, wing, tail, rump and legs. So a
color histogram tells families apart, not species.

Everything here is a constant of the program: species i is the same bird in
every data set, whatever the seed and the number of classes.
"""

import functools
from dataclasses import dataclass

import numpy as np

from mtlmoe_jax import errors

Color = tuple[int, int, int]

PER_FAMILY = 5

# Values of each trait. The first word of a trait is its plain form.
TRAITS: dict[str, tuple[str, ...]] = {
  "bill": ("short", "long", "curved", "thick"),
  "bill_color": ("dark", "orange", "yellow"),
  "crown": ("plain", "crested", "capped"),
  "face": ("plain", "masked", "browed", "ringed"),
  "breast": ("plain", "spotted", "streaked", "banded", "bibbed"),
  "wing": ("plain", "barred", "patched"),
  "tail": ("square", "long", "forked"),
  "tail_tip": ("plain", "white"),
  "rump": ("plain", "white", "yellow"),
  "legs": ("dark", "red", "yellow"),
}
# How well a trait is seen at 96 pixels, whatever the pose.
_VISIBILITY = {
  "bill": 2.0,
  "bill_color": 1.0,
  "crown": 2.0,
  "face": 1.0,
  "breast": 2.0,
  "wing": 2.0,
  "tail": 2.0,
  "tail_tip": 0.5,
  "rump": 0.5,
  "legs": 0.5,
}
# Two species of one family differ by at least this much visibility.
_DISTANCE = 6.0

_WORDS = {
  ("bill", "long"): "long-billed",
  ("bill", "curved"): "sickle-billed",
  ("bill", "thick"): "thick-billed",
  ("crown", "crested"): "crested",
  ("crown", "capped"): "capped",
  ("breast", "spotted"): "spotted",
  ("breast", "streaked"): "streaked",
  ("breast", "banded"): "collared",
  ("breast", "bibbed"): "bibbed",
  ("wing", "barred"): "bar-winged",
  ("wing", "patched"): "pied-winged",
  ("tail", "long"): "long-tailed",
  ("tail", "forked"): "fork-tailed",
  ("face", "masked"): "masked",
  ("face", "browed"): "white-browed",
  ("face", "ringed"): "spectacled",
  ("bill_color", "orange"): "orange-billed",
  ("bill_color", "yellow"): "yellow-billed",
  ("rump", "white"): "white-rumped",
  ("rump", "yellow"): "yellow-rumped",
  ("legs", "red"): "red-legged",
  ("legs", "yellow"): "yellow-legged",
}

_NOUNS = (
  "grebe",
  "warbler",
  "tern",
  "finch",
  "wren",
  "plover",
  "thrush",
  "shrike",
  "bunting",
  "swallow",
  "lark",
  "rail",
  "flycatcher",
  "sparrow",
  "teal",
  "oriole",
  "pipit",
  "sandpiper",
  "tanager",
  "vireo",
  "starling",
  "dipper",
  "wagtail",
  "petrel",
  "creeper",
  "chat",
  "grosbeak",
  "jay",
  "phalarope",
  "waxwing",
  "curlew",
  "gull",
  "nuthatch",
  "titmouse",
  "cuckoo",
  "dove",
  "kingbird",
  "auk",
  "martin",
  "towhee",
)
COUNT = PER_FAMILY * len(_NOUNS)

# Upper parts, under parts, accent (cap, bib). Muted, as most birds are, and
# near one another: lighting moves a color as far as a family does.
_PALETTES: tuple[tuple[Color, Color, Color], ...] = (
  ((122, 104, 76), (214, 196, 158), (150, 44, 34)),
  ((104, 116, 126), (216, 216, 208), (30, 30, 34)),
  ((112, 118, 70), (206, 202, 130), (40, 42, 36)),
  ((84, 78, 78), (176, 150, 128), (196, 150, 40)),
  ((150, 112, 72), (228, 206, 176), (60, 44, 40)),
  ((76, 98, 128), (206, 190, 170), (168, 84, 40)),
  ((140, 132, 120), (226, 222, 212), (120, 40, 44)),
  ((92, 92, 60), (196, 176, 120), (176, 60, 30)),
)

ACCENTS = tuple(accent for _, _, accent in _PALETTES)


@dataclass(frozen=True)
class Shape:
  """Proportions a family shares, in body lengths.

  Attributes:
    depth: height of the trunk.
    neck: from the shoulder to the middle of the head.
    head: radius of the head.
    legs: from the belly to the perch.
  """

  depth: float
  neck: float
  head: float
  legs: float


@dataclass(frozen=True)
class Species:
  """One class: its name, its family's shape and colors, its own traits."""

  name: str
  family: int
  shape: Shape
  upper: Color
  lower: Color
  accent: Color
  traits: dict[str, str]


def species_names(n: int) -> tuple[str, ...]:
  """Names of the first `n` species, unique and the same on every call.

  Args:
    n: number of classes, 1 ... `COUNT` (200).

  Returns:
    Names such as "long-billed crested grebe": two or three of the traits that
    tell the species from its family, then the family.

  Raises:
    InputError: `n` is out of range.
  """
  return tuple(s.name for s in first(n))


def first(n: int) -> tuple[Species, ...]:
  """The first `n` species; raises InputError as `species_names` does."""
  if not 1 <= n <= COUNT:
    raise errors.InputError(
      f"config.data.synthetic.classes={n}: there are 1 ... {COUNT} invented "
      "species"
    )
  return _all()[:n]


def distance(a: Species, b: Species) -> float:
  """Summed visibility of the traits in which two species differ."""
  return _distance(a.traits, b.traits)


def _distance(a: dict[str, str], b: dict[str, str]) -> float:
  return sum(w for t, w in _VISIBILITY.items() if a[t] != b[t])


@functools.cache
def _all() -> tuple[Species, ...]:
  return tuple(s for f in range(len(_NOUNS)) for s in _family(f))


def _shifted(color: Color, shift: np.ndarray) -> Color:
  red, green, blue = (int(v) for v in np.clip(np.add(color, shift), 20, 235))
  return red, green, blue


def _family(number: int) -> list[Species]:
  rng = np.random.default_rng([20210415, number])
  shape = Shape(
    depth=rng.uniform(0.52, 0.64),
    neck=rng.uniform(0.26, 0.36),
    head=rng.uniform(0.17, 0.20),
    legs=rng.uniform(0.20, 0.38),
  )
  upper, lower, accent = _PALETTES[number % len(_PALETTES)]
  # Families beyond the palettes reuse them, a little shifted.
  shift = rng.integers(-14, 15, 3) * (number >= len(_PALETTES))
  upper, lower = _shifted(upper, shift), _shifted(lower, shift)
  members: list[dict[str, str]] = []
  while len(members) < PER_FAMILY:
    traits = {t: v[rng.integers(len(v))] for t, v in TRAITS.items()}
    near = any(_distance(traits, other) < _DISTANCE for other in members)
    if not near and len(_describe(traits)) >= 2:
      members.append(traits)
  return [
    Species(f"{words} {_NOUNS[number]}", number, shape, upper, lower, accent, t)
    for words, t in zip(_unique_words(members), members)
  ]


def _describe(traits: dict[str, str]) -> list[str]:
  """Words for the traits that are not plain, the most visible ones first."""
  return [w for (t, v), w in _WORDS.items() if traits[t] == v]


def _unique_words(members: list[dict[str, str]]) -> list[str]:
  """Shortest descriptions (two words or more) that tell a family apart."""
  for count in range(2, len(TRAITS) + 1):
    out = [" ".join(_describe(m)[:count]) for m in members]
    if len(set(out)) == len(out):
      return out
  raise AssertionError("two species of a family have the same traits")
