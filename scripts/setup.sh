#!/usr/bin/env bash
# setup.sh: builds Lockstep's image with its version and build date.
#
#   scripts/setup.sh            lockstep:latest and lockstep:<version>
#   LOCKSTEP_IMAGE=name:tag scripts/setup.sh
#   scripts/setup.sh version    only says which version it would be
#   scripts/setup.sh date       only says which date
#
# VERSION and BUILD_DATE override what Cargo.toml and git say; so does SOURCE_DATE_EPOCH for the date.
# Without either and without git, the date is that of the clock. RUST_IMAGE and BASE_IMAGE override the base images.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# version: Cargo.toml's, and where the tree is not the tagged commit, which commit it is.
version() {
  local cargo_version commit
  cargo_version=$(sed -n '/^\[workspace\.package\]/,/^\[/s/^version *= *"\(.*\)"/\1/p' Cargo.toml)
  [ -n "$cargo_version" ] || { echo "setup.sh: Cargo.toml has no workspace version" >&2; return 1; }
  # A tarball has no history: the version is all there is to say.
  if ! commit=$(git describe --always --dirty --exclude='*' --abbrev=9 2>/dev/null) ||
    [ "$(git describe --exact-match --dirty --tags 2>/dev/null)" = "v$cargo_version" ]; then
    echo "$cargo_version"
  else
    echo "$cargo_version+g${commit/-dirty/.dirty}"
  fi
}

# build_date: the commit's, so that two builds of one commit are the same image.
build_date() {
  local seconds
  seconds=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
  date -u -d "@$seconds" +%Y-%m-%dT%H:%M:%SZ
}

case "${1:-}" in
  "") ;;
  version) version; exit ;;
  date) build_date; exit ;;
  *) echo "usage: scripts/setup.sh [version | date]" >&2; exit 2 ;;
esac

VERSION=${VERSION:-$(version)}
BUILD_DATE=${BUILD_DATE:-$(build_date)}
LOCKSTEP_IMAGE=${LOCKSTEP_IMAGE:-lockstep:latest}
export VERSION BUILD_DATE LOCKSTEP_IMAGE

echo "building $LOCKSTEP_IMAGE: version $VERSION, built $BUILD_DATE"
if docker compose version >/dev/null 2>&1; then
  # The same builder, and so the same cache, as `docker compose up --build`.
  docker compose --progress plain build node1
else
  arguments=()
  for name in RUST_IMAGE BASE_IMAGE; do
    [ -z "${!name:-}" ] || arguments+=(--build-arg "$name=${!name}")
  done
  docker build -t "$LOCKSTEP_IMAGE" "${arguments[@]}" \
    --build-arg "VERSION=$VERSION" --build-arg "BUILD_DATE=$BUILD_DATE" .
fi
# A tag may not hold the + that a version may.
docker tag "$LOCKSTEP_IMAGE" "${LOCKSTEP_IMAGE%:*}:${VERSION//+/-}"
docker image inspect --format "built $LOCKSTEP_IMAGE: {{.Id}}, {{.Size}} bytes" "$LOCKSTEP_IMAGE"
