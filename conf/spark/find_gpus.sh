#!/bin/sh
# Tells Spark which GPUs this node has, as Spark wants it: {"name": "gpu", "addresses": ["0", "1"]}
set -eu
found=$(nvidia-smi --query-gpu=index --format=csv,noheader | tr -d ' ' | sed 's/.*/"&"/' | paste -sd, -)
printf '{"name": "gpu", "addresses": [%s]}\n' "$found"
