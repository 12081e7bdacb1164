/* exchange_tool TIMEOUT_S STEPS [RANK STEP] MARK: that many reductions by NCCL, one after the other; before
 * one of them one rank ends without a word. Prints the error and returns its code, as dft does. For
 * test_cuda_faults.sh. */
#include "dft/device.h"
#include "dft/ops.h"
#include "dft/reduce.h"
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { COUNT = 20000 };

static dft_status exchange(dft_comm *comm, const dft_device *device, int steps, int lost_rank,
                           int lost_step) {
  dft_reducer *r = NULL;
  void *data = NULL;
  dft_status status = dft_reducer_new(comm, dft_shards_auto(dft_comm_size(comm)), true, device, &r);
  if (status == DFT_OK) status = device->alloc(DFT_MAX_NODES * COUNT * sizeof(float), &data);
  for (int step = 1; step <= steps && status == DFT_OK; ++step) {
    char where[32];
    snprintf(where, sizeof where, "step %d", step);
    dft_comm_set_activity(comm, where);
    while (step == lost_step && dft_comm_rank(comm) == lost_rank) pause();
    status = dft_reduce(r, DFT_F32, data, COUNT);
    if (status == DFT_OK) status = dft_reducer_finish(r);
    status = dft_comm_give_up(comm, status);
  }
  device->free(data);
  dft_reducer_free(r);
  return status;
}

static dft_status run(dft_comm *comm, int argc, char **argv) {
  const char *why = "";
  const dft_ops *ops = NULL;
  const dft_cuda_interface *module = dft_device_module(&why);
  if (module == NULL) return dft_fail(DFT_EUSAGE, "%s", why);
  dft_comm_set_timeout(comm, atof(argv[1]));
  DFT_TRY(dft_comm_agree(
      comm, module->open(dft_comm_local_rank(comm) % module->devices(), DFT_PRECISION_FLOAT32, &ops)));
  DFT_TRY(dft_comm_use_nccl(comm, module->nccl));
  const bool loses = argc > 5;
  return exchange(comm, ops->device, atoi(argv[2]), loses ? atoi(argv[3]) : -1, loses ? atoi(argv[4]) : -1);
}

int main(int argc, char **argv) {
  dft_comm *comm = NULL;
  if (argc < 3 || dft_comm_open(&comm) != DFT_OK) return 2;
  const dft_status status = run(comm, argc, argv);
  const int rank = dft_comm_rank(comm);
  if (status != DFT_OK && (rank == 0 || status == DFT_EPEER))
    fprintf(stderr, "rank %d: error: %s\n", rank, dft_error());
  dft_comm_close(comm, (int)status);
  return (int)status;
}
