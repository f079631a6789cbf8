"""A split that was written is the one that is read."""

import pytest

from mtlmoe_jax import config as config_lib
from mtlmoe_jax import errors
from mtlmoe_jax.data import membership, opening, split_files
from tests.support import layouts


@pytest.fixture
def root(tmp_path):
  for i in range(20):
    path = tmp_path / "data" / "ab"[i % 2] / f"{i // 4}" / f"{i:02d}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(layouts.encode(layouts.picture(i, 20, 10)))
  return tmp_path / "data"


def config_of(root, **options):
  config = config_lib.default_config()
  config.data.name, config.data.path = "folder", str(root)
  config.data.update(options)
  return config


def test_round_trip_with_groups(root, tmp_path):
  made = opening.open_data(
    config_of(root, group_by="folder", validation_fraction=0.3)
  )
  file = tmp_path / "split.csv"
  split_files.write(file, made.ids(), made.files.ids, made.groups)
  rows = file.read_text().splitlines()
  assert rows[0] == "part,id,group"
  assert rows[2].endswith(",a/0/02.jpg,a/0/00.jpg")
  again = opening.open_data(config_of(root, split_file=str(file)))
  assert again.ids() == made.ids()
  assert again.fingerprint == made.fingerprint


def test_a_list_of_a_run_is_such_a_file(root, tmp_path):
  made = opening.open_data(config_of(root))
  made.write_membership(tmp_path / "split.csv")
  file = str(tmp_path / "split.csv")
  assert opening.open_data(config_of(root, split_file=file)).ids() == made.ids()


def test_a_run_needs_its_file_no_more(root, tmp_path):
  file = tmp_path / "s.csv"
  file.write_text("part,id\ntrain,a/0/00.jpg\ntest,b/0/01.jpg\n")
  config = config_of(root, split_file=str(file), validation_fraction=0.0)
  made = opening.open_data(config)
  made.write_membership(tmp_path / "split.csv")
  file.unlink()
  images = membership.read(tmp_path / "split.csv")
  again = opening.open_again(config, made.class_names, images)
  assert again.ids() == made.ids()


def test_wins_over_an_own_split_and_leaves_out_what_it_lacks(root, tmp_path):
  (root / "train").mkdir()
  (root / "test").mkdir()
  (root / "a").rename(root / "train/a")
  (root / "b").rename(root / "test/b")
  file = tmp_path / "s.csv"
  file.write_text(
    "id, part, why\ntest/b/0/01.jpg, train, x\n"
    "train\\a\\0\\00.jpg,test,\n./train/a/0/02.jpg,none,\n"
  )
  options = {"split_file": str(file), "validation_fraction": 0.0}
  made = opening.open_data(config_of(root, **options))
  assert made.ids() == {
    "train": ["test/b/0/01.jpg"],
    "test": ["train/a/0/00.jpg"],
  }
  assert any("17 images without a row" in note for note in made.notes)


@pytest.mark.parametrize(
  ("text", "said"),
  [
    ("part,name\ntrain,a\n", "must have the columns part and id"),
    ("part,id\ntest,a/0/00.jpg\n", "no image is in the part 'train'"),
    ("part,id\ntrain,a/0/99.jpg\n", "line 2: the data set has no image"),
    ("part,id\nlearn,a/0/00.jpg\n", "part 'learn' must be one of train, "),
    ("part,id\ntrain,a/0/00.jpg\ntest,a/0/00.jpg\n", "line 3: .* already"),
    ("part,id\ntrain\n", "has no image ''"),
    ("", "must have the columns"),
  ],
)
def test_mistakes_are_told_in_one_line(root, tmp_path, text, said):
  file = tmp_path / "s.csv"
  file.write_text(text)
  with pytest.raises(errors.InputError, match=said) as info:
    opening.open_data(config_of(root, split_file=str(file)))
  assert "\n" not in str(info.value)


def test_no_such_file_and_the_poster(root):
  with pytest.raises(errors.InputError, match="no such file"):
    opening.open_data(config_of(root, split_file="/none.csv"))
  config = config_of(root, split_file="x.csv", split_scheme="poster")
  with pytest.raises(errors.InputError, match="every tenth image"):
    config_lib.check_config(config)
