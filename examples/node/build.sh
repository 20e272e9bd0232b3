#!/bin/sh
# Installs the packages that package-lock.json names. Prints nothing on success.
set -eu
cd "$(dirname "$0")"
npm ci --silent --ignore-scripts
