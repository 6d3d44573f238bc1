# shellcheck shell=bash
# stage.sh, to be sourced: runs the parts of a longer script by name and times them.

# stage NAME COMMAND...: runs COMMAND; a failure ends the script that sourced this (set -e).
stage() {
  local name=$1 began=$SECONDS code=0
  shift
  printf '\n==> %s\n' "$name"
  "$@" || code=$?
  if [ "$code" -ne 0 ]; then
    printf '==> %s: FAILED (exit code %d) after %d s\n' "$name" "$code" $((SECONDS - began)) >&2
    return "$code"
  fi
  printf '==> %s: %d s\n' "$name" $((SECONDS - began))
}
