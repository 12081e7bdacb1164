#include "choose.h"
#include <stdio.h>
#include <string.h>

dft_wish dft_wish_of(const char *kernels) {
  if (kernels == NULL || kernels[0] == '\0') return DFT_WISH_NONE;
  return strcmp(kernels, "cuda") == 0 ? DFT_WISH_CUDA : DFT_WISH_CPU;
}

static bool same_gpu(const dft_rank_facts *a, const dft_rank_facts *b) {
  return memcmp(a->uuid, b->uuid, sizeof a->uuid) == 0 && strcmp(a->host, b->host) == 0;
}

/* Why GPUs are not what computes; "" when they are. */
static void why_not_cuda(const dft_rank_facts *ranks, int count, char *why, size_t bytes) {
  why[0] = '\0';
  for (int r = 0; r < count; r++)
    if (ranks[r].wish == DFT_WISH_CPU) {
      snprintf(why, bytes, "DFT_KERNELS names kernels of a CPU");
      return;
    }
  for (int r = 0; r < count; r++)
    if (ranks[r].devices == 0) {
      snprintf(why, bytes, "rank %d (host %s) sees no GPU: %s", r, ranks[r].host, ranks[r].why);
      return;
    }
}

/* Why NCCL cannot carry the exchange between these ranks, which all have a GPU; "" when it can. */
static void why_not_nccl(const dft_rank_facts *ranks, int count, char *why, size_t bytes) {
  why[0] = '\0';
  for (int r = 0; r < count; r++)
    for (int q = 0; q < r; q++) {
      if (!same_gpu(&ranks[r], &ranks[q])) continue;
      int sharing = 0;
      for (int i = 0; i < count; i++) sharing += same_gpu(&ranks[i], &ranks[q]);
      snprintf(why, bytes, "%d ranks share GPU %d of %s", sharing, ranks[q].device, ranks[q].host);
      return;
    }
  for (int r = 0; r < count; r++) {
    if (ranks[r].nccl == 0)
      snprintf(why, bytes, "the build of rank %d (host %s) has no NCCL", r, ranks[r].host);
    else if (ranks[r].nccl != ranks[0].nccl)
      snprintf(why, bytes, "NCCL differs: %d on %s, %d on %s", ranks[0].nccl, ranks[0].host, ranks[r].nccl,
               ranks[r].host);
    if (why[0] != '\0') return;
  }
}

/* NCCL_VERSION_CODE since 2.9: 10000 * major + 100 * minor + patch. */
static void name_nccl(int version, char *text, size_t bytes) {
  snprintf(text, bytes, "nccl %d.%d.%d", version / 10000, version / 100 % 100, version % 100);
}

static dft_status choose_kernels(const dft_rank_facts *ranks, int count, dft_precision precision,
                                 dft_choice *choice) {
  char why[sizeof choice->kernels], word[DFT_WORD_BYTES];
  why_not_cuda(ranks, count, why, sizeof why);
  choice->cuda = why[0] == '\0';
  if (choice->cuda) return DFT_OK;
  bool wanted = false, seen = false, cpu = false;
  for (int r = 0; r < count; r++) {
    wanted |= ranks[r].wish == DFT_WISH_CUDA;
    cpu |= ranks[r].wish == DFT_WISH_CPU;
    seen |= ranks[r].devices > 0;
  }
  if (wanted && !cpu) return dft_fail(DFT_EUSAGE, "DFT_KERNELS=cuda: %s", why);
  if (precision != DFT_PRECISION_FLOAT32)
    return dft_fail(DFT_EUSAGE, "compute.precision: %s is for GPUs, and this run has none: %s",
                    dft_config_word("compute.precision", (int)precision, word), why);
  if (seen && !cpu) snprintf(choice->kernels, sizeof choice->kernels, "%s", why);
  return DFT_OK;
}

dft_status dft_choose(const dft_rank_facts *ranks, int count, dft_backend backend, dft_precision precision,
                      dft_choice *choice) {
  *choice = (dft_choice){0};
  DFT_TRY(choose_kernels(ranks, count, precision, choice));
  char why[200] = "";
  if (choice->cuda)
    why_not_nccl(ranks, count, why, sizeof why);
  else if (backend == DFT_BACKEND_NCCL) {
    why_not_cuda(ranks, count, why, sizeof why);
    return dft_fail(DFT_EUSAGE, "distributed.backend: nccl needs a GPU for every rank: %s", why);
  }
  if (backend == DFT_BACKEND_NCCL && why[0] != '\0')
    return dft_fail(DFT_EUSAGE, "distributed.backend: nccl is not possible: %s; use auto or mpi", why);
  choice->nccl = choice->cuda && count > 1 && backend != DFT_BACKEND_MPI && why[0] == '\0';
  if (count == 1)
    snprintf(choice->exchange, sizeof choice->exchange, "none (one rank)");
  else if (choice->nccl)
    name_nccl(ranks[0].nccl, choice->exchange, sizeof choice->exchange);
  else if (backend == DFT_BACKEND_MPI && choice->cuda)
    snprintf(choice->exchange, sizeof choice->exchange, "mpi (distributed.backend)");
  else
    snprintf(choice->exchange, sizeof choice->exchange, why[0] != '\0' ? "mpi (%s)" : "mpi", why);
  return DFT_OK;
}
