/* The least an MPI program does: what dft's start is compared with. */
#include <mpi.h>

int main(int argc, char **argv) {
  int status = MPI_Init(&argc, &argv);
  return status == MPI_SUCCESS ? MPI_Finalize() : status;
}
