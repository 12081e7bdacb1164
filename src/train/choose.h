/* What computes and what carries the exchange, decided from what all ranks say of themselves. Pure functions
 * of that, so that all ranks come to the same. */
#ifndef DFT_TRAIN_CHOOSE_H
#define DFT_TRAIN_CHOOSE_H

#include "dft/device.h"

/* What the environment variable DFT_KERNELS asks for. */
typedef enum dft_wish { DFT_WISH_NONE, DFT_WISH_CPU, DFT_WISH_CUDA } dft_wish;
dft_wish dft_wish_of(const char *kernels); /* NULL or "": none */

/* What one rank says. No pointers: it travels. */
typedef struct dft_rank_facts {
  char host[64];
  int wish;               /* dft_wish */
  int devices, device;    /* GPUs it sees, and the number of the one it would take */
  unsigned char uuid[16]; /* of that one */
  int nccl;               /* NCCL's version in its module; 0: none */
  char why[160];          /* no devices: why */
} dft_rank_facts;

typedef struct dft_choice {
  bool cuda, nccl;
  char kernels[256];  /* why not on GPUs where some are to be seen; else "" */
  char exchange[256]; /* for the start table: "nccl 2.28.3", "mpi (2 ranks share GPU 0 of n1)" */
} dft_choice;

/* GPUs compute when every rank sees one and none has DFT_KERNELS name a CPU set. NCCL carries the exchange
 * when every rank has a GPU of its own and all modules the same NCCL. DFT_EUSAGE in words when the backend,
 * the precision or DFT_KERNELS=cuda asks for what is not possible. */
dft_status dft_choose(const dft_rank_facts *ranks, int count, dft_backend backend, dft_precision precision,
                      dft_choice *choice);

#endif
