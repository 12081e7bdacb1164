#include "cli.h"
#include <string.h>

static dft_status run(dft_comm *comm, int argc, char **argv) {
  (void)comm;
  bool head = true;
  int files = 0;
  for (int i = 0; i < argc; i++) {
    if (strcmp(argv[i], "--no-head") == 0)
      head = false;
    else if (argv[i][0] == '-')
      return dft_cli_unknown(&dft_command_export, argv[i]);
    else
      argv[files++] = argv[i];
  }
  if (files != 2) return dft_cli_usage(&dft_command_export, "a checkpoint and an output file are needed");
  return dft_export(argv[0], argv[1], head);
}

const dft_command dft_command_export = {.name = "export",
                                        .arguments = "CKPT FILE [--no-head]",
                                        .summary = "write the model for Keras, ONNX or others",
                                        .help =
                                            "The format follows the file's name: .weights.h5 (Keras 3), .h5 "
                                            "(published Keras layout), .onnx (the\n"
                                            "whole network, for inference anywhere), .safetensors, .pb "
                                            "(dft's own, without optimizer and history).\n"
                                            "All can be model.weights again. --no-head leaves the head out.",
                                        .run = run};
