#!/bin/sh
# Generates the stubs and builds ./gen/client. Prints nothing on success.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$here/gen"
protoc -I "$here/../../proto" --cpp_out="$here/gen" --grpc_out="$here/gen" --plugin=protoc-gen-grpc=/usr/bin/grpc_cpp_plugin \
    "$here"/../../proto/ottla/v1/*.proto
g++ -std=c++17 -O1 -I "$here/gen" -o "$here/gen/client" "$here/client.cc" "$here"/gen/ottla/v1/*.cc $(pkg-config --cflags --libs grpc++ protobuf)
