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
    .summary = "read every sample and the weights, list what is bad",
    .help = "Reads every training and validation sample that the config selects once, with data.threads "
            "threads, and "
            "lists what is\nunreadable and why, what is named as another kind of image than it is, and "
            "totals per class. Reads model.weights,\nand says whether they fit. Exit code 65 when "
            "something is unreadable or does not fit.",
    .run = run};
