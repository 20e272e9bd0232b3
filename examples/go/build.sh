#!/bin/sh
# Generates the stubs and builds ./gen/client and ./gen/smallest with Debian's packages (no module proxy). Prints nothing on success.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$here/gen/src/github.com/ottla/ottla
mkdir -p "$root/gen/go/ottla/v1" "$root/client" "$root/smallest"
protoc -I "$here/../../proto" --go_out="$here/gen/src" --go-grpc_out="$here/gen/src" "$here"/../../proto/ottla/v1/*.proto
cp "$here/main.go" "$root/client/"
cp "$here/smallest/main.go" "$root/smallest/"
cd "$root"
for program in client smallest; do
    GO111MODULE=off GOPATH=$here/gen:/usr/share/gocode GOCACHE=${GOCACHE:-$here/gen/cache} \
        go build -o "$here/gen/$program" "./$program"
done
