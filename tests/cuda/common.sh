# Shared by the scripts that train on a device: a real one where there is one and DFT_TEST_REAL_GPU is set, else the
# module whose kernels run on the host (tests/cuda/host). Sourced after tests/common.sh.
on_device() { # COMMAND...: with the device's module
  DFT_CUDA_MODULE=${device_module:-} "$@"
}
on_cpu() { # COMMAND...: on the CPU, even where a device is to be seen
  DFT_KERNELS=${DFT_TEST_CPU_KERNELS:-portable} "$@"
}
if [ -e /dev/nvidiactl ] && [ -n "${DFT_TEST_REAL_GPU:-}" ]; then
  device_module=
else
  device_module=$DFT_BUILD/tests/dft_cuda_host.so
  [ -e "$device_module" ] || skip "no $device_module in this build"
fi
# near WHAT A B TOLERANCE [COLUMNS]: accuracies and losses (columns 3 to 6) of two history.csv, relative to 1 or the
# larger one.
near() {
  awk -F, -v tolerance="$4" -v what="$1" -v columns="${5:-3 4 5 6}" '
    BEGIN { count = split(columns, column, " ") }
    NR == FNR { for (i = 3; i <= 6; i++) want[FNR, i] = $i; rows = FNR; next }
    FNR > 1 {
      for (k = 1; k <= count; k++) {
        i = column[k]
        d = $i - want[FNR, i]; if (d < 0) d = -d
        scale = want[FNR, i] > 1 ? want[FNR, i] : 1
        if (d > most * scale) most = d / scale
      }
    }
    END {
      printf "%s: histories differ by at most %.2g\n", what, most
      exit !(FNR == rows && rows > 1 && most <= tolerance)
    }' "$2" "$3" || fail "$1: $2 and $3 are too far apart"
}
