/* The command line: one table of commands, one file per command. Each gets its own arguments (without the
 * command's word) and returns an exit code's status; main prints dft_error() once. */
#ifndef DFT_CLI_H
#define DFT_CLI_H

#include "dft/comm.h"
#include "dft/status.h"
#include "dft/train.h"

typedef struct dft_command {
  const char *name, *arguments, *summary, *help;
  bool mpi;   /* starts MPI; the others run alone */
  bool stops; /* signals ask it to save and stop */
  dft_status (*run)(dft_comm *comm, int argc, char **argv);
} dft_command;

extern const dft_command dft_command_train, dft_command_plan, dft_command_check, dft_command_eval,
    dft_command_predict, dft_command_export, dft_command_inspect, dft_command_pack;

/* Splits CONFIG and key=value arguments. DFT_EUSAGE for an unknown option or a second file. */
dft_status dft_cli_source(const dft_command *command, int argc, char **argv, dft_config_source *source);
/* DFT_EUSAGE with the command's usage line. */
dft_status dft_cli_usage(const dft_command *command, const char *what);
dft_status dft_cli_unknown(const dft_command *command, const char *option);

/* From here on signals ask for a stop (signals.c). */
void dft_cli_signals(void);

#endif
