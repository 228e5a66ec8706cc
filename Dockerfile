# Two images. The CPU's is a static binary on an empty base, without cgo and so
# without CUDA:
#   docker build -t temper .
#   docker run --rm temper train
#   docker run --rm -v "$PWD/data:/data" -v "$PWD/runs:/runs" temper train --dataset mnist --data-dir /data --run-dir /runs/mnist
# The GPU's has NVRTC, for hosts with NVIDIA's container toolkit and a driver for
# CUDA 13; the volume keeps compiled kernels:
#   docker build -t temper:gpu --target gpu .
#   docker run --rm --gpus all -v temper-kernels:/root/.cache/temper temper:gpu devices
# build/clean_root.py runs what stands here where there is no container engine.
FROM golang:1.26-bookworm AS source
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .

FROM source AS cpu-build
RUN CGO_ENABLED=0 go build -trimpath -ldflags="-s -w" -o /temper ./cmd/temper

FROM source AS gpu-build
RUN CGO_ENABLED=1 go build -trimpath -ldflags="-s -w" -o /temper ./cmd/temper
RUN apt-get update -q && apt-get install -y -q --no-install-recommends python3-pip
RUN python3 -m pip install --no-deps --require-hashes --only-binary=:all: --target /wheels -r build/nvrtc/cuda13.txt \
    && mkdir /nvrtc && cp /wheels/nvidia/cu13/lib/libnvrtc.so.13 /wheels/nvidia/cu13/lib/libnvrtc-builtins.so.13.0 /nvrtc

FROM nvidia/cuda:13.0.1-base-ubuntu24.04 AS gpu
# Certificates, so that data can be fetched over https.
COPY --from=gpu-build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=gpu-build /nvrtc/ /usr/local/lib/nvrtc/
COPY --from=gpu-build /temper /usr/local/bin/temper
ENV TEMPER_NVRTC=/usr/local/lib/nvrtc/libnvrtc.so.13
WORKDIR /
ENTRYPOINT ["/usr/local/bin/temper"]

FROM scratch AS cpu
COPY --from=cpu-build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=cpu-build /temper /temper
WORKDIR /
ENTRYPOINT ["/temper"]
