import importlib.util
import io
import subprocess
import sys
import tarfile

import numpy as np
import pytest

from mtlmoe_jax import config as config_lib
from mtlmoe_jax import data, errors
from mtlmoe_jax.data import prepare
from mtlmoe_jax.data.readers import cub, tfds
from mtlmoe_jax.data.readers.problems import Problems
from tests.support import layouts

tensorflow_datasets = pytest.importorskip("tensorflow_datasets")

# ymin, xmin, ymax, xmax
BOX = (0.1, 0.2, 0.7, 0.9)


def build(tmp_path, boxes=(BOX,), splits=("train", "test"), **features):
  """Prepares `tiny` (PNG images) with TFDS; returns its data directory."""
  lib = tensorflow_datasets
  kinds = {
    "image": lib.features.Image(encoding_format="png"),
    "label": lib.features.ClassLabel(names=["ant", "bee"]),
    "bbox": lib.features.BBoxFeature(),
    "image/filename": lib.features.Text(),
    **features,
  }
  kinds = {key: kind for key, kind in kinds.items() if kind is not None}

  class Tiny(lib.core.GeneratorBasedBuilder, skip_registration=True):
    VERSION = lib.core.Version("1.0.0")
    url_infos = {}  # noqa: RUF012

    def _info(self):
      return lib.core.DatasetInfo(
        builder=self, features=lib.features.FeaturesDict(kinds)
      )

    def _split_generators(self, _):
      return {split: self._generate_examples(split) for split in splits}

    def _generate_examples(self, split):
      for i in range(4):
        example = {
          "image": io.BytesIO(
            layouts.encode(layouts.picture(i, 30, 20), "PNG")
          ),
          "label": i % 2,
          "bbox": lib.features.BBox(*boxes[i % len(boxes)]),
          "image/filename": f"{split}/{i}.png",
          "label_name": ("Ant", "Bee")[i % 2],
          # As stanford_dogs has them: one, two (the second is larger), none.
          "objects": [
            {"bbox": lib.features.BBox(*box)}
            for box in ((BOX,), ((0.0, 0.0, 0.2, 0.2), BOX), (), (BOX,))[i]
          ],
        }
        yield i, {key: example[key] for key in kinds}

  builder = Tiny(data_dir=str(tmp_path), file_format="array_record")
  builder.download_and_prepare()
  return str(tmp_path)


def opened(path, name="tiny", need_box=True):
  return tfds.open_tfds(path, name, need_box, "single", Problems())


def test_reads_pixels_labels_and_turned_boxes(tmp_path):
  whole = opened(build(tmp_path))
  assert whole.source.class_names == ("ant", "bee")
  np.testing.assert_array_equal(whole.official["train"], range(4))
  np.testing.assert_array_equal(whole.official["test"], range(4, 8))
  for i, name in enumerate(whole.source.ids):
    split, number = name.removesuffix(".png").split("/")
    assert split == ("train" if i < 4 else "test")
    record = whole.source[i]
    np.testing.assert_array_equal(
      record["image"], layouts.picture(int(number), 30, 20)
    )
    assert record["label"] == whole.source.labels[i] == int(number) % 2
    np.testing.assert_array_equal(
      record["box"], np.float32([0.2, 0.1, 0.9, 0.7])
    )
    assert record["has_box"] is True


def test_through_open_data_and_batches(tmp_path):
  config = config_lib.default_config()
  config.data.name, config.data.tfds_name = "tfds", "tiny"
  config.data.path = build(tmp_path)
  config.data.image_size = 32
  opened_data = data.open_data(config)
  (batch,) = data.eval_batches(opened_data.test, config, 4)
  assert batch["valid"].all()
  np.testing.assert_array_equal(np.sort(batch["label"]), [0, 0, 1, 1])


def test_validation_is_the_test_split_where_there_is_no_other(tmp_path):
  whole = opened(build(tmp_path, splits=("train", "validation")))
  assert set(whole.official) == {"train", "test"}


def test_numbered_classes_take_the_told_names(tmp_path):
  lib = tensorflow_datasets
  path = build(
    tmp_path,
    label=lib.features.ClassLabel(num_classes=3),
    label_name=lib.features.Text(),
  )
  assert opened(path).source.class_names == ("Ant", "Bee", "2")


def test_missing_box_feature(tmp_path):
  path = build(tmp_path, bbox=None)
  with pytest.raises(errors.InputError, match="no bbox feature") as info:
    opened(path)
  assert "\n" not in str(info.value)
  record = opened(path, need_box=False).source[0]
  assert record["has_box"] is False


def test_objects_with_boxes(tmp_path):
  lib = tensorflow_datasets
  objects = lib.features.Sequence({"bbox": lib.features.BBoxFeature()})
  path = build(tmp_path, bbox=None, objects=objects)
  with pytest.raises(errors.InputError, match=r"has 2 objects.*'largest'"):
    opened(path)
  with pytest.raises(errors.InputError, match="'each': windows are cut from"):
    tfds.open_tfds(path, "tiny", True, "each", Problems())
  whole = tfds.open_tfds(path, "tiny", True, "largest", Problems())
  records = {r["id"]: r for r in map(whole.source.__getitem__, range(4))}
  for i in range(4):
    record = records[f"train/{i}.png"]
    assert record["has_box"] == (i != 2)
    if i != 2:
      np.testing.assert_array_equal(
        record["box"], np.float32([0.2, 0.1, 0.9, 0.7])
      )
  assert whole.notes == (
    "2 of 8 examples have no box",
    "2 of 8 examples have several objects: the largest of each is read",
  )
  # The folder says by itself that it is TFDS's.
  config = config_lib.default_config()
  config.data.path, config.data.objects = path, "largest"
  assert len(data.open_data(config).test) == 4


def test_missing_label_feature(tmp_path):
  with pytest.raises(errors.InputError, match="no label feature"):
    opened(build(tmp_path, label=None))


def test_one_split_is_not_enough(tmp_path):
  with pytest.raises(errors.InputError, match="has the splits train"):
    opened(build(tmp_path, splits=("train",)))


def test_bad_boxes_are_told(tmp_path):
  path = build(tmp_path, boxes=(BOX, (0.5, 0.2, 0.5, 0.9)))
  with pytest.raises(errors.InputError, match="no area"):
    opened(path)
  problems = Problems(collect=True)
  tfds.open_tfds(path, "tiny", True, "single", problems)
  assert len(problems.messages) == 4


def test_a_box_of_zeros_is_none(tmp_path):
  """As in oxford_iiit_pet, where an image has no head box."""
  whole = opened(build(tmp_path, boxes=(BOX, (0.0, 0.0, 0.0, 0.0))))
  assert [r["has_box"] for r in map(whole.source.__getitem__, range(4))] == [
    name.endswith(("0.png", "2.png")) for name in whole.source.ids[:4]
  ]
  assert whole.notes == ("4 of 8 examples have no box",)
  assert opened(build(tmp_path / "all")).notes == ()


@pytest.mark.parametrize("name", ["tiny", "other", "tiny/x", "a b"])
def test_wrong_folder_or_name(tmp_path, name):
  with pytest.raises(errors.InputError, match=r"no prepared TFDS data set"):
    opened(str(tmp_path), name)


def test_no_tensorflow_is_imported(tmp_path):
  path = build(tmp_path)
  code = (
    "import sys; from mtlmoe_jax.data.readers import tfds, problems;"
    f"p = problems.Problems();"
    f"tfds.open_tfds({path!r}, 'tiny', True, 'single', p).source[0];"
    "assert 'tensorflow' not in sys.modules"
  )
  subprocess.run([sys.executable, "-c", code], check=True)


def make_segmentations(work):
  """segmentations.tgz, which caltech_birds2011 asks for beside the images."""
  with tarfile.open(work / "segmentations.tgz", "w:gz") as tar:
    for number, (_, width, height, _, _) in layouts.CUB_ROWS.items():
      mask = np.full((height, width), 255, np.uint8)
      body = layouts.encode(mask, "PNG")
      name = layouts.cub_name(number).replace(".jpg", ".png")
      info = tarfile.TarInfo(f"segmentations/{name}")
      info.size = len(body)
      tar.addfile(info, io.BytesIO(body))


@pytest.mark.tfds_prepare
@pytest.mark.skipif(
  importlib.util.find_spec("tensorflow") is None
  or importlib.util.find_spec("cv2") is None,
  reason="TFDS's caltech_birds2011 needs the extra tfds-prepare",
)
def test_real_caltech_birds_builder_gives_what_cub_gives(tmp_path, monkeypatch):
  archive = layouts.make_cub_archive(tmp_path / "work")
  make_segmentations(tmp_path / "work")

  # The one thing that is not real: the small archives' checksums.
  def accept(self, *, url, url_info, path):
    del path
    self._recorded_url_infos[url] = url_info

  monkeypatch.setattr(
    tensorflow_datasets.download.DownloadManager,
    "_register_or_validate_checksums",
    accept,
  )
  tfds_dir = str(tmp_path / "tfds")
  folder = prepare.prepare(str(tmp_path / "out"), str(archive), "any", tfds_dir)
  ours = cub.open_cub(str(folder), Problems())
  theirs = tfds.open_tfds(
    tfds_dir, "caltech_birds2011", True, "single", Problems()
  )
  assert len(theirs.source) == len(ours.source) == len(layouts.CUB_ROWS)
  assert theirs.source.class_names[:3] == ("red_bird", "sky_blue_bird", "2")
  their_names = [name.split("images/")[1] for name in theirs.source.ids]
  for split in ("train", "test"):
    names = {ours.source.ids[i] for i in ours.official[split]}
    assert names == {their_names[i] for i in theirs.official[split]}
  for i, name in enumerate(ours.source.ids):
    a, b = ours.source[i], theirs.source[their_names.index(name)]
    np.testing.assert_array_equal(a["image"], b["image"])
    np.testing.assert_array_equal(a["box"], b["box"])
    assert a["label"] == b["label"]
