#!/usr/bin/env bash
# The checks and measurements on a fresh machine with a GPU. Results are JSON, written after each part. An interrupted
# command continues with the parts that are missing.
#
#   bash benchmarks/gpu.sh prepare [PYTHON]      first, on a machine with a network: wheels and metadata into .gpu/, for
#                                                the version PYTHON (default 3.12) of the machine with the GPU
#   bash benchmarks/gpu.sh correctness [OPTION…] the tests of CUDA, in order of value; at most 7 minutes
#   bash benchmarks/gpu.sh speed [OPTION…]       training and decoding; at most 5.5 minutes
#
# Options: --out FILE.json, --minutes N, --parts NAME…, --again (repeat parts that have results),
# --device cpu (tiny shapes on a CPU, to try the parts without a GPU).
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}

if [[ ${1:-} == prepare ]]; then
  version=${2:-3.12}
  rm -rf .gpu
  mkdir -p .gpu
  "$python" -m pip download --quiet --only-binary=:all: --python-version "$version" --implementation cp \
    --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \
    --dest .gpu/wheels pydantic pytest pytest-xdist rich
  # The metadata of all packages, by which plugins are found. Their code comes from the checkout.
  "$python" -m pip install --quiet --no-deps --no-build-isolation --target .gpu/site . plugins/*/
  find .gpu/site -mindepth 1 -maxdepth 1 ! -name '*.dist-info' -exec rm -rf {} +
  exit
fi

if [[ -d .gpu/wheels && ! -d .gpu/packages ]]; then
  "$python" -m pip install --quiet --no-index --no-deps --target .gpu/packages .gpu/wheels/*.whl
fi
sources=$(printf "$PWD/%ssrc:" plugins/*/)
export PYTHONPATH="$PWD:$sources$PWD/.gpu/site:${PYTHONPATH:-}:$PWD/.gpu/packages" PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1
exec "$python" benchmarks/gpu "$@"
