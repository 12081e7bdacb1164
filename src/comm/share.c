/* Memory shared by the ranks of a host: an anonymous file of the host's first rank, which the others open
 * through /proc. Unlike a file under /dev/shm it is bounded by memory only, starts zeroed, and leaves nothing
 * behind when a process is killed. */
#include "comm_impl.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Where the others find the writer's file. */
typedef struct address {
  int64_t pid, fd;
} address;

static dft_status create(size_t bytes, int *fd) {
  *fd = memfd_create("dft", MFD_CLOEXEC);
  if (*fd < 0 || ftruncate(*fd, (off_t)bytes) != 0)
    return dft_fail(errno == EFBIG ? DFT_EIO : DFT_EINTERNAL, "shared memory of %zu bytes: %s%s", bytes,
                    strerror(errno), errno == EFBIG ? " (ulimit -f limits it, too)" : "");
  return DFT_OK;
}

static dft_status open_writers(address where, int *fd) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%lld/fd/%lld", (long long)where.pid, (long long)where.fd);
  *fd = open(path, O_RDWR | O_CLOEXEC);
  if (*fd < 0)
    return dft_fail(DFT_EINTERNAL,
                    "shared memory of the host's first rank: cannot open %s: %s; "
                    "ranks of one host must share /proc",
                    path, strerror(errno));
  return DFT_OK;
}

static dft_status map(dft_comm *comm, int fd, size_t bytes, void **data) {
  dft_comm_block *block = calloc(1, sizeof *block);
  if (block == NULL) return dft_fail_memory("shared block", sizeof *block);
  block->data = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (block->data == MAP_FAILED) {
    free(block);
    return dft_fail(DFT_EINTERNAL, "shared memory of %zu bytes: %s", bytes, strerror(errno));
  }
  block->bytes = bytes;
  block->next = comm->blocks;
  comm->blocks = block;
  *data = block->data;
  return DFT_OK;
}

static void share_free(void *context, void *data) {
  dft_comm *comm = context;
  for (dft_comm_block **link = &comm->blocks; *link != NULL; link = &(*link)->next) {
    dft_comm_block *block = *link;
    if (block->data != data) continue;
    *link = block->next;
    munmap(block->data, block->bytes);
    free(block);
    return;
  }
}

static dft_status share_alloc(void *context, size_t bytes, void **data) {
  dft_comm *comm = context;
  const bool writer = comm->local_rank == 0;
  int fd = -1;
  *data = NULL;
  if (bytes == 0) bytes = 1;
  dft_status status = dft_comm_agree_on(comm, comm->local, writer ? create(bytes, &fd) : DFT_OK);
  if (status == DFT_OK) {
    address where = {.pid = getpid(), .fd = fd};
    status = dft_comm_bcast_on(comm, comm->local, 0, &where, sizeof where);
    if (status == DFT_OK && !writer) status = open_writers(where, &fd);
    if (status == DFT_OK) status = map(comm, fd, bytes, data);
    status = dft_comm_agree_on(comm, comm->local, status); /* until here the writer's fd stays open */
  }
  if (fd >= 0) close(fd);
  if (status != DFT_OK && *data != NULL) {
    share_free(comm, *data);
    *data = NULL;
  }
  return status;
}

/* The agreement is a barrier: its messages order the writes before it and the reads after it. */
static dft_status share_fence(void *context, dft_status status) {
  dft_comm *comm = context;
  return dft_comm_agree_on(comm, comm->local, status);
}

static dft_status share_broadcast(void *context, void *data, size_t bytes) {
  dft_comm *comm = context;
  return dft_comm_bcast_on(comm, comm->local, 0, data, bytes);
}

static void share_tick(void *context) {
  dft_comm_tick(context);
}

void dft_comm_share_open(dft_comm *comm) {
  comm->share = *dft_share_alone();
  if (comm->size == 1 || comm->local == MPI_COMM_NULL) return;
  comm->share = (dft_share){.context = comm,
                            .writer = comm->local_rank == 0,
                            .alloc = share_alloc,
                            .free = share_free,
                            .fence = share_fence,
                            .broadcast = share_broadcast,
                            .tick = share_tick};
}

void dft_comm_share_close(dft_comm *comm) {
  while (comm->blocks != NULL) share_free(comm, comm->blocks->data);
}
