# shellcheck shell=bash
# prerequisites.sh, to be sourced: what the tests need of the system.

# prerequisites [PROGRAM...]: installs missing Debian packages, also those of these names, if this is root,
# otherwise names them and fails.
# Rust itself is not installed from here: which toolchain to use is the user's choice.
prerequisites() {
  command -v "${CARGO:-cargo}" >/dev/null ||
    { echo "no ${CARGO:-cargo}: install Rust first (https://rustup.rs)" >&2; return 1; }
  local packages=() root= program
  for program in "$@"; do
    command -v "$program" >/dev/null || packages+=("$program")
  done
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
  # For scripts/python-tools.
  python3 -c 'import venv, ensurepip' 2>/dev/null || packages+=(python3 python3-venv)
  compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || packages+=(postgresql)
  [ -x /usr/sbin/nginx ] || command -v nginx >/dev/null || packages+=(nginx)
  # Of the browsers the smallest: 100 MB.
  [ -x /usr/lib/chromium/chromium-headless-shell ] || [ -x /usr/lib/chromium/chromium ] ||
    packages+=(chromium-headless-shell)
  # To set the clock of a node back; without it, that test says that it is skipped.
  [ -z "$root" ] || compgen -G '/usr/lib/*/faketime/libfaketimeMT.so.1' >/dev/null || packages+=(faketime)
  if [ ${#packages[@]} -eq 0 ]; then
    echo "all here"
  elif [ -n "$root" ]; then
    apt-get -qq update
    without_services env DEBIAN_FRONTEND=noninteractive \
      apt-get -qq install -y --no-install-recommends "${packages[@]}"
  else
    echo "missing: ${packages[*]} (Debian's names). As root this script installs them." >&2
    return 1
  fi
}

# without_services COMMAND...: what COMMAND installs starts no server on this machine, neither now nor
# when it boots, and creates no database; the tests start their own.
without_services() {
  local database=/etc/postgresql-common/createcluster.d/lockstep-tests.conf
  local policy=/usr/sbin/policy-rc.d own_policy= own_nginx= code=0
  mkdir -p "${database%/*}"
  echo 'create_main_cluster = off' >"$database"
  [ -e "$policy" ] || { own_policy=yes; printf '#!/bin/sh\nexit 101\n' >"$policy"; chmod +x "$policy"; }
  [ -x /usr/sbin/nginx ] || own_nginx=yes
  "$@" || code=$?
  [ -z "$own_nginx" ] || [ ! -x /usr/sbin/nginx ] || update-rc.d nginx disable
  [ -z "$own_policy" ] || rm -f "$policy"
  rm -f "$database"
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
