"""The README's picture: what `make demo` answers, side by side.

python docs/hero.py runs/demo/predictions docs/hero.jpg
"""

import pathlib
import sys

from PIL import Image

COLUMNS = 4


def main(folder: str, out: str) -> None:
  """Puts the overlays of a folder into rows of four.

  Args:
    folder: with overlays of one size, as `mtlmoe predict` writes them.
    out: a .jpg file.
  """
  pictures = [Image.open(p) for p in sorted(pathlib.Path(folder).glob("*.jpg"))]
  width, height = pictures[0].size
  rows = -(-len(pictures) // COLUMNS)
  sheet = Image.new("RGB", (COLUMNS * width, rows * height))
  for i, picture in enumerate(pictures):
    sheet.paste(picture, (i % COLUMNS * width, i // COLUMNS * height))
  sheet.save(out, quality=75, optimize=True)


if __name__ == "__main__":
  main(*sys.argv[1:])
