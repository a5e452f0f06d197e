# Build: a static binary, no cgo. Run: nothing but the binary, an unprivileged user and its data directory.
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o /out/lacewing . && mkdir -p /out/data

FROM scratch
COPY --from=build /out/lacewing /lacewing
COPY --from=build --chown=65532:65532 /out/data /data
COPY LICENSE NOTICE /
USER 65532:65532
VOLUME /data
# MQTT, MQTT over TLS, WebSocket, secure WebSocket, API, dashboard, cluster
EXPOSE 1883 8883 8083 8084 8080 18083 5370
ENV LACEWING_NODE__DATA_DIR=/data
ENTRYPOINT ["/lacewing"]
CMD ["start"]
