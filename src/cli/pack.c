#include "dft/pack.h"
#include "cli.h"
#include "dft/log.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const int64_t mb = 1000000;

static void show_progress(int64_t done, int64_t samples) {
  dft_progress("%lld of %lld samples", (long long)done, (long long)samples);
}

/* --NAME N with N from 1 to a million. */
static dft_status take_number(int argc, char **argv, int *i, int64_t *value) {
  char what[128], *end = NULL;
  const char *text = *i + 1 < argc ? argv[*i + 1] : "";
  errno = 0;
  *value = strtoll(text, &end, 10);
  if (*text != '\0' && *end == '\0' && errno == 0 && *value >= 1 && *value <= 1000000) {
    ++*i;
    return DFT_OK;
  }
  snprintf(what, sizeof what, "%.40s needs a number from 1 to 1000000", argv[*i]);
  return dft_cli_usage(&dft_command_pack, what);
}

static dft_status run(dft_comm *comm, int argc, char **argv) {
  (void)comm;
  dft_pack_options options = {.progress = show_progress};
  dft_packed packed;
  int64_t shard_mb = 1000;
  int names = 0;
  for (int i = 0; i < argc; i++) {
    if (strcmp(argv[i], "--shard-mb") == 0)
      DFT_TRY(take_number(argc, argv, &i, &shard_mb));
    else if (strcmp(argv[i], "--shard-samples") == 0)
      DFT_TRY(take_number(argc, argv, &i, &options.shard_samples));
    else if (argv[i][0] == '-')
      return dft_cli_unknown(&dft_command_pack, argv[i]);
    else
      argv[names++] = argv[i];
  }
  if (names != 2) return dft_cli_usage(&dft_command_pack, "a folder and an output directory are needed");
  /* each would take the others' unfinished files for those of a dft pack that was interrupted */
  if (dft_comm_several_launched())
    return dft_fail(
        DFT_EUSAGE,
        "dft pack works alone: start it once, without mpirun or srun (or each with a folder of its own, by "
        "env -u OMPI_COMM_WORLD_SIZE -u SLURM_STEP_NUM_TASKS dft pack ...)");
  options.shard_bytes = shard_mb * mb;
  dft_status status = dft_pack(argv[0], argv[1], &options, &packed);
  dft_progress_end();
  DFT_TRY(status);
  printf("%s: %lld samples of %lld class%s in %lld shard%s, %.1f MB\n", argv[1], (long long)packed.samples,
         (long long)packed.classes, packed.classes == 1 ? "" : "es", (long long)packed.shards,
         packed.shards == 1 ? "" : "s", (double)packed.bytes / (double)mb);
  if (packed.empty > 0)
    dft_warn("%lld of them %s zero bytes", (long long)packed.empty, packed.empty == 1 ? "has" : "have");
  return DFT_OK;
}

const dft_command dft_command_pack = {
    .name = "pack",
    .arguments = "DIR OUT [--shard-mb N] [--shard-samples N]",
    .summary = "tar shards from a folder of class folders",
    .help =
        "Writes OUT/shard-000000.tar and so on in WebDataset's layout (KEY.jpg, KEY.cls), classes.txt and\n"
        "samples.csv, for data.format: tar. Order and bytes of the images stay, so training gives the "
        "same result.\n"
        "A shard has at most N MB (1000) and, if asked, at most N samples. OUT must be empty or new.",
    .run = run};
