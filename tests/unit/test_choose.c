/* What computes and what carries the exchange, for all that ranks can say of themselves. */
#include "../../src/train/choose.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* Ranks on two hosts: GPU g of host h has the UUID (h, g). */
static dft_rank_facts rank_on(int host, int devices, int device) {
  dft_rank_facts r = {.devices = devices, .device = device, .nccl = devices > 0 ? 22803 : 0};
  snprintf(r.host, sizeof r.host, "n%d", host);
  if (devices > 0) {
    r.uuid[0] = (unsigned char)(1 + host);
    r.uuid[1] = (unsigned char)(1 + device);
  } else
    snprintf(r.why, sizeof r.why, "this host has no NVIDIA driver");
  return r;
}

static dft_choice chosen(const dft_rank_facts *ranks, int count, dft_backend backend) {
  dft_choice c;
  assert_int_equal(dft_choose(ranks, count, backend, DFT_PRECISION_BFLOAT16, &c), DFT_OK);
  return c;
}

static void refused(const dft_rank_facts *ranks, int count, dft_backend backend, dft_precision precision,
                    const char *text) {
  dft_choice c;
  assert_int_equal(dft_choose(ranks, count, backend, precision, &c), DFT_EUSAGE);
  assert_string_equal(dft_error(), text);
}

static void test_a_gpu_each(void **state) {
  (void)state;
  dft_rank_facts r[] = {rank_on(0, 2, 0), rank_on(0, 2, 1), rank_on(1, 2, 0), rank_on(1, 2, 1)};
  dft_choice c = chosen(r, 4, DFT_BACKEND_AUTO);
  assert_true(c.cuda && c.nccl);
  assert_string_equal(c.exchange, "nccl 2.28.3");
  assert_string_equal(c.kernels, "");
  assert_true(chosen(r, 4, DFT_BACKEND_NCCL).nccl);
  c = chosen(r, 4, DFT_BACKEND_MPI);
  assert_true(c.cuda && !c.nccl);
  assert_string_equal(c.exchange, "mpi (distributed.backend)");
  /* Slurm shows each task its own GPU alone: all are number 0, but not the same */
  for (int i = 0; i < 4; i++) r[i].devices = 1, r[i].device = 0;
  assert_true(chosen(r, 4, DFT_BACKEND_AUTO).nccl);
}

static void test_shared_gpu(void **state) {
  (void)state;
  dft_rank_facts r[] = {rank_on(0, 2, 0), rank_on(0, 2, 1), rank_on(1, 1, 0), rank_on(1, 1, 0),
                        rank_on(1, 1, 0)};
  dft_choice c = chosen(r, 5, DFT_BACKEND_AUTO);
  assert_true(c.cuda && !c.nccl);
  assert_string_equal(c.exchange, "mpi (3 ranks share GPU 0 of n1)");
  refused(r, 5, DFT_BACKEND_NCCL, DFT_PRECISION_FLOAT32,
          "distributed.backend: nccl is not possible: 3 ranks share GPU 0 of n1; use auto or mpi");
  /* cloned machines may have the same UUIDs */
  memcpy(r[2].uuid, r[0].uuid, sizeof r[2].uuid);
  assert_true(chosen(r, 3, DFT_BACKEND_AUTO).nccl);
}

static void test_no_nccl(void **state) {
  (void)state;
  dft_rank_facts r[] = {rank_on(0, 1, 0), rank_on(1, 1, 0)};
  r[1].nccl = 0;
  dft_choice c = chosen(r, 2, DFT_BACKEND_AUTO);
  assert_true(c.cuda && !c.nccl);
  assert_string_equal(c.exchange, "mpi (the build of rank 1 (host n1) has no NCCL)");
  r[1].nccl = 21805;
  assert_string_equal(chosen(r, 2, DFT_BACKEND_AUTO).exchange,
                      "mpi (NCCL differs: 22803 on n0, 21805 on n1)");
}

static void test_one_rank(void **state) {
  (void)state;
  dft_rank_facts r = rank_on(0, 1, 0);
  for (int backend = DFT_BACKEND_AUTO; backend <= DFT_BACKEND_NCCL; backend++) {
    dft_choice c = chosen(&r, 1, (dft_backend)backend);
    assert_true(c.cuda && !c.nccl);
    assert_string_equal(c.exchange, "none (one rank)");
  }
}

static void test_cpu(void **state) {
  (void)state;
  dft_rank_facts r[] = {rank_on(0, 1, 0), rank_on(1, 0, 0)};
  dft_choice c;
  assert_int_equal(dft_choose(r, 2, DFT_BACKEND_AUTO, DFT_PRECISION_FLOAT32, &c), DFT_OK);
  assert_true(!c.cuda && !c.nccl);
  assert_string_equal(c.exchange, "mpi");
  assert_string_equal(c.kernels, "rank 1 (host n1) sees no GPU: this host has no NVIDIA driver");
  refused(
      r, 2, DFT_BACKEND_NCCL, DFT_PRECISION_FLOAT32,
      "distributed.backend: nccl needs a GPU for every rank: rank 1 (host n1) sees no GPU: this host has no "
      "NVIDIA driver");
  refused(
      r, 2, DFT_BACKEND_AUTO, DFT_PRECISION_TF32,
      "compute.precision: tf32 is for GPUs, and this run has none: rank 1 (host n1) sees no GPU: this host "
      "has no NVIDIA driver");
  r[0].wish = DFT_WISH_CUDA;
  refused(r, 2, DFT_BACKEND_AUTO, DFT_PRECISION_FLOAT32,
          "DFT_KERNELS=cuda: rank 1 (host n1) sees no GPU: this host has no NVIDIA driver");
  r[0] = r[1]; /* no GPU anywhere: nothing to be said */
  assert_int_equal(dft_choose(r, 2, DFT_BACKEND_AUTO, DFT_PRECISION_FLOAT32, &c), DFT_OK);
  assert_string_equal(c.exchange, "mpi");
  assert_true(strstr(c.kernels, "GPU") == NULL);
}

static void test_cpu_by_wish(void **state) {
  (void)state;
  assert_int_equal(dft_wish_of(NULL), DFT_WISH_NONE);
  assert_int_equal(dft_wish_of(""), DFT_WISH_NONE);
  assert_int_equal(dft_wish_of("cuda"), DFT_WISH_CUDA);
  assert_int_equal(dft_wish_of("avx2"), DFT_WISH_CPU);
  dft_rank_facts r[] = {rank_on(0, 2, 0), rank_on(0, 2, 1)};
  r[1].wish = DFT_WISH_CPU;
  dft_choice c;
  assert_int_equal(dft_choose(r, 2, DFT_BACKEND_AUTO, DFT_PRECISION_FLOAT32, &c), DFT_OK);
  assert_true(!c.cuda && !c.nccl);
  assert_string_equal(c.kernels, "");
  refused(r, 2, DFT_BACKEND_NCCL, DFT_PRECISION_FLOAT32,
          "distributed.backend: nccl needs a GPU for every rank: DFT_KERNELS names kernels of a CPU");
  refused(
      r, 2, DFT_BACKEND_AUTO, DFT_PRECISION_BFLOAT16,
      "compute.precision: bfloat16 is for GPUs, and this run has none: DFT_KERNELS names kernels of a CPU");
  r[0].wish = r[1].wish = DFT_WISH_CUDA;
  assert_true(chosen(r, 2, DFT_BACKEND_AUTO).cuda);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_a_gpu_each), cmocka_unit_test(test_shared_gpu),
      cmocka_unit_test(test_no_nccl),    cmocka_unit_test(test_one_rank),
      cmocka_unit_test(test_cpu),        cmocka_unit_test(test_cpu_by_wish),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
