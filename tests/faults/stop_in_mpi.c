/* Preloaded into dft by test_lost_rank.sh: rank STOP_RANK stops for good where no other rank watches it:
 * before MPI starts (STOP_IN=init) or after the last of MPI_Finalize (STOP_IN=finalize), when the other ranks
 * are free to leave. Through MPI's profiling interface (MPI 3.1, chapter 14). */
#include <mpi.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static bool stops_here(const char *place) {
  const char *in = getenv("STOP_IN"), *rank = getenv("STOP_RANK"), *mine = getenv("OMPI_COMM_WORLD_RANK");
  return in != NULL && rank != NULL && mine != NULL && strcmp(in, place) == 0 && strcmp(rank, mine) == 0;
}

int MPI_Init_thread(int *argc, char ***argv, int required, int *provided) {
  if (stops_here("init")) raise(SIGSTOP);
  return PMPI_Init_thread(argc, argv, required, provided);
}

int MPI_Finalize(void) {
  const bool stops = stops_here("finalize"); /* before the environment is MPI's to take down */
  const int error = PMPI_Finalize();
  if (stops) raise(SIGSTOP);
  return error;
}
