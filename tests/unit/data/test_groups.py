"""Images that belong together get one number."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image

from mtlmoe_jax import config as config_lib
from mtlmoe_jax import errors
from mtlmoe_jax.data import groups, opening
from mtlmoe_jax.data.readers.file_source import FileSource, Item
from tests.support import layouts


def source(root, names, attributes=None):
  items = [Item(name, root / name, 0, None) for name in names]
  return FileSource("folder", ["a"], items, attributes)


def photograph(path, seed, time=None, part=None, raw=None):
  exif = Image.Exif()
  ifd = exif.get_ifd(ExifTags.IFD.Exif)
  if time is not None:
    ifd[ExifTags.Base.DateTimeOriginal] = time
  if part is not None:
    ifd[ExifTags.Base.SubsecTimeOriginal] = part
  path.parent.mkdir(parents=True, exist_ok=True)
  image = Image.fromarray(layouts.picture(seed, 48, 40))
  image.save(path, quality=95, exif=exif if raw is None else raw)


def of(found):
  return found[0].tolist()


def test_folder_is_the_one_that_holds_the_image(tmp_path):
  names = ["a/s1/1.jpg", "a/s1/2.jpg", "a/s2/1.jpg", "a/3.jpg", "b/s1/1.jpg"]
  found, notes = groups.group_ids(source(tmp_path, names), "folder")
  assert found.tolist() == [0, 0, 1, 2, 3]
  assert (
    "5 images in 4 groups, at most 2 in one (that of a/s1/1.jpg)" in (notes[0])
  )
  assert len(notes) == 1


def test_pattern_takes_its_group_or_all_of_it(tmp_path):
  names = ["a/cam1_07.jpg", "b/cam1_08.jpg", "a/cam2_01.jpg", "a/x.jpg"]
  names += ["a/y.jpg"]
  made = source(tmp_path, names)
  found, notes = groups.group_ids(made, r"pattern:(cam\d)_")
  assert found.tolist() == [0, 0, 1, 2, 3]
  assert "2 images are not matched, each a group of its own" in notes[1]
  assert of(groups.group_ids(made, r"pattern:cam\d_0[18]")) == [0, 1, 2, 3, 4]


def test_column_and_what_it_lacks(tmp_path):
  names = ["1.jpg", "2.jpg", "3.jpg", "4.jpg"]
  cameras = ("north", "", "north", "")
  rows = {n: {"camera": c, "night": "no"} for n, c in zip(names, cameras)}
  made = source(tmp_path, names, rows)
  found, notes = groups.group_ids(made, "column:camera")
  assert found.tolist() == [0, 1, 0, 2]
  assert "2 images have no entry" in notes[1]
  with pytest.raises(errors.InputError, match="it has camera, night"):
    groups.group_ids(made, "column:place")
  with pytest.raises(errors.InputError, match="there is none"):
    groups.group_ids(source(tmp_path, names), "column:camera")


def test_a_pause_begins_another_burst_and_no_time_is_alone(tmp_path):
  times = {
    "a/2.jpg": ("2024:05:01 10:00:03", "50"),
    "a/1.jpg": ("2024:05:01 10:00:00", "9"),
    "a/3.jpg": ("2024:05:01 10:00:06", "6"),  # 3.1 s after the one before
    "b/1.jpg": ("2024:05:01 10:00:03", None),
    "b/2.jpg": ("0000:00:00 00:00:00", None),
    "b/3.jpg": ("May", None),
    "b/4.jpg": (None, None),
  }
  for seed, (name, (time, part)) in enumerate(times.items()):
    photograph(tmp_path / name, seed, time, part)
  made = source(tmp_path, list(times))
  found, notes = groups.group_ids(made, "time:3")
  assert found.tolist() == [0, 0, 1, 2, 3, 4, 5]
  assert "3 images do not tell when they were taken" in notes[1]
  assert of(groups.group_ids(made, "time:3.2")) == [0, 0, 0, 1, 2, 3, 4]


@given(st.binary(max_size=80), st.integers(0, 300))
@settings(max_examples=80, deadline=None)
def test_broken_exif_is_no_time_and_no_traceback(tmp_path_factory, noise, at):
  path = tmp_path_factory.mktemp("exif") / "1.jpg"
  photograph(path, 0, "2024:05:01 10:00:00", "5")
  data = bytearray(path.read_bytes())
  data[at : at + len(noise)] = noise
  path.write_bytes(bytes(data))
  assert isinstance(groups.taken_at(path), float | None)


def test_likeness_joins_copies_alone(tmp_path):
  for seed in range(3):
    photograph(tmp_path / f"{seed}.jpg", seed)
  image = Image.open(tmp_path / "1.jpg")
  image.resize((96, 80)).save(tmp_path / "3.jpg", quality=60)
  (tmp_path / "4.jpg").write_bytes(b"no image")
  names = [f"{i}.jpg" for i in range(5)]
  found, notes = groups.group_ids(source(tmp_path, names), "similar")
  assert found.tolist() == [0, 1, 2, 1, 3]
  assert "1 images cannot be read" in notes[1]


def test_records_of_one_file_are_never_parted(tmp_path):
  items = [
    Item(f"{i}.jpg#{k}", tmp_path / f"{i}", 0, None)
    for i in (1, 2)
    for k in (0, 1)
  ]
  made = FileSource("folder", ["a"], items)
  assert of(groups.group_ids(made, r"pattern:jpg#1")) == [0, 0, 1, 1]


@pytest.mark.parametrize(
  "spec",
  [
    "pattern:(",
    "pattern:",
    "time:soon",
    "time:-1",
    "time:nan",
    "folders",
    "similar:3",
    "column:",
  ],
)
def test_bad_words_are_refused_in_one_line(spec):
  config = config_lib.default_config()
  config.data.group_by = spec
  with pytest.raises(errors.InputError, match=r"data\.group_by") as info:
    config_lib.check_config(config)
  assert "\n" not in str(info.value)


def folder_config(root, **options):
  config = config_lib.default_config()
  config.data.name, config.data.path = "folder", str(root)
  config.data.update(options)
  return config


def test_groups_part_test_and_validation_from_training(tmp_path):
  seeds = iter(range(1000))
  for c in "ab":
    for scene in range(8):
      for i in range(3):
        photograph(tmp_path / f"{c}/{scene}/{i}.jpg", next(seeds))
  config = folder_config(tmp_path, group_by="folder", validation_fraction=0.2)
  data = opening.open_data(config)
  scenes = {
    part: {name.rpartition("/")[0] for name in ids}
    for part, ids in data.ids().items()
  }
  assert not scenes["train"] & (scenes["test"] | scenes["validation"])
  assert not scenes["validation"] & scenes["test"]
  assert np.bincount(data.test.labels).tolist() == [6, 6]
  assert np.bincount(data.validation.labels).tolist() == [3, 3]
  assert any("48 images in 16 groups" in note for note in data.notes)


def test_what_cannot_be_grouped_is_told(tmp_path):
  for i in range(4):
    photograph(tmp_path / f"{'ab'[i % 2]}/{i}.jpg", i)
  with pytest.raises(errors.InputError, match="no group can be held out"):
    opening.open_data(folder_config(tmp_path, group_by="folder"))
  config = config_lib.default_config()
  config.data.group_by = "folder"
  with pytest.raises(errors.InputError, match="'synthetic' has none"):
    opening.open_data(config)
  photograph(tmp_path / "a/deep/9.jpg", 9)
  data = opening.open_data(folder_config(tmp_path, group_by="folder"))
  assert data.ids()["test"] == ["a/deep/9.jpg"]
  assert any(
    "1 classes are in one group alone and not tested (b)" in note
    for note in data.notes
  )
