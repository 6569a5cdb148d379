# Two images: `service` (the API and the planner) and `worker` (a worker host for GPUs). docker-compose.yml builds both.
#
# torch is what the index gives for the version that constraints.txt pins: on Linux, PyPI's build carries CUDA, which is what
# `worker` wants. `--build-arg TORCH_INDEX_URL=...` looks at another index too: one of PyTorch's with the CPU build makes
# `service` a few GB smaller, one for an older CUDA fits `worker` to an older driver.
FROM python:3.11-slim AS base

ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 VLGLAB_HOME=/var/lib/vlglab

WORKDIR /opt/vlglab
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY service service
COPY workers workers
COPY storage storage
COPY migrations migrations
RUN useradd --create-home --uid 10001 vlglab \
    && mkdir -p /var/lib/vlglab && chown vlglab /var/lib/vlglab


FROM base AS service

ARG TORCH_INDEX_URL=""
RUN PIP_EXTRA_INDEX_URL="$TORCH_INDEX_URL" pip install -c constraints.txt ".[postgres]"

USER vlglab
WORKDIR /var/lib/vlglab
VOLUME /var/lib/vlglab
EXPOSE 8765
CMD ["vlglab", "serve", "--host", "0.0.0.0", "--no-host"]


FROM base AS worker

ARG TORCH_INDEX_URL=""
RUN PIP_EXTRA_INDEX_URL="$TORCH_INDEX_URL" pip install -c constraints.txt ".[openseg-gpu,postgres,text]"

USER vlglab
WORKDIR /var/lib/vlglab
VOLUME /var/lib/vlglab
CMD ["python", "-m", "workers", "host"]
