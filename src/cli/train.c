#include "cli.h"

static dft_status run(dft_comm *comm, int argc, char **argv) {
  dft_config_source source;
  DFT_TRY(dft_cli_source(&dft_command_train, argc, argv, &source));
  return dft_train(comm, &source);
}

const dft_command dft_command_train = {
    .name = "train",
    .arguments = "CONFIG.yaml [key=value ...]",
    .summary = "train (the word can be left out)",
    .help = "Trains through all phases of the config; under mpirun or srun on all ranks. key=value changes a "
            "key of the\n"
            "file: phases.1.epochs=5. Started again it goes on from the newest checkpoint in run_dir.\n"
            "`dft --help config` lists the keys.",
    .mpi = true,
    .stops = true,
    .run = run};
