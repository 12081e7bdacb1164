#include "cli.h"
#include "dft/text.h"
#include <limits.h>
#include <stdlib.h>
#include <string.h>

static bool is_npy(const char *output) {
  return dft_ends_in(output, ".npy");
}

static dft_status check_output(const char *output) {
  if (dft_ends_in(output, ".csv") || is_npy(output)) return DFT_OK;
  return dft_cli_usage(&dft_command_predict, "--output must end in .csv or .npy");
}

static dft_status read_top(const char *text, int *top) {
  char *end;
  long value = strtol(text, &end, 10);
  if (*text == '\0' || *end != '\0' || value < 1 || value > INT_MAX)
    return dft_cli_usage(&dft_command_predict, "--top needs a number from 1");
  *top = (int)value;
  return DFT_OK;
}

static dft_status read_option(int argc, char **argv, int *i, dft_prediction_request *request) {
  const char *option = argv[*i];
  bool output = strcmp(option, "--output") == 0;
  if (!output && strcmp(option, "--top") != 0) return dft_cli_unknown(&dft_command_predict, option);
  if (*i + 1 == argc)
    return dft_cli_usage(&dft_command_predict, output ? "--output needs a file" : "--top needs a number");
  const char *value = argv[++*i];
  if (!output) return read_top(value, &request->top);
  request->output = value;
  return check_output(value);
}

static dft_status run(dft_comm *comm, int argc, char **argv) {
  dft_prediction_request request = {0};
  for (int i = 0; i < argc; i++) {
    if (argv[i][0] == '-' && argv[i][1] != '\0')
      DFT_TRY(read_option(argc, argv, &i, &request));
    else if (request.checkpoint == NULL)
      request.checkpoint = argv[i];
    else
      argv[request.input_count++] = argv[i];
  }
  if (request.checkpoint == NULL || request.input_count == 0)
    return dft_cli_usage(&dft_command_predict, "a checkpoint and an input are needed");
  if (request.top > 0 && request.output != NULL && is_npy(request.output))
    return dft_cli_usage(&dft_command_predict, "--top is for tables; an .npy has all probabilities");
  request.inputs = (const char *const *)argv;
  return dft_predict(comm, &request);
}

const dft_command dft_command_predict = {
    .name = "predict",
    .arguments = "CKPT INPUT... [--output FILE.csv|.npy] [--top K]",
    .summary = "class probabilities of images",
    .help =
        "INPUT: image files (JPEG, PNG, WebP, GIF, TIFF, BMP), folders of them (with all below, by name), "
        ".npy or IDX\nfiles of images, or - for paths on standard input, one a line or ended by NUL bytes "
        "(find -print0). The\ncheckpoint carries input size, resize, preprocessing and class names. Without "
        "--output a CSV table goes to\nstandard output: input, predicted class, its probability, and those "
        "of "
        "all classes, or with --top K the K most\nprobable classes. An image that cannot be read is named on "
        "standard error and has an empty row; the others are\npredicted, and the exit code is 65.",
    .mpi = true,
    .run = run};
