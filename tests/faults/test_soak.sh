#!/usr/bin/env bash
# The short form of the soak.
exec "$DFT_SOURCE/tests/faults/soak.sh" 20
