#include "comm_impl.h"
#include "dft/log.h"
#include <dirent.h>
#include <math.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ABORT_PATIENCE_S = 10 };
static const double default_timeout_s = 300.0; /* distributed.timeout_s; set after the config is read */

static long number_from(const char *name) {
  const char *text = getenv(name);
  return text == NULL ? -1 : strtol(text, NULL, 10);
}

/* Whether a launcher may have started this process: one that MPI follows (PMIx, PMI and what is built on
 * them), or a resource manager whose step may be a launcher that MPI must be asked about. */
static bool launcher_possible(void) {
  static const char *const prefixes[] = {
      "OMPI_COMM_WORLD_", "ORTE_", "PMIX_", "PMI_", "SLURM_", "FLUX_", "JSM_", "PALS_", "ALPS_"};
  for (char **at = environ; *at != NULL; ++at)
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; ++i)
      if (strncmp(*at, prefixes[i], strlen(prefixes[i])) == 0) return true;
  return false;
}

static bool started_by_launcher(void) {
  static const char *const marks[] = {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMIX_NAMESPACE", "PMI_RANK"};
  for (size_t i = 0; i < sizeof marks / sizeof *marks; ++i)
    if (getenv(marks[i]) != NULL) return true;
  return false;
}

bool dft_comm_several_launched(void) {
  return number_from("OMPI_COMM_WORLD_SIZE") > 1 || number_from("SLURM_STEP_NUM_TASKS") > 1;
}

/* Everything we know before MPI_Init about where the world is: mpirun says it, Slurm says it, or there is no
 * launcher at all. */
static bool world_on_one_host(void) {
  if (number_from("SLURM_STEP_NUM_NODES") > 1) return false;
  if (!started_by_launcher()) return true;
  long world = number_from("OMPI_COMM_WORLD_SIZE"), local = number_from("OMPI_COMM_WORLD_LOCAL_SIZE");
  return world > 0 && world == local;
}

static void set_default(const char *name, const char *value) {
  setenv(name, value, 0);
}

static int cores(void) {
  cpu_set_t set;
  CPU_ZERO(&set);
  return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}

/* What a world on one host does without. The collectives and one-sided components named here would be loaded
 * (3 ms) and not used. PMIx' store in shared files spares memory where thousands of ranks share a host, but
 * mpirun first has to make it, for 8 ms, while all ranks wait; from the other one each rank is told in a
 * message. A rank that mpirun was not to bind would read the host's topology (30 ms) to see whether it is to
 * bind itself, which mpirun has decided. */
static void tune_one_host(void) {
  if (getenv("OMPI_MCA_pml") == NULL && getenv("OMPI_MCA_btl") == NULL) {
    set_default("OMPI_MCA_pml", "ob1");
    set_default("OMPI_MCA_btl", "self,vader");
  }
  if (getenv("OMPI_COMM_WORLD_SIZE") != NULL) set_default("OMPI_MCA_orte_bound_at_launch", "1");
  set_default("OMPI_MCA_coll", "^adapt,han,monitoring,sm,sync");
  set_default("OMPI_MCA_osc", "^monitoring,pt2pt,rdma,ucx");
  const char *stores = getenv("PMIX_GDS_MODULE"); /* that this launcher has */
  if (stores != NULL && strstr(stores, "hash") != NULL) set_default("PMIX_MCA_gds", "hash");
}

/* A session directory is of no use to one alone, and all of a user share it: one that makes it while another
 * removes it fails. */
static void tune_alone(void) {
  if (getenv("OMPI_MCA_ess_singleton_isolated") != NULL) return;
  set_default("OMPI_MCA_ess_singleton_isolated", "1");
  set_default("OMPI_MCA_orte_create_session_dirs", "0");
}

static void tune_start(void) {
  if (world_on_one_host()) tune_one_host();
  if (!started_by_launcher()) tune_alone();
  if (number_from("OMPI_COMM_WORLD_LOCAL_SIZE") > cores()) set_default("OMPI_MCA_mpi_yield_when_idle", "1");
}

/* A rank talks to its launcher through a TCP connection to this host, and says goodbye to it in several small
 * messages, of which only the last is answered. Where the connection gathers small messages (Nagle) and the
 * launcher waits with its acknowledgement for something to send with it, the second one leaves after 40 ms.
 * Open MPI's own connections between ranks are set so already; what is no such connection stays as it is. */
static void send_at_once(void) {
  DIR *descriptors = opendir("/proc/self/fd");
  if (descriptors == NULL) return; /* it only takes longer */
  for (struct dirent *item; (item = readdir(descriptors)) != NULL;) {
    const int one = 1;
    if (item->d_name[0] == '.') continue;
    (void)setsockopt((int)strtol(item->d_name, NULL, 10), IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  }
  closedir(descriptors);
}

/* Several tasks, each a world of 1, would each do the whole training and overwrite each other's files. */
static dft_status refuse_lonely_tasks(int size, bool launched_by_mpirun) {
  long tasks = number_from("SLURM_STEP_NUM_TASKS");
  if (size > 1 || tasks <= 1 || launched_by_mpirun) return DFT_OK;
  return dft_fail(DFT_EUSAGE,
                  "this Slurm step has %ld tasks, but MPI sees only this one: start it with "
                  "`srun --mpi=pmix dft ...` or `mpirun dft ...`",
                  tasks);
}

static dft_comm *comm_new(void) {
  dft_comm *comm = calloc(1, sizeof *comm);
  if (comm == NULL) return NULL;
  comm->host = calloc(1, sizeof *comm->host);
  if (comm->host == NULL) {
    free(comm);
    return NULL;
  }
  comm->size = comm->local_size = comm->hosts = 1;
  comm->world = comm->local = MPI_COMM_NULL;
  comm->timeout_s = default_timeout_s;
  if (gethostname(comm->host[0], DFT_HOST_BYTES - 1) != 0)
    snprintf(comm->host[0], DFT_HOST_BYTES, "localhost");
  dft_comm_share_open(comm);
  return comm;
}

/* Our own communicators, whose errors come back to us. */
static dft_status make_groups(dft_comm *comm) {
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  int error = MPI_Comm_dup(MPI_COMM_WORLD, &comm->world);
  if (error == MPI_SUCCESS) {
    MPI_Comm_set_errhandler(comm->world, MPI_ERRORS_RETURN);
    error = MPI_Comm_split_type(comm->world, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &comm->local);
  }
  DFT_TRY(dft_comm_check(comm, error, "making the communicators", -1));
  MPI_Comm_set_errhandler(comm->local, MPI_ERRORS_RETURN);
  MPI_Comm_rank(comm->local, &comm->local_rank);
  MPI_Comm_size(comm->local, &comm->local_size);
  return DFT_OK;
}

/* Room for the names of all hosts, of which only this rank's is known yet. */
static dft_status make_room_for_hosts(dft_comm *comm) {
  char(*host)[DFT_HOST_BYTES] = calloc((size_t)comm->size, sizeof *host);
  if (host == NULL) return dft_fail_memory("host names", (unsigned long long)comm->size * sizeof *host);
  memcpy(host[comm->rank], comm->host[0], sizeof *host);
  free(comm->host);
  comm->host = host;
  return DFT_OK;
}

static dft_status learn_places(dft_comm *comm) {
  char mine[DFT_HOST_BYTES];
  memcpy(mine, comm->host[comm->rank], sizeof mine);
  DFT_TRY(dft_comm_allgather(comm, mine, sizeof mine, comm->host));
  float leaders = comm->local_rank == 0 ? 1 : 0;
  DFT_TRY(dft_comm_sum_f32(comm, &leaders, 1));
  comm->hosts = (int)leaders;
  return DFT_OK;
}

/* How the process leaves when a signal takes it out of MPI. */
typedef struct parting {
  volatile sig_atomic_t code;
  const char *volatile words; /* NULL: all is said */
} parting;
static parting late, crashed; /* at the alarm, and when MPI_Finalize crashes */

static void leave(int signal_number) {
  parting *p = signal_number == SIGALRM ? &late : &crashed;
  if (p->words != NULL && write(STDERR_FILENO, p->words, strlen(p->words)) < 0) p->words = NULL;
  _exit(p->code);
}

void dft_comm_leave_after(double seconds, int code, const char *words) {
  late.code = code;
  late.words = words;
  if (seconds > 0) signal(SIGALRM, leave);
  alarm((unsigned)ceil(seconds));
}

static dft_status open_world(dft_comm *comm) {
  const bool launched_by_mpirun = getenv("OMPI_COMM_WORLD_SIZE") != NULL; /* MPI_Init sets it for everyone */
  const bool launched = started_by_launcher();
  tune_start();
  int provided = 0;
  int error = MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided);
  if (error != MPI_SUCCESS) return dft_fail(DFT_EINTERNAL, "MPI does not start (error %d)", error);
  comm->mpi = true;
  if (launched) send_at_once();
  if (provided < MPI_THREAD_FUNNELED)
    return dft_fail(DFT_EINTERNAL, "this MPI was built without support for threads");
  MPI_Comm_rank(MPI_COMM_WORLD, &comm->rank);
  MPI_Comm_size(MPI_COMM_WORLD, &comm->size);
  DFT_TRY(refuse_lonely_tasks(comm->size, launched_by_mpirun));
  if (comm->size == 1) return DFT_OK;
  DFT_TRY(make_room_for_hosts(comm)); /* what waits from here on names them */
  DFT_TRY(make_groups(comm));
  DFT_TRY(dft_beats_open(comm));
  DFT_TRY(learn_places(comm));
  dft_comm_share_open(comm);
  return DFT_OK;
}

dft_status dft_comm_open(dft_comm **out) {
  *out = NULL;
  dft_comm *comm;
  DFT_TRY(dft_comm_alone(&comm));
  if (!launcher_possible()) { /* MPI's start would cost more than that of all the rest */
    *out = comm;
    return DFT_OK;
  }
  if (dft_comm_several_launched()) dft_guard_open(default_timeout_s);
  dft_comm_leave_after(default_timeout_s, DFT_EPEER, "dft: error: a rank was lost while MPI started\n");
  dft_status status = open_world(comm);
  dft_comm_leave_after(0, 0, NULL);
  if (status == DFT_OK)
    *out = comm;
  else if (comm->size == 1) /* several would wait for each other: they end with the process */
    dft_comm_close(comm, (int)status);
  return status;
}

dft_status dft_comm_alone(dft_comm **comm) {
  *comm = comm_new();
  return *comm != NULL ? DFT_OK : dft_fail_memory("communicator", sizeof **comm);
}

void dft_comm_abort(dft_comm *comm, int code) {
  fflush(NULL);
  if (comm->mpi) {
    dft_comm_leave_after(ABORT_PATIENCE_S, code, NULL); /* a launcher that is itself lost must not hold us */
    MPI_Abort(MPI_COMM_WORLD, code);
  }
  _exit(code);
}

/* MPI_Finalize of Open MPI 4.1 has its progress thread take back an event handler and does not wait for that:
 * on a busy machine (once in some ten thousand ranks) the thread comes when what it works with is unloaded or
 * freed. By then a rank has done its work, and ends as it would have, not with mpirun's 139. */
static void end_mpi(int code) {
  static const int crashes[] = {SIGSEGV, SIGBUS, SIGILL, SIGABRT};
  crashed.code = code;
  crashed.words = "dft: MPI crashed while it ended, after all work was done\n";
  for (size_t i = 0; i < sizeof crashes / sizeof *crashes; ++i) signal(crashes[i], leave);
  MPI_Finalize();
  for (size_t i = 0; i < sizeof crashes / sizeof *crashes; ++i) signal(crashes[i], SIG_DFL);
}

void dft_comm_close(dft_comm *comm, int code) {
  if (comm == NULL) return;
  if (comm->mpi && comm->size > 1) {
    /* MPI_Finalize waits for everyone without a timeout: come to it together, with nothing under way. */
    if (!comm->broken && dft_beats_close(comm) != DFT_OK) dft_print_error("%s", dft_error());
    if (comm->broken) dft_comm_abort(comm, DFT_EPEER);
  }
  if (comm->mpi)
    dft_comm_leave_after(comm->timeout_s, DFT_EPEER, "dft: error: a rank was lost while MPI ended\n");
  if (comm->mpi && comm->size > 1) dft_comm_nccl_close(comm); /* everyone is here */
  dft_comm_share_close(comm);
  dft_beats_free(comm);
  if (comm->local != MPI_COMM_NULL) MPI_Comm_free(&comm->local);
  if (comm->world != MPI_COMM_NULL) MPI_Comm_free(&comm->world);
  if (comm->mpi) {
    end_mpi(code);
    dft_comm_leave_after(0, 0, NULL);
  }
  free(comm->host);
  free(comm);
}

int dft_comm_rank(const dft_comm *comm) {
  return comm->rank;
}

int dft_comm_size(const dft_comm *comm) {
  return comm->size;
}

int dft_comm_local_rank(const dft_comm *comm) {
  return comm->local_rank;
}

int dft_comm_local_size(const dft_comm *comm) {
  return comm->local_size;
}

int dft_comm_hosts(const dft_comm *comm) {
  return comm->hosts;
}

const char *dft_comm_host(const dft_comm *comm, int rank) {
  const bool known = rank >= 0 && rank < comm->size && comm->host[rank][0] != '\0';
  return known ? comm->host[rank] : "?";
}

const char *dft_comm_version(void) {
  static char text[MPI_MAX_LIBRARY_VERSION_STRING];
  int length = 0;
  if (text[0] == '\0') MPI_Get_library_version(text, &length); /* allowed before MPI_Init */
  text[strcspn(text, ",\n")] = '\0';
  return text;
}

const dft_share *dft_comm_share(dft_comm *comm) {
  return &comm->share;
}

void dft_comm_set_timeout(dft_comm *comm, double timeout_s) {
  comm->timeout_s = timeout_s;
  dft_guard_set_timeout(timeout_s);
}

void dft_comm_set_activity(dft_comm *comm, const char *where) {
  snprintf(comm->where, sizeof comm->where, "%s", where);
}
