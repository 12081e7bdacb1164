/* NCCL played on the host; see nccl.h. */
#include "nccl.h"
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <memory>
#include <poll.h>
#include <string>
#include <sys/socket.h>
#include <sys/un.h>
#include <thread>
#include <unistd.h>
#include <vector>

/* What the streams' closures know of a communicator; it may be gone before them. */
struct net {
  std::string id;
  int rank, ranks;
  std::vector<int> sockets; /* by peer */
  std::atomic<int> state{ncclInProgress};
  std::atomic<bool> aborted{false};
  std::atomic<int> running{0};
  std::atomic<long> groups{0};
  ~net() {
    for (int s : sockets)
      if (s >= 0) close(s);
  }
};
using net_ref = std::shared_ptr<net>;

struct ncclComm {
  net_ref n;
  std::function<void()> pending; /* of the group that is not on its stream yet */
  cudaStream_t stream = nullptr;
  int late = 0; /* so often its state is asked for until then */
};

static void nap(void) {
  usleep(500);
}

static bool happens(const net &n, const char *name, long count) {
  const long rank = dft_host_cuda_option("nccl_rank", -1);
  return (rank < 0 || rank == n.rank) && count > 0 && dft_host_cuda_option(name, 0) == count;
}

static void fail(net &n, ncclResult_t error) {
  int working = ncclSuccess;
  n.state.compare_exchange_strong(working, error);
}

/* ---- connections ---- */

static int bind_as(const net &n, int rank, sockaddr_un *address, socklen_t *bytes) {
  memset(address, 0, sizeof *address);
  address->sun_family = AF_UNIX; /* a name that begins with 0 is in no directory */
  const int length =
      snprintf(address->sun_path + 1, sizeof address->sun_path - 1, "%s-%d", n.id.c_str(), rank);
  *bytes = (socklen_t)(offsetof(sockaddr_un, sun_path) + 1 + (size_t)length);
  return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

static void connect_to(net &n, int peer) {
  sockaddr_un address;
  socklen_t bytes;
  while (!n.aborted) {
    const int s = bind_as(n, peer, &address, &bytes);
    if (connect(s, (sockaddr *)&address, bytes) == 0) {
      n.sockets[(size_t)peer] = s;
      if (write(s, &n.rank, sizeof n.rank) != sizeof n.rank) n.aborted = true;
      return;
    }
    close(s);
    nap();
  }
}

static void accept_one(net &n, int listener) {
  pollfd waiting = {listener, POLLIN, 0};
  while (!n.aborted && poll(&waiting, 1, 1) <= 0) {
  }
  if (n.aborted) return;
  int peer = -1;
  const int s = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
  if (s >= 0 && read(s, &peer, sizeof peer) == sizeof peer) n.sockets[(size_t)peer] = s;
}

/* To all lower ranks, from all higher ones. */
static void connect_all(const net_ref &n) {
  sockaddr_un address;
  socklen_t bytes;
  const int listener = bind_as(*n, n->rank, &address, &bytes);
  if (bind(listener, (sockaddr *)&address, bytes) != 0 || listen(listener, n->ranks) != 0) abort();
  for (int peer = 0; peer < n->rank; peer++) connect_to(*n, peer);
  for (int peer = n->rank + 1; peer < n->ranks; peer++) accept_one(*n, listener);
  close(listener);
  int opening = ncclInProgress;
  if (!n->aborted) n->state.compare_exchange_strong(opening, ncclSuccess);
}

/* ---- what runs on a stream ---- */

/* A piece, and before it its length and whether it was recorded, in which both sides must agree. */
struct piece {
  bool receiving;
  int peer;
  char *data;
  size_t bytes;
  bool recorded;
  uint64_t head; /* length, and `recorded` in the highest bit */
  size_t moved;  /* of head and data together */
};

static uint64_t head_of(const piece &p) {
  return p.bytes | (uint64_t)p.recorded << 63;
}

static bool done(const piece &p) {
  return p.moved == sizeof p.head + p.bytes;
}

static ssize_t move_some(const net &n, piece &p) {
  const bool head = p.moved < sizeof p.head;
  char *at = head ? (char *)&p.head + p.moved : p.data + (p.moved - sizeof p.head);
  const size_t left = head ? sizeof p.head - p.moved : sizeof p.head + p.bytes - p.moved;
  if (!p.receiving && p.moved == 0) p.head = head_of(p);
  const int s = n.sockets[(size_t)p.peer];
  const ssize_t some =
      p.receiving ? recv(s, at, left, MSG_DONTWAIT) : send(s, at, left, MSG_DONTWAIT | MSG_NOSIGNAL);
  if (some > 0) p.moved += (size_t)some;
  if (p.receiving && some > 0 && head && p.moved == sizeof p.head && p.head != head_of(p)) {
    fprintf(stderr, "host NCCL: rank %d sends %llu bytes%s where rank %d receives %zu%s\n", p.peer,
            (unsigned long long)(p.head << 1 >> 1), p.head >> 63 ? " (recorded)" : "", n.rank, p.bytes,
            p.recorded ? " (recorded)" : "");
    abort();
  }
  if (some < 0 && (errno == EAGAIN || errno == EINTR)) return 0;
  return some > 0 ? some : -1;
}

/* A group that cannot go on keeps its stream until it is aborted. */
static void hang(const net &n) {
  while (!n.aborted) nap();
}

/* All pieces together; those of one peer and direction in their order. False: aborted. */
static bool move_all(net &n, std::vector<piece> pieces) {
  for (;;) {
    bool all = true, moved = false;
    std::vector<bool> busy(2 * (size_t)n.ranks, false);
    for (piece &p : pieces) {
      const size_t line = 2 * (size_t)p.peer + p.receiving;
      if (done(p) || busy[line]) continue;
      const ssize_t some = move_some(n, p);
      if (some < 0) {
        fail(n, ncclRemoteError);
        hang(n);
        return false;
      }
      moved |= some > 0;
      busy[line] = !done(p);
      all &= done(p);
    }
    if (n.aborted) return false;
    if (all && !moved) return true;
    if (!moved) nap();
  }
}

/* In no tree's order: from the last rank to the first. */
template <typename T>
static void sum_here(const net &n, T *data, size_t count, const std::vector<std::vector<char>> &all) {
  for (size_t i = 0; i < count; i++) {
    T sum = 0;
    for (int r = n.ranks; r-- > 0;)
      sum += r == n.rank ? data[i] : ((const T *)(const void *)all[(size_t)r].data())[i];
    data[i] = sum;
  }
}

static void sum_all(net &n, char *data, size_t bytes, ncclDataType_t type, bool recorded) {
  std::vector<std::vector<char>> all((size_t)n.ranks);
  std::vector<piece> pieces;
  for (int peer = 0; peer < n.ranks; peer++) {
    if (peer == n.rank) continue;
    all[(size_t)peer].resize(bytes);
    pieces.push_back({true, peer, all[(size_t)peer].data(), bytes, recorded, 0, 0});
    pieces.push_back({false, peer, data, bytes, recorded, 0, 0});
  }
  if (!move_all(n, pieces)) return;
  if (type == ncclFloat32)
    sum_here(n, (float *)(void *)data, bytes / sizeof(float), all);
  else
    sum_here(n, (double *)(void *)data, bytes / sizeof(double), all);
}

static void run_group(const net_ref &n, const std::function<void(net &)> &work) {
  n->running++;
  const long count = ++n->groups;
  if (happens(*n, "nccl_error", count)) fail(*n, ncclInternalError);
  if (happens(*n, "nccl_stuck", count) || n->state != ncclSuccess)
    hang(*n);
  else if (!n->aborted)
    work(*n);
  n->running--;
}

/* ---- groups ---- */

static thread_local struct {
  int depth = 0;
  ncclComm_t comm = nullptr;
  cudaStream_t stream = nullptr;
  std::vector<piece> pieces;
  std::function<void(net &)> sum;
} group;

static ncclResult_t enter(ncclComm_t comm, cudaStream_t stream, const void *data, size_t bytes) {
  if (comm == nullptr || group.depth == 0 || comm->pending || comm->n->state == ncclInProgress)
    return ncclInvalidUsage;
  if (!dft_host_cuda_is_device(data, bytes)) return ncclInvalidArgument;
  group.comm = comm;
  group.stream = stream;
  return ncclSuccess;
}

static ncclResult_t add_piece(bool receiving, void *data, size_t bytes, int peer, ncclComm_t comm,
                              cudaStream_t stream) {
  ncclResult_t result = enter(comm, stream, data, bytes);
  if (result != ncclSuccess) return result;
  if (peer < 0 || peer >= comm->n->ranks || peer == comm->n->rank) return ncclInvalidArgument;
  group.pieces.push_back({receiving, peer, (char *)data, bytes, dft_host_cuda_records(stream), 0, 0});
  return ncclSuccess;
}

ncclResult_t ncclSend(const void *data, size_t count, ncclDataType_t, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  return add_piece(false, const_cast<void *>(data), count, peer, comm, stream);
}

ncclResult_t ncclRecv(void *data, size_t count, ncclDataType_t, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  return add_piece(true, data, count, peer, comm, stream);
}

ncclResult_t ncclAllReduce(const void *from, void *to, size_t count, ncclDataType_t type, ncclRedOp_t,
                           ncclComm_t comm, cudaStream_t stream) {
  const size_t bytes = count * (type == ncclFloat32 ? sizeof(float) : sizeof(double));
  ncclResult_t result = enter(comm, stream, to, bytes);
  if (result != ncclSuccess || from != to) return result != ncclSuccess ? result : ncclInvalidArgument;
  const bool recorded = dft_host_cuda_records(stream);
  group.sum = [to, bytes, type, recorded](net &n) { sum_all(n, (char *)to, bytes, type, recorded); };
  return ncclSuccess;
}

ncclResult_t ncclGroupStart(void) {
  group.depth++;
  return ncclSuccess;
}

ncclResult_t ncclGroupEnd(void) {
  enum { LATE = 3 };
  if (group.depth == 0) return ncclInvalidUsage;
  if (--group.depth > 0 || group.comm == nullptr) return ncclSuccess;
  ncclComm_t comm = group.comm;
  auto work = group.sum ? group.sum : [pieces = group.pieces](net &n) { move_all(n, pieces); };
  comm->pending = [n = comm->n, work] { run_group(n, work); };
  comm->stream = group.stream;
  comm->late = LATE;
  group.comm = nullptr;
  group.pieces.clear();
  group.sum = nullptr;
  return ncclInProgress;
}

/* ---- communicators ---- */

ncclResult_t ncclGetVersion(int *version) {
  *version = NCCL_VERSION_CODE;
  return ncclSuccess;
}

ncclResult_t ncclGetUniqueId(ncclUniqueId *id) {
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  memset(id, 0, sizeof *id);
  snprintf(id->internal, sizeof id->internal, "dft-host-nccl-%d-%lld", getpid(),
           (long long)now.tv_sec * 1000000000 + now.tv_nsec);
  return ncclSuccess;
}

const char *ncclGetErrorString(ncclResult_t result) {
  static const char *const words[] = {"no error",
                                      "unhandled cuda error",
                                      "unhandled system error",
                                      "internal error",
                                      "invalid argument",
                                      "invalid usage",
                                      "remote process exited or there was a network error",
                                      "NCCL operation in progress"};
  return words[result];
}

const char *ncclGetLastError(ncclComm_t) {
  return "";
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t *comm, int ranks, ncclUniqueId id, int rank,
                                    ncclConfig_t *config) {
  if (config == nullptr || config->blocking != 0 || rank < 0 || rank >= ranks) return ncclInvalidArgument;
  net_ref n = std::make_shared<net>();
  n->id = id.internal;
  n->rank = rank;
  n->ranks = ranks;
  n->sockets.assign((size_t)ranks, -1);
  if (happens(*n, "nccl_open", 1)) return ncclInternalError;
  *comm = new ncclComm;
  (*comm)->n = n;
  if (!happens(*n, "nccl_never", 1)) std::thread([n] { connect_all(n); }).detach();
  return ncclInProgress;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *state) {
  *state = (ncclResult_t)comm->n->state.load();
  if (*state != ncclSuccess || !comm->pending) return ncclSuccess;
  *state = ncclInProgress;
  if (--comm->late > 0) return ncclSuccess;
  std::function<void()> pending = std::move(comm->pending);
  comm->pending = nullptr;
  dft_host_cuda_run(comm->stream, false, std::move(pending));
  *state = ncclSuccess;
  return ncclSuccess;
}

ncclResult_t ncclCommFinalize(ncclComm_t comm) {
  return comm->pending ? ncclInvalidUsage : ncclInProgress;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  comm->pending = nullptr;
  while (comm->n->running > 0 || comm->n.use_count() > 1)
    nap(); /* graphs that know it, as NCCL waits for them */
  delete comm;
  return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t comm) {
  comm->n->aborted = true;
  return ncclCommDestroy(comm);
}
