"""Files that the pages name are there."""

import re
import subprocess

import pytest

from tests.support import tiny

PAGES = subprocess.run(
  ["git", "ls-files", "*.md"],
  cwd=tiny.ROOT,
  capture_output=True,
  text=True,
  check=True,
).stdout.split()
# They tell of what was, too.
_OF_BEFORE = ("CHANGELOG.md", "docs/renames.md")
# `config/presets.py` is short for the package's.
_ROOTS = ("", "mtlmoe_jax", "docs")


def missing(page: str, text: str) -> list[str]:
  """What a page links to or names in backquotes, and is not there."""
  folder = (tiny.ROOT / page).parent
  links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", text)
  absent = [
    link for link in links if "://" not in link and not (folder / link).exists()
  ]
  names = re.findall(r"`((?:[\w.-]+/)+[\w-]+\.(?:cfg|ipynb|md|py|sh))`", text)
  folders = [folder, *(tiny.ROOT / root for root in _ROOTS)]
  if page in _OF_BEFORE:
    return absent
  return absent + [
    name for name in names if not any((f / name).exists() for f in folders)
  ]


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_names_is_there(page):
  assert missing(page, (tiny.ROOT / page).read_text("utf-8")) == []


def test_what_is_not_there_is_seen():
  text = (
    "[a](scaling.md#x) [b](gone.md) [c](https://e.org/no.md) "
    "`metrics/intervals.py` `experiments/statistics.py` `x.py`"
  )
  assert missing("docs/a.md", text) == ["gone.md", "experiments/statistics.py"]
