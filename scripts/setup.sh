#!/usr/bin/env bash
# setup.sh: builds Lockstep's image with its version and build date.
#
#   scripts/setup.sh                          lockstep:latest and lockstep:<version>
#   scripts/setup.sh --binaries target/debug  the same, from programs that are built already
#   LOCKSTEP_IMAGE=name:tag scripts/setup.sh
#   scripts/setup.sh version                  only prints the version
#   scripts/setup.sh date                     only prints the build date
#
# VERSION and BUILD_DATE override what Cargo.toml and git say; so does SOURCE_DATE_EPOCH for the date.
# Without either and without git, the date is today's. RUST_IMAGE and BASE_IMAGE override the base images.
# Programs given with --binaries must run in the base image: built on a system whose C library is not
# newer, with OpenSSL linked statically.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# version: Cargo.toml's, and the commit if the tree is not the tagged one.
version() {
  local cargo_version commit
  cargo_version=$(sed -n '/^\[workspace\.package\]/,/^\[/s/^version *= *"\(.*\)"/\1/p' Cargo.toml)
  [ -n "$cargo_version" ] || { echo "setup.sh: Cargo.toml has no workspace version" >&2; return 1; }
  # A tarball has no history, only the version.
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

# from_binaries FOLDER: the Dockerfile's runtime stage around FOLDER/lockstepd and FOLDER/lockstep.
from_binaries() {
  local context program
  context=$(mktemp -d)
  # shellcheck disable=SC2064 # the folder of now
  trap "rm -rf '$context'" EXIT
  for program in lockstepd lockstep; do
    install -D -t "$context/out/usr/local/bin" "$1/$program"
    strip --strip-debug "$context/out/usr/local/bin/$program"
  done
  install -D -m 644 -t "$context/out/etc/ssl/certs" /etc/ssl/certs/ca-certificates.crt
  { sed -n '/^ARG BASE_IMAGE=/p' Dockerfile
    sed '1,/^# 4\. The runtime image/d; s/^COPY --from=build /COPY /; s|^COPY /out/|COPY out/|' Dockerfile
  } >"$context/Dockerfile"
  DOCKER_BUILDKIT=0 docker build --quiet -t "$LOCKSTEP_IMAGE" "${arguments[@]}" "$context"
  docker run --rm "$LOCKSTEP_IMAGE" --version >/dev/null ||
    { echo "setup.sh: lockstepd of $1 does not run in the base image" >&2; return 1; }
}

binaries=
case "${1:-}" in
  "") ;;
  --binaries) binaries=${2:?--binaries needs the folder of lockstepd and lockstep} ;;
  version) version; exit ;;
  date) build_date; exit ;;
  *) echo "usage: scripts/setup.sh [--binaries FOLDER | version | date]" >&2; exit 2 ;;
esac

VERSION=${VERSION:-$(version)}
BUILD_DATE=${BUILD_DATE:-$(build_date)}
LOCKSTEP_IMAGE=${LOCKSTEP_IMAGE:-lockstep:latest}
export VERSION BUILD_DATE LOCKSTEP_IMAGE
arguments=(--build-arg "VERSION=$VERSION" --build-arg "BUILD_DATE=$BUILD_DATE")
[ -z "${BASE_IMAGE:-}" ] || arguments+=(--build-arg "BASE_IMAGE=$BASE_IMAGE")

echo "building $LOCKSTEP_IMAGE: version $VERSION, built $BUILD_DATE"
if [ -n "$binaries" ]; then
  from_binaries "$binaries"
elif docker compose version >/dev/null 2>&1; then
  # The same builder, and so the same cache, as `docker compose up --build`.
  docker compose --progress plain build node1
else
  [ -z "${RUST_IMAGE:-}" ] || arguments+=(--build-arg "RUST_IMAGE=$RUST_IMAGE")
  docker build -t "$LOCKSTEP_IMAGE" "${arguments[@]}" .
fi
# A tag may not hold the + that a version may.
docker tag "$LOCKSTEP_IMAGE" "${LOCKSTEP_IMAGE%:*}:${VERSION//+/-}"
docker image inspect --format "built $LOCKSTEP_IMAGE: {{.Id}}, {{.Size}} bytes" "$LOCKSTEP_IMAGE"
