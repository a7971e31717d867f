# The operator's image: one static binary and the authorities that it trusts, for amd64 and arm64.
#
#   docker buildx build --platform linux/amd64,linux/arm64 --tag latency-operator:0.1.0 .
#
# `make image` puts the same root file system together where there is no Docker daemon.

# The compiler runs on the machine that builds, whatever it builds for.
FROM --platform=$BUILDPLATFORM rust:1.95-alpine AS build
RUN apk add --no-cache ca-certificates clang lld musl-dev
ARG TARGETARCH
WORKDIR /src
# What Cargo calls the architecture. The only C code is ring's, which clang compiles for either without a system root.
RUN case "$TARGETARCH" in \
      amd64) echo x86_64-unknown-linux-musl ;; \
      arm64) echo aarch64-unknown-linux-musl ;; \
      *) echo "no image for $TARGETARCH: amd64 and arm64 are built" >&2; exit 1 ;; \
    esac > /target && rustup target add "$(cat /target)"
ENV CC_aarch64_unknown_linux_musl=clang \
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_LINKER=rust-lld
COPY . .
RUN cargo build --release --locked --target "$(cat /target)" --package latency-operator --bin latency-operator \
    && cp "target/$(cat /target)/release/latency-operator" /latency-operator
RUN echo 'nonroot:x:65532:65532:nonroot:/:/sbin/nologin' > /passwd && echo 'nonroot:x:65532:' > /group

FROM scratch
LABEL org.opencontainers.image.title="latency-operator" \
      org.opencontainers.image.description="A Kubernetes operator that finds out why an API is slow, mends it with guarded remediations, and proves that it helped" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="0.1.0"
COPY --from=build /passwd /etc/passwd
COPY --from=build /group /etc/group
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /latency-operator /latency-operator
ENV PATH=/ SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
USER 65532:65532
ENTRYPOINT ["/latency-operator"]
