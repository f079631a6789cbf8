"""Names of classes as they are shown."""

import re


def display_name(name: str, limit: int = 28) -> str:
  """`001.Black_footed_Albatross` -> `Black footed Albatross`, cut to fit."""
  text = re.sub(r"^\d+\.(?=\D)", "", name).replace("_", " ")
  return text if len(text) <= limit else text[: limit - 1] + "…"
