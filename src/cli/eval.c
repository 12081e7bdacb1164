#include "cli.h"
#include "dft/text.h"
#include <string.h>

static dft_status run(dft_comm *comm, int argc, char **argv) {
  const char *json = NULL, *checkpoint = NULL;
  int rest = 0;
  for (int i = 0; i < argc; i++) {
    if (strcmp(argv[i], "--json") == 0) {
      if (i + 1 == argc) return dft_cli_usage(&dft_command_eval, "--json needs a file");
      json = argv[++i];
    } else if (checkpoint == NULL && argv[i][0] != '-')
      checkpoint = argv[i];
    else
      argv[rest++] = argv[i];
  }
  if (checkpoint == NULL) return dft_cli_usage(&dft_command_eval, "no checkpoint named");
  if (dft_ends_in(checkpoint, ".yaml") || dft_ends_in(checkpoint, ".yml"))
    return dft_cli_usage(&dft_command_eval, "the checkpoint comes before the config");
  dft_config_source source;
  DFT_TRY(dft_cli_source(&dft_command_eval, rest, argv, &source));
  return dft_evaluate(comm, checkpoint, &source, json);
}

const dft_command dft_command_eval = {
    .name = "eval",
    .arguments = "CKPT CONFIG.yaml [key=value ...] [--json FILE]",
    .summary = "measure a checkpoint on data.validation",
    .help = "Prints loss, accuracy, precision, recall and F1 per class and their averages, and the confusion "
            "matrix. Each "
            "sample is counted\n"
            "once; the counts are the same for every number of ranks. --json writes the same as JSON; "
            "with --json - it is all that is\nprinted.",
    .mpi = true,
    .run = run};
