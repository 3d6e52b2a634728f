# One static program, nothing else, as nobody in particular.
#
#   docker build -t free2talk .
#   docker run --rm -p 127.0.0.1:8080:8080 free2talk      # embedded, for trying out
#
# compose.yaml runs two of them on Postgres and Redis behind a proxy.

FROM golang:1.26-bookworm AS build
WORKDIR /src

# Apart from the code, so that they are downloaded again only when they change.
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download

# With .git, so that the program knows its commit.
COPY . .
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o /out/ ./cmd/free2talk ./cmd/f2t ./deploy/probe \
    && mkdir /out/data

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/free2talk /out/f2t /out/probe /
COPY --from=build --chown=65532:65532 /out/data /data

USER 65532:65532
ENV FREE2TALK_LISTEN=0.0.0.0:8080 \
    FREE2TALK_DATA_DIR=/data
VOLUME /data
EXPOSE 8080

# That the process lives; whether it should get traffic is /readyz's to say.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s \
    CMD ["/probe", "http://127.0.0.1:8080/healthz"]

ENTRYPOINT ["/free2talk"]
CMD ["serve"]
