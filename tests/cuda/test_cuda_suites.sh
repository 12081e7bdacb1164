#!/usr/bin/env bash
# The suites that know no device, on devices: resume, batches that are not finite, one result.
source "$DFT_SOURCE/tests/common.sh"
source "$DFT_SOURCE/tests/cuda/common.sh"
export DFT_HOST_CUDA=${DFT_HOST_CUDA:-devices=9}
for suite in resume/test_resume faults/test_nonfinite parallel/test_one_result; do
  DFT_CUDA_MODULE=$device_module bash "$DFT_SOURCE/tests/$suite.sh" >"$work/suite" 2>&1 || {
    cat "$work/suite" >&2
    fail "$suite on devices"
  }
  echo "$suite: $(tail -1 "$work/suite")"
done
