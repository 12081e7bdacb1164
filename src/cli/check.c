#include "cli.h"

static dft_status run(dft_comm *comm, int argc, char **argv) {
  (void)comm;
  dft_source source;
  DFT_TRY(dft_cli_source(&dft_command_check, argc, argv, &source));
  return dft_check(&source);
}

const dft_command dft_command_check = {
    .name = "check",
    .arguments = "CONFIG.yaml [key=value ...]",
    .summary = "read every sample once, list what is unreadable",
    .help = "Reads every training and validation sample once. Exit code 65 when something is unreadable.",
    .run = run};
