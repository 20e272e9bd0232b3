#!/bin/sh
# Generates the stubs and compiles into ./gen with Debian's jars; ./gen/client and ./gen/smallest run it. Prints nothing on success.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$here/gen/src" "$here/gen/classes"
protoc -I "$here/../../proto" --java_out="$here/gen/src" --grpc-java_out="$here/gen/src" \
    --plugin=protoc-gen-grpc-java=/usr/bin/grpc_java_plugin "$here"/../../proto/ottla/v1/*.proto
# Debian's plugin writes an annotation that JDK 9 and newer lack.
mkdir -p "$here/gen/src/javax/annotation"
printf 'package javax.annotation; public @interface Generated { String value(); String comments() default ""; }\n' \
    >"$here/gen/src/javax/annotation/Generated.java"
jars=$(find /usr/share/java -maxdepth 1 \( -name 'grpc-*.jar' -o -name 'protobuf*.jar' -o -name 'netty*.jar' -o -name 'perfmark*.jar' \
    -o -name 'guava*.jar' -o -name 'failureaccess*.jar' -o -name 'gson*.jar' -o -name 'annotations-api*.jar' \) | paste -sd:)
javac -nowarn -encoding UTF-8 -d "$here/gen/classes" -cp "$jars" $(find "$here/gen/src" -name '*.java') "$here/Client.java" "$here/Smallest.java" 2>"$here/gen/log" ||
    { cat "$here/gen/log" >&2; exit 1; }
for class in Client Smallest; do
    program=$here/gen/$(echo "$class" | tr CS cs)
    printf '#!/bin/sh\nexec java -Xshare:auto -XX:TieredStopAtLevel=1 -cp "%s:%s" %s "$@"\n' \
        "$here/gen/classes" "$jars" "$class" >"$program"
    chmod +x "$program"
done
