#!/bin/sh
# Make an image's environment with what docker/requirements.sh NAME prints: docker/environment.sh NAME.
# Our own packages lie where they are copied to later; what looks them up by name learns their version.
set -eu
version=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml | head -1)
site=.venv/lib/python3.11/site-packages
uv venv --quiet .venv
pwd >"$site/radserve.pth"
mkdir "$site/radserve-$version.dist-info"
printf 'Metadata-Version: 2.1\nName: radserve\nVersion: %s\n' "$version" >"$site/radserve-$version.dist-info/METADATA"
sh docker/requirements.sh "$1" >/tmp/requirements.txt
uv pip install --quiet --require-hashes --no-deps --requirement /tmp/requirements.txt
