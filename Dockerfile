# Lockstep's image: `lockstepd` (the server) and `lockstep` (the command line).
#
#   scripts/setup.sh                   builds it with version and build date
#   docker build -t lockstep .         builds it without
#
# Works with BuildKit and with the classic builder: no frontend to fetch, no cache mounts.
ARG RUST_IMAGE=rust:1.95-slim-bookworm
ARG BASE_IMAGE=debian:bookworm-slim

# 1. Manifests only. The next stage copies what this one leaves, and a copy is cached by content:
#    an edited source file changes nothing here, so the dependencies stay built.
FROM ${BASE_IMAGE} AS manifests
WORKDIR /src
COPY . .
RUN find . -type f ! -name Cargo.toml ! -name Cargo.lock -delete \
 && find . -mindepth 2 -name Cargo.toml | while read -r manifest; do \
      room=$(dirname "$manifest"); \
      mkdir -p "$room/src"; \
      echo 'fn main() {}' > "$room/src/main.rs"; \
      : > "$room/src/lib.rs"; \
      if grep -q '^\[build-dependencies' "$manifest"; then echo 'fn main() {}' > "$room/build.rs"; fi; \
      awk '/^\[/ { dropped = /^\[\[(test|bench|example)\]\]/ } !dropped' "$manifest" > manifest.tmp; \
      mv manifest.tmp "$manifest"; \
    done \
 && find . -type d -empty -delete

# Only the rooms that end up in the image (tests and documentation do not), and what the build tells
# the compiler about itself.
FROM ${BASE_IMAGE} AS sources
WORKDIR /src
COPY machine machine
COPY document document
COPY proto proto
COPY consul consul
COPY client client
COPY cli cli
COPY node node
ARG VERSION=
ARG BUILD_DATE=
RUN : > build.env \
 && if [ -n "$VERSION" ]; then echo "export LOCKSTEP_VERSION='$VERSION'" >> build.env; fi \
 && if [ -n "$BUILD_DATE" ]; then echo "export LOCKSTEP_BUILD_DATE='$BUILD_DATE'" >> build.env; fi

# 2. The dependencies, built against empty stand-ins of our own crates.
FROM ${RUST_IMAGE} AS build
# Debian's OpenSSL, linked statically, where a build outside of a container compiles its own: it is
# kept up to date by Debian and saves minutes. The upstream image lacks it. Its folder is named in each
# build below: found by pkg-config, it would be linked dynamically, and what runs has no OpenSSL.
RUN if ! pkg-config --exists libssl; then \
      apt-get update \
      && apt-get install -y --no-install-recommends libssl-dev pkg-config \
      && rm -rf /var/lib/apt/lists/*; \
    fi
ENV OPENSSL_NO_VENDOR=1 OPENSSL_STATIC=1
WORKDIR /src
COPY --from=manifests /src ./
RUN export OPENSSL_INCLUDE_DIR=/usr/include OPENSSL_LIB_DIR=/usr/lib/$(gcc -print-multiarch) \
 && cargo build --release --locked -p lockstep-node -p lockstep-cli \
 && cargo clean --release -p lockstep-node -p lockstep-cli -p lockstep-client -p lockstep-consul -p lockstep-proto -p lockstep-document -p lockstep-machine

# 3. The sources, in one copy: on some storage drivers each step above the dependencies costs seconds.
COPY --from=sources /src ./
RUN . ./build.env \
 && export OPENSSL_INCLUDE_DIR=/usr/include OPENSSL_LIB_DIR=/usr/lib/$(gcc -print-multiarch) \
 && cargo build --release --locked -p lockstep-node -p lockstep-cli --bins \
 && ! ldd target/release/lockstepd target/release/lockstep | grep -e libssl -e libcrypto \
 && install -D -t /out/usr/local/bin target/release/lockstepd target/release/lockstep \
 && install -D -m 644 -t /out/etc/ssl/certs /etc/ssl/certs/ca-certificates.crt

# 4. What runs.
FROM ${BASE_IMAGE}
RUN groupadd --gid 10001 lockstep \
 && useradd --uid 10001 --gid 10001 --no-log-init --no-create-home --home-dir /data --shell /usr/sbin/nologin lockstep \
 && install -d -o lockstep -g lockstep -m 0750 /data
# The two programs, and the certificates for a Consul or a sink behind TLS: copied, so that this stage needs
# no network, and in one step, since the classic builder trips over a copy that changes nothing.
COPY --from=build /out/ /
ENV LOCKSTEP_DATA_DIR=/data
USER 10001:10001
WORKDIR /data
VOLUME /data
# HTTP and gRPC
EXPOSE 3333 4333
# SIGTERM hands leadership over and leaves in order.
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
