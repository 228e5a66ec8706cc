# The CPU image: a static binary on an empty base, without cgo and so without
# CUDA. There is no GPU image yet, and no container engine has built this one.
#   docker build -t temper .
#   docker run --rm temper train
#   docker run --rm -v "$PWD/data:/data" -v "$PWD/runs:/runs" temper train --dataset mnist --data-dir /data --run-dir /runs/mnist
FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -ldflags="-s -w" -o /temper ./cmd/temper

FROM scratch
# Certificates, so that data can be fetched over https.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /temper /temper
WORKDIR /
ENTRYPOINT ["/temper"]
