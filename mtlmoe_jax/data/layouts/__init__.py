"""What labelling tools, detectors and camera-trap projects write, read."""
