#!/usr/bin/env bash
# apart.sh COMMAND...: with a session directory of its own for mpirun. Otherwise all of a user's are in /tmp/ompi.HOST.UID; an
# mpirun that ends removes that when it is the last, and one that starts in this moment fails ("A call to mkdir was unable to create
# the desired directory ... File exists").
set -u
sessions=$(mktemp -dt dftXXXXXX) || exit 1 # short: where PMIx puts sockets below it, paths end at 107 bytes
trap 'rm -rf "$sessions"' EXIT
OMPI_MCA_orte_tmpdir_base=$sessions "$@"
