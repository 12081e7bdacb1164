/* What a command must not write over: what it reads, and checkpoints of runs. */
#include "train.h"
#include <sys/stat.h>

dft_status dft_no_overwrite_input(const char *output, const char *input) {
  struct stat to, from;
  const bool same = stat(output, &to) == 0 && S_ISREG(to.st_mode) && stat(input, &from) == 0 &&
                    from.st_dev == to.st_dev && from.st_ino == to.st_ino;
  return same
             ? dft_fail(DFT_EUSAGE, "%s is what this command reads: name another file for its output", output)
             : DFT_OK;
}

dft_status dft_no_overwrite_config(const char *output, const dft_config *c) {
  const dft_config_split *train = &c->data.train, *validation = &c->data.validation;
  const char *const inputs[] = {train->path,        train->images,      train->labels,   validation->path,
                                validation->images, validation->labels, c->model.weights};
  for (size_t i = 0; i < sizeof inputs / sizeof *inputs; i++)
    if (inputs[i] != NULL) DFT_TRY(dft_no_overwrite_input(output, inputs[i]));
  return DFT_OK;
}

dft_status dft_no_overwrite_checkpoint(const char *output) {
  struct stat to;
  dft_file_kind kind = DFT_FILE_UNKNOWN;
  dft_state state = {0};
  if (stat(output, &to) != 0 || !S_ISREG(to.st_mode) || dft_file_sniff(output, &kind) != DFT_OK ||
      kind != DFT_FILE_CHECKPOINT || dft_state_read(output, &state) != DFT_OK)
    return DFT_OK;
  const bool exported = dft_state_is_export(&state);
  dft_state_free(&state);
  return exported ? DFT_OK
                  : dft_fail(DFT_EUSAGE, "%s is a checkpoint of a run, with its optimizer: name another file",
                             output);
}
