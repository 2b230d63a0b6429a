#!/bin/sh
# Installs Farebox into an environment of its own: sh deploy/install.sh /opt/farebox
#
# From the root of the repository. Every package is one that the lock files name, with a hash that fits, and none is
# built from its sources. The environment has no pip: it is replaced, not changed. PYTHON names the interpreter.
set -eu

target=${1:?names the folder to install into, such as /opt/farebox}
if [ ! -f deploy/build.lock ]; then
    echo "there is no deploy/build.lock here; run this from the root of the repository" >&2
    exit 1
fi
if [ -n "$(ls -A "$target" 2>/dev/null)" ] && [ ! -x "$target/bin/farebox" ]; then
    echo "$target has files and no Farebox; name another folder, for this one would be emptied" >&2
    exit 1
fi
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT

"${PYTHON:-python3}" -m venv "$tools/venv"
pip() { "$tools/venv/bin/python" -m pip --disable-pip-version-check "$@"; }
pip install --quiet --require-hashes --only-binary :all: --requirement deploy/build.lock
pip wheel --quiet --no-deps --no-build-isolation --no-cache-dir --wheel-dir "$tools" .

# An earlier version goes first: what the lock file no longer names would stay.
"${PYTHON:-python3}" -m venv --clear --without-pip "$target"
pip --python "$target/bin/python" install --quiet --no-cache-dir --require-hashes --only-binary :all: \
    --requirement deploy/requirements.lock
pip --python "$target/bin/python" install --quiet --no-deps --no-index "$tools"/farebox-*.whl
"$target/bin/farebox" --version
