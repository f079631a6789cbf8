"""A folder of photographs that is named alone, from training to pictures."""

import json

from tests.support import layouts, tiny

# As few things to compile as there can be; the rest is chosen.
SMALL = (
  *("--config.model.pretrained=", "--config.model.backbone=efficientnet_pico"),
  *("--config.data.image_size=32", "--config.model.norm=group"),
  *("--config.model.experts=3", "--config.eval.report=False"),
  *("--config.steps=2", "--config.eval.batch_size=4"),
)


def photographs(root, classes="ab", images=5):
  for label, name in enumerate(classes):
    (root / name).mkdir(parents=True, exist_ok=True)
    for i in range(images):
      picture = layouts.picture(10 * label + i, 40, 30)
      (root / name / f"{i}.jpg").write_bytes(layouts.encode(picture))
  return root


def test_a_folder_alone_is_enough(tmp_path):
  photos = photographs(tmp_path / "photos")
  # Written elsewhere than runs/photos of the checkout.
  workdir = tmp_path / "run"
  words = ("train.py", str(photos), f"--workdir={workdir}", *SMALL)
  done = tiny.quick_launch(*words)
  assert done.returncode == 0, done.stderr
  assert "2 classes, 8 training images" in done.stderr
  assert "chosen: model.tasks=class: no training images have a box" in (
    done.stderr
  )
  assert "takes about not known" in done.stderr
  assert f"next: mtlmoe evaluate {workdir}" in done.stderr
  saved = json.loads((workdir / "config.json").read_text())
  assert saved["fit"] == {"budget": "", "keep": []}
  assert saved["data"]["path"] == str(photos)
  assert saved["model"]["experts"] == 3 and saved["model"]["tasks"] == "class"

  # Other values would be chosen for more images; those of the run stay.
  again = tiny.quick_launch(*words, "--config.log.every_steps=5")
  assert again.returncode == 0, again.stderr
  assert "resumed at step 2, the last: judged again" in again.stderr
  refused = tiny.quick_launch(*words[:3], *SMALL[1:], "--config.model.k=1")
  assert refused.returncode == 2
  assert "model.k (there '2', now '1')" in refused.stderr

  done = tiny.quick_launch("predict.py", str(workdir), str(photos / "a"))
  assert done.returncode == 0, done.stderr
  assert (workdir / "predictions" / "predictions.csv").is_file()

  # Neither more classes nor more images are the same data.
  photographs(photos, "abc")
  changed = tiny.quick_launch(*words)
  assert changed.returncode == 2
  assert "was trained on other data" in changed.stderr


def test_check_takes_the_folder(tmp_path):
  photos = photographs(tmp_path / "photos")
  done = tiny.quick_launch("check_data.py", str(photos))
  assert done.returncode == 0, done.stderr
  assert "0 problem(s) found" in done.stdout
