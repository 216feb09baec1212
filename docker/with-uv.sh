#!/bin/sh
# Install uv, run a command, and remove uv: docker/with-uv.sh COMMAND [ARGUMENT ...].
set -eu
export UV_CACHE_DIR=/cache/uv UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_NO_PROGRESS=1
export UV_PYTHON_DOWNLOADS=never UV_PYTHON_PREFERENCE=only-system
# The secret `ca` is for networks with a TLS-inspecting proxy.
if [ -s /run/ca.pem ]; then export PIP_CERT=/run/ca.pem SSL_CERT_FILE=/run/ca.pem; fi
apt-get update
apt-get install --yes --no-install-recommends python3-venv
python3 -m venv /tmp/uv
/tmp/uv/bin/pip install --quiet --no-cache-dir --disable-pip-version-check uv==0.13.8
env PATH="/tmp/uv/bin:$PATH" "$@"
apt-get purge --yes --auto-remove python3-venv
rm -rf /tmp/uv /var/lib/apt/lists/*
