#include "cli.h"
#include "dft/checkpoint.h"
#include <stdio.h>

static dft_status run(dft_comm *comm, int argc, char **argv) {
  (void)comm;
  if (argc != 1 || argv[0][0] == '-') return dft_cli_usage(&dft_command_inspect, "one checkpoint is needed");
  dft_state state = {0};
  DFT_TRY(dft_state_read(argv[0], &state));
  dft_status status = dft_inspect(&state, stdout);
  dft_state_free(&state);
  return status;
}

const dft_command dft_command_inspect = {
    .name = "inspect",
    .arguments = "CKPT",
    .summary = "what is in a checkpoint",
    .help =
        "Prints model, position, history, tensors, optimizer slots and the config that decided the result.",
    .run = run};
