#!/bin/sh
# Create an image's environment from the output of docker/requirements.sh NAME: docker/environment.sh NAME.
# RadServe's packages are copied to the current folder later; the metadata provides their version.
set -eu
version=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml | head -1)
site=.venv/lib/python3.11/site-packages
uv venv --quiet .venv
pwd >"$site/radserve.pth"
mkdir "$site/radserve-$version.dist-info"
printf 'Metadata-Version: 2.1\nName: radserve\nVersion: %s\n' "$version" >"$site/radserve-$version.dist-info/METADATA"
sh docker/requirements.sh "$1" >/tmp/requirements.txt
uv pip install --quiet --require-hashes --no-deps --requirement /tmp/requirements.txt
