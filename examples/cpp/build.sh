#!/bin/sh
# Generates the stubs and builds ./gen/client and ./gen/smallest, one object per source, on all cores. Prints nothing on success.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$here/gen"
protoc -I "$here/../../proto" --cpp_out="$here/gen" --grpc_out="$here/gen" --plugin=protoc-gen-grpc=/usr/bin/grpc_cpp_plugin \
    "$here"/../../proto/ottla/v1/*.proto
cd "$here/gen"
flags=$(pkg-config --cflags grpc++ protobuf)
# gRPC's headers take a compiler ten seconds: all services are one source.
find ottla -name '*.grpc.pb.cc' | sort | sed 's/.*/#include "&"/' >services.pb.cc
find ../client.cc ../smallest.cc services.pb.cc ottla -name '*.cc' ! -name '*.grpc.pb.cc' | xargs -P "$(nproc)" -I SOURCE sh -c '
    set -eu
    object=$(basename "$1" .cc).o
    shift
    exec g++ -std=c++17 -I . "$@" -c -o "$object" "$0"' SOURCE SOURCE $flags
for program in client smallest; do
    g++ -o "$program" "$program.o" ./*.pb.o $(pkg-config --libs grpc++ protobuf)
done
