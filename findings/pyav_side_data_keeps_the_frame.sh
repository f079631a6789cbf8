#!/usr/bin/env bash
# PyAV 18.1.0: a frame whose side data was looked at is freed by the garbage
# collector alone.
#
# Seen: of 300 frames of 640 x 480 pixels, decoded one after the other and
# dropped at once, none is in memory at the end; where `frame.side_data` was
# read of each, with the garbage collector off, all 300 are, and with it on up
# to a few hundred are at any time (about 165 MB of a film of 640 x 480), for it
# counts objects and not the buffers of FFmpeg that they hold. The container
# refers to the frame, the frame to the container. `frame.rotation` reads the
# same matrix without that. One would expect a look to cost nothing that stays.
#
# For us: how frames are to be turned is in their side data. It is read of one
# frame of each rotation (mtlmoe_jax/predicting/video_decoder.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet av==18.1.0 numpy
cat > "$folder/run.py" <<'P'
import gc
import sys

import av
import numpy as np

path = sys.argv[1] + "/a.avi"
with av.open(path, "w") as container:
  stream = container.add_stream("mjpeg", rate=25)
  stream.width, stream.height, stream.pix_fmt = 640, 480, "yuvj420p"
  for number in range(300):
    image = np.full((480, 640, 3), number % 256, np.uint8)
    for packet in stream.encode(av.VideoFrame.from_ndarray(image)):
      container.mux(packet)
  for packet in stream.encode():
    container.mux(packet)


def megabytes():
  with open("/proc/self/statm") as file:
    return int(file.read().split()[1]) * 4096 / 1e6


def grown(look):
  gc.collect()
  gc.disable()
  before = megabytes()
  with av.open(path) as container:
    for frame in container.decode(video=0):
      look(frame)
    del frame
    after = megabytes()
  found = gc.collect()
  gc.enable()
  return round(after - before), found


grown(lambda frame: None)  # Buffers that FFmpeg keeps for the next frame.
nothing, _ = grown(lambda frame: None)
rotation, _ = grown(lambda frame: frame.rotation)
side_data, cycles = grown(lambda frame: frame.side_data)
print("PyAV", av.__version__, "300 frames, of 0.46 MB each, MB more at the end:")
print("not looked at      ", nothing)
print("frame.rotation read", rotation)
print("frame.side_data    ", side_data, "in", cycles, "unreachable objects")
assert nothing < 10 and rotation < 10, (nothing, rotation)
assert side_data > 100 and cycles >= 300, (side_data, cycles)
P
"$folder/venv/bin/python" "$folder/run.py" "$folder"
