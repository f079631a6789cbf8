#!/usr/bin/env bash
# Trains on a Cloud TPU slice, whatever the number of its hosts, and goes on
# after preemption until the run is finished.
#
#   launch/tpu_vm.sh up      create, install, train; again after preemption
#   launch/tpu_vm.sh ssh     COMMAND on all hosts
#   launch/tpu_vm.sh delete  give the slice back
#
# What is to be trained comes behind `up --`, as for launch/train.py:
#
#   NAME=birds ZONE=us-west4-a TYPE=v5litepod-16 BUCKET=mine \
#     launch/tpu_vm.sh up -- --config=configs/cub.py \
#     --workdir=/mnt/bucket/runs/birds \
#     --config.data.path=/mnt/bucket/CUB_200_2011
#
# The workdir must be a place that all hosts see and that outlives the slice.
# BUCKET is mounted at /mnt/bucket on all hosts, by gcsfuse; make it with a
# hierarchical namespace, in which a folder is renamed at once, as checkpoints
# are. SETUP can mount something else, or copy data to each host's own disk.
#
# From the environment (defaults in brackets):
#   NAME     of the slice and its request
#   ZONE     where
#   TYPE     accelerator type, such as v5litepod-16
#   VERSION  of the TPU software [by TYPE]
#   SPOT     1: cheaper, may be preempted [1]
#   SOURCE   what pip installs [git+https of this repository's origin]
#   BUCKET   of Cloud Storage, to be mounted [none]
#   SETUP    a command for each host after the install [none]
#   PROJECT  [gcloud's own]
#   WAIT     seconds between looks at a request in the queue [30]
set -euo pipefail

fail() { printf 'error: %s\n' "$1" >&2; exit 2; }
say() { printf '== %s\n' "$1" >&2; }

usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"; }

need() { [ -n "${!1:-}" ] || fail "$1 is not set: see $0 --help"; }

software() {
  case "$1" in
    v6e-*) echo v2-alpha-tpuv6e ;;
    v5litepod-*) echo v2-alpha-tpuv5-lite ;;
    v5p-*) echo v2-alpha-tpuv5 ;;
    v4-* | v3-* | v2-*) echo tpu-ubuntu2204-base ;;
    *) fail "no VERSION known for TYPE=$1: set VERSION" ;;
  esac
}

tpus() {
  gcloud compute tpus "$@" --zone="$ZONE" ${PROJECT:+--project="$PROJECT"}
}

on_all_hosts() {
  tpus tpu-vm ssh "$NAME" --worker=all --command="$1"
}

# State of the request for the slice, "" where there is none.
request() {
  tpus queued-resources describe "$NAME" --format='value(state.state)' \
    2>/dev/null || true
}

# State of the slice itself, "" where there is none.
slice() {
  tpus tpu-vm describe "$NAME" --format='value(state)' 2>/dev/null || true
}

drop() {
  tpus queued-resources delete "$NAME" --force --quiet || true
}

create() {
  local spot=()
  [ "$SPOT" = 1 ] && spot=(--spot)
  tpus queued-resources create "$NAME" --node-id="$NAME" \
    --accelerator-type="$TYPE" --runtime-version="$VERSION" "${spot[@]}"
}

# Returns once the slice is there.
obtain() {
  while true; do
    case "$(request)" in
      ACTIVE) [ "$(slice)" = READY ] && return; drop ;;
      "") say "asking for $TYPE as $NAME"; create ;;
      FAILED | SUSPENDED | SUSPENDING) say "the request ended"; drop ;;
      *) ;;
    esac
    sleep "$WAIT"
  done
}

install() {
  say "installing on all hosts"
  on_all_hosts "set -e
    python3 -m venv mtlmoe_venv
    mtlmoe_venv/bin/pip install --quiet --upgrade pip
    mtlmoe_venv/bin/pip install --quiet 'jax[tpu]>=0.10,<0.12' '$SOURCE'
    [ -d mtlmoe_jax ] || git clone --quiet --depth=1 '$REPOSITORY' mtlmoe_jax
    $(mount_bucket)
    ${SETUP:-true}"
}

# Commands for a host.
mount_bucket() {
  [ -n "${BUCKET:-}" ] || return 0
  local keys=/usr/share/keyrings/cloud.google.asc
  local list=/etc/apt/sources.list.d/gcsfuse.list
  local from=https://packages.cloud.google.com/apt
  cat <<END
    if ! command -v gcsfuse >/dev/null; then
      curl -fsS $from/doc/apt-key.gpg | sudo tee $keys >/dev/null
      echo "deb [signed-by=$keys] $from gcsfuse-\$(lsb_release -cs) main" |
        sudo tee $list >/dev/null
      sudo apt-get -qq update
      sudo apt-get -qq install --yes gcsfuse
    fi
    sudo mkdir -p /mnt/bucket
    sudo chown "\$USER" /mnt/bucket
    mountpoint -q /mnt/bucket || gcsfuse --implicit-dirs $BUCKET /mnt/bucket
END
}

train() {
  say "training on all hosts"
  on_all_hosts "cd mtlmoe_jax && ../mtlmoe_venv/bin/python launch/train.py \
    --distributed=on $(printf '%q ' "$@")"
}

up() {
  [ $# -gt 0 ] || fail "nothing to train: give launch/train.py's flags after --"
  local here
  while true; do
    obtain
    if install && train "$@"; then
      say "finished"
      return
    fi
    # Ours, and it will not get better; or the slice's, and the next one goes
    # on from the latest checkpoint.
    here=$(slice)
    [ "$here" != READY ] || fail "training failed on a slice that is there"
    say "the slice is gone (${here:-no state}): again from the last checkpoint"
    drop
  done
}

command=${1:-}
[ $# -eq 0 ] || shift
case "$command" in
  --help | -h | "") usage; exit ;;
  up | ssh | delete) ;;
  *) fail "no command '$command': up, ssh or delete" ;;
esac
for variable in NAME ZONE; do need "$variable"; done
if [ "$command" = up ]; then
  need TYPE
  VERSION=${VERSION:-$(software "$TYPE")}
  SPOT=${SPOT:-1}
  WAIT=${WAIT:-30}
  REPOSITORY=${REPOSITORY:-$(git -C "$(dirname "$0")" remote get-url origin)}
  SOURCE=${SOURCE:-git+$REPOSITORY}
  [ "${1:-}" != -- ] || shift
  up "$@"
elif [ "$command" = ssh ]; then
  on_all_hosts "$*"
else
  drop
fi
