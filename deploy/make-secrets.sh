#!/usr/bin/env bash
# Makes the secrets of docker-compose.yml, once: the password of the database, and AUTH_SECRET.
# Usage: make-secrets.sh [LATCHKEY_DIR POSTGRES_DIR]
set -euo pipefail
latchkey=${1:-/run/latchkey}
postgres=${2:-/run/postgres-secrets}
umask 077

random() { head -c 48 /dev/urandom | base64 | tr -d '\n=' | tr '+/' '-_'; }

# The directory is mounted into the database's container only, where the server reads it as a user of its own.
if [ ! -s "$postgres/password" ]; then
  random >"$postgres/password.new"
  chmod 444 "$postgres/password.new"
  mv "$postgres/password.new" "$postgres/password"
fi
chmod 755 "$postgres"

printf 'postgres://latchkey:%s@postgres:5432/latchkey\n' "$(cat "$postgres/password")" >"$latchkey/database-url"
if [ ! -s "$latchkey/auth-secret" ]; then
  random >"$latchkey/auth-secret.new"
  mv "$latchkey/auth-secret.new" "$latchkey/auth-secret"
fi

# The user that the image of Latchkey runs as.
chown -R 1000:1000 "$latchkey"
chmod 500 "$latchkey"
