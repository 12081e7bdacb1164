#!/usr/bin/env bash
# What a build calls itself changes with every commit and every edit, and with nothing else: files of cached rows and of
# decoded images are thrown away by that name.
set -euo pipefail
source=${DFT_SOURCE:-$(cd "$(dirname "$0")/../.." && pwd)}
fail() { echo "FAILED: $*"; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/tree/cmake"
cp "$source/cmake/version.h.in" "$work/tree/cmake"
header=$work/version.h
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null
in_tree() { git -C "$work/tree" -c user.name=test -c user.email=test@localhost "$@"; }
name() {
  cmake -DSOURCE="$work/tree" -DPROJECT_VERSION=1.2.3 -DHEADER="$header" -P "$source/cmake/version.cmake"
  grep -q 'DFT_VERSION "1.2.3"' "$header" || fail "no version: $(cat "$header")"
  sed -n 's/^#define DFT_GIT *"\(.*\)"$/\1/p' "$header"
}
[ "$(GIT_CEILING_DIRECTORIES=$work name)" = "no revision" ] || fail "a tree without git has a revision"
in_tree init -q
echo one >"$work/tree/file"
in_tree add .
in_tree commit -qm one
first=$(name)
[ "$first" = "$(in_tree describe --always)" ] || fail "the first commit is $first"
touch -d '2001-01-01' "$header"
[ "$(name)" = "$first" ] && [ "$(stat -c %Y "$header")" = "$(date -d '2001-01-01' +%s)" ] || fail "written again without a change"
echo two >"$work/tree/file"
edited=$(name)
[[ $edited == "$first-dirty-"??????? ]] || fail "an edit is $edited"
echo three >"$work/tree/file"
[ "$(name)" != "$edited" ] || fail "two edits have one name"
in_tree commit -qam two
[[ $(name) != "$first"* && $(name) != *dirty* ]] || fail "the second commit is $(name)"
echo "a build is named after its sources"
