#!/usr/bin/env bash
# FFmpeg's libavformat 62.12.102 (PyAV 18.1.0): H.264 with B-frames in an AVI
# file, the times of the frames are not in the order of the frames.
#
# Seen: 24 frames, each lighter than the one before, are written with libx264
# and up to two B-frames between others. Decoded from Matroska they have the
# times 0, 1, 2, 3 .... From AVI, which stores no times, they come out of the
# decoder in the right order, by their colours, with the times 1, 3, 4, 2, 6, 7,
# 5 ...: those of where they lie in the file. With mpeg4 in AVI the times are in
# order, but begin at 1. One would expect times in the order in which frames are
# shown, or none.
#
# For us: frames of AVI with B-frames are counted as they leave the decoder, and
# their rate tells the time (mtlmoe_jax/predicting/video_stream.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet av==18.1.0 numpy
cat > "$folder/run.py" <<'P'
import sys

import av
import numpy as np


def written(name, codec, options):
  path = f"{sys.argv[1]}/{name}"
  with av.open(path, "w") as container:
    stream = container.add_stream(codec, rate=10, options=options)
    stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
    stream.codec_context.max_b_frames = 2
    for number in range(24):
      image = np.full((48, 64, 3), 10 * number, np.uint8)
      frame = av.VideoFrame.from_ndarray(image)
      frame.pts = number
      for packet in stream.encode(frame):
        container.mux(packet)
    for packet in stream.encode():
      container.mux(packet)
  with av.open(path) as container:
    unit = 10 * container.streams.video[0].time_base
    found = [
      (
        round(frame.pts * unit),
        round(frame.to_ndarray(format="gray")[0, 0] / 10),
      )
      for frame in container.decode(video=0)
    ]
  return [time for time, _ in found], [number for _, number in found]


mkv, in_mkv = written("a.mkv", "libx264", {"qp": "1"})
avi, in_avi = written("a.avi", "libx264", {"qp": "1"})
old, in_old = written("b.avi", "mpeg4", {"qmin": "1", "qmax": "1"})
print("PyAV", av.__version__)
print("frames by colour, .avi  ", in_avi[:12])
print("times, libx264 in .mkv  ", mkv[:12])
print("times, libx264 in .avi  ", avi[:12])
print("times, mpeg4 in .avi    ", old[:12])
order = list(range(24))
assert mkv == order and avi != sorted(avi) and sorted(avi)[0] == 1, avi
assert old == [n + 1 for n in order], old
assert in_mkv == in_avi == in_old == order, (in_mkv, in_avi, in_old)
P
"$folder/venv/bin/python" "$folder/run.py" "$folder"
