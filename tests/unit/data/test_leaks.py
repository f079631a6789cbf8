"""What train and test share is told."""

import numpy as np
import pytest
from PIL import Image

from mtlmoe_jax import config as config_lib
from mtlmoe_jax.data import check
from tests.support import layouts


@pytest.fixture
def root(tmp_path):
  """Two copies across parts, three within train."""
  for part, seeds in (("train", range(8)), ("test", (0, 8, 9, 1))):
    for n, seed in enumerate(seeds):
      path = tmp_path / part / "ab"[seed % 2] / f"s{seed // 4}" / f"{n}.jpg"
      path.parent.mkdir(parents=True, exist_ok=True)
      side = 90 if part == "train" else 60
      path.write_bytes(layouts.encode(layouts.picture(seed, side, side)))
  for n in (1, 2):
    image = Image.open(tmp_path / "train/a/s0/2.jpg").convert("RGB")
    image = np.asarray(image.resize((70 + n, 70)))
    path = tmp_path / f"train/a/copy{n}.jpg"
    path.write_bytes(layouts.encode(image))
  return tmp_path


def config_of(root, **options):
  config = config_lib.default_config()
  config.data.name, config.data.path = "folder", str(root)
  config.data.validation_fraction = 0.0
  config.data.update(options)
  return config


def test_near_duplicates_are_counted_by_parts_and_named(root):
  report = check.check(config_of(root))
  assert report.problems == []
  lines = report.text.splitlines()
  at = next(i for i, x in enumerate(lines) if x.startswith("near-duplicates"))
  assert lines[at + 1 : at + 5] == [
    "  between train and test: 2 pairs (train/a/s0/0.jpg ~ test/a/s0/0.jpg, "
    "train/b/s0/1.jpg ~ test/b/s0/3.jpg)",
    "  within train: 3 pairs (train/a/copy1.jpg ~ train/a/copy2.jpg, "
    "train/a/copy1.jpg ~ train/a/s0/2.jpg, train/a/copy2.jpg ~ "
    "train/a/s0/2.jpg)",
    "  within test: 0 pairs",
    "  LEAK: hold them out together with config.data.group_by='similar'",
  ]
  assert "groups of" not in report.text


def test_groups_in_both_parts_of_an_own_split_are_told(root):
  pattern = r"pattern:([ab]/s\d)/"
  text = check.check(config_of(root, group_by=pattern)).text
  assert (
    f"groups of config.data.group_by={pattern!r} in both train and test: 2 of "
    "8 (LEAK: they are judged too well)" in text
  )
  text = check.check(config_of(root, group_by="folder")).text
  assert "in both train and test: 0 of 9 (none leaks)" in text


def test_a_split_without_leaks_has_none(root):
  (root / "train").rename(root / "all")
  for path in sorted((root / "test").rglob("*.jpg")):
    new = root / "all" / path.relative_to(root / "test")
    new.parent.mkdir(parents=True, exist_ok=True)
    path.rename(new.with_name(f"t{path.name}"))
  config = config_of(root / "all", group_by="similar", validation_fraction=0.2)
  text = check.check(config).text
  assert "in both train and test: 0 of 10 (none leaks)" in text
  assert "between train and test: 0 pairs" in text
  assert "between train and validation: 0 pairs" in text
  assert text.count("LEAK") == 0
