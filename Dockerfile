# The package with its launch scripts, for TPUs as it stands; for NVIDIA GPUs
# `docker build --build-arg ACCELERATOR=cuda13 .`, for CPUs ACCELERATOR=cpu.
FROM python:3.12-slim

ARG ACCELERATOR=tpu
WORKDIR /mtlmoe_jax

# git: pip's for extras that are repositories; the libraries OpenCV asks for.
RUN apt-get update \
  && apt-get install --yes --no-install-recommends git libglib2.0-0 \
  && rm -rf /var/lib/apt/lists/*

COPY setup.cfg setup.py pyproject.toml README.md LICENSE ./
COPY mtlmoe_jax mtlmoe_jax
COPY configs configs
# One layer for what changes seldom: a changed launch file installs nothing.
RUN extra=$([ "$ACCELERATOR" = cpu ] || echo "[$ACCELERATOR]") \
  && pip install --no-cache-dir "jax$extra>=0.10,<0.13" '.[hub,lite]'
COPY launch launch

ENV PYTHONUNBUFFERED=1
CMD ["python", "launch/train.py", "--help"]
