# Lockstep's image: `lockstepd` (the server) and `lockstep` (the command line).
#
#   scripts/setup.sh                   builds it with version and build date
#   docker build -t lockstep .         builds it without
#
# Works with BuildKit and with the classic builder: no frontend to fetch, no cache mounts.
ARG RUST_IMAGE=rust:1.95-slim-bookworm
ARG BASE_IMAGE=debian:bookworm-slim

# 1. Manifests only. The build stage copies what this one leaves, and a copy is cached by content:
#    editing a source file changes nothing here, so the dependencies stay built.
FROM ${BASE_IMAGE} AS manifests
WORKDIR /src
COPY . .
RUN find . -type f ! -name Cargo.toml ! -name Cargo.lock -delete \
 && find . -mindepth 2 -name Cargo.toml | while read -r manifest; do \
      crate=$(dirname "$manifest"); \
      mkdir -p "$crate/src"; \
      echo 'fn main() {}' > "$crate/src/main.rs"; \
      : > "$crate/src/lib.rs"; \
      if grep -q '^\[build-dependencies' "$manifest"; then echo 'fn main() {}' > "$crate/build.rs"; fi; \
      awk '/^\[/ { dropped = /^\[\[(test|bench|example)\]\]/ } !dropped' "$manifest" > manifest.tmp; \
      mv manifest.tmp "$manifest"; \
    done \
 && find . -type d -empty -delete

# The sources of what ends up in the image, and version and build date for the compiler.
FROM ${BASE_IMAGE} AS sources
WORKDIR /src
COPY . .
ARG VERSION=
ARG BUILD_DATE=
RUN rm -r Cargo.toml Cargo.lock tests bench \
 && : > build.env \
 && if [ -n "$VERSION" ]; then echo "export LOCKSTEP_VERSION='$VERSION'" >> build.env; fi \
 && if [ -n "$BUILD_DATE" ]; then echo "export LOCKSTEP_BUILD_DATE='$BUILD_DATE'" >> build.env; fi

# 2. The dependencies, built against empty stand-ins of the workspace's crates.
FROM ${RUST_IMAGE} AS build
# Debian's OpenSSL, linked statically, where a build outside of a container compiles its own: Debian
# keeps it up to date, and it saves minutes. Its folder is named because pkg-config would link it
# dynamically, and the runtime image has no OpenSSL.
RUN if ! pkg-config --exists libssl; then \
      apt-get update \
      && apt-get install -y --no-install-recommends libssl-dev pkg-config \
      && rm -rf /var/lib/apt/lists/*; \
    fi \
 && ln -s "/usr/lib/$(gcc -print-multiarch)" /usr/lib/openssl-static
ENV OPENSSL_NO_VENDOR=1 OPENSSL_STATIC=1 OPENSSL_INCLUDE_DIR=/usr/include OPENSSL_LIB_DIR=/usr/lib/openssl-static
WORKDIR /src
COPY --from=manifests /src ./
RUN cargo build --release --locked -p lockstep-node -p lockstep-cli \
 && find target/release -name '*lockstep*' -prune -exec rm -r {} +

# 3. The sources, in one copy: on some storage drivers each step above the dependencies costs seconds.
COPY --from=sources /src ./
RUN . ./build.env \
 && cargo build --release --locked -p lockstep-node -p lockstep-cli --bins \
 && ! ldd target/release/lockstepd target/release/lockstep | grep -e libssl -e libcrypto \
 && install -D -t /out/usr/local/bin target/release/lockstepd target/release/lockstep \
 && install -D -m 644 -t /out/etc/ssl/certs /etc/ssl/certs/ca-certificates.crt

# 4. The runtime image. scripts/setup.sh --binaries uses what follows this line with programs that are
#    built already.
FROM ${BASE_IMAGE}
RUN groupadd --gid 10001 lockstep \
 && useradd --uid 10001 --gid 10001 --no-log-init --no-create-home --home-dir /data --shell /usr/sbin/nologin lockstep \
 && install -d -o lockstep -g lockstep -m 0750 /data
# The two programs, and the certificates for a Consul or a sink behind TLS: copied, so that this stage
# needs no network, and in one step, because the classic builder fails on a copy that changes nothing.
COPY --from=build /out/ /
ENV LOCKSTEP_DATA_DIR=/data
USER 10001:10001
WORKDIR /data
VOLUME /data
# HTTP and gRPC
EXPOSE 3333 4333
# On SIGTERM a node hands over leadership and stops in order, within 10 seconds.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s --retries=3 CMD ["lockstepd", "health"]
ENTRYPOINT ["lockstepd"]
CMD ["run"]
ARG VERSION=
ARG BUILD_DATE=
LABEL org.opencontainers.image.title="Lockstep" \
      org.opencontainers.image.description="A replicated finite-state-machine service" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.created="${BUILD_DATE}"
