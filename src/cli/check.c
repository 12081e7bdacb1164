#include "cli.h"

static dft_status run(dft_comm *comm, int argc, char **argv) {
  dft_config_source source;
  DFT_TRY(dft_cli_source(&dft_command_check, argc, argv, &source));
  return dft_check(comm, &source);
}

const dft_command dft_command_check = {
    .name = "check",
    .arguments = "CONFIG.yaml [key=value ...]",
    .summary = "read every sample and the weights, list what is bad",
    .help =
        "Refuses phases that no run would start with, then reads every training and validation sample that "
        "the config\nselects once, with data.threads threads, and lists what is unreadable and why, what is "
        "named as another kind\nof image than it is, and totals per class. Reads model.weights, and says "
        "whether they fit. Exit code 65 when\nsomething is unreadable or does not fit.",
    .run = run};
