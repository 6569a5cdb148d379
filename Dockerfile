# One image for the service and for worker hosts. `--build-arg PIP_EXTRA_INDEX_URL=...` chooses the build of torch (README).
FROM python:3.11-slim

ARG PIP_EXTRA_INDEX_URL=""
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 VLGLAB_HOME=/var/lib/vlglab

WORKDIR /opt/vlglab
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY service service
COPY workers workers
COPY storage storage
COPY migrations migrations
RUN PIP_EXTRA_INDEX_URL="$PIP_EXTRA_INDEX_URL" pip install -c constraints.txt ".[postgres]" \
    && useradd --create-home --uid 10001 vlglab \
    && mkdir -p /var/lib/vlglab && chown vlglab /var/lib/vlglab

USER vlglab
WORKDIR /var/lib/vlglab
VOLUME /var/lib/vlglab
EXPOSE 8765
CMD ["vlglab", "serve", "--host", "0.0.0.0", "--no-host"]
