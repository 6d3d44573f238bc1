# shellcheck shell=bash
# prerequisites.sh, to be sourced: what the tests need of the system.

# prerequisites: installs missing Debian packages if this is root, otherwise names them and fails.
# Rust itself is not installed from here: which toolchain to use is the user's choice.
prerequisites() {
  command -v "${CARGO:-cargo}" >/dev/null ||
    { echo "no ${CARGO:-cargo}: install Rust first (https://rustup.rs)" >&2; return 1; }
  local packages=() with=env root=
  [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null || root=yes
  command -v cc >/dev/null || packages+=(gcc libc6-dev)
  command -v git >/dev/null || packages+=(git)
  command -v curl >/dev/null || packages+=(curl ca-certificates)
  if [ ! -f "$(system_libraries)/libssl.a" ]; then
    # Without Debian's OpenSSL, cargo compiles its own, which takes perl, make and some minutes.
    if [ -n "$root" ]; then
      packages+=(libssl-dev)
    else
      command -v make >/dev/null || packages+=(make)
      perl -MFindBin -MFile::Compare -MIPC::Cmd -e 1 2>/dev/null || packages+=(perl)
    fi
  fi
  # For scripts/check-openapi and scripts/install-mongo-stand-in; without them, their tests say that
  # they are skipped.
  [ -z "$root" ] || python3 -c 'import venv, ensurepip' 2>/dev/null || packages+=(python3 python3-venv)
  compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null ||
    { packages+=(postgresql); with=without_a_cluster; }
  if [ ${#packages[@]} -eq 0 ]; then
    echo "all here"
  elif [ -n "$root" ]; then
    apt-get -qq update
    "$with" env DEBIAN_FRONTEND=noninteractive \
      apt-get -qq install -y --no-install-recommends "${packages[@]}"
  else
    echo "missing: ${packages[*]} (Debian's names). As root this script installs them." >&2
    return 1
  fi
}

# without_a_cluster COMMAND...: what COMMAND installs of PostgreSQL creates no database cluster and
# starts no server on this machine; the tests create and start their own.
without_a_cluster() {
  local setting=/etc/postgresql-common/createcluster.d/lockstep-tests.conf code=0
  mkdir -p "${setting%/*}"
  echo 'create_main_cluster = off' >"$setting"
  "$@" || code=$?
  rm -f "$setting"
  return "$code"
}

system_libraries() { echo "/usr/lib/$(gcc -print-multiarch 2>/dev/null)"; }

# use_system_openssl: where libssl-dev is installed, cargo links that OpenSSL instead of compiling one.
# Statically, so that the programs also run in a container without it.
use_system_openssl() {
  local libraries
  libraries=$(system_libraries)
  [ -f "$libraries/libssl.a" ] || return 0
  export OPENSSL_NO_VENDOR=1 OPENSSL_STATIC=1
  export OPENSSL_INCLUDE_DIR=/usr/include OPENSSL_LIB_DIR=$libraries
}
