# Three stages: one compiles the TypeScript into one file, one installs what the service needs at run time, the last holds only the result.
# Scripts of packages are not run: every native part comes prebuilt for glibc. Only argon2 is compiled, for AVX2 on x86-64:
# it logs in about twice as many. On a processor without AVX2 the prebuilt one is used at run time.

FROM node:24-slim AS build
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci --ignore-scripts
COPY . .
RUN npm run build

FROM node:24-slim AS dependencies
RUN apt-get update && apt-get install -y --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci --omit=dev --ignore-scripts
COPY scripts ./scripts
# A builder without a network to Debian may leave the line of g++ out: then this one does nothing.
RUN LATCHKEY_ARGON2=avx2 npm run postinstall

FROM node:24-slim
ENV NODE_ENV=production HOST=0.0.0.0 PORT=3000 AUTH_DATA_DIR=/data
WORKDIR /app
COPY package.json LICENSE ./
COPY --from=dependencies /app/node_modules ./node_modules
COPY --from=build /app/dist ./dist
# All that is ever written is in /data, so the root may be read-only. A new volume takes over this owner and mode; group 0 is
# for platforms that start any uid in it (OpenShift).
RUN install -d -o 1000 -g 0 -m 770 /data
VOLUME /data
# The image's user "node", by number, so that Kubernetes can tell that it is not root.
USER 1000:1000
EXPOSE 3000
HEALTHCHECK --interval=5s --timeout=3s --start-period=5s --retries=3 \
  CMD ["node", "-e", "fetch('http://127.0.0.1:' + process.env.PORT + '/readyz').then(({ ok }) => process.exit(ok ? 0 : 1), () => process.exit(1))"]
# node itself is process 1 and gets the SIGTERM.
CMD ["node", "--max-semi-space-size=4", "dist/start.cjs"]
