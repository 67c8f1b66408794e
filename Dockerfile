# vidkit from its wheel, for clusters.
#   docker build -t vidkit:cuda .                               for GPUs; run it with --gpus all
#   docker build --build-arg EXTRAS= -t vidkit:data .           no torch: for nodes that only build shards
#   docker build --build-arg DEVICE=cpu --build-arg TORCH_INDEX=ADDRESS -t vidkit:cpu .
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS wheel
WORKDIR /src
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:${PYTHON}-slim
# cuda: the torch that pip finds by itself carries CUDA's libraries on Linux, so no CUDA image is needed beneath it.
# cpu: torch from TORCH_INDEX, the address that pytorch.org names for CPU builds.
ARG DEVICE=cuda
ARG TORCH_INDEX=
# of vidkit; empty for datasets alone
ARG EXTRAS=train,ray,s3
COPY --from=wheel /wheels/ /wheels/
# torch for a CPU comes first, together with its torchvision; pip then leaves both as they are
RUN set -eu; \
    case "$DEVICE:$EXTRAS:$TORCH_INDEX" in \
        cuda:*) ;; \
        cpu:*train*:?*) pip install --no-cache-dir --index-url "$TORCH_INDEX" torch torchvision ;; \
        cpu:*train*:) echo "give --build-arg TORCH_INDEX=... for torch's CPU build" >&2; exit 2 ;; \
        cpu:*) ;; \
        *) echo "DEVICE is $DEVICE; expected cpu or cuda" >&2; exit 2 ;; \
    esac; \
    wheel="$(echo /wheels/vidkit-*.whl)"; \
    pip install --no-cache-dir "$wheel${EXTRAS:+[$EXTRAS]}"; \
    useradd --create-home vidkit; \
    mkdir -m 1777 /data
# caches go where any user that --user names may write
ENV HOME=/tmp PYTHONUNBUFFERED=1
USER vidkit
WORKDIR /data
RUN vidkit --version
ENTRYPOINT ["vidkit"]
CMD ["doctor"]
