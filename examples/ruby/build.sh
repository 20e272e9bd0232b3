#!/bin/sh
# Generates the stubs into ./gen. Prints nothing on success.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$here/gen"
grpc_tools_ruby_protoc -I "$here/../../proto" --ruby_out="$here/gen" --grpc_out="$here/gen" "$here"/../../proto/ottla/v1/*.proto
