# The book of DeeperCluster, built from its published records; nothing is served. The HTML is in /book/_build/published:
#
#   docker build -t deepercluster-book .
#   docker run --rm -v "$PWD/out:/out" deepercluster-book cp -r _build/published /out
#
# PyTorch is the one for processors. For a GPU: --build-arg TORCH_BACKEND=cu130, or what `uv pip install --help` lists.
FROM python:3.11-slim-bookworm

RUN apt-get update \
    && apt-get install --yes --no-install-recommends git make \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home reader \
    && install --directory --owner=reader --group=reader /book

USER reader
WORKDIR /book

ARG TORCH_BACKEND=cpu
ENV UV_TORCH_BACKEND=$TORCH_BACKEND \
    UV_NO_CACHE=1 \
    PIP_NO_CACHE_DIR=1 \
    UV_LINK_MODE=copy

# what is installed changes less often than the rest, and is kept while it does not
COPY --chown=reader pyproject.toml requirements.lock README.md LICENSE Makefile ./
COPY --chown=reader dclib/__init__.py dclib/
RUN make install

COPY --chown=reader . .
RUN make published

CMD ["make", "help"]
