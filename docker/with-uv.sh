#!/bin/sh
# Run a command with uv, which is in the cache of the builds and in no image: docker/with-uv.sh COMMAND [ARGUMENT ...].
set -eu
export UV_CACHE_DIR=/cache/uv UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_NO_PROGRESS=1
export UV_PYTHON_DOWNLOADS=never UV_PYTHON_PREFERENCE=only-system
# The secret `ca` is for networks with a TLS-inspecting proxy.
if [ -s /run/ca.pem ]; then export PIP_CERT=/run/ca.pem SSL_CERT_FILE=/run/ca.pem; fi
version=0.13.8
folder=/cache/uv/bin-$version-$(uname -m)
if [ ! -x "$folder/uv" ]; then
  # pip only runs here, so its package is not installed.
  apt-get update
  (cd /tmp && apt-get download python3-pip-whl && dpkg-deb --extract python3-pip-whl_*.deb pip)
  pip=$(echo /tmp/pip/usr/share/python-wheels/pip-*.whl)/pip
  python3 "$pip" install --quiet --no-cache-dir --disable-pip-version-check --target /tmp/uv "uv==$version"
  mkdir -p "$folder"
  cp /tmp/uv/bin/uv "$folder/uv.$$"
  mv "$folder/uv.$$" "$folder/uv" # another build may install it at the same time
  rm -rf /tmp/pip /tmp/uv /tmp/python3-pip-whl_*.deb /var/lib/apt/lists/*
fi
exec env PATH="$folder:$PATH" "$@"
