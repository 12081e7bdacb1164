/* Device memory that the host cannot touch (protect=1): one range of addresses, open only while closures run.
 * Whoever enqueues a closure waits for its end, so that a look from elsewhere never has luck. */
#include "cuda_host.h"
#include <cstdlib>
#include <sys/mman.h>

static std::mutex lock;
static char *range;
static size_t used;
static int opened; /* by so many closures */
static std::multimap<size_t, void *> freed;

static const size_t most_bytes = (size_t)16 << 30;

bool host_protects(void) {
  return dft_host_cuda_option("protect", 0) != 0;
}

static void set(int protection) {
  if (used > 0 && mprotect(range, used, protection) != 0) abort();
}

void *host_protected(size_t bytes) {
  std::lock_guard<std::mutex> held(lock);
  bytes = (bytes + 4095) / 4096 * 4096;
  const auto again = freed.find(bytes);
  if (again != freed.end()) {
    void *memory = again->second;
    freed.erase(again);
    return memory;
  }
  if (range == nullptr)
    range = (char *)mmap(nullptr, most_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (used == 0 && range != MAP_FAILED) madvise(range, most_bytes, MADV_HUGEPAGE); /* fewer pages to open */
  if (range == MAP_FAILED || used + bytes > most_bytes) abort();
  used += bytes;
  set(opened > 0 ? PROT_READ | PROT_WRITE : PROT_NONE);
  return range + used - bytes;
}

void host_protected_free(void *memory, size_t bytes) {
  std::lock_guard<std::mutex> held(lock);
  freed.emplace((bytes + 4095) / 4096 * 4096, memory);
}

void host_open(bool open) {
  std::lock_guard<std::mutex> held(lock);
  if (open ? opened++ == 0 : --opened == 0) set(open ? PROT_READ | PROT_WRITE : PROT_NONE);
}
