#!/usr/bin/env bash
# ml_collections 1.1.0, config flags: which options a command line can name.
#
# Seen: an option of a ConfigDict may be called `from` or `class` and is set from
# Python and listed by --help, but `--config.transfer.from=RUN` ends with "Could
# not parse": the path is read by Python's own parser, for which both are
# keywords. And which `--config.x` are known is read from sys.argv, not from the
# list of words that the parser was given: flags.FLAGS(words) with words that are
# not in sys.argv ends with "Unknown command line flag".
#
# For us: no option is a Python keyword (transfer.source, loss.class_weight); a
# test sets every option from the command line; commands are tested with sys.argv
# set as well.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet ml-collections==1.1.0 absl-py==2.3.1
cd "$folder"
cat > options.py <<'P'
import ml_collections


def get_config():
  config = ml_collections.ConfigDict()
  config.source = ""
  config["from"] = ""
  return config
P
cat > program.py <<'P'
import sys

from absl import flags
from ml_collections import config_flags

CONFIG = config_flags.DEFINE_config_file("config")
words = [sys.argv[0], *sys.argv[1:]]
if sys.argv[-1] == "--elsewhere":
  words = [words[0], "--config=options.py", "--config.source=RUN"]
  sys.argv = words[:1]
try:
  flags.FLAGS(words)
except Exception as error:
  print(type(error).__name__, str(error).splitlines()[0])
else:
  print(repr(CONFIG.value["source"]), repr(CONFIG.value["from"]))
P
run() { "$folder/venv/bin/python" program.py "$@" 2>&1 | tail -1; }

plain=$(run --config=options.py --config.source=RUN)
keyword=$(run --config=options.py --config.from=RUN)
elsewhere=$(run --elsewhere)
echo "source:    $plain"
echo "from:      $keyword"
echo "elsewhere: $elsewhere"
[[ $plain == "'RUN' ''" ]]
[[ $keyword == *"Could not parse"* ]]
[[ $elsewhere == *"nknown command line flag 'config.source'"* ]]
echo "as stated"
