"""When experts pay: a rule of thumb.

Read off docs/experiments/pay.md (suite `pay`: drawn birds of 30 species, where
six experts are compared to one that is told what their router knows) and off
`configs/crops96_narrow.py`; tests hold it against the numbers of the former. It
is of small experts behind a frozen backbone; whole networks
(`configs/drawn_whole.py`) agree, but are one point.
"""

import ml_collections

# An expert that is wider than this share of the classes has enough capacity.
SHARE = 1 / 3
# Training images that an expert needs for each unit of its width.
IMAGES_PER_WIDTH = 35


def pays(width: int, classes: int, images_per_expert: float) -> bool:
  """Whether division of work was worth something in such a place.

  Args:
    width: of an expert's narrowest layer.
    classes: L.
    images_per_expert: training images over N.
  """
  return (
    width < SHARE * classes and images_per_expert >= IMAGES_PER_WIDTH * width
  )


def width_of(config: ml_collections.ConfigDict) -> int:
  """Width of the narrowest layer of an expert that ends in condense."""
  model = config.model
  return min(model.condense_dim, model.expert_dim or model.condense_dim)


def advice(config: ml_collections.ConfigDict, classes: int, images: int) -> str:
  """What the rule says of a config, in a line.

  Args:
    config: the whole config.
    classes: L.
    images: for training; 0 if unknown.

  Returns:
    A line; "" for a single expert.
  """
  experts, width = config.model.experts, width_of(config)
  if experts == 1:
    return ""
  enough = IMAGES_PER_WIDTH * width * experts
  start = f"experts: {experts}, {width} wide, for {classes} classes"
  if images:
    start += f" and {images:,} images ({images / experts:,.0f} an expert)"
  if width >= SHARE * classes:
    said = (
      f"no gain to expect over one (from about {SHARE * classes:.0f} wide on "
      "none was seen)"
    )
  elif images and not pays(width, classes, images / experts):
    said = (
      f"no gain to expect over one that is told what their router knows (it "
      f"takes about {enough:,} images)"
    )
  else:
    said = (
      "may be better than one of equal compute"
      + ("" if images else f", from about {enough:,} images on")
      + "; a wider one is better still where experts are a small part of it"
    )
  return f"{start}: {said}; docs/experiments/pay.md"
