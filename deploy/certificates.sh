#!/bin/sh
# Creates a certificate authority and a server certificate for testing, valid for one year:
#   sh deploy/certificates.sh [FOLDER] [NAME…]
# FOLDER defaults to deploy/tls. Each NAME is a further host name of the service, in addition to localhost and vectordb.
# Give clients FOLDER/ca.pem, and keep ca-key.pem secret. In production, use your own authority.
set -eu
folder=${1:-$(dirname "$0")/tls}
[ $# -gt 0 ] && shift
names="DNS:localhost,IP:127.0.0.1,DNS:vectordb"
for name in "$@"; do names="$names,DNS:$name"; done
[ -e "$folder/ca.pem" ] && { echo "$folder/ca.pem already exists" >&2; exit 1; }
mkdir -p "$folder"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
key="-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
openssl req -x509 $key -days 365 -subj "/CN=vectordb authority" -keyout "$folder/ca-key.pem" -out "$folder/ca.pem" 2>"$work/log" \
    || { cat "$work/log" >&2; exit 1; }
openssl req $key -subj "/CN=vectordb" -keyout "$folder/server-key.pem" -out "$work/server.csr" 2>"$work/log" \
    || { cat "$work/log" >&2; exit 1; }
printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth\n' "$names" >"$work/extensions"
openssl x509 -req -in "$work/server.csr" -CA "$folder/ca.pem" -CAkey "$folder/ca-key.pem" -CAcreateserial -CAserial "$work/serial" \
    -days 365 -extfile "$work/extensions" -out "$folder/server.pem" 2>"$work/log" || { cat "$work/log" >&2; exit 1; }
chmod 600 "$folder/ca-key.pem"
chmod 644 "$folder/ca.pem" "$folder/server.pem"
# The container's user (uid 10001) must be able to read the key: make it the owner where possible.
chmod 640 "$folder/server-key.pem"
chown 10001 "$folder/server-key.pem" 2>/dev/null || chmod 644 "$folder/server-key.pem"
echo "$folder: ca.pem, server.pem, server-key.pem"
