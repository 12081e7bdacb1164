#include "cli.h"

static dft_status run(dft_comm *comm, int argc, char **argv) {
  dft_config_source source;
  DFT_TRY(dft_cli_source(&dft_command_plan, argc, argv, &source));
  return dft_plan(comm, &source);
}

const dft_command dft_command_plan = {
    .name = "plan",
    .arguments = "CONFIG.yaml [key=value ...]",
    .summary = "what a run would train, exchange and hold",
    .help =
        "Prints each layer's state in each phase, the bytes exchanged per step and the memory, for several\n"
        "numbers of ranks. Reads no data and trains nothing.",
    .run = run};
