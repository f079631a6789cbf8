import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest

from mtlmoe_jax import config as config_lib
from mtlmoe_jax import errors
from mtlmoe_jax.training import metric_log, workdir
from mtlmoe_jax.utils import files, progress
from tests.support import tiny


def test_write_is_whole_or_not_at_all(tmp_path, monkeypatch):
  path = tmp_path / "a" / "x.txt"
  files.write_text(path, "old")

  def fail(*_):
    raise OSError("disk full")

  monkeypatch.setattr(os, "replace", fail)
  with pytest.raises(OSError, match="disk full"):
    files.write_text(path, "new")
  assert path.read_text() == "old"
  assert os.listdir(path.parent) == ["x.txt"]


def test_a_claim_is_one_process_and_ends_with_it(tmp_path):
  path = tmp_path / "new" / "x.lock"
  code = (
    "import sys, time\nfrom mtlmoe_jax.utils import files\n"
    "with files.claim(sys.argv[1]) as ours:\n"
    "  print(ours, flush=True)\n"
    "  time.sleep(60)\n"
  )
  command = [sys.executable, "-c", code, str(path)]
  with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
    assert other.stdout.readline() == "True\n"
    with files.claim(path) as ours:
      assert not ours
    other.kill()
  with files.claim(path) as ours:
    assert ours
    with files.claim(path) as again:
      assert not again
  with files.claim(path) as ours:
    assert ours


def test_json_takes_arrays_and_not_a_number(tmp_path):
  path = tmp_path / "x.json"
  files.write_json(
    path, {"a": np.float32(1.5), "b": (np.arange(2), math.nan), 3: None}
  )
  assert json.loads(path.read_text()) == {
    "a": 1.5,
    "b": [[0, 1], None],
    "3": None,
  }


def test_log_forgets_what_a_resumed_run_repeats(tmp_path):
  config = tiny.config()
  log = metric_log.MetricLog(tmp_path, config, 0)
  for step in (2, 4, 6):
    log.write(step=step, epoch=0.5, split="train", seconds=1.0, loss=3.0)
  log.close()
  with (tmp_path / metric_log.FILE).open("a") as file:
    file.write('{"step": 8, "los')  # killed while writing
  log = metric_log.MetricLog(tmp_path, config, 4)
  log.write(step=5, epoch=0.6, split="train", seconds=2.0, loss=2.0)
  log.close()
  assert [r["step"] for r in metric_log.read(tmp_path)] == [2, 4, 5]


def test_workdir_of_another_run_is_refused(tmp_path):
  config = tiny.config()
  workdir.prepare(str(tmp_path), config)
  workdir.prepare(str(tmp_path), config)
  config.log.every_steps = 99  # free to change
  workdir.prepare(str(tmp_path), config)
  config.optimizer.lr = 0.5
  workdir.prepare(str(tmp_path), config)  # nothing trained yet: replaced
  (tmp_path / "checkpoints" / "3").mkdir(parents=True)
  config.optimizer.lr = 0.25
  with pytest.raises(errors.InputError, match=r"optimizer\.lr"):
    workdir.prepare(str(tmp_path), config)


def test_workdir_of_an_earlier_version_goes_on(tmp_path):
  config = tiny.config(**{"model.backbone": "tf_efficientnet_lite0"})
  saved = config_lib.to_saved(config)
  # As 0.1.0 wrote it: no version, the old name, none of the newer options.
  del saved["version"], saved["features"]
  saved["model"]["backbone"] = "efficientnet_lite0"
  files.write_json(tmp_path / "config.json", saved)
  (tmp_path / "checkpoints" / "3").mkdir(parents=True)
  workdir.prepare(str(tmp_path), config)
  config.model.backbone = "efficientnet_lite0"
  with pytest.raises(errors.InputError, match=r"there 'tf_efficientnet_lite0'"):
    workdir.prepare(str(tmp_path), config)


def test_workdir_that_cannot_be_made(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(errors.InputError, match="choose another folder"):
    workdir.prepare(str(tmp_path / "file" / "run"), tiny.config())


@pytest.mark.parametrize(
  ("seconds", "text"), [(5, "0:05"), (75, "1:15"), (3700, "1:01:40")]
)
def test_duration(seconds, text):
  assert progress.duration(seconds) == text


def test_plain_lines_without_a_terminal(capsys, monkeypatch):
  monkeypatch.setattr(progress, "LINE_EVERY_SECONDS", 0.0)
  with progress.Progress(4, items_per_step=8, label="train") as bar:
    bar.update(1, loss=1.25)
    bar.update(3, loss=0.5)
  lines = capsys.readouterr().err.splitlines()
  assert len(lines) == 2
  assert lines[0].startswith("train step 1/4") and "loss 1.25" in lines[0]
  assert "images/s" not in lines[0]  # the first step compiles
  assert "images/s" in lines[1] and "0:00 left" in lines[1]
