#include "cli.h"
#include "dft/config.h"
#include "dft/log.h"
#include "dft/version.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const dft_command *const commands[] = {&dft_command_train,   &dft_command_plan,    &dft_command_check,
                                              &dft_command_eval,    &dft_command_predict, &dft_command_export,
                                              &dft_command_inspect, &dft_command_pack};
enum { COMMANDS = sizeof commands / sizeof commands[0] };

static const dft_command *find(const char *name) {
  for (int i = 0; i < COMMANDS; i++)
    if (strcmp(name, commands[i]->name) == 0) return commands[i];
  return NULL;
}

dft_status dft_cli_usage(const dft_command *command, const char *what) {
  return dft_fail(DFT_EUSAGE, "%s; usage: dft %s %s", what, command->name, command->arguments);
}

dft_status dft_cli_unknown(const dft_command *command, const char *option) {
  char what[512];
  snprintf(what, sizeof what, "unknown option '%s'", option);
  return dft_cli_usage(command, what);
}

dft_status dft_cli_source(const dft_command *command, int argc, char **argv, dft_config_source *source) {
  *source = (dft_config_source){0};
  int overrides = 0;
  for (int i = 0; i < argc; i++) {
    if (strchr(argv[i], '=') != NULL && argv[i][0] != '-' && source->path != NULL)
      argv[overrides++] = argv[i];
    else if (argv[i][0] == '-' || source->path != NULL) {
      char what[512];
      if (command == &dft_command_train && argv[i][0] != '-' && strpbrk(source->path, "./") == NULL &&
          access(source->path, F_OK) != 0)
        return dft_fail(DFT_EUSAGE, "'%s' is neither a command nor a config; dft --help lists the commands",
                        source->path);
      snprintf(what, sizeof what, "'%s' is neither an option of dft %s nor key=value", argv[i],
               command->name);
      return dft_cli_usage(command, what);
    } else
      source->path = argv[i];
  }
  if (source->path == NULL) return dft_cli_usage(command, "no config named");
  source->overrides = (const char *const *)argv;
  source->override_count = overrides;
  return DFT_OK;
}

/* What could not be printed must not look like success. Training says on the console only what its files say
 * too, and goes on without one. */
static dft_status printed(dft_status status) {
  if (status != DFT_OK || (fflush(stdout) == 0 && !ferror(stdout))) return status;
  return dft_fail(DFT_EIO, "cannot write to standard output: %s", strerror(errno));
}

static int told(dft_status status) {
  status = printed(status);
  if (status != DFT_OK) dft_print_error("%s", dft_error());
  return (int)status;
}

static dft_status print_help(void) {
  printf("dft %s: distributed data-parallel fine-tuning of MobileNetV2\n\n"
         "  mpirun -np N dft CONFIG.yaml [key=value ...]\n\n",
         DFT_VERSION);
  for (int i = 0; i < COMMANDS; i++)
    printf("  dft %-8s %-56s %s\n", commands[i]->name, commands[i]->arguments, commands[i]->summary);
  printf(
      "\n  dft COMMAND --help, dft --help config (all config keys), dft --version\n\n"
      "Exit codes: 0 done, 1 internal error, 2 usage or config, 65 bad data or weights, 70 loss not finite,\n"
      "74 cannot read or write, 75 stopped by a signal (checkpoint written), 76 a peer was lost.\n");
  return DFT_OK;
}

static dft_status print_config_help(void) {
  char *text = NULL;
  dft_status status = dft_config_reference(false, &text);
  if (status == DFT_OK) fputs(text, stdout);
  free(text);
  return status;
}

static dft_status print_version(void) {
  printf("dft %s (%s)\n%s\n", DFT_VERSION, DFT_GIT, dft_comm_version());
  return DFT_OK;
}

static dft_status print_command_help(const dft_command *c) {
  printf("dft %s %s\n\n%s\n", c->name, c->arguments, c->help);
  return DFT_OK;
}

static dft_status print_help_on(const char *topic) {
  const dft_command *command = find(topic);
  if (command != NULL) return print_command_help(command);
  if (strcmp(topic, "config") == 0) return print_config_help();
  return dft_fail(DFT_EUSAGE, "--help %s: there is help on config and on the commands that dft --help lists",
                  topic);
}

static int run(const dft_command *command, int argc, char **argv) {
  dft_comm *comm = NULL;
  signal(SIGXFSZ, SIG_IGN); /* beyond the limit on file sizes a write fails, as on a full disk */
  if (command->stops) {
    dft_cli_signals();
    signal(SIGPIPE, SIG_IGN); /* nobody reads the console any more: the run goes on */
  }
  dft_status status = (command->mpi ? dft_comm_open : dft_comm_alone)(&comm);
  int rank = comm != NULL ? dft_comm_rank(comm) : 0;
  if (comm != NULL) {
    dft_log_identity(rank, dft_comm_size(comm));
    status = command->run(comm, argc, argv);
    if (!command->stops) status = printed(status);
  }
  /* all ranks agreed on the error, unless a peer is lost: then each says what it saw */
  if (status != DFT_OK && (rank == 0 || status == DFT_EPEER)) dft_print_error("%s", dft_error());
  if (comm != NULL) dft_comm_close(comm, (int)status);
  return (int)status;
}

static bool asks_for_help(const char *word) {
  return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0;
}

int main(int argc, char **argv) {
  if (argc < 2) { /* in a batch script, an empty variable */
    dft_print_error("no config and no command named; dft --help lists the commands");
    return DFT_EUSAGE;
  }
  const char *first = argv[1];
  if (asks_for_help(first) || strcmp(first, "help") == 0)
    return told(argc > 2 && !asks_for_help(argv[2]) ? print_help_on(argv[2]) : print_help());
  if (strcmp(first, "--version") == 0) return told(print_version());
  const dft_command *command = find(first);
  int skip = command != NULL ? 2 : 1; /* `dft CONFIG.yaml` is `dft train CONFIG.yaml` */
  if (command == NULL) command = &dft_command_train;
  /* dft config --help; but a file may be named so */
  struct stat named;
  const bool file = stat(first, &named) == 0 && !S_ISDIR(named.st_mode);
  const bool topic = skip == 1 && first[strcspn(first, "./=-")] == '\0' && !file;
  for (int i = skip; i < argc; i++)
    if (asks_for_help(argv[i])) return told(topic ? print_help_on(first) : print_command_help(command));
  return run(command, argc - skip, argv + skip);
}
