"""The cards of weights as a page in Markdown."""

from mtlmoe_jax import errors
from mtlmoe_jax.ops import pixels
from mtlmoe_jax.pretrained import cards
from mtlmoe_jax.reports import markdown


def page(backbone: str = "") -> str:
  """The page.

  Args:
    backbone: the only one to list; "" lists all.

  Raises:
    InputError: a backbone without a card.
  """
  cards_of: dict[str, list[cards.Card]] = {}
  for card in cards.CARDS:
    cards_of.setdefault(card.backbone, []).append(card)
  if backbone and backbone not in cards_of:
    raise errors.InputError(
      f"--backbone={backbone!r} has no card: there are {', '.join(cards_of)}"
    )
  shown = [backbone] if backbone else list(cards_of)
  return markdown.render(
    "weights.md.j2",
    {"plain": "{:g}".format},
    pixels=pixels.NORMALIZATIONS,
    cards={name: cards_of[name] for name in shown},
  )
