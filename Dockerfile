# docker build --tag wnlib . && docker run wnlib make test    (or make -j2 figures)
FROM python:3.13-slim
RUN apt-get update && apt-get install --yes --no-install-recommends make chromium && rm -rf /var/lib/apt/lists/*
WORKDIR /wnlib
COPY . .
RUN make quick && rm -rf build
CMD ["make", "-j2", "figures"]
