#include "cli.h"
#include <string.h>

static dft_status check_output(const char *output) {
  size_t length = strlen(output);
  if (length > 4 && (strcmp(output + length - 4, ".csv") == 0 || strcmp(output + length - 4, ".npy") == 0))
    return DFT_OK;
  return dft_cli_usage(&dft_command_predict, "--output must end in .csv or .npy");
}

static dft_status run(dft_comm *comm, int argc, char **argv) {
  const char *output = NULL, *checkpoint = NULL;
  int inputs = 0;
  for (int i = 0; i < argc; i++) {
    if (strcmp(argv[i], "--output") == 0) {
      if (i + 1 == argc) return dft_cli_usage(&dft_command_predict, "--output needs a file");
      output = argv[++i];
      DFT_TRY(check_output(output));
    } else if (argv[i][0] == '-')
      return dft_cli_usage(&dft_command_predict, "unknown option");
    else if (checkpoint == NULL)
      checkpoint = argv[i];
    else
      argv[inputs++] = argv[i];
  }
  if (checkpoint == NULL || inputs == 0)
    return dft_cli_usage(&dft_command_predict, "a checkpoint and an input are needed");
  return dft_predict(comm, checkpoint, (const char *const *)argv, inputs, output);
}

const dft_command dft_command_predict = {.name = "predict",
                                         .arguments = "CKPT INPUT... [--output FILE.csv|.npy]",
                                         .summary = "class probabilities of images",
                                         .help = "INPUT: .npy or IDX files of images. The checkpoint carries "
                                                 "input size, preprocessing and class names. Without\n"
                                                 "--output a CSV table goes to standard output.",
                                         .mpi = true,
                                         .run = run};
