# A small image of the service: only built wheels, no compiler, no root user. See docs/OPERATIONS.md.
FROM python:3.13-slim AS build
WORKDIR /src
COPY pyproject.toml setup.py MANIFEST.in README.md LICENSE ./
COPY tools ./tools
COPY vectordb ./vectordb
COPY client ./client
# Compiled search kernels for every x86-64 processor since 2013, not only for the one that builds the image.
ENV VECTORDB_KERNEL_TIERS=all
RUN python -m venv /opt/vectordb && /opt/vectordb/bin/pip install --no-cache-dir .

FROM python:3.13-slim
# OpenMP, needed by the library that builds graphs.
RUN apt-get update && apt-get install -y --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/*
RUN useradd --uid 10001 --home-dir /data --shell /usr/sbin/nologin vectordb \
    && install -d -o vectordb -g vectordb -m 0750 /data /cache
COPY --from=build /opt/vectordb /opt/vectordb
ENV PATH=/opt/vectordb/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 VECTORDB_CACHE_DIR=/cache
USER vectordb
VOLUME ["/data", "/cache"]
EXPOSE 7070 9464
STOPSIGNAL SIGTERM
# The first start may compile kernels, until they are in /cache.
HEALTHCHECK --interval=10s --timeout=5s --start-period=90s --retries=3 \
    CMD ["vectordb", "health", "--target", "localhost:7070"]
ENTRYPOINT ["vectordb"]
CMD ["serve", "--data", "/data"]
